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
	// Input is who wrote the record, where that was no replica: Record is then the signal
	// as JSON, which nobody has judged yet. Where the record was of another form it is what
	// the log made of it, by a pure function that every replica has.
	Input *Input
	// Refused says why the log itself has found the record unfit: a dead letter.
	Refused string
}

// Input is a topic that others than replicas write. Its records are signals as they are
// over HTTP. They are judged when they are applied, by what the topic may say, so that is
// a pure function of the record and of this configuration.
type Input struct {
	Source Source
	// Grants are what it may say, by append time. A record that none covers is refused.
	Grants []Grant
}

// Grant is what an input may say in the records that its log took in a stretch of time.
// Changing what an input may say from now on is another grant; the old one still judges
// the old records, so that reading them again gives the same posture. Its authority is
// without Classes and without Overrule: they would need the state of posture when the
// record is applied, which is not the same on every replica.
type Grant struct {
	From, Until authz.Instant // append time, Until excluded; 0 for no bound
	Authority   Authority
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
