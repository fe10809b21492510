package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"vigil/signals"
)

// answers has produce requests refused with codes, one after the other, and taken when they
// are used up. It returns how many were seen.
func (w *world) answers(codes ...errorCode) (seen func() int) { return w.answersAt(-1, codes...) }

// answersAt is answers that name the offset that the records had in the leader's copy; -1 for
// records that it has not written.
func (w *world) answersAt(base int64, codes ...errorCode) (seen func() int) {
	var mu sync.Mutex
	n := 0
	w.fake.ControlKey(0, func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.fake.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		if n++; n > len(codes) {
			return nil, nil, false
		}
		asked := req.(*kmsg.ProduceRequest)
		res := req.ResponseKind().(*kmsg.ProduceResponse)
		t := kmsg.NewProduceResponseTopic()
		t.Topic = asked.Topics[0].Topic
		p := kmsg.NewProduceResponseTopicPartition()
		p.Partition, p.ErrorCode = asked.Topics[0].Partitions[0].Partition, int16(codes[n-1])
		p.BaseOffset = base
		t.Partitions = append(t.Partitions, p)
		res.Topics = append(res.Topics, t)
		return res, nil, true
	})
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

// written waits until appends are possible, and returns what is there in the end.
func (w *world) written(partitions int32) (n int64) {
	for p := range partitions {
		n += w.fake.PartitionInfo("log", p).HighWatermark
	}
	return n
}

func (l *Log) ready(t *testing.T) {
	t.Helper()
	eventually(t, "healthy", func() bool { return l.Health() == nil })
}

func TestAnAppendSaysWhetherSomethingMayBeWritten(t *testing.T) {
	many := func(code errorCode) []errorCode { return slices.Repeat([]errorCode{code}, 10000) }
	tests := []struct {
		name        string
		codes       []errorCode
		ok          bool
		unavailable bool // else unknown
	}{
		{"taken", nil, true, false},
		{"another leader, then taken", []errorCode{errNotLeader, errNotLeader}, true, false},
		{"too few replicas, then taken", []errorCode{errNotEnoughReplicas}, true, false},
		{"too few replicas", many(errNotEnoughReplicas), false, true},
		{"no leader", many(errNotLeader), false, true},
		{"not allowed", many(errTopicAuthorization), false, true},
		{"a record that is too large", many(errMessageTooLarge), false, true},
		{"not confirmed in time, then taken", []errorCode{errRequestTimedOut}, true, false},
		{"too few replicas after it was written, then taken", []errorCode{errNotEnoughAfterAppend}, true, false},
		{"not confirmed in time, then refused", append([]errorCode{errRequestTimedOut}, many(errTopicAuthorization)...), false, false},
		{"not confirmed in time", many(errRequestTimedOut), false, false},
		{"an error that says nothing", many(errUnknownServer), false, false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, 1)
			l := w.openLog(w.config())
			l.ready(t)
			w.answers(tc.codes...)
			at, err := l.Append(bounded(t), bytesOf("x"))
			switch {
			case tc.ok != (err == nil), tc.unavailable != errors.Is(err, signals.ErrUnavailable):
				t.Errorf("%v, %v", at, err)
			case tc.ok && !slices.Equal(at, []signals.Position{{}}):
				t.Errorf("%v", at)
			case tc.unavailable && w.written(1) != 0:
				t.Error("it is there all the same")
			}
		})
	}
}

// TestALeaderThatIsDeposedWhileItWaitsLeavesItOpen: one that had written the records when it
// was deposed says so with the same words as one that was no leader to begin with, and the
// next one may have them.
func TestALeaderThatIsDeposedWhileItWaitsLeavesItOpen(t *testing.T) {
	for _, code := range []errorCode{errNotLeader, errUnknownTopic, errStorage} {
		w := newWorld(t, 1, 1)
		l := w.openLog(w.config())
		l.ready(t)
		w.answersAt(7, append([]errorCode{code}, slices.Repeat([]errorCode{errTopicAuthorization}, 100)...)...)
		if at, err := l.Append(bounded(t), bytesOf("x")); err == nil || errors.Is(err, signals.ErrUnavailable) || !errors.Is(err, errTopicAuthorization) {
			t.Errorf("%v: %v, %v", code, at, err)
		}
	}
}

