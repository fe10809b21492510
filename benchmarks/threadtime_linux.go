package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// threadTime is how long the calling thread has been on a processor. What others do on the
// machine is not in it, but for what they leave of its caches.
func threadTime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
