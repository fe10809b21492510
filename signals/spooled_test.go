package signals

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"vigil/authz"
)

// memorySpool is a Spool in memory. gate, where it is not nil, holds back each delivery.
type memorySpool struct {
	*MemoryLog
	gate chan struct{}
}

func (s memorySpool) Append(ctx context.Context, records [][]byte) error {
	_, err := s.MemoryLog.Append(ctx, records)
	return err
}

// log is what FollowSpool follows.
func (s memorySpool) log() Log {
	return &probe{MemoryLog: s.MemoryLog, delivered: func(int64, int64) {
		if s.gate != nil {
			<-s.gate
		}
	}}
}

// TestWhoWaitsForTheSpoolIsNotToldByTheLog: a feed that breaks ends the waiting of those
// whose records are in the log alone, and a spool that breaks that of its own.
func TestWhoWaitsForTheSpoolIsNotToldByTheLog(t *testing.T) {
	for _, breaks := range []string{"nothing", "the feed", "the spool"} {
		t.Run(breaks, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				clock := new(handClock)
				clock.now.Store(int64(start))
				spool := memorySpool{NewMemoryLog(clock.Now), make(chan struct{})}
				w := newWorld(t, worldOptions{intake: IntakeConfig{Spool: spool}})
				defer w.stop()
				ctx, stopSpool := context.WithCancel(context.Background())
				ended := make(chan error, 1)
				go func() {
					ended <- w.applier.FollowSpool(ctx, spool.log(), nil, func([]Entry) {}, func() {})
				}()
				synctest.Wait()
				if err := w.applier.FollowSpool(ctx, spool.log(), nil, nil, nil); err == nil {
					t.Error("two follow the spool")
				}
				w.log.SetHealth(errors.New("away"))
				type answer struct {
					receipt Receipt
					err     error
				}
				answers := make(chan answer, 1)
				go func() {
					receipt, err := w.intake.Push(context.Background(), boss, []byte(signalJSON("revoke")))
					answers <- answer{receipt, err}
				}()
				synctest.Wait()
				switch breaks {
				case "the feed":
					w.stop() // as a Run that fails does
				case "the spool":
					stopSpool()
				}
				close(spool.gate)
				got := <-answers
				if breaks == "the spool" {
					// It was applied after all, or not: nobody knows any more.
					if got.err != nil && !errors.Is(got.err, ErrUnknownOutcome) {
						t.Errorf("got %v", got.err)
					}
				} else if got.err != nil || !got.receipt.Spooled || w.of("agent:a").Status != authz.Revoked {
					t.Errorf("got %+v, %v", got.receipt, got.err)
				}
				stopSpool()
				<-ended
				if n := len(w.applier.mu.pushes); n != 0 {
					t.Errorf("%d still wait", n)
				}
				if _, err := w.intake.Push(context.Background(), boss, []byte(signalJSON("revoke", id("2")))); !errors.Is(err, ErrUnavailable) {
					t.Errorf("with nobody who follows the spool: %v", err)
				}
			})
		})
	}
}

// TestWhatIsSpooledHasNoPlaceInTheLog: neither the as-of position nor what a snapshot would
// start from moves, and a dead letter says where it was.
func TestWhatIsSpooledHasNoPlaceInTheLog(t *testing.T) {
	f := newFollower(t)
	f.take(Entry{Appended: start, Record: record(signalJSON("taint"))})
	before := f.Progress()
	given := []Entry{
		{Position: Position{Offset: 700}, Appended: start, Record: record(signalJSON("revoke"))},
		{Position: Position{Offset: 701}, Appended: start, Record: []byte("no record")},
	}
	var seen []Entry
	if err := f.deliverSpooled(given, func(entries []Entry) {
		if f.status("agent:a") != authz.Revoked {
			t.Error("handed over before it was in force")
		}
		seen = entries
	}); err != nil {
		t.Fatal(err)
	}
	after := f.Progress()
	if after.AsOf != before.AsOf || after.Applied[0] != 1 || len(after.Applied) != 1 || f.store.AsOf() != before.AsOf || after.Last != before.Last {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
	if len(seen) != 2 || seen[0].Position != (Position{Offset: 700}) {
		t.Errorf("handed over %+v", seen)
	}
	if l := f.DeadLetters(); len(l) != 1 || l[0].Partition != "spool" || l[0].Position != (Position{SpoolPartition, 701}) {
		t.Errorf("dead letters %+v", l)
	}
}
