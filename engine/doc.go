// Package engine decides one request against one rule set and one view of posture at
// one now. It does no I/O, reads no clock of its own and starts no goroutine.
package engine
