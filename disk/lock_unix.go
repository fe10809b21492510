//go:build unix

package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
)

// lock uses flock(2): the kernel ends it with the process, so that a kill leaves no
// stale lock, and it belongs to the open file, so that a second Open in one process is
// refused too. The file itself stays: removing it would let two processes hold locks on
// two files of one name.
func lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, &LockedError{Path: name, PID: holder(f)}
		}
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	// The pid is for people. A failure to write it (a full disk) takes nothing from the lock.
	_ = f.Truncate(0)
	_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return f, nil
}

func holder(f *os.File) string {
	var text [20]byte
	n, _ := f.ReadAt(text[:], 0)
	pid := string(bytes.TrimSpace(text[:n]))
	if _, err := strconv.Atoi(pid); err != nil {
		return ""
	}
	return pid
}
