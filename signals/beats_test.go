package signals

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vigil/authz"
	"vigil/posture"
)

// beatBody is a heartbeat of a client, or several as one batch.
func beatBody(client string, ids ...string) string {
	var all []string
	for _, one := range ids {
		all = append(all, heartbeatJSON("client:"+client, id(one)))
	}
	if len(all) == 1 {
		return all[0]
	}
	return "[" + strings.Join(all, ",") + "]"
}

// TestHeartbeatsThatComeAtOnceShareARecord: however many a client sends, ten a second are
// written. Each is acknowledged at a position that covers one that is not older than that.
func TestHeartbeatsThatComeAtOnceShareARecord(t *testing.T) {
	w := newWorld(t, worldOptions{})
	soar, n := as("soar"), 0
	for range 2000 { // 10,000 in a second
		var ids []string
		for range 5 {
			ids = append(ids, fmt.Sprint("h", n))
			n++
		}
		receipt := w.push(t, soar, beatBody("soar", ids...))
		if len(receipt.Results) != len(ids) {
			t.Fatalf("%d results of %d", len(receipt.Results), len(ids))
		}
		for i, r := range receipt.Results {
			if r.ID != ids[i] || r.Tenant != "default" || len(r.Entities) != 1 || !r.Entities[0].Known ||
				r.Entities[0].Key.Ref().String() != "source:client:soar" || i > 0 && r.Outcome != posture.NoChange {
				t.Fatalf("%+v", r)
			}
		}
		if lag := w.clock.Now() - w.store.Heard("client:soar"); lag >= authz.Instant(beatsApart) {
			t.Fatalf("acknowledged, and it was heard %v ago", time.Duration(lag))
		}
		if _, at, err := ParseAsOf(receipt.AsOf); err != nil || at[0] != int64(w.written()) {
			t.Fatalf("%v covers not the last of %d records: %v", at, w.written(), err)
		}
		w.clock.advance(500 * time.Microsecond)
	}
	if got := w.written(); got != 10 {
		t.Errorf("%d records of %d heartbeats in a second", got, n)
	}
	if n := w.store.Len(); n != [authz.NumKinds]int{} {
		t.Errorf("they left facts behind: %v", n)
	}
}

// TestOnlyHeartbeatsOfOneClientShareARecord: whatever says more is written.
func TestOnlyHeartbeatsOfOneClientShareARecord(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.push(t, as("soar"), beatBody("soar", "1"))
	idp := as("idp")
	idp.Source.Kind = "issuer" // it is heard as of what it says
	for i, c := range []struct {
		sender Sender
		body   string
	}{
		{as("siem"), beatBody("siem", "1")},
		{as("soar"), "[" + beatBody("soar", "2") + "," + signalJSON("taint", id("3")) + "]"},
		{as("soar"), signalJSON("taint", id("4"))},
		{idp, heartbeatJSON("issuer:idp", id("5"))},
		{idp, heartbeatJSON("issuer:idp", id("6"), when(start+1))},
	} {
		before := w.written()
		if w.push(t, c.sender, c.body); w.written() == before {
			t.Errorf("%d: nothing was written", i)
		}
	}
	if err := w.refused(t, as("soar"), heartbeatJSON("client:soar", id("4"))); !errors.Is(err, ErrConflict) {
		t.Error(err)
	}
	if err := w.refused(t, as("soar"), beatBody("siem", "7")); err == nil {
		t.Error("another's heartbeat")
	}
}

// TestASharedHeartbeatIsAcknowledgedWhenItIsInForce, and not before, though nothing has to be
// written for it.
func TestASharedHeartbeatIsAcknowledgedWhenItIsInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		w := newWorld(t, worldOptions{log: func(w *world) Log {
			return &probe{MemoryLog: w.log, delivered: func(int64, int64) { <-gate }}
		}})
		defer w.stop()
		var answered atomic.Int64
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				w.push(t, as("soar"), beatBody("soar", fmt.Sprint(i)))
				answered.Add(1)
				if w.store.Heard("client:soar") != start {
					t.Error("it is acknowledged and was not heard")
				}
			})
			synctest.Wait()
		}
		// One that gives up says that nothing was written of it.
		ctx, cancel := context.WithCancel(context.Background())
		all.Go(func() {
			if _, err := w.intake.Push(ctx, as("soar"), []byte(beatBody("soar", "gone"))); !errors.Is(err, ErrUnavailable) {
				t.Error(err)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		if n := answered.Load(); n != 0 || w.written() != 1 {
			t.Errorf("%d were answered before anything was applied, %d records", n, w.written())
		}
		close(gate)
		all.Wait()
		if w.written() != 1 {
			t.Errorf("%d records", w.written())
		}
	})
}

