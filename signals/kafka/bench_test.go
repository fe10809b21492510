package kafka

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/produce"

	"vigil/signals"
)

var benchRecord = bytes.Repeat([]byte("x"), 300)

func benchLog(b *testing.B, partitions int32) (*world, *Log) {
	w := newWorld(b, 1, partitions)
	l := w.openLog(w.config())
	eventually(b, "healthy", func() bool { return l.Health() == nil })
	return w, l
}

// What a request costs that does nothing else.
func BenchmarkBareProduce(b *testing.B) {
	w, _ := benchLog(b, 1)
	cn := dial(b, w.config(), w.config().Brokers[0])
	b.ReportAllocs()
	for b.Loop() {
		set := appendBatch(make([]byte, 4), [][]byte{benchRecord}, w.now())
		if _, err := cn.produce(b.Context(), "log", 0, set, time.Second); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendOne(b *testing.B) {
	_, l := benchLog(b, 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Append(b.Context(), [][]byte{benchRecord}); err != nil {
			b.Fatal(err)
		}
	}
}

// Many callers of one record each: what one partition takes.
func BenchmarkAppendFromMany(b *testing.B) {
	_, l := benchLog(b, 1)
	b.SetParallelism(256)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := l.Append(b.Context(), [][]byte{benchRecord}); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// How fast a log is read that is there already, in batches of one record: the worst case.
func BenchmarkFollow(b *testing.B) {
	for _, of := range []int{1, 100} {
		b.Run(map[int]string{1: "batches of 1", 100: "batches of 100"}[of], func(b *testing.B) {
			_, l := benchLog(b, 1)
			var batch [][]byte
			for range of {
				batch = append(batch, benchRecord)
			}
			const records = 20_000
			for range records / of {
				if _, err := l.Append(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				var n atomic.Int64
				ctx, cancel := context.WithCancel(b.Context())
				err := l.Follow(ctx, nil, func(entries []signals.Entry) error {
					if n.Add(int64(len(entries))) >= records {
						cancel()
					}
					return nil
				}, func() {})
				if n.Load() < records {
					b.Fatal(n.Load(), err)
				}
			}
			b.ReportMetric(float64(b.N)*records/b.Elapsed().Seconds(), "records/s")
		})
	}
}

func BenchmarkAppendBatch(b *testing.B) {
	var values [][]byte
	for range 100 {
		values = append(values, benchRecord)
	}
	b.Run("own", func(b *testing.B) {
		var buf []byte
		b.ReportAllocs()
		for b.Loop() {
			buf = appendBatch(buf[:0], values, 1)
		}
	})
	b.Run("library", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			records := make([]protocol.Record, len(values))
			for i, v := range values {
				records[i].Value = protocol.NewBytes(v)
			}
			req := &produce.Request{Acks: -1, Topics: []produce.RequestTopic{{Topic: "log", Partitions: []produce.RequestPartition{{
				RecordSet: protocol.RecordSet{Version: 2, Records: protocol.NewRecordReader(records...)},
			}}}}}
			var out bytes.Buffer
			if err := protocol.WriteRequest(&out, 8, 1, "vigil", req); err != nil {
				b.Fatal(err)
			}
		}
	})
}
