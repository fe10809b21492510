package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
	"math"

	"vigil/authz"
)

// maxBatch is what a batch may have on the wire, in bytes. Topics allow one MiB unless they
// are told otherwise.
const maxBatch = 64 << 20

// errCorrupt says that fetched bytes fail their checksum or cannot be told apart.
var errCorrupt = errors.New("corrupt records")

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
	codec  int8
	atOnce bool  // the log stamped all records, with newest
	first  int64 // the timestamp that those of records are relative to, ms
	newest int64 // the largest timestamp, ms
	count  int32
	body   []byte // the records, unpacked and found good
}

// record is one of a batch.
type record struct {
	offset     int64
	appended   authz.Instant // when the log took it, to the millisecond; 0 where it does not say
	key, value []byte
	noValue    bool   // null, which is not the empty value
	headers    []byte // how many there are, and then each, as they came; see record.header
}

// The layout of a batch on the wire. Base offset, length and epoch are the log's to set,
// and are not under the checksum.
const (
	atLength  = 8  // int32, of what follows it
	atEpoch   = 12 // int32
	atMagic   = 16 // int8, at this place in every format
	atCRC     = 17 // uint32, CRC-32C of what follows it
	atSealed  = 21
	batchHead = 61 // bytes before the records
	oldHead   = 26 // of the least message of the formats before
)

