package disk

import (
	"io"
	"io/fs"
	"os"
)

// OS is the file system of this machine.
var OS FS = machine{}

type machine struct{}

func (machine) Open(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return file{f}, nil
}

func (machine) Rename(oldName, newName string) error { return os.Rename(oldName, newName) }

func (machine) Remove(name string) error { return os.Remove(name) }

func (machine) MkdirAll(dir string, perm fs.FileMode) error { return os.MkdirAll(dir, perm) }

func (machine) ReadDir(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

func (machine) SyncDir(dir string) error { return syncDir(dir) }

func (machine) Lock(name string) (io.Closer, error) { return lock(name) }

type file struct{ *os.File }

func (f file) Sync() error { return syncData(f.File) }

func (f file) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
