package main

import (
	"syscall"
	"time"
)

// nap sleeps for about d. The runtime's own timers are as coarse as a millisecond when the
// process is idle, which would be lateness of the generator's making. It blocks its
// thread; only the one pacer of a load naps.
func nap(d time.Duration) {
	if d <= 0 {
		return
	}
	ts := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&ts, nil)
}
