package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// bulk produces signals to the input as fast as the broker takes them, in large batches.
// body gives the text of each.
func (b *scalingBench) bulk(ctx context.Context, n int, body func(i int) []byte) (err error) {
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	writer := &kafka.Writer{Addr: kafka.TCP(b.brokers...), Topic: b.input, RequiredAcks: kafka.RequireAll, BatchSize: 10_000, BatchTimeout: time.Millisecond,
		Balancer: &kafka.RoundRobin{}, Transport: transport}
	defer closing(&err, writer.Close)
	for sent := 0; sent < n; {
		messages := make([]kafka.Message, min(30_000, n-sent))
		for i := range messages {
			messages[i].Value = body(sent + i)
		}
		if err := writer.WriteMessages(ctx, messages...); err != nil {
			return err
		}
		sent += len(messages)
	}
	b.inputSent += float64(n)
	return nil
}

// ends gives where each partition of the input ends.
func (b *scalingBench) ends(ctx context.Context) (map[int]int64, error) {
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(b.brokers...), Transport: transport}
	var asked []kafka.OffsetRequest
	for p := range b.partitions {
		asked = append(asked, kafka.LastOffsetOf(p))
	}
	said, err := client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{b.input: asked}})
	if err != nil {
		return nil, err
	}
	ends := map[int]int64{}
	for _, p := range said.Topics[b.input] {
		if p.Error != nil {
			return nil, p.Error
		}
		ends[p.Partition] = p.LastOffset
	}
	return ends, nil
}

// readBare reads the input between two ends of its partitions with nothing but kafka-go, a
// reader for each, and gives how long it took by the clock and on processors.
func (b *scalingBench) readBare(ctx context.Context, from, to map[int]int64) (took, used time.Duration, err error) {
	var group, closing sync.WaitGroup
	defer closing.Wait()
	failed := make(chan error, len(from))
	begun, before := time.Now(), processorTime(os.Getpid())
	for p, first := range from {
		group.Go(func() {
			reader := kafka.NewReader(kafka.ReaderConfig{Brokers: b.brokers, Topic: b.input, Partition: p, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: time.Second, QueueCapacity: 1024})
			err := reader.SetOffset(first)
			for at := first; err == nil && at < to[p]; at++ {
				_, err = reader.ReadMessage(ctx)
			}
			failed <- err
			closing.Go(func() { _ = reader.Close() }) // which waits for the last answer
		})
	}
	group.Wait()
	took, used = time.Since(begun), processorTime(os.Getpid())-before
	for range from {
		if failure := <-failed; failure != nil {
			err = failure
		}
	}
	return took, used, err
}

// fetchNothing asks for the end of the input, one request after the other for each
// partition, and gives how many were answered.
func (b *scalingBench) fetchNothing(ctx context.Context, d time.Duration) (answered int64, err error) {
	ends, err := b.ends(ctx)
	if err != nil {
		return 0, err
	}
	var group sync.WaitGroup
	var all atomic.Int64
	failed := make(chan error, len(ends))
	for p, end := range ends {
		group.Go(func() {
			transport := &kafka.Transport{}
			defer transport.CloseIdleConnections()
			client := &kafka.Client{Addr: kafka.TCP(b.brokers...), Transport: transport}
			for begun := time.Now(); time.Since(begun) < d; all.Add(1) {
				answer, err := client.Fetch(ctx, &kafka.FetchRequest{Topic: b.input, Partition: p, Offset: end, MinBytes: 0, MaxBytes: 1 << 20, MaxWait: time.Millisecond})
				if err == nil {
					err = answer.Error
				}
				if err != nil {
					failed <- err
					return
				}
			}
		})
	}
	group.Wait()
	select {
	case err = <-failed:
	default:
	}
	return all.Load(), err
}

// cut removes everything that the topics of the run hold, as retention would: what comes
// later has its offsets all the same.
func (b *scalingBench) cut(ctx context.Context) error {
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	for _, topic := range []string{b.log, b.input} {
		for p := range b.partitions {
			answer, err := transport.RoundTrip(ctx, kafka.TCP(b.brokers...), &deleteRecords{
				Topics: []deleteRecordsTopic{{Name: topic, Partitions: []deleteRecordsPartition{{Partition: int32(p), Offset: -1}}}}, Timeout: 30_000,
			})
			if err != nil {
				return fmt.Errorf("DeleteRecords: %w", err)
			}
			for _, t := range answer.(*deletedRecords).Topics {
				for _, p := range t.Partitions {
					if p.Code != 0 {
						return fmt.Errorf("DeleteRecords: %w", kafka.Error(p.Code))
					}
				}
			}
		}
	}
	return nil
}

// deleteRecords is version 0 of the request (KIP-107), which the library does not have. It
// is of one partition, and goes to its leader.
type deleteRecords struct {
	Topics  []deleteRecordsTopic `kafka:"min=v0,max=v0"`
	Timeout int32                `kafka:"min=v0,max=v0"` // ms
}

type deleteRecordsTopic struct {
	Name       string                   `kafka:"min=v0,max=v0"`
	Partitions []deleteRecordsPartition `kafka:"min=v0,max=v0"`
}

type deleteRecordsPartition struct {
	Partition int32 `kafka:"min=v0,max=v0"`
	Offset    int64 `kafka:"min=v0,max=v0"` // -1 for the end
}

type deletedRecords struct {
	Throttle int32                 `kafka:"min=v0,max=v0"`
	Topics   []deletedRecordsTopic `kafka:"min=v0,max=v0"`
}

type deletedRecordsTopic struct {
	Name       string                    `kafka:"min=v0,max=v0"`
	Partitions []deletedRecordsPartition `kafka:"min=v0,max=v0"`
}

type deletedRecordsPartition struct {
	Partition int32 `kafka:"min=v0,max=v0"`
	Low       int64 `kafka:"min=v0,max=v0"`
	Code      int16 `kafka:"min=v0,max=v0"`
}

func (*deleteRecords) ApiKey() protocol.ApiKey  { return protocol.DeleteRecords }
func (*deletedRecords) ApiKey() protocol.ApiKey { return protocol.DeleteRecords }

// Broker is the leader of the partition.
func (r *deleteRecords) Broker(cluster protocol.Cluster) (protocol.Broker, error) {
	t := r.Topics[0]
	for _, p := range cluster.Topics[t.Name].Partitions {
		if p.ID == t.Partitions[0].Partition {
			return cluster.Brokers[p.Leader], nil
		}
	}
	return protocol.Broker{}, fmt.Errorf("%w: %s has no partition %d", io.ErrUnexpectedEOF, t.Name, t.Partitions[0].Partition)
}

func init() { protocol.Register(&deleteRecords{}, &deletedRecords{}) }
