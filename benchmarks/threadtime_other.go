//go:build !linux

package main

import "time"

var started = time.Now()

// threadTime is the time that went by: this system does not tell a thread's own.
func threadTime() time.Duration { return time.Since(started) }