// refusing is a log that cannot be written for a while, and takes its time to say so.
type refusing struct {
	*MemoryLog
	away atomic.Bool
}

func (l *refusing) Append(ctx context.Context, records [][]byte) ([]Position, error) {
	if l.away.Load() {
		time.Sleep(time.Millisecond)
		return nil, ErrUnavailable
	}
	return l.MemoryLog.Append(ctx, records)
}

// TestAHeartbeatThatCameToNothingIsSharedByNobody: those who waited for it, and those who come
// after it, are not acknowledged by it.
func TestAHeartbeatThatCameToNothingIsSharedByNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l *refusing
		w := newWorld(t, worldOptions{log: func(w *world) Log {
			l = &refusing{MemoryLog: w.log}
			return l
		}})
		defer w.stop()
		l.away.Store(true)
		var all sync.WaitGroup
		for i := range 3 {
			all.Go(func() {
				if receipt, err := w.intake.Push(context.Background(), as("soar"), []byte(beatBody("soar", fmt.Sprint(i)))); !errors.Is(err, ErrUnavailable) {
					t.Errorf("%+v, %v", receipt, err)
				}
			})
		}
		all.Wait()
		l.away.Store(false)
		w.push(t, as("soar"), beatBody("soar", "0"))
		if w.written() != 1 || w.store.Heard("client:soar") != start {
			t.Errorf("%d records, heard at %v", w.written(), w.store.Heard("client:soar"))
		}
	})
}

// TestTheHeartbeatsThatAreRememberedAreBounded, whoever sends them.
func TestTheHeartbeatsThatAreRememberedAreBounded(t *testing.T) {
	var b beats
	for i := range 3 * maxBeats {
		one, leads := b.at(fmt.Sprint("client:", i), start)
		if !leads {
			t.Fatal("a source is another")
		}
		one.finish(nil)
		if len(b.latest) > maxBeats {
			t.Fatal(len(b.latest))
		}
	}
}

// TestWhatAClientIsToldNeverGoesBack: an answer to a shared heartbeat covers what the client was
// told before, so that who demands the newest demands no less.
func TestWhatAClientIsToldNeverGoesBack(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.push(t, as("soar"), beatBody("soar", "1"))
	_, taint, err := ParseAsOf(w.push(t, as("soar"), signalJSON("taint", id("2"))).AsOf)
	if err != nil {
		t.Fatal(err)
	}
	_, again, err := ParseAsOf(w.push(t, as("soar"), beatBody("soar", "3")).AsOf)
	if err != nil || !again.Covers(taint) {
		t.Errorf("a heartbeat is answered at %v, after %v (%v)", again, taint, err)
	}
	if w.written() != 2 {
		t.Errorf("%d records: nothing was shared", w.written())
	}
}

// TestALeaderThatGivesUpIsFollowedByOne: those who waited for a heartbeat whose outcome is
// unknown write one record more, and not one each.
func TestALeaderThatGivesUpIsFollowedByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		w := newWorld(t, worldOptions{log: func(w *world) Log {
			return &probe{MemoryLog: w.log, delivered: func(int64, int64) { <-gate }}
		}})
		defer w.stop()
		ctx, hangUp := context.WithCancel(context.Background())
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := w.intake.Push(ctx, as("soar"), []byte(beatBody("soar", "first"))); !errors.Is(err, ErrUnknownOutcome) {
				t.Error(err)
			}
		})
		synctest.Wait()
		for i := range 50 {
			all.Go(func() { w.push(t, as("soar"), beatBody("soar", fmt.Sprint(i))) })
		}
		synctest.Wait()
		hangUp()
		synctest.Wait()
		for i := range 50 { // within the same 100 ms
			all.Go(func() { w.push(t, as("soar"), beatBody("soar", fmt.Sprint("late", i))) })
		}
		synctest.Wait()
		close(gate)
		all.Wait()
		if w.written() != 2 {
			t.Errorf("%d records", w.written())
		}
	})
}

// TestASharedHeartbeatWaitsNoLongerThanAPushMay, whatever becomes of the one that it waits for.
func TestASharedHeartbeatWaitsNoLongerThanAPushMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		w := newWorld(t, worldOptions{log: func(w *world) Log {
			return &probe{MemoryLog: w.log, delivered: func(int64, int64) { <-gate }}
		}})
		defer w.stop()
		defer close(gate)
		var all sync.WaitGroup
		for i := range 2 {
			all.Go(func() {
				began := time.Now()
				_, err := w.intake.Push(context.Background(), as("soar"), []byte(beatBody("soar", fmt.Sprint(i))))
				if took := time.Since(began); err == nil || took != w.intake.cfg.MaxWait {
					t.Errorf("%d: %v after %v", i, err, took)
				}
			})
			time.Sleep(50 * time.Millisecond)
		}
		all.Wait()
	})
}
