// Package disk is the few file operations that durable things are built from, and the
// one way to replace a file whole.
//
// It exists so that tests can put a file system underneath that runs out of space,
// fails, flips bits, and forgets what was not synced when the machine stops
// (disk/disktest). It knows nothing of what the files mean.
package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// FS is a file system. Its methods are safe for concurrent use.
type FS interface {
	// Open opens a file with the flags of package os.
	Open(name string, flag int, perm fs.FileMode) (File, error)
	// Rename replaces newName by oldName at one instant. It is durable once the
	// directory is synced.
	Rename(oldName, newName string) error
	Remove(name string) error
	// ReadDir gives the names in a directory, sorted.
	ReadDir(dir string) ([]string, error)
	MkdirAll(dir string, perm fs.FileMode) error
	// SyncDir makes the names in a directory durable.
	SyncDir(dir string) error
	// Lock takes the lock file name for this process, or says who has it. The lock ends
	// with Close and with the process, however that ends.
	Lock(name string) (io.Closer, error)
}

// File is an open file. All access is by position, so that a reader and a writer of one
// file do not disturb each other.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	// Sync makes the contents durable. After it has failed nothing is known of what was
	// written since the last success, and a later success does not mean that those bytes
	// are durable: the kernel may have dropped them and forgotten the error. Whoever
	// meets a failure gives the file up.
	Sync() error
	Size() (int64, error)
}

// LockedError says that another process holds a lock.
type LockedError struct {
	Path string
	PID  string // of the holder, as it wrote it; "" when it cannot be read
}

func (e *LockedError) Error() string {
	if e.PID == "" {
		return e.Path + ": in use by another process"
	}
	return e.Path + ": in use by process " + e.PID
}

// temporary ends the name of a file that WriteFile has not finished.
const temporary = ".tmp"

// WriteFile replaces the file name by what write writes. The old contents or the new
// are found afterwards, whole, whatever happens in between; on return without an error
// the new are durable. After an error either may be found.
func WriteFile(fsys FS, name string, perm fs.FileMode, write func(io.Writer) error) (err error) {
	unfinished := name + temporary
	defer func() {
		if err != nil {
			_ = fsys.Remove(unfinished) // space for the next try; RemoveUnfinished finds what this leaves
		}
	}()
	f, err := fsys.Open(unfinished, os.O_CREATE|os.O_TRUNC|os.O_RDWR, perm)
	if err != nil {
		return err
	}
	if err := write(&appender{file: f}); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(fmt.Errorf("sync %s: %w", unfinished, err), f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := fsys.Rename(unfinished, name); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(name))
}

// RemoveUnfinished removes what a WriteFile in dir left when its process was killed.
func RemoveUnfinished(fsys FS, dir string) error {
	names, err := fsys.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, temporary) {
			if err := fsys.Remove(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// ReadFile reads a whole file of at most limit bytes.
func ReadFile(fsys FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fmt.Errorf("%s: %d bytes, more than the %d that it can have", name, size, limit)
	}
	data := make([]byte, size)
	if _, err := f.ReadAt(data, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return data, nil
}

// appender writes one piece after the other.
type appender struct {
	file File
	size int64
}

func (a *appender) Write(p []byte) (int, error) {
	n, err := a.file.WriteAt(p, a.size)
	a.size += int64(n)
	return n, err
}
