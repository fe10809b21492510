package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"vigil/disk"
)

// Receive puts a snapshot that another process sends into the folder, durably, where accept
// takes what it says to be of, and checks it to its last byte. limit bounds it, in bytes. It
// reads only what the header needs before it asks accept. After an error there is no file
// that Newest takes.
func (d Dir) Receive(r io.Reader, limit int64, accept Accept) (path string, meta Meta, err error) {
	bounded := &io.LimitedReader{R: r, N: limit + 1}
	var head bytes.Buffer
	if meta, err = readMeta(io.TeeReader(bounded, &head)); err != nil {
		return "", Meta{}, err
	}
	if err = accept(meta); err != nil {
		return "", Meta{}, err
	}
	fsys := d.fsys()
	if err = fsys.MkdirAll(d.Path, 0o700); err != nil {
		return "", Meta{}, err
	}
	if err = disk.RemoveUnfinished(fsys, d.Path); err != nil {
		return "", Meta{}, err
	}
	path = filepath.Join(d.Path, fileName(meta))
	err = disk.WriteFile(fsys, path, 0o600, func(w io.Writer) error {
		_, err := io.CopyBuffer(onlyWriter{w}, io.MultiReader(&head, bounded), make([]byte, 256<<10))
		if err == nil && bounded.N <= 0 {
			err = fmt.Errorf("it is longer than %d bytes", limit)
		}
		return err
	})
	if err != nil {
		return "", Meta{}, fmt.Errorf("receive a snapshot: %w", err)
	}
	if _, err = d.check(path); err != nil {
		return "", Meta{}, errors.Join(err, fsys.Remove(path))
	}
	return path, meta, nil
}

// onlyWriter hides what else a writer can do, so that copying uses its own buffer.
type onlyWriter struct{ io.Writer }
