// Package snapshot keeps posture on disk together with the log positions that it
// stands for, compressed and checksummed, so that a start reads the newest good one
// and only the rest of the log.
package snapshot