const (
	codecBits         = 0x07
	logAppendTimeBit  = 0x08
	transactionalBit  = 0x10
	controlBit        = 0x20
	readableMagic     = 2
	newestOfOldMagics = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// readBatches calls each with the batches in raw, the records of an answer to a fetch, in
// order, without those that end before from. The batch is each's until it returns.
//
// Where raw holds no whole batch, as it does when the first is larger than it, need is the
// size of that in bytes. A batch that is cut short at the end is not an error.
//
// by are the turns to unpack in.
//
// The error wraps errCorrupt where the bytes fail their checksum, or are none that a broker
// would send: they may be good when they are fetched again. Other errors are those of each
// and of ctx, for whose turn to unpack is waited.
func readBatches(ctx context.Context, by turns, raw []byte, from int64, each func(*batch) error) (need int, err error) {
	before := int64(-1)
	for start := 0; start < len(raw); {
		rest := raw[start:]
		size := batchHead
		if len(rest) >= atEpoch {
			length := int32(binary.BigEndian.Uint32(rest[atLength:]))
			if length < oldHead-atEpoch || length > maxBatch-atEpoch {
				return 0, fmt.Errorf("%w: a batch after offset %d that is said to have %d bytes", errCorrupt, before, length)
			}
			size = atEpoch + int(length)
		}
		if len(rest) < size {
			if start == 0 {
				need = size
			}
			return need, nil
		}
		b, err := openBatch(rest[:size])
		if err != nil {
			return 0, err
		}
		if b.base <= before {
			return 0, fmt.Errorf("%w: a batch of the offsets %d to %d after offset %d", errCorrupt, b.base, b.last, before)
		}
		before = b.last
		start += size
		if b.last < from {
			continue
		}
		if err := b.handTo(ctx, by, each); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// handTo unpacks the batch and calls each with it.
func (b *batch) handTo(ctx context.Context, by turns, each func(*batch) error) error {
	if b.refused != "" || b.control {
		return each(b)
	}
	packed := b.sealed[batchHead-atSealed:]
	if b.codec == 0 {
		b.body = packed
	} else {
		done, err := by.take(ctx)
		if err != nil {
			return err
		}
		defer done()
		if b.body, err = unpack(b.codec, packed); err != nil {
			b.refuse("cannot be unpacked", err)
		}
	}
	if b.refused == "" {
		if err := b.walk(func(record) bool { return true }); err != nil {
			b.refuse("cannot be read", err)
		}
	}
	return each(b)
}

// refuse gives up on all records of the batch.
func (b *batch) refuse(what string, why error) {
	b.body, b.count = nil, 0
	b.refused = fmt.Sprintf("the record of offset %d %s: %s", b.base, what, why)
	if b.last > b.base {
		b.refused = fmt.Sprintf("the records of offsets %d to %d %s: %s", b.base, b.last, what, why)
	}
}

// openBatch reads what is before the records of a batch, of which all bytes are there.
func openBatch(raw []byte) (*batch, error) {
	b := &batch{base: int64(binary.BigEndian.Uint64(raw)), epoch: -1}
	b.last = b.base
	sum := binary.BigEndian.Uint32(raw[atCRC:])
	switch magic := int8(raw[atMagic]); {
	case b.base < 0:
		return nil, fmt.Errorf("%w: the offset %d", errCorrupt, b.base)
	case magic >= 0 && magic <= newestOfOldMagics:
		// The magic is not under the checksum of the formats that came after, so it is
		// believed only if the checksum of an old one is right.
		b.sealed = raw[atMagic:]
		if crc32.ChecksumIEEE(b.sealed) != binary.BigEndian.Uint32(raw[atEpoch:]) {
			return nil, fmt.Errorf("%w: checksum of the message at offset %d", errCorrupt, b.base)
		}
		b.refuse("cannot be read", fmt.Errorf("message format v%d is from before Kafka 0.11; only v2 is read", magic))
		return b, nil
	case magic != readableMagic:
		return nil, fmt.Errorf("%w: message format v%d at offset %d", errCorrupt, magic, b.base)
	case len(raw) < batchHead:
		return nil, fmt.Errorf("%w: a batch of %d bytes at offset %d", errCorrupt, len(raw), b.base)
	}
	b.sealed = raw[atSealed:]
	if crc32.Checksum(b.sealed, castagnoli) != sum {
		return nil, fmt.Errorf("%w: checksum of the batch at offset %d", errCorrupt, b.base)
	}
	b.epoch = int32(binary.BigEndian.Uint32(raw[atEpoch:]))
	c := &cursor{rest: b.sealed}
	attributes := c.int16()
	reach := c.int32()
	b.first, b.newest = c.int64(), c.int64()
	c.take(8 + 2 + 4) // producer, its epoch and sequence
	b.count = c.int32()
	if reach < 0 || b.base > math.MaxInt64-1-int64(reach) {
		return nil, fmt.Errorf("%w: a batch of offset %d and %d more", errCorrupt, b.base, reach)
	}
	b.last = b.base + int64(reach)
	b.codec = int8(attributes & codecBits)
	b.atOnce = attributes&logAppendTimeBit != 0
	b.transactional = attributes&transactionalBit != 0
	b.control = attributes&controlBit != 0
	return b, nil
}

// records are those of the batch in order, their offsets strictly rising from base to at
// most last. Keys and values are parts of the batch's memory, up to 16 MiB for all of them.
// There may be a great many in few bytes: hand them on in parts.
func (b *batch) records() iter.Seq[record] {
	return func(yield func(record) bool) {
		if b.refused == "" && !b.control {
			_ = b.walk(yield) // which found them good before
		}
	}
}

// walk goes through the records until yield is false. It keeps none, so that what a batch
// costs is its bytes, however many records they claim to be.
func (b *batch) walk(yield func(record) bool) error {
	c := &cursor{rest: b.body}
	before := b.base - 1
	for i := range b.count {
		r, err := b.next(c)
		if err != nil {
			return fmt.Errorf("record %d of %d: %w", i+1, b.count, err)
		}
		if r.offset <= before || r.offset > b.last {
			return fmt.Errorf("record %d of %d has the offset %d, after %d and of at most %d", i+1, b.count, r.offset, before, b.last)
		}
		before = r.offset
		if !yield(r) {
			return nil
		}
	}
	if b.count < 0 || len(c.rest) > 0 {
		return fmt.Errorf("%d bytes after the %d records that there are said to be", len(c.rest), b.count)
	}
	return nil
}

var errRecordLength = errors.New("it has not the length that it says")

// next reads one record.
func (b *batch) next(c *cursor) (record, error) {
	length := c.varint32()
	in := cursor{rest: c.take(int(length)), bad: c.bad}
	in.int8() // attributes, of which there are none
	at := in.varint()
	if at > 0 && b.first > math.MaxInt64-at || at < 0 && b.first < math.MinInt64-at {
		in.bad = true
	}
	r := record{offset: b.base + int64(in.varint32())}
	r.appended = instant(b.first + at)
	if b.atOnce {
		r.appended = instant(b.newest)
	}
	r.key, _ = in.varBytes()
	r.value, r.noValue = in.varBytes()
	r.headers = in.rest
	headers := in.varint32()
	if headers < 0 || int(headers) > len(in.rest) {
		in.bad = true
	}
	for ; headers > 0 && !in.bad; headers-- {
		if _, null := in.varBytes(); null {
			in.bad = true // the name of a header
		}
		in.varBytes()
	}
	if in.bad || len(in.rest) > 0 {
		return record{}, errRecordLength
	}
	return r, nil
}

// varBytes reads bytes with a signed length, of which -1 is null.
func (c *cursor) varBytes() (b []byte, null bool) {
	n := c.varint32()
	if n == -1 {
		return nil, true
	}
	return c.take(int(n)), false
}

// instant converts a timestamp, where -1 is none.
func instant(ms int64) authz.Instant {
	const perMs = 1_000_000
	switch {
	case ms < 0:
		return 0
	case ms > (math.MaxInt64-1)/perMs:
		return authz.Forever - 1
	}
	return authz.Instant(ms * perMs)
}
