package main

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// precise lets the calling thread wake up when it meant to: the system is otherwise free
// to wake it 50 µs later.
func precise() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) }

// nap sleeps for about d without the runtime's timers, which are as coarse as a
// millisecond when the process is idle.
func nap(d time.Duration) {
	ts := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&ts, nil)
}