func TestAnAppendWhoseAnswerIsLostIsUnknownOrThereTwice(t *testing.T) {
	w := newWorld(t, 1, 1)
	l := w.openLog(w.config())
	l.ready(t)
	// lose has the answer to the next request lost, and calls back when the lane has missed it:
	// only then, for the broker writes before it answers.
	lose := func(then func()) (done func()) {
		missed := l.writer.errors.Load()
		w.gates[0].loseAnswers()
		ctx, cancel := context.WithCancel(bounded(t))
		var watch sync.WaitGroup
		watch.Go(func() {
			for ctx.Err() == nil && l.writer.errors.Load() == missed {
				time.Sleep(time.Millisecond)
			}
			then()
		})
		return func() { cancel(); watch.Wait() }
	}
	// connected has the lane connected, which a lane is not where nothing was sent, or an
	// answer was lost: of a connection that cannot be made nothing is lost, and nothing sent.
	connected := func() (written int64) {
		w.gates[0].open()
		l.ready(t)
		eventually(t, "an append goes through", func() bool {
			_, err := l.Append(bounded(t), bytesOf("before"))
			return err == nil
		})
		return w.written(1)
	}
	before := connected()
	ctx, cancel := context.WithCancel(bounded(t))
	defer cancel()
	done := lose(cancel)
	_, err := l.Append(ctx, bytesOf("a"))
	done()
	if err == nil || errors.Is(err, signals.ErrUnavailable) {
		t.Fatalf("%v, and it is there %d times", err, w.written(1)-before)
	}
	if w.written(1) == before {
		t.Error("the broker has not taken it: the test shows nothing")
	}
	before = connected()
	// Lost once, and then not: it is there twice, and the position is that of the one that
	// was confirmed.
	done = lose(w.gates[0].open)
	at, err := l.Append(bounded(t), bytesOf("b"))
	done()
	if err != nil || len(at) != 1 || at[0].Offset != before+1 || w.written(1) != before+2 {
		t.Fatalf("%v, %v; there are %d, and were %d", at, err, w.written(1), before)
	}
}

func TestAnAppendGoesToAPartitionThatTakesIt(t *testing.T) {
	w := newWorld(t, 3, 3)
	l := w.openLog(w.config())
	l.ready(t)
	eventually(t, "all lanes", func() bool {
		for _, ln := range l.writer.lanes {
			if ln.ill(time.Now()) != nil {
				return false
			}
		}
		return len(l.writer.lanes) == 3
	})
	stopped := w.fake.LeaderFor("log", 0)
	w.gates[stopped].hold()
	var calls sync.WaitGroup
	for i := range 50 {
		calls.Go(func() {
			at, err := l.Append(bounded(t), bytesOf(fmt.Sprint(i)))
			if err != nil || w.fake.LeaderFor("log", at[0].Partition) == stopped {
				t.Error(at, err)
			}
		})
	}
	calls.Wait()
}

func TestHealthSaysThatNobodyTakesRecordsAndRecovers(t *testing.T) {
	w := newWorld(t, 3, 2)
	l := w.openLog(w.config())
	l.ready(t)
	for _, g := range w.gates {
		g.down()
	}
	eventually(t, "ill", func() bool { return l.Health() != nil })
	if _, err := l.Append(bounded(t), bytesOf("x")); !errors.Is(err, signals.ErrUnavailable) {
		t.Error(err)
	}
	for _, g := range w.gates {
		g.open()
	}
	l.ready(t)
	if _, err := l.Append(t.Context(), bytesOf("x")); err != nil {
		t.Error(err)
	}
}

func TestAnAppendEndsWithItsContext(t *testing.T) {
	w := newWorld(t, 1, 1)
	l := w.openLog(w.config())
	l.ready(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		if _, err := l.Append(ended, bytesOf("x")); !errors.Is(err, context.Canceled) || !errors.Is(err, signals.ErrUnavailable) {
			t.Error(err)
		}
	}
	if n := w.written(1); n != 0 {
		t.Errorf("%d were written for one who had gone", n)
	}
	w.gates[0].hold()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// The first is sent; the second waits behind it, and is taken back.
	first, second := make(chan error, 1), make(chan error, 1)
	ln := l.writer.lanes[0]
	go func() {
		_, err := l.Append(ctx, bytesOf("first"))
		first <- err
	}()
	eventually(t, "sent", func() bool { return ln.hangs(time.Now(), 0) })
	go func() {
		_, err := l.Append(ctx, bytesOf("second"))
		second <- err
	}()
	eventually(t, "queued", func() bool {
		ln.mu.Lock()
		defer ln.mu.Unlock()
		return len(ln.queue) == 1 || len(second) == 1
	})
	gaveUp := len(second) == 1 // before it was queued: on a busy machine the broker is away by then
	cancel()
	if err := <-second; !errors.Is(err, signals.ErrUnavailable) || !gaveUp && !errors.Is(err, context.Canceled) {
		t.Errorf("not sent: %v", err)
	}
	if err := <-first; err == nil || errors.Is(err, signals.ErrUnavailable) {
		t.Errorf("sent: %v", err)
	}
}

