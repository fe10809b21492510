package snapshot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"vigil/authz"
	"vigil/disk"
	"vigil/posture"
	"vigil/signals"
)

// ErrNone says that a folder has no snapshot that is good and of the log.
var ErrNone = errors.New("no usable snapshot")

// Dir is a folder of snapshots. Its methods are for one process, one call at a time.
type Dir struct {
	Path   string
	FS     disk.FS      // nil means the machine's
	Logger *slog.Logger // told of snapshots that are passed over, and why; nil tells nobody
}

// Accept is nil for a snapshot that the log can be continued from, and says why not
// otherwise. See Of.
type Accept = func(Meta) error

const (
	prefix = "snapshot-"
	suffix = ".vigil"
)

// fileName sorts by position, then by time.
func fileName(m Meta) string {
	var sum int64
	for _, offset := range m.Positions {
		if offset > math.MaxInt64-sum {
			sum = math.MaxInt64
			break
		}
		sum += max(0, offset)
	}
	return fmt.Sprintf("%s%020d-%s%s", prefix, sum, m.Now.Time().Format("20060102T150405.000000000Z"), suffix)
}

// Save writes a snapshot into the folder, durably, and reads it back. After an error
// there may be a file that Newest passes over.
func (d Dir) Save(meta Meta, store *posture.Store) (string, error) {
	fsys := d.fsys()
	if err := fsys.MkdirAll(d.Path, 0o700); err != nil {
		return "", err
	}
	if err := disk.RemoveUnfinished(fsys, d.Path); err != nil {
		return "", err
	}
	path := filepath.Join(d.Path, fileName(meta))
	err := disk.WriteFile(fsys, path, 0o600, func(w io.Writer) error { return Write(w, meta, store) })
	if err != nil {
		return "", fmt.Errorf("save a snapshot: %w", err)
	}
	if _, err := d.check(path); err != nil {
		return "", fmt.Errorf("read back the snapshot %s: %w", path, errors.Join(err, fsys.Remove(path)))
	}
	return path, nil
}

// Newest reads the newest snapshot that is good and that accept takes. Those that are not
// are passed over, and the reason is logged. The error wraps ErrNone when none is left;
// it is ErrNone itself where there never was one.
func (d Dir) Newest(accept Accept, now authz.Instant) (Meta, *posture.Store, error) {
	names, err := d.names()
	if err != nil {
		return Meta{}, nil, err
	}
	none := ErrNone
	for _, name := range names {
		path := filepath.Join(d.Path, name)
		meta, store, err := d.load(path, accept, now)
		if err == nil {
			return meta, store, nil
		}
		d.log().Warn("a snapshot is passed over", "file", path, "error", err)
		none = fmt.Errorf("%w; %s: %w", none, path, err)
	}
	return Meta{}, nil, none
}

func (d Dir) load(path string, accept Accept, now authz.Instant) (meta Meta, store *posture.Store, err error) {
	if meta, err = d.peek(path); err != nil {
		return Meta{}, nil, err
	}
	if err = accept(meta); err != nil {
		return Meta{}, nil, err
	}
	err = d.open(path, func(r io.Reader) (err error) {
		meta, store, err = Read(r, now)
		return err
	})
	return meta, store, err
}

// Saved is a snapshot in a folder that was found good.
type Saved struct {
	Path string
	Meta Meta
}

// Retained says what Retain left.
type Retained struct {
	Good []Saved // newest first
	// TrimBefore is up to where the log may be trimmed: the lower, in each partition, of
	// the positions of the two newest good snapshots, so that one of them may turn out
	// bad. It is nil where there are not two.
	TrimBefore signals.Positions
	Removed    []string
}

