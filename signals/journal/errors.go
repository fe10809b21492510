package journal

import (
	"errors"
	"fmt"
)

// ErrClosed says that the journal was closed.
var ErrClosed = errors.New("the journal is closed")

// ErrFollowed says that the journal has its one follower already.
var ErrFollowed = errors.New("the journal is followed already")

// DamageError says that acknowledged records cannot be read back.
type DamageError struct {
	Path   string // the file
	At     int64  // the byte in it
	Record int64  // the first record that is missing or unreadable
	What   string
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("%s: damaged at byte %d (record %d): %s; restore the folder from a backup, "+
		"or give up what cannot be read with \"pdp journal adopt\"", e.Path, e.At, e.Record, e.What)
}

// HoleError says that records which a follower needs are no longer in the log.
type HoleError struct {
	From, First int64
}

func (e *HoleError) Error() string {
	return fmt.Sprintf("the journal begins at record %d, and the records from %d on are needed: a snapshot is missing or too old",
		e.First, e.From)
}

// AheadError says that a position was asked for that the log has not reached: the log was
// put back to an older state, or the position is of another log.
type AheadError struct {
	From, Head int64
}

func (e *AheadError) Error() string {
	return fmt.Sprintf("the journal ends at record %d, and %d is past it: was an older copy put back? (\"pdp journal adopt\")",
		e.Head, e.From)
}

// TooLargeError says that an append can never be taken. Nothing of it was.
type TooLargeError struct{ Detail string }

func (e *TooLargeError) Error() string { return e.Detail }
