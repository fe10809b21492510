package journal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"vigil/authz"
	"vigil/disk"
)

const lockFile = "LOCK"

// Open opens the journal in a folder, or makes a new one with an identity of its own
// where there is none. It reads and checks every retained byte, and refuses with a
// *DamageError where acknowledged records cannot be read back, with a *disk.LockedError
// while another process uses the folder.
func Open(dir string, opt Options) (_ *Journal, err error) {
	opt, err = opt.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := opt.FS.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := Lock(opt.FS, dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Close())
		}
	}()
	if err := settle(opt.FS, dir); err != nil {
		return nil, err
	}
	j := &Journal{dir: dir, opt: opt, lock: lock, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	j.mu.grown = make(chan struct{})
	w := &writer{j: j, chain: newChainer(), idle: stopped(), retry: stopped()}
	if err := j.load(w); err != nil {
		return nil, err
	}
	go w.run()
	return j, nil
}

// Lock takes a journal's folder for this process, for work on it that must not meet a
// running engine. A nil fsys means the machine's.
func Lock(fsys disk.FS, dir string) (io.Closer, error) {
	if fsys == nil {
		fsys = disk.OS
	}
	return fsys.Lock(filepath.Join(dir, lockFile))
}

// settle removes what is unfinished and makes the names that are there durable. A process
// that was killed between a rename and the sync of the folder leaves a file that can be
// seen and read, and that a loss of power takes away again, with all that was put into it
// meanwhile.
func settle(fsys disk.FS, dir string) error {
	if err := disk.RemoveUnfinished(fsys, dir); err != nil {
		return err
	}
	return errors.Join(fsys.SyncDir(dir), fsys.SyncDir(filepath.Dir(dir)))
}

func stopped() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// load finds out where the journal stands and gets the writer ready to go on from there.
func (j *Journal) load(w *writer) error {
	fsys := j.opt.FS
	id, err := readIdentity(fsys, j.dir)
	if errors.Is(err, fs.ErrNotExist) {
		id, err = create(fsys, j.dir, j.opt.Now)
	}
	if err != nil {
		return err
	}
	if id.adopting {
		return errAdopting(j.dir)
	}
	j.identity = id
	acknowledged, err := readWatermark(fsys, j.dir)
	if err != nil {
		return err
	}
	w.marks = watermarkWriter{fsys: fsys, dir: j.dir, last: acknowledged}
	if acknowledged.log != id.log {
		return &DamageError{Path: filepath.Join(j.dir, watermarkFile), What: "it belongs to another log"}
	}
	s, err := take(fsys, j.dir, id, acknowledged.offset)
	if err != nil {
		return err
	}
	if s.damage != nil {
		return s.damage
	}
	if len(s.segments) == 0 {
		return &DamageError{Path: j.dir, Record: id.since, What: "no segment is there, but the identity of a log is"}
	}
	j.latest = s.latest
	return j.resume(w, s)
}

// resume makes the writer go on behind what the survey found.
func (j *Journal) resume(w *writer, s *survey) error {
	last := &s.segments[len(s.segments)-1]
	w.header, w.salted = last.header, saltSum(last.header.salt)
	w.head, w.running, w.end = s.watermark, s.confirmed, last.size
	j.mu.segments, j.mu.head = s.segments, s.watermark
	if s.torn == nil && len(s.unconfirmed) == 0 && last.header.id == j.identity.log {
		f, err := j.opt.FS.Open(last.path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		w.file = f
		return nil
	}
	if s.torn != nil {
		j.opt.Logger.Warn("journal: a torn tail was never acknowledged and is cut off",
			"file", last.path, "byte", s.torn.at, "found", s.torn.what, "records", s.watermark+int64(len(s.unconfirmed)))
	}
	if n := len(s.unconfirmed); n > 0 {
		j.opt.Logger.Info("journal: records past the watermark are written again", "file", last.path,
			"from", s.watermark, "records", n)
		w.carried = carry(s.unconfirmed)
	}
	last.end = s.watermark
	if err := w.begin(); err != nil {
		if w.carried != nil {
			// They may have been acknowledged: whoever reads the log without them would
			// decide without them.
			return fmt.Errorf("write again what was past the watermark of the journal in %s: %w", j.dir, err)
		}
		w.fail(fmt.Errorf("begin a segment: %w", err), 0)
	}
	return nil
}

// create makes a log. The identity comes last: with it the log exists.
func create(fsys disk.FS, dir string, now func() authz.Instant) (*identity, error) {
	if err := mayCreate(fsys, dir); err != nil {
		return nil, err
	}
	id := newIdentity(0)
	h := header{id: id.log, ordinal: 1, created: now(), salt: newSalt(), before: id.before}
	if _, err := createSegment(fsys, dir, &h, h.encode()); err != nil {
		return nil, err
	}
	ww := watermarkWriter{fsys: fsys, dir: dir}
	if err := ww.replace(watermark{log: id.log}); err != nil {
		return nil, err
	}
	return id, writeIdentity(fsys, dir, id)
}

// mayCreate tells an empty folder, or what a creation that was cut short leaves, from a
// log whose identity is lost.
func mayCreate(fsys disk.FS, dir string) error {
	lost := &DamageError{Path: filepath.Join(dir, identityFile), What: "the identity of the log is missing"}
	names, err := segmentNames(fsys, dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		f, err := fsys.Open(path, os.O_RDONLY, 0)
		if err != nil {
			return err
		}
		size, err := f.Size()
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		if name != segmentName(1, 0) || size != headerSize {
			return lost
		}
	}
	acknowledged, err := readWatermark(fsys, dir)
	var missing *DamageError
	if err != nil && !errors.As(err, &missing) {
		return err
	}
	if err == nil && acknowledged.offset > 0 {
		return lost
	}
	return nil
}

// newIdentity draws the identity of a log that begins at since and keeps nothing before.
func newIdentity(since int64) *identity {
	id := &identity{since: since}
	rand.Read(id.log[:]) // never fails
	id.before = genesis(id.log)
	return id
}

func newSalt() salt {
	var s salt
	rand.Read(s[:]) // never fails
	return s
}

// createSegment makes the file of a segment appear, whole and durable.
func createSegment(fsys disk.FS, dir string, h *header, content []byte) (string, error) {
	path := filepath.Join(dir, segmentName(h.ordinal, h.first))
	return path, disk.WriteFile(fsys, path, 0o600, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}

// carry makes a request of records that have their append times already.
func carry(tail []tailRecord) *request {
	payloads := make([][]byte, len(tail))
	for i, t := range tail {
		payloads[i] = t.payload
	}
	r := layOut(payloads)
	r.dated = true
	for i, t := range tail {
		r.entries[i].Appended = t.appended
	}
	return r
}
