package disk

import (
	"errors"
	"os"
	"syscall"
)

// syncData leaves out the access times, which nobody needs to survive. The size is
// written: without it the contents could not be read back (fdatasync(2)).
func syncData(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var syncErr error
	err = raw.Control(func(fd uintptr) {
		for {
			// An interrupted call has not looked at the pages yet: this is no second
			// try after a failure.
			if syncErr = syscall.Fdatasync(int(fd)); !errors.Is(syncErr, syscall.EINTR) {
				return
			}
		}
	})
	if err == nil && syncErr != nil {
		err = &os.PathError{Op: "fdatasync", Path: f.Name(), Err: syncErr}
	}
	return err
}
