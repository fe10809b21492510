package main

import (
	"context"
	"io"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// pinnedCommand becomes another program that runs on one processor only, where there are
// several: `pinned PROCESSOR PROGRAM ARGUMENT...`.
func pinnedCommand(_ context.Context, args []string, _, _ io.Writer) error {
	if len(args) < 2 {
		return badUsage("pinned is for this program's own use")
	}
	processor, err := strconv.Atoi(args[0])
	if err != nil {
		return badUsage("%q is no number of a processor", args[0])
	}
	runtime.LockOSThread() // the thread that execs is the one whose processor is kept
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err == nil && all.Count() > 1 {
		var one unix.CPUSet
		for i, n := 0, 0; n < all.Count(); i++ {
			if all.IsSet(i) {
				if n == processor%all.Count() {
					one.Set(i)
				}
				n++
			}
		}
		// A machine that does not allow it measures all the same, only with more noise.
		_ = unix.SchedSetaffinity(0, &one)
	}
	return syscall.Exec(args[1], args[1:], os.Environ())
}
