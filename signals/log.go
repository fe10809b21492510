package signals

import (
	"context"

	"vigil/authz"
)

// Position is a place in a log: the offset of a record within a partition.
type Position struct {
	Partition int32
	Offset    int64
}

// LogID is the random identity of a log. Positions of different logs are never compared.
type LogID [16]byte

// Entry is a record as the log delivers it.
type Entry struct {
	Position Position
	Appended authz.Instant // when the log took it
	Record   []byte        // encoded by EncodeRecord; undecodable bytes must not stop the feed
}

// Log makes records durable and delivers them, in order within a partition, to one
// follower. The embedded journal and Kafka are logs.
type Log interface {
	// ID is the log's identity.
	ID() LogID
	// Append makes the records durable and returns their positions. When it returns an
	// error some may be in the log all the same, unless the error is ErrUnavailable:
	// then none is.
	Append(ctx context.Context, records [][]byte) ([]Position, error)
	// Follow delivers what is in the log from the given positions on, in batches, and
	// then what is appended, until ctx ends or deliver fails. caughtUp is called once,
	// when everything that was in the log at the start has been delivered.
	Follow(ctx context.Context, from Positions, deliver func([]Entry) error, caughtUp func()) error
	// Health says what is wrong with the log, or nil. A log in ill health may still be read.
	Health() error
}

// soleWriter is a log that nobody but this process writes, so that it knows its end: a
// position past Heads names nothing that there ever was, and nobody needs to wait for it.
type soleWriter interface {
	// Heads is the next offset of each partition. It does not block.
	Heads() Positions
}
