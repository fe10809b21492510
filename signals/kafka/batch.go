package kafka

import (
	"context"
	"errors"
	"iter"

	"vigil/authz"
)

// batch is a record batch of a partition (message format v2), found good by its checksum.
type batch struct {
	base, last    int64 // offsets; last may be that of no record
	epoch         int32 // of the leader that took it
	control       bool  // it ends a transaction, and has no records of anybody
	transactional bool
	// refused says why none of its records can be read although its checksum is right; ""
	// where they can. Then there are none.
	refused string

	sealed []byte // what the checksum covers
}

// records are those of the batch in order, their offsets strictly rising from base to at
// most last. Keys and values are parts of the batch's memory, up to 16 MiB for all of them.
// There may be a great many in few bytes: hand them on in parts.
func (b *batch) records() iter.Seq[record] { return func(func(record) bool) {} }

// record is one of a batch.
type record struct {
	offset     int64
	appended   authz.Instant // when the log took it, to the millisecond; 0 where it does not say
	key, value []byte
	noValue    bool // null, which is not the empty value
}

// readBatches calls each with the batches in raw, the records of an answer to a fetch, in
// order, without those that end before from. The batch is each's until it returns.
//
// Where raw holds no whole batch, as it does when the first is larger than it, need is the
// size of that in bytes. A batch that is cut short at the end is not an error.
//
// The error wraps errCorrupt where the bytes fail their checksum, or are none that a broker
// would send: they may be good when they are fetched again. Other errors are those of each
// and of ctx.
func readBatches(ctx context.Context, raw []byte, from int64, each func(*batch) error) (need int, err error) {
	return 0, errors.ErrUnsupported
}

// errCorrupt says that fetched bytes fail their checksum or cannot be told apart.
var errCorrupt = errors.New("corrupt records")
