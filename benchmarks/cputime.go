package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// processorTime is what a process has used of processors so far, all its threads that
// still live together. Linux counts it in nanoseconds in schedstat; elsewhere it is 0 and
// nothing is said about it.
func processorTime(pid int) time.Duration {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	var sum int64
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			continue // the thread has ended
		}
		var ran int64
		if _, err := fmt.Sscan(string(data), &ran); err == nil {
			sum += ran
		}
	}
	return time.Duration(sum)
}
