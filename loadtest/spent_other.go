//go:build !linux

package main

import (
	"errors"
	"time"
)

// processorTime is counted on Linux alone.
func processorTime(int) time.Duration { return 0 }

func busyTime() time.Duration { return 0 }

type sockets struct {
	open     int
	received int64
	sent     int64
}

func socketsOf(int, ...int) (sockets, error) {
	return sockets{}, errors.New("what a process receives is counted on Linux alone")
}
