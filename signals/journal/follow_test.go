package journal

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"vigil/disk/disktest"
	"vigil/signals"
)

// However little memory a follower is given, and however it lags, it gets every record
// once and in order, while others append and segments change.
func TestFollowerMeetsNoGapAndNoDuplicateWhereFilesMeetMemory(t *testing.T) {
	for _, memory := range []int{1, 300, 10_000, 16 << 20} {
		t.Run(fmt.Sprint(memory, " bytes"), func(t *testing.T) {
			m := disktest.New()
			j := mustOpen(t, m, segmentsOf(3000), func(o *Options) { o.FollowBytes = memory })
			appendSome(t, j, 0, 50)
			const appenders, each = 4, 300
			const total = 50 + appenders*each
			var group sync.WaitGroup
			for a := range appenders {
				group.Go(func() {
					for i := range each {
						if _, err := j.Append(context.Background(), [][]byte{fmt.Appendf(nil, "%d/%d", a, i)}); err != nil {
							t.Error(err)
						}
					}
				})
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			next, caught := int64(0), 0
			goal := j.Head()
			err := j.Follow(ctx, signals.Positions{0: 0}, func(batch []signals.Entry) error {
				for _, e := range batch {
					if e.Position.Offset != next {
						return fmt.Errorf("record %d where %d is next", e.Position.Offset, next)
					}
					next++
				}
				for range int(next) % 50 {
					runtime.Gosched() // lag now and then
				}
				if next == total {
					cancel()
				}
				return nil
			}, func() {
				caught++
				if next < goal {
					t.Errorf("caught up at %d; %d was in the log at the start", next, goal)
				}
			})
			group.Wait()
			if !errors.Is(err, context.Canceled) || next != total || caught != 1 {
				t.Errorf("%v, %d records, caught up %d times", err, next, caught)
			}
			s := j.Stats()
			if s.FollowedFromMemory+s.FollowedFromFiles != total {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

func TestFollowerThatKeepsUpReadsNoFile(t *testing.T) {
	m := disktest.New()
	j := mustOpen(t, m)
	appendSome(t, j, 0, 3)
	ctx, cancel := context.WithCancel(t.Context())
	caught, done := make(chan struct{}), make(chan error)
	got := make(chan string, 10)
	go func() {
		done <- j.Follow(ctx, nil, func(batch []signals.Entry) error {
			for _, e := range batch {
				got <- string(e.Record)
			}
			return nil
		}, func() { close(caught) })
	}()
	<-caught
	reads := m.Calls(disktest.OpRead)
	appendSome(t, j, 3, 6)
	for i := range 6 {
		if r := <-got; r != text(i) {
			t.Errorf("record %d is %q", i, r)
		}
	}
	if n := m.Calls(disktest.OpRead); n != reads {
		t.Errorf("%d reads", n-reads)
	}
	if err := j.Follow(ctx, nil, nil, nil); !errors.Is(err, ErrFollowed) {
		t.Errorf("a second follower: %v", err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	wantRecords(t, contents(t, j), 0, 6) // the place is free again
}

func TestFollowFromWhereTheLogIsNot(t *testing.T) {
	m := disktest.New()
	j := mustOpen(t, m, segmentsOf(100))
	appendSome(t, j, 0, 10)
	if _, err := j.Trim(5); err != nil {
		t.Fatal(err)
	}
	var hole *HoleError
	if _, err := follow(j, 0); !errors.As(err, &hole) || hole.First != j.FirstOffset() || !strings.Contains(err.Error(), "snapshot") {
		t.Errorf("before the first: %v", err)
	}
	var ahead *AheadError
	if _, err := follow(j, 11); !errors.As(err, &ahead) || ahead.Head != 10 {
		t.Errorf("past the head: %v", err)
	}
	if got, err := follow(j, 10); err != nil || len(got) != 0 {
		t.Errorf("at the head: %v, %v", got, err)
	}
	if err := j.Follow(t.Context(), signals.Positions{3: 1}, nil, nil); err == nil {
		t.Error("partition 3 is followed")
	}
}

func TestFollowEndsWithItsContextItsDelivererAndTheJournal(t *testing.T) {
	m := disktest.New()
	j := mustOpen(t, m)
	appendSome(t, j, 0, 3)
	odd := errors.New("odd")
	if err := j.Follow(t.Context(), nil, func([]signals.Entry) error { return odd }, func() {}); !errors.Is(err, odd) {
		t.Error(err)
	}
	caught, done := make(chan struct{}), make(chan error)
	go func() {
		done <- j.Follow(context.Background(), nil, func([]signals.Entry) error { return nil }, func() { close(caught) })
	}()
	<-caught
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if err := j.Close(); err != nil {
		t.Error("closed twice:", err)
	}
	if _, err := follow(j, 0); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

// Bytes that rot while the journal runs are found by whoever reads them.
func TestFollowerReportsDamageWithItsPlace(t *testing.T) {
	m := disktest.New()
	j := mustOpen(t, m)
	appendSome(t, j, 0, 10)
	path := j.mu.segments[0].path
	data := m.Contents(path)
	data[headerSize+3*(markFrame+recordFrame+len(text(0)))+markFrame+recordFrame] ^= 1
	f, err := m.Open(path, 2, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		t.Fatal(err)
	}
	got, err := follow(j, 0)
	var damage *DamageError
	if !errors.As(err, &damage) || damage.Path != path || damage.Record != 3 || damage.At == 0 {
		t.Errorf("%v", err)
	}
	if len(got) > 3 {
		t.Errorf("delivered %q", got)
	}
}

func TestTrimRemovesWhatIsWhollyBelowAndNoMore(t *testing.T) {
	m := disktest.New()
	j := mustOpen(t, m, segmentsOf(300))
	appendSome(t, j, 0, 40)
	segments := len(j.mu.segments)
	for before := range int64(41) {
		if _, err := j.Trim(before); err != nil {
			t.Fatal(err)
		}
		first := j.FirstOffset()
		if first > before {
			t.Fatalf("trimmed before %d, and the log begins at %d", before, first)
		}
		got, err := follow(j, before)
		if err != nil {
			t.Fatal(err)
		}
		wantRecords(t, got, int(before), 40)
		again := m.Clone()
		other := mustOpen(t, again)
		wantRecords(t, contents(t, other), int(first), 40)
		_ = other.Close()
	}
	if n := len(j.mu.segments); n != 1 || segments < 5 {
		t.Errorf("%d of %d segments are left", n, segments)
	}
	if _, err := j.Trim(41); !errors.As(err, new(*AheadError)) {
		t.Errorf("trimmed past the head: %v", err)
	}
	appendSome(t, j, 40, 45)
	got, err := follow(j, 40)
	if err != nil {
		t.Fatal(err)
	}
	wantRecords(t, got, 40, 45)
}

func TestFollowerThatIsTrimmedAwayMeetsAHole(t *testing.T) {
	m := disktest.New()
	j := mustOpen(t, m, segmentsOf(300), func(o *Options) { o.FollowBytes = 1 })
	appendSome(t, j, 0, 40)
	var next int64
	err := j.Follow(t.Context(), nil, func(batch []signals.Entry) error {
		next += int64(len(batch))
		_, err := j.Trim(40)
		return err
	}, func() { t.Error("caught up") })
	var hole *HoleError
	if !errors.As(err, &hole) || hole.From != next {
		t.Errorf("after %d records: %v", next, err)
	}
}
