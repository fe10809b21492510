package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"vigil/disk"
	"vigil/signals"
)

// A batch for a follower ends at either.
const (
	batchRecords = 1024
	batchBytes   = 1 << 20
)

// follower is one Follow. It knows one thing, the offset of the next record, and gets
// that record from memory or from a file; so there is no handover at which one could be
// lost or come twice.
type follower struct {
	j       *Journal
	next    int64
	deliver func([]signals.Entry) error

	reader *segmentReader // of the segment that next was last read from, or nil
	file   disk.File
}

// Follow delivers the records from an offset of partition 0 on (0 where from names none),
// then those that are appended. It calls deliver and caughtUp from the calling goroutine.
// Entries may be kept. Appends do not wait for the follower.
//
// It returns ctx's error, deliver's, ErrClosed, ErrFollowed while another follower runs, a
// *HoleError or an *AheadError where the journal cannot continue from the offset, or a
// *DamageError or an I/O error of a file that cannot be read back.
func (j *Journal) Follow(ctx context.Context, from signals.Positions, deliver func([]signals.Entry) error, caughtUp func()) error {
	for partition := range from {
		if partition != 0 {
			return fmt.Errorf("a position in partition %d; the journal has only partition 0", partition)
		}
	}
	f := &follower{j: j, next: from[0], deliver: deliver}
	goal, err := j.startFollowing(f.next)
	if err != nil {
		return err
	}
	defer j.stopFollowing()
	defer f.release()
	for caught := false; ; {
		if !caught && f.next >= goal {
			caught = true
			caughtUp()
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f.step(ctx); err != nil {
			return err
		}
	}
}

func (j *Journal) startFollowing(from int64) (goal int64, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.mu.closing:
		return 0, ErrClosed
	case j.mu.following:
		return 0, ErrFollowed
	case from < j.firstLocked():
		return 0, &HoleError{From: from, First: j.firstLocked()}
	case from > j.mu.head:
		return 0, &AheadError{From: from, Head: j.mu.head}
	}
	j.mu.following = true
	return j.mu.head, nil
}

func (j *Journal) stopFollowing() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.mu.following = false
	j.mu.recent = recent{}
}

// step delivers one batch, or waits until there is one.
func (f *follower) step(ctx context.Context) error {
	j := f.j
	j.mu.Lock()
	if j.mu.closing {
		j.mu.Unlock()
		return ErrClosed
	}
	if f.next == j.mu.head {
		grown := j.mu.grown
		j.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-grown:
		}
		return nil
	}
	batch := j.mu.recent.from(f.next, nil, batchRecords)
	j.mu.stats.FollowedFromMemory += uint64(len(batch))
	var seg segment
	if len(batch) == 0 {
		seg = j.segmentLocked(f.next)
	}
	j.mu.Unlock()
	if len(batch) > 0 {
		f.release()
	} else {
		var err error
		if batch, err = f.read(seg); err != nil {
			return err
		}
		j.count(func(s *Stats) { s.FollowedFromFiles += uint64(len(batch)) })
	}
	f.next += int64(len(batch))
	return f.deliver(batch)
}

// segmentLocked gives the segment that holds the record at offset, which is below head.
// Where the record was trimmed away it gives the first.
func (j *Journal) segmentLocked(offset int64) segment {
	for _, s := range j.mu.segments {
		if offset < s.end {
			return s
		}
	}
	panic("journal: an offset below the head is in no segment")
}

// read reads a batch from the segment that next is in.
func (f *follower) read(seg segment) ([]signals.Entry, error) {
	if f.next < seg.header.first {
		return nil, &HoleError{From: f.next, First: seg.header.first}
	}
	if f.reader == nil || f.reader.header.ordinal != seg.header.ordinal || f.reader.next != f.next {
		if err := f.open(seg); err != nil {
			return nil, err
		}
	}
	f.reader.limit = seg.size
	var batch []signals.Entry
	for bytes := 0; f.reader.next < seg.end && len(batch) < batchRecords && bytes < batchBytes; {
		at := signals.Position{Offset: f.reader.next}
		appended, payload, err := f.reader.record()
		if err != nil {
			return nil, damaged(f.reader, seg.path, err)
		}
		batch = append(batch, signals.Entry{Position: at, Appended: appended, Record: append([]byte(nil), payload...)})
		bytes += len(payload)
	}
	return batch, nil
}

// open opens a segment and goes to next in it.
func (f *follower) open(seg segment) error {
	f.release()
	file, err := f.j.opt.FS.Open(seg.path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return &HoleError{From: f.next, First: f.j.FirstOffset()} // trimmed just now
	} else if err != nil {
		return err
	}
	reader, err := readSegment(file, seg.size)
	if err != nil {
		return errors.Join(damaged(nil, seg.path, err), file.Close())
	}
	f.file, f.reader = file, reader
	if err := reader.skipTo(f.next); err != nil {
		return damaged(reader, seg.path, err)
	}
	return nil
}

// damaged turns what a reader says of a part that was durable into a DamageError.
func damaged(r *segmentReader, path string, err error) error {
	d := &DamageError{Path: path}
	if r != nil {
		d.At, d.Record = r.at, r.next
	}
	var bad *frameError
	switch {
	case errors.As(err, &bad):
		d.What = bad.what
	case errors.Is(err, io.EOF):
		d.What = "the file ends before the records do"
	default:
		return err
	}
	return d
}

func (f *follower) release() {
	if f.file != nil {
		_ = f.file.Close() // only read
	}
	f.file, f.reader = nil, nil
}
