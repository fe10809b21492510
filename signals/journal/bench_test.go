package journal

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"vigil/signals"
)

// BenchmarkAppend appends records of 300 bytes on the real disk, from so many callers,
// each of which waits for the answer to one append before it makes the next. It reports
// records and syncs a second. A follower reads along.
func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct{ callers, batch int }{{1, 1}, {64, 1}, {1024, 1}, {8, 100}, {1, 1000}} {
		b.Run(fmt.Sprintf("callers=%d/batch=%d", c.callers, c.batch), func(b *testing.B) {
			j, err := Open(b.TempDir(), Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer j.Close()
			ctx, cancel := context.WithCancel(context.Background())
			followed := make(chan int64)
			go func() {
				var n int64
				_ = j.Follow(ctx, nil, func(batch []signals.Entry) error {
					n += int64(len(batch))
					return nil
				}, func() {})
				followed <- n
			}()
			records := make([][]byte, c.batch)
			for i := range records {
				records[i] = make([]byte, 300)
			}
			b.SetBytes(int64(300 * c.batch))
			before := j.Stats()
			b.ResetTimer()
			var group sync.WaitGroup
			for k := range c.callers {
				share := b.N / c.callers
				if k < b.N%c.callers {
					share++
				}
				group.Go(func() {
					for range share {
						if _, err := j.Append(ctx, records); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			group.Wait()
			seconds := b.Elapsed().Seconds()
			b.StopTimer()
			s := j.Stats()
			b.ReportMetric(float64(s.Appended-before.Appended)/seconds, "records/s")
			b.ReportMetric(float64(s.Fsyncs-before.Fsyncs)/seconds, "syncs/s")
			cancel()
			<-followed
		})
	}
}

// BenchmarkOpen reads and checks a journal of a million records.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	j, err := Open(dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	records := make([][]byte, 1000)
	for i := range records {
		records[i] = make([]byte, 300)
	}
	for range 1000 {
		if _, err := j.Append(b.Context(), records); err != nil {
			b.Fatal(err)
		}
	}
	size := j.Stats().Bytes
	if err := j.Close(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	for b.Loop() {
		j, err := Open(dir, Options{})
		if err != nil {
			b.Fatal(err)
		}
		if err := j.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
