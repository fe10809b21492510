package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"vigil/disk"
	"vigil/signals"
)

// SnapshotAt names a snapshot that is good: which log it is of, and the next offset in it.
type SnapshotAt struct {
	Log  signals.LogID
	Next int64
}

// Adoption says what an Adopt has done.
type Adoption struct {
	Old, New signals.LogID // Old is zero where nothing said what the log was
	// From is where the new log begins; records before it that are retained are kept.
	From int64
	// First is the first record that is retained; From where there is none.
	First int64
	// Damage is what the old log was found to have, or nil.
	Damage *DamageError
	// LostFrom and LostTo are the acknowledged records that are known to be gone, if
	// LostFrom < LostTo. More may be: nothing tells of segments that are not there.
	LostFrom, LostTo int64
	// Void are the files that were set aside.
	Void []string
}

// Adopt makes a log with a new identity of what a folder holds, for an operator who has
// put back an older copy, or who gives up what cannot be read. No engine may run on it.
//
// It keeps the segments, record for record and offset for offset, up to the first damage;
// renames the segments behind that to *.void; and begins a new segment under a new
// random identity. From then on no position or as-of token of the old log is compared
// with one of the new: who demands one is denied, instead of being served from another
// history. Snapshots of the old log up to where the new one begins stay usable
// (Journal.Continues).
//
// snapshot, if not nil, is the newest good one. If it stands past the end of what can be
// read, or is of a log whose records these are not, then the new log begins where it
// stands, and all segments are set aside.
//
// The folder cannot be opened between the first change and the last; an Adopt that was
// cut short is run again.
func Adopt(dir string, opt Options, snapshot *SnapshotAt) (_ Adoption, err error) {
	opt, err = opt.withDefaults()
	if err != nil {
		return Adoption{}, err
	}
	fsys := opt.FS
	lock, err := Lock(fsys, dir)
	if err != nil {
		return Adoption{}, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := settle(fsys, dir); err != nil {
		return Adoption{}, err
	}
	var unreadable *DamageError
	old, err := readIdentity(fsys, dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.As(err, &unreadable) {
		return Adoption{}, err
	}
	acknowledged, err := readWatermark(fsys, dir)
	if err != nil && !errors.As(err, &unreadable) {
		return Adoption{}, err
	}
	if old != nil && acknowledged.log != old.log {
		acknowledged.offset = 0
	}
	s, err := take(fsys, dir, old, acknowledged.offset)
	if err != nil {
		return Adoption{}, err
	}
	if old == nil && snapshot == nil && len(s.segments)+len(s.unread) == 0 {
		return Adoption{}, fmt.Errorf("%s: no journal is here", dir)
	}
	return adopt(dir, opt, old, s, snapshot)
}

func adopt(dir string, opt Options, old *identity, s *survey, snapshot *SnapshotAt) (Adoption, error) {
	fsys := opt.FS
	if old == nil {
		old = guessIdentity(s)
	}
	a := Adoption{Old: old.log, Damage: s.damage}
	id := newIdentity(0)
	a.New = id.log
	ordinal, err := highestOrdinal(fsys, dir)
	if err != nil {
		return a, err
	}
	void := s.unread
	if n := len(s.segments); n > 0 {
		last := s.segments[n-1]
		id.since, id.before = last.end, s.running
		a.First = s.segments[0].header.first
		ordinal = last.header.ordinal
		// It was read from the page cache, perhaps, and becomes the past of a log now.
		if err := syncFile(fsys, last.path); err != nil {
			return a, err
		}
	}
	a.LostFrom, a.LostTo = id.since, max(id.since, s.watermark)
	if snapshot != nil && (snapshot.Next > id.since || len(s.segments) == 0 || !old.leadsTo(snapshot)) {
		void = nil
		for _, seg := range s.segments {
			void = append(void, seg.path)
		}
		void = append(void, s.unread...)
		id = &identity{log: id.log, since: snapshot.Next, before: genesis(id.log)}
		a.LostFrom = max(a.LostFrom, snapshot.Next)
		if len(s.segments) > 0 && !old.leadsTo(snapshot) {
			a.LostFrom = a.First // whatever was in there, the snapshot knows nothing of it
		}
		a.First = snapshot.Next
	}
	a.From = id.since
	id.ancestors = descent(old, snapshot, id.since)
	for _, seg := range s.segments {
		if !slices.Contains(void, seg.path) && !id.knows(seg.header.id) {
			return a, fmt.Errorf("%s: adopted %d times, and records of the first log are still in it; let an engine run until it has trimmed them", dir, maxAncestors)
		}
	}

	// From here on the folder is no log until the last step.
	begun := *old
	begun.adopting = true
	if err := writeIdentity(fsys, dir, &begun); err != nil {
		return a, err
	}
	for _, path := range void {
		aside := fmt.Sprintf("%s.%x.void", path, id.log[:4])
		if err := fsys.Rename(path, aside); err != nil {
			return a, err
		}
		a.Void = append(a.Void, aside)
	}
	h := header{id: id.log, ordinal: ordinal + 1, first: id.since, created: opt.Now(), salt: newSalt(), before: id.before}
	if _, err := createSegment(fsys, dir, &h, h.encode()); err != nil {
		return a, err
	}
	marks := watermarkWriter{fsys: fsys, dir: dir}
	if err := marks.replace(watermark{log: id.log, offset: id.since}); err != nil {
		return a, err
	}
	return a, writeIdentity(fsys, dir, id)
}

// leadsTo reports whether the snapshot was taken of this log or on the way to it.
func (id *identity) leadsTo(s *SnapshotAt) bool {
	return id.continues(s.Log, signals.Positions{0: s.Next}) == nil
}

// guessIdentity tells from the segments what log they are of.
func guessIdentity(s *survey) *identity {
	id := &identity{}
	for _, seg := range s.segments {
		if seg.header.id != id.log {
			if id.log != (signals.LogID{}) {
				id.ancestors = append(id.ancestors, ancestor{id.log, seg.header.first})
			}
			id.log, id.since, id.before = seg.header.id, seg.header.first, seg.header.before
		}
	}
	return id
}

// descent lists the ancestors of a log that begins at since in the place of old.
func descent(old *identity, snapshot *SnapshotAt, since int64) []ancestor {
	all := slices.Clone(old.ancestors)
	if old.log != (signals.LogID{}) {
		all = append(all, ancestor{old.log, since})
	}
	if snapshot != nil && !slices.ContainsFunc(all, func(a ancestor) bool { return a.log == snapshot.Log }) {
		all = append(all, ancestor{snapshot.Log, min(snapshot.Next, since)})
	}
	for i := range all {
		all[i].until = min(all[i].until, since)
	}
	return all[max(0, len(all)-maxAncestors):]
}

// highestOrdinal is that of the last segment by name, whatever is in it.
func highestOrdinal(fsys disk.FS, dir string) (uint64, error) {
	names, err := segmentNames(fsys, dir)
	if err != nil || len(names) == 0 {
		return 0, err
	}
	ordinal, _, _ := parseSegmentName(names[len(names)-1])
	return ordinal, nil
}

func syncFile(fsys disk.FS, path string) error {
	f, err := fsys.Open(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// errAdopting is what Open says of a folder that an Adopt has not finished.
func errAdopting(dir string) error {
	return &DamageError{Path: filepath.Join(dir, identityFile), What: "an adoption was begun and not finished; run it again"}
}
