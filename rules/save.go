package rules

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// savedPrefix begins the names of the directories that Save makes within its own.
const savedPrefix = "..bundle-"

// Save writes the files of the bundle, byte for byte, to dir, so that loading dir gives the
// same bundle. It replaces what an earlier Save wrote there in one step: whoever loads dir
// meanwhile, and whoever finds it after a crash, gets the one or the other. dir is made
// where it is missing; it must hold nothing else. Saving to one dir from several places at
// once is not safe.
//
// The files stand in a directory of their own within dir, to which the link ..data points,
// as in the volumes of Kubernetes.
func (b *Bundle) Save(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("save the bundle: %w", err)
	}
	if err := checkSaveDir(dir); err != nil {
		return fmt.Errorf("save the bundle: %w", err)
	}
	fresh, err := os.MkdirTemp(dir, savedPrefix)
	if err != nil {
		return fmt.Errorf("save the bundle: %w", err)
	}
	if err := b.saveTo(dir, fresh); err != nil {
		return fmt.Errorf("save the bundle: %w", errors.Join(err, os.RemoveAll(fresh)))
	}
	// What an earlier Save left is of no use any more; failing to remove it harms nobody.
	leftover, _ := filepath.Glob(filepath.Join(dir, savedPrefix+"*"))
	for _, old := range leftover {
		if old != fresh {
			_ = os.RemoveAll(old)
		}
	}
	return nil
}

// checkSaveDir refuses a directory with files of somebody else, which would be taken for a
// part of the bundle.
func checkSaveDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			return fmt.Errorf("%s holds %s, which no bundle saved there wrote", dir, e.Name())
		}
	}
	return nil
}

func (b *Bundle) saveTo(dir, fresh string) error {
	for _, name := range keys(b.Sources) {
		if err := writeSynced(filepath.Join(fresh, name), b.Sources[name], 0o640); err != nil {
			return err
		}
	}
	if err := syncDir(fresh); err != nil {
		return err
	}
	link := fresh + ".link"
	if err := os.Symlink(filepath.Base(fresh), link); err != nil {
		return err
	}
	// The rename is what puts the new files in the place of the old.
	if err := os.Rename(link, filepath.Join(dir, currentLink)); err != nil {
		return errors.Join(err, os.Remove(link))
	}
	return syncDir(dir)
}

// replaceFile puts data in the place of a file in one step and keeps its permissions.
func replaceFile(path string, data []byte) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // replace the file, not the link to it
	}
	// A name with a dot is ignored by whoever loads the directory meanwhile.
	fresh := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := writeSynced(fresh, data, info.Mode().Perm()); err != nil {
		return errors.Join(err, os.Remove(fresh))
	}
	if err := os.Rename(fresh, path); err != nil {
		return errors.Join(err, os.Remove(fresh))
	}
	return syncDir(filepath.Dir(path))
}

func writeSynced(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