func TestCallsShareRequests(t *testing.T) {
	w := newWorld(t, 1, 1)
	l := w.openLog(w.config())
	l.ready(t)
	seen := w.answers()
	const callers, each = 100, 20
	var calls sync.WaitGroup
	var mu sync.Mutex
	places := map[signals.Position]bool{}
	for c := range callers {
		calls.Go(func() {
			for i := range each {
				at, err := l.Append(bounded(t), bytesOf(fmt.Sprint(c, i, "a"), fmt.Sprint(c, i, "b")))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for _, p := range at {
					if places[p] {
						t.Errorf("%v twice", p)
					}
					places[p] = true
				}
				mu.Unlock()
			}
		})
	}
	calls.Wait()
	if n := w.written(1); n != 2*callers*each {
		t.Errorf("%d records", n)
	}
	if seen() >= callers*each/2 {
		t.Errorf("%d requests for %d calls", seen(), callers*each)
	}
}

func TestALargeCallTakesSeveralRequests(t *testing.T) {
	w := newWorld(t, 1, 1) // where there is another partition, what hangs goes there
	w.configs[configMaxMessage] = "700000"
	l := w.openLog(w.config())
	l.ready(t)
	f := follow(t, l, nil)
	f.wait()
	var records []string
	for i := range 60 {
		records = append(records, fmt.Sprint(i, strings.Repeat("x", 30_000)))
	}
	at, err := l.Append(bounded(t), bytesOf(records...))
	if err != nil {
		t.Fatal(err)
	}
	for i := range at {
		if at[i].Offset != int64(i) {
			t.Fatalf("record %d is at %v", i, at[i])
		}
	}
	eventually(t, "delivered", func() bool { return slices.Equal(f.values(at[0].Partition), records) })
}

// Requests that are smaller than what is sent at once are found by trying.
func TestATopicOfSmallRequestsTakesWhatFits(t *testing.T) {
	w := newWorld(t, 1, 1)
	if err := w.fake.DeleteTopic("log"); err != nil {
		t.Fatal(err)
	}
	w.configs[configMaxMessage] = "2000"
	w.create("log", 1)
	l := w.openLog(w.config())
	l.ready(t)
	var records []string
	for i := range 20 {
		records = append(records, fmt.Sprint(i, strings.Repeat("x", 500)))
	}
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			if at, err := l.Append(bounded(t), bytesOf(records...)); err != nil || len(at) != 20 {
				t.Error(at, err)
			}
		})
	}
	calls.Wait()
	if n := w.written(1); n != 160 {
		t.Errorf("%d records", n)
	}
	if _, err := l.Append(t.Context(), bytesOf(strings.Repeat("x", 3000))); !errors.Is(err, signals.ErrUnavailable) || !errors.Is(err, errMessageTooLarge) {
		t.Error(err)
	}
}

func TestWhatWaitsIsBounded(t *testing.T) {
	w := newWorld(t, 1, 1)
	l := w.openLog(w.config())
	l.ready(t)
	w.gates[0].hold()
	ctx, cancel := context.WithCancel(t.Context())
	var calls sync.WaitGroup
	big := strings.Repeat("x", signals.MaxRecord)
	refused := make(chan error, 1)
	for range maxQueuedBytes/signals.MaxRecord + 100 {
		calls.Go(func() {
			if _, err := l.Append(ctx, bytesOf(big)); errors.Is(err, signals.ErrOverloaded) {
				select {
				case refused <- err:
				default:
				}
			}
		})
	}
	if err := <-refused; !errors.Is(err, signals.ErrUnavailable) {
		t.Error(err)
	}
	cancel()
	calls.Wait()
	w.gates[0].open()
	l.ready(t)
	if _, err := l.Append(t.Context(), bytesOf("x")); err != nil {
		t.Errorf("the room is not given back: %v", err)
	}
}

func TestCloseEndsWhatIsBeingAppended(t *testing.T) {
	w := newWorld(t, 1, 1)
	l := w.openLog(w.config())
	l.ready(t)
	w.gates[0].hold()
	errs := make(chan error, 20)
	for range 20 {
		go func() {
			_, err := l.Append(context.Background(), bytesOf("x"))
			errs <- err
		}()
	}
	eventually(t, "sent", func() bool { return l.writer.lanes[0].hangs(time.Now(), 0) })
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	for range 20 {
		if err := <-errs; err == nil {
			t.Error("no error")
		}
	}
	if _, err := l.Append(context.Background(), bytesOf("x")); !errors.Is(err, signals.ErrUnavailable) {
		t.Error(err)
	}
}

// A broker that takes its time is waited for, and not taken for one that is away.
func TestASlowBrokerIsWaitedFor(t *testing.T) {
	w := newWorld(t, 1, 1)
	l := w.openLog(w.config())
	l.ready(t)
	w.fake.ControlKey(0, func(kmsg.Request) (kmsg.Response, error, bool) {
		w.fake.KeepControl()
		w.fake.SleepControl(func() { time.Sleep(2 * hang) })
		return nil, nil, false
	})
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() {
			if _, err := l.Append(bounded(t), bytesOf("x")); err != nil {
				t.Error(err)
			}
			if err := l.Health(); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(hang / 10)
	}
	calls.Wait()
	if n := w.written(1); n != 20 {
		t.Errorf("%d records", n)
	}
}
