package disktest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"syscall"
)

var errStopped = errors.New("the machine has stopped")

// errDead is what a file says that a process opened which has ended.
var errDead = errors.New("the process of this file has ended")

type handle struct {
	fs     *Memory
	name   string
	inode  *inode
	life   int
	closed bool // guarded by fs.mu
}

func (h *handle) usableLocked() error {
	switch {
	case h.life != h.fs.life:
		return &fs.PathError{Op: "use", Path: h.name, Err: errDead}
	case h.closed:
		return &fs.PathError{Op: "use", Path: h.name, Err: fs.ErrClosed}
	}
	return nil
}

func (h *handle) ReadAt(p []byte, off int64) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.usableLocked(); err != nil {
		return 0, err
	}
	if _, err := h.fs.callLocked(OpRead, h.name, len(p)); err != nil {
		return 0, err
	}
	if off >= int64(len(h.inode.data)) {
		return 0, io.EOF
	}
	n := copy(p, h.inode.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h *handle) WriteAt(p []byte, off int64) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.usableLocked(); err != nil {
		return 0, err
	}
	n, err := h.fs.callLocked(OpWrite, h.name, len(p))
	if grow := off + int64(n) - int64(len(h.inode.data)); err == nil && h.fs.capacity >= 0 && grow > 0 {
		if free := max(0, h.fs.capacity-h.fs.usedLocked()); grow > free {
			n -= int(grow - free)
			err = &fs.PathError{Op: "write", Path: h.name, Err: syscall.ENOSPC}
		}
	}
	if n = max(n, 0); n > 0 {
		h.inode.change(write{at: off, data: slices.Clone(p[:n])})
	}
	return n, err
}

func (f *inode) change(w write) {
	f.data = w.apply(f.data)
	f.pending = append(f.pending, w)
}

func (h *handle) Truncate(size int64) error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.usableLocked(); err != nil {
		return err
	}
	if _, err := h.fs.callLocked(OpTruncate, h.name, 0); err != nil {
		return err
	}
	h.inode.change(write{at: size, truncate: true})
	return nil
}

func (h *handle) Sync() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.usableLocked(); err != nil {
		return err
	}
	_, err := h.fs.callLocked(OpSync, h.name, 0)
	if err == nil {
		for _, w := range h.inode.pending {
			h.inode.durable = w.apply(h.inode.durable)
		}
	}
	if !errors.Is(err, errStopped) {
		// After a failure too: the pages are clean now, and lost.
		h.inode.pending = nil
	}
	return err
}

func (h *handle) Size() (int64, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.usableLocked(); err != nil {
		return 0, err
	}
	return int64(len(h.inode.data)), nil
}

func (h *handle) Close() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.closed {
		return fmt.Errorf("%s: %w", h.name, fs.ErrClosed)
	}
	h.closed = true
	return nil
}
