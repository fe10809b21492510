package journal

import (
	"errors"
	"io/fs"
)

// Trim removes the segments whose records are all below an offset, and says how many. The
// active segment stays. A follower below the offset that is kept ends with a *HoleError.
//
// The caller must have a snapshot from which the log can be continued at or past before,
// and had better have two (see package snapshot): what is trimmed is gone.
func (j *Journal) Trim(before int64) (int, error) {
	j.trimming.Lock()
	defer j.trimming.Unlock()
	if head := j.Head(); before > head {
		return 0, &AheadError{From: before, Head: head}
	}
	for removed := 0; ; removed++ {
		j.mu.Lock()
		oldest := j.mu.segments[0]
		last := len(j.mu.segments) == 1 || oldest.end > before
		j.mu.Unlock()
		if last {
			return removed, nil
		}
		// From the oldest on, and each durably before the next: a crash must not leave
		// a gap.
		if err := j.opt.FS.Remove(oldest.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return removed, err
		}
		if err := j.opt.FS.SyncDir(j.dir); err != nil {
			return removed, err
		}
		j.mu.Lock()
		j.mu.segments = append([]segment(nil), j.mu.segments[1:]...)
		j.mu.Unlock()
	}
}