// Retain reads the snapshots of the log again and keeps the newest good ones, keep of them
// and never fewer than two. It removes older ones and, once it has that many, damaged
// ones. Snapshots that accept does not take, those of a newer version, and files that
// cannot be read, stay.
func (d Dir) Retain(keep int, accept Accept) (Retained, error) {
	keep = max(2, keep)
	names, err := d.names()
	if err != nil || len(names) == 0 {
		return Retained{}, err
	}
	// A Save may have failed, or been killed, when the file had its name but not for good.
	if err := d.fsys().SyncDir(d.Path); err != nil {
		return Retained{}, err
	}
	var kept Retained
	var spare []string
	var failed error
	for _, name := range names {
		path := filepath.Join(d.Path, name)
		meta, err := d.peek(path)
		if err == nil {
			if err := accept(meta); err != nil {
				d.log().Debug("a snapshot is left alone", "file", path, "error", err)
				continue
			}
			if len(kept.Good) < keep {
				meta, err = d.check(path)
			}
		}
		var bad *DamagedError
		switch {
		case err == nil && len(kept.Good) < keep:
			kept.Good = append(kept.Good, Saved{path, meta})
		case err == nil:
			spare = append(spare, path)
		case errors.Is(err, ErrNewer):
			d.log().Debug("a snapshot is left alone", "file", path, "error", err)
		case errors.As(err, &bad):
			d.log().Warn("a snapshot is damaged", "file", path, "error", err)
			spare = append(spare, path)
		default:
			failed = errors.Join(failed, fmt.Errorf("%s: %w", path, err))
		}
	}
	if len(kept.Good) >= 2 {
		kept.TrimBefore = lower(kept.Good[0].Meta.Positions, kept.Good[1].Meta.Positions)
	}
	if len(kept.Good) < keep {
		return kept, failed // a damaged one may be all that there is to learn from
	}
	for _, path := range slices.Backward(spare) {
		if err := d.fsys().Remove(path); err != nil {
			return kept, errors.Join(failed, err)
		}
		kept.Removed = append(kept.Removed, path)
	}
	return kept, failed
}

// SetAside renames the snapshots whose header cannot be read, or that accept does not
// take, so that no start looks at them again; and gives the new names.
func (d Dir) SetAside(accept Accept) ([]string, error) {
	names, err := d.names()
	if err != nil {
		return nil, err
	}
	var aside []string
	for _, name := range names {
		path := filepath.Join(d.Path, name)
		meta, err := d.peek(path)
		if err == nil {
			err = accept(meta)
		}
		if err == nil {
			continue
		}
		if err := d.fsys().Rename(path, path+".void"); err != nil {
			return aside, err
		}
		aside = append(aside, path+".void")
	}
	if len(aside) > 0 {
		err = d.fsys().SyncDir(d.Path)
	}
	return aside, err
}

// lower gives the lower offset of each partition; one that a names and b does not starts
// at 0.
func lower(a, b signals.Positions) signals.Positions {
	low := signals.Positions{}
	for partition, offset := range a {
		low[partition] = min(offset, b[partition])
	}
	return low
}

func (d Dir) check(path string) (meta Meta, err error) {
	err = d.open(path, func(r io.Reader) (err error) {
		meta, err = Check(r)
		return err
	})
	return meta, err
}

// peek reads the header.
func (d Dir) peek(path string) (meta Meta, err error) {
	err = d.open(path, func(r io.Reader) (err error) {
		meta, err = readMeta(r)
		return err
	})
	return meta, err
}

func (d Dir) open(path string, use func(io.Reader) error) error {
	f, err := d.fsys().Open(path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return err
	}
	return use(io.NewSectionReader(f, 0, size))
}

// names gives the files of snapshots, newest first. No folder has none.
func (d Dir) names() ([]string, error) {
	all, err := d.fsys().ReadDir(d.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(name string) bool {
		return !strings.HasPrefix(name, prefix) || !strings.HasSuffix(name, suffix)
	})
	slices.Sort(all)
	slices.Reverse(all)
	return all, nil
}

func (d Dir) fsys() disk.FS {
	if d.FS == nil {
		return disk.OS
	}
	return d.FS
}

func (d Dir) log() *slog.Logger {
	if d.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return d.Logger
}
