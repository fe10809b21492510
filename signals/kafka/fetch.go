package kafka

import (
	"context"
	"errors"
	"time"
)

// fetchRequest asks for the records of one partition.
type fetchRequest struct {
	topic     string
	id        [16]byte // the topic's; a broker that knows it refuses to answer for another of the same name
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

// fetch asks the broker for records. It ends some seconds after the wait at the latest.
func (c *conn) fetch(ctx context.Context, r fetchRequest) (fetched, error) {
	return fetched{}, errors.ErrUnsupported
}

// Which offset of a partition is asked for.
const (
	latest   int64 = -1 // the high watermark: the offset of the next record to be read
	earliest int64 = -2 // the first offset that the partition still has
)

// offset asks the leader of a partition where it ends or begins. With latest, a leader
// answers errOffsetNotAvailable or errLeaderNotAvailable for as long as it may not yet
// know all that was acknowledged before its time (KIP-207).
func (c *conn) offset(ctx context.Context, topic string, partition, epoch int32, which int64) (int64, errorCode, error) {
	return 0, errNone, errors.ErrUnsupported
}
