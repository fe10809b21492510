package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"syscall"
)

// readAllBounded reads all of r, which must not be longer than limit bytes.
func readAllBounded(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("it is longer than %d bytes", limit)
	}
	return data, nil
}

// notMade says why the file name could not be made.
func notMade(name string, err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "there is no folder " + filepath.Dir(name)
	}
	return plainOSError(err)
}

// plainOSError says what the system objects to, without the call and the path that an
// *fs.PathError repeats.
func plainOSError(err error) string {
	var pathErr *fs.PathError
	var errno syscall.Errno
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "no such file"
	case errors.As(err, &pathErr) && errors.As(pathErr.Err, &errno):
		return errno.Error()
	}
	return err.Error()
}
