package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/listoffsets"
)

// The library's Fetch ends before topics had ids, and unpacks records as it decodes, so
// this one is written out. Version 13, of Kafka 3.1, is the first that names a topic by its
// id (KIP-516). By its name alone another topic could answer that was made anew between two
// answers about the cluster, and the view would look fresh: no older broker is read from.
const fetchVersion int16 = 13

// fetchMargin is what an answer may come later than it has to. A broker that is throttling
// this client holds answers back by seconds.
const fetchMargin = 10 * time.Second

// fetchRequest asks for the records of one partition.
type fetchRequest struct {
	id        [16]byte // the topic's; a broker refuses to answer for another of the same name
	partition int32
	epoch     int32         // of the leader that is asked; it refuses if it is another's. -1 for any
	offset    int64         // of the first record that is wanted
	wait      time.Duration // how long the broker may wait for one
	maxBytes  int32         // of records; the first batch comes whole all the same
}

// fetched is the answer. Where code is set the rest may be -1.
type fetched struct {
	code          errorCode
	highWatermark int64  // the offset after the last record that may be read
	logStart      int64  // the first offset that the partition still has
	records       []byte // for readBatches; the caller's
}

// fetch asks the broker for records. It ends 10 s after the wait at the latest.
func (c *conn) fetch(ctx context.Context, r fetchRequest) (fetched, error) {
	f, err := c.askFetch(ctx, r)
	if err != nil {
		c.close()
		return fetched{}, fmt.Errorf("%s: %w", protocol.Fetch, err)
	}
	return f, nil
}

func (c *conn) askFetch(ctx context.Context, r fetchRequest) (fetched, error) {
	if err := c.canFetch(); err != nil {
		return fetched{}, err
	}
	body, err := c.exchange(ctx, end(r.append(c.begin(protocol.Fetch, fetchVersion))), r.wait+fetchMargin, maxFetched)
	if err != nil {
		return fetched{}, err
	}
	return r.decode(body)
}

// canFetch says why this broker cannot be read from, or nil.
func (c *conn) canFetch() error {
	if c.versions[protocol.Fetch].max < fetchVersion {
		return fmt.Errorf("%w: it cannot fetch a topic by its id", errTooOld)
	}
	_, err := c.version(protocol.Fetch, fetchVersion, fetchVersion)
	return err
}

func (r *fetchRequest) append(b []byte) []byte {
	const (
		consumer      = -1 // no replica
		atLeast       = 1  // byte
		uncommitted   = 0  // isolation level: what is of a transaction is refused, not left out
		noSession     = 0
		noSessionYet  = -1
		noEpoch       = -1 // of a record that was read before: marks look closer
		noTags        = 0
		one, none     = 1 + 1, 0 + 1 // lengths of arrays
		smallestBatch = 1
	)
	wanted := max(r.maxBytes, smallestBatch)
	b = appendInt32(b, consumer)
	b = appendInt32(b, int32(r.wait.Milliseconds()))
	b = appendInt32(b, atLeast)
	b = appendInt32(b, wanted)
	b = append(b, uncommitted)
	b = appendInt32(b, noSession)
	b = appendInt32(b, noSessionYet)
	b = append(b, one)
	b = append(b, r.id[:]...)
	b = append(b, one)
	b = appendInt32(b, r.partition)
	b = appendInt32(b, r.epoch)
	b = appendInt64(b, r.offset)
	b = appendInt32(b, noEpoch)
	b = appendInt64(b, -1) // the start of a replica's log
	b = appendInt32(b, wanted)
	b = append(b, noTags, noTags)
	b = append(b, none)     // forgotten partitions of the session
	b = appendString(b, "") // rack: the leader alone answers
	return append(b, noTags)
}

// decode reads the answer, from after its correlation id on. It is of the one partition
// that was asked for, or of none and an error.
func (r *fetchRequest) decode(body []byte) (fetched, error) {
	c := &cursor{rest: body}
	f := fetched{highWatermark: -1, logStart: -1}
	c.tags()  // of the header
	c.int32() // throttle time
	f.code = errorCode(c.int16())
	c.int32() // session
	found := false
	for topics := c.count(true); topics > 0 && !c.bad; topics-- {
		ours := string(c.take(16)) == string(r.id[:])
		for partitions := c.count(true); partitions > 0 && !c.bad; partitions-- {
			index, p := c.fetched()
			if !ours || index != r.partition || found {
				return fetched{}, fmt.Errorf("%w: it is of a partition that was not asked for", errMalformed)
			}
			found = true
			if f.code == errNone {
				f = p
			}
		}
		c.tags()
	}
	c.tags()
	switch {
	case c.bad || len(c.rest) > 0:
		return fetched{}, fmt.Errorf("%w: it ends too early or too late", errMalformed)
	case !found && f.code == errNone:
		return fetched{}, fmt.Errorf("%w: it is of no partition", errMalformed)
	}
	return f, nil
}

// fetched reads what is said of one partition.
func (c *cursor) fetched() (index int32, f fetched) {
	index, f.code = c.int32(), errorCode(c.int16())
	f.highWatermark = c.int64()
	c.int64() // the end of what is in no open transaction
	f.logStart = c.int64()
	for aborted := c.count(true); aborted > 0 && !c.bad; aborted-- {
		c.int64() // producer
		c.int64() // first offset
		c.tags()
	}
	c.int32() // a replica to ask instead: only where a rack was named
	f.records = c.bytes(true)
	c.tags()
	return index, f
}

// Which offset of a partition is asked for.
const (
	latest   int64 = -1 // the high watermark: the offset of the next record to be read
	earliest int64 = -2 // the first offset that the partition still has
)

// offset asks the leader of a partition where it ends or begins. With latest, a leader
// answers errOffsetNotAvailable or errLeaderNotAvailable for as long as it may not yet
// know all that was acknowledged before its time (KIP-207). The epoch is as in a fetch.
func (c *conn) offset(ctx context.Context, topic string, partition, epoch int32, which int64) (int64, errorCode, error) {
	answer, err := c.roundTrip(ctx, &listoffsets.Request{
		ReplicaID: -1,
		Topics: []listoffsets.RequestTopic{{Topic: topic, Partitions: []listoffsets.RequestPartition{{
			Partition: partition, CurrentLeaderEpoch: epoch, Timestamp: which,
		}}}},
	})
	if err != nil {
		return -1, errNone, err
	}
	topics := answer.(*listoffsets.Response).Topics
	if len(topics) != 1 || topics[0].Topic != topic || len(topics[0].Partitions) != 1 || topics[0].Partitions[0].Partition != partition {
		c.close()
		return -1, errNone, fmt.Errorf("ListOffsets: %w: it is not of the partition that was asked for", errMalformed)
	}
	p := topics[0].Partitions[0]
	if code := errorCode(p.ErrorCode); code != errNone {
		return -1, code, nil
	}
	if p.Offset < 0 {
		c.close()
		return -1, errNone, fmt.Errorf("ListOffsets: %w: the offset %d", errMalformed, p.Offset)
	}
	return p.Offset, errNone, nil
}
