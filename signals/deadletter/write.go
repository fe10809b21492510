package deadletter

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"vigil/authz"
	"vigil/signals"
)

// version of the form of a line.
const version = 1

// line is what stands in a line: a letter, or how many were skipped.
type line struct {
	V         int    `json:"v"`
	At        string `json:"at,omitzero"`
	Skipped   uint64 `json:"skipped,omitzero"`
	Partition string `json:"partition,omitzero"`
	Number    int32  `json:"number,omitzero"`
	Offset    *int64 `json:"offset,omitzero"` // there in every letter
	Appended  string `json:"appended,omitzero"`
	Source    string `json:"source,omitzero"`
	ID        string `json:"id,omitzero"`
	Reason    string `json:"reason,omitzero"`
	Size      int    `json:"size,omitzero"`
	Record    []byte `json:"record,omitzero"` // base64
	Truncated bool   `json:"truncated,omitzero"`
}

func lineOf(l *signals.DeadLetter) line {
	return line{
		V: version, Partition: whole(l.Partition), Number: l.Position.Partition, Offset: &l.Position.Offset,
		Appended: stamp(l.Appended), Source: whole(l.Source), ID: whole(l.ID), Reason: whole(l.Reason),
		Size: l.Size, Record: l.Record, Truncated: l.Size > len(l.Record),
	}
}

// Line is what stands in the file for a letter, without the end of the line.
func Line(l *signals.DeadLetter) ([]byte, error) {
	text, err := json.Marshal(lineOf(l))
	if err != nil {
		return nil, fmt.Errorf("making a line: %w", err)
	}
	return text, nil
}

// longestText bounds each text of a line, in bytes.
const longestText = 4 << 10

// whole makes a text fit for JSON, whatever its bytes.
func whole(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), longestText)], "\uFFFD")
}

func stamp(i authz.Instant) string { return i.Time().Format(time.RFC3339Nano) }

// write is the writer. A while after something was written or skipped it makes the file
// durable and says in it what was skipped: syncing each line would cost the disk more than
// the lines are worth.
func (f *File) write() {
	defer close(f.ended)
	var tick <-chan time.Time
	for {
		select {
		case l := <-f.queue:
			f.letter(&l)
		case <-f.skip:
		case <-tick:
			tick = nil
			f.reportSkipped()
			f.sync()
			continue
		case <-f.close:
			f.finish()
			return
		}
		if tick == nil {
			tick = time.After(settleAfter)
		}
	}
}

// finish writes what waits when the file is closed: nothing is added any more.
func (f *File) finish() {
	for {
		select {
		case l := <-f.queue:
			f.letter(&l)
			continue
		default:
		}
		break
	}
	f.reportSkipped()
	f.sync()
	if f.out != nil {
		_ = f.out.Close() // it is synced, or has failed already
	}
}

func (f *File) letter(l *signals.DeadLetter) {
	f.reportSkipped()
	if err := f.put(lineOf(l)); err != nil {
		f.failed(err, 1)
		return
	}
	f.mu.Lock()
	f.mu.stats.Written++
	ill := f.mu.stats.LastError
	f.mu.stats.LastError = ""
	f.mu.Unlock()
	if ill != "" {
		f.log.Info("dead letters can be written again", slog.String("file", f.path(fileName)))
	}
}

// reportSkipped says in the file how many letters were not written.
func (f *File) reportSkipped() {
	f.mu.Lock()
	n := f.mu.unreported
	f.mu.unreported = 0
	f.mu.Unlock()
	if n == 0 {
		return
	}
	if err := f.put(line{V: version, At: stamp(f.cfg.Now()), Skipped: n}); err != nil {
		f.mu.Lock()
		f.mu.unreported += n // with the next letter that can be written
		f.mu.Unlock()
		f.failed(err, 0)
	}
}

// failed counts letters that could not be written. The file is opened anew for the next.
func (f *File) failed(err error, letters uint64) {
	if f.out != nil {
		_ = f.out.Close()
		f.out = nil
	}
	f.mu.Lock()
	before := f.mu.stats.LastError
	f.mu.stats.LastError = err.Error()
	f.mu.stats.Skipped += letters
	f.mu.unreported += letters
	f.mu.Unlock()
	if before == "" {
		f.log.Error("dead letters cannot be written; they are counted", slog.String("file", f.path(fileName)), slog.Any("error", err))
	}
}

// put appends a line to the file.
func (f *File) put(l line) error {
	text, err := json.Marshal(&l)
	if err != nil {
		return fmt.Errorf("making a line: %w", err)
	}
	text = append(text, '\n')
	if f.out != nil && f.size+int64(len(text)) > f.cfg.MaxBytes {
		if err := f.rotate(); err != nil {
			return err
		}
	}
	if f.out == nil {
		if err := f.open(); err != nil {
			return err
		}
	}
	if f.torn {
		text = append([]byte{'\n'}, text...)
	}
	n, err := f.out.WriteAt(text, f.size)
	f.size += int64(n)
	f.torn = n > 0 && err != nil
	f.unsynced = f.unsynced || n > 0
	return err
}

// open opens the file at its end, and puts it aside where it is full.
func (f *File) open() error {
	for {
		out, err := f.cfg.FS.Open(f.path(fileName), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		size, err := out.Size()
		if err != nil {
			return errors.Join(err, out.Close())
		}
		f.out, f.size, f.torn = out, size, false
		if size == 0 {
			return nil
		}
		last := make([]byte, 1)
		if _, err := out.ReadAt(last, size-1); err != nil {
			f.out = nil
			return errors.Join(err, out.Close())
		}
		f.torn = last[0] != '\n'
		if size < f.cfg.MaxBytes {
			return nil
		}
		if err := f.rotate(); err != nil {
			return err
		}
	}
}

// rotate puts the file aside, in place of the one before.
func (f *File) rotate() error {
	f.sync()
	if f.out == nil {
		return errors.New("the file could not be synced")
	}
	err := f.out.Close()
	f.out = nil
	if err != nil {
		return err
	}
	if err := f.cfg.FS.Rename(f.path(fileName), f.path(oldName)); err != nil {
		return err
	}
	return f.cfg.FS.SyncDir(f.cfg.Dir)
}

// sync makes what was written durable.
func (f *File) sync() {
	if f.out == nil || !f.unsynced {
		return
	}
	f.unsynced = false
	if err := f.out.Sync(); err != nil {
		f.failed(fmt.Errorf("syncing: %w", err), 0)
	}
}
