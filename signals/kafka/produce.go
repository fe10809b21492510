package kafka

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/segmentio/kafka-go/protocol/rawproduce"

	"vigil/authz"
)

// Sizes of the message format v2: of a batch before its records, and the most that a record
// of ours takes besides its value.
const (
	batchHeader    = 61
	recordOverhead = 1 + 3*binary.MaxVarintLen32 + 3
)

// appendBatch adds a record batch (message format v2) of values without keys or headers,
// uncompressed, under no producer id: the log keeps posture by a join, so a record that
// is there twice does no harm, and sequences would have to be fenced on every replica.
func appendBatch(dst []byte, values [][]byte, now authz.Instant) []byte {
	start := len(dst)
	millis := uint64(now) / uint64(time.Millisecond)
	be := binary.BigEndian
	dst = be.AppendUint64(dst, 0)          // base offset: the broker's to set
	dst = be.AppendUint32(dst, 0)          // length, below
	dst = be.AppendUint32(dst, ^uint32(0)) // leader epoch: the broker's to set
	dst = append(dst, 2)                   // magic
	dst = be.AppendUint32(dst, 0)          // checksum, below
	sealed := len(dst)
	dst = be.AppendUint16(dst, 0) // attributes: not compressed, time of creation
	dst = be.AppendUint32(dst, uint32(len(values)-1))
	dst = be.AppendUint64(dst, millis)     // first timestamp
	dst = be.AppendUint64(dst, millis)     // largest
	dst = be.AppendUint64(dst, ^uint64(0)) // producer id
	dst = be.AppendUint16(dst, ^uint16(0)) // its epoch
	dst = be.AppendUint32(dst, ^uint32(0)) // first sequence
	dst = be.AppendUint32(dst, uint32(len(values)))
	for i, value := range values {
		var head [recordOverhead]byte
		h := append(head[:0], 0)                      // attributes
		h = append(h, 0)                              // timestamp delta
		h = binary.AppendVarint(h, int64(i))          // offset delta
		h = append(h, 1)                              // no key: a length of -1
		h = binary.AppendVarint(h, int64(len(value))) // value
		dst = binary.AppendVarint(dst, int64(len(h)+len(value)+1))
		dst = append(dst, h...)
		dst = append(dst, value...)
		dst = append(dst, 0) // no headers
	}
	be.PutUint32(dst[start+8:], uint32(len(dst)-start-12))
	be.PutUint32(dst[sealed-4:], crc32.Checksum(dst[sealed:], castagnoli))
	return dst
}

// produced is what a broker says of a batch: the offset of its first record, or why it has
// not taken it. A leader that has written it and was deposed before enough others had it says
// the same as one that never led (NOT_LEADER_OR_FOLLOWER), but with the offset.
type produced struct {
	base int64 // of the first record in this broker's copy; -1 where it is not there
	code errorCode
	text string // the broker's own words; "" for none
}

// produce appends a batch to a partition, and returns when min.insync.replicas replicas
// have it. set is the batch after four bytes, which are for its length.
func (c *conn) produce(ctx context.Context, topic string, partition int32, set []byte, timeout time.Duration) (produced, error) {
	binary.BigEndian.PutUint32(set, uint32(len(set)-4))
	res, err := c.roundTrip(ctx, &rawproduce.Request{
		Acks:    -1,
		Timeout: int32(timeout / time.Millisecond),
		Topics: []rawproduce.RequestTopic{{Topic: topic, Partitions: []rawproduce.RequestPartition{{
			Partition: partition,
			RecordSet: protocol.RawRecordSet{Reader: bytes.NewReader(set)},
		}}}},
	})
	if err != nil {
		return produced{}, err
	}
	answer, ok := res.(*produce.Response)
	if !ok || len(answer.Topics) != 1 || answer.Topics[0].Topic != topic ||
		len(answer.Topics[0].Partitions) != 1 || answer.Topics[0].Partitions[0].Partition != partition {
		return produced{}, fmt.Errorf("%w: of another partition than was written to", errMalformed)
	}
	p := &answer.Topics[0].Partitions[0]
	return produced{p.BaseOffset, errorCode(p.ErrorCode), p.ErrorMessage}, nil
}
