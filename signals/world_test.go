package signals

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vigil/authz"
	"vigil/posture"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start is the now of a world: shortly after the signals of signalJSON.
var start = at("2026-11-23T03:04:10Z")

// handClock moves by hand.
type handClock struct{ now atomic.Int64 }

func (c *handClock) Now() authz.Instant { return authz.Instant(c.now.Load()) }

func (c *handClock) advance(d time.Duration) { c.now.Add(int64(d)) }

// world is an intake, its log, and the applier behind it.
type world struct {
	clock   handClock
	log     *MemoryLog
	store   *posture.Store
	applier *Applier
	intake  *Intake
	stop    func() // ends Run and waits for it; may be called twice
	err     error  // what Run returned, after stop
}

type worldOptions struct {
	log     func(*world) Log // what stands before the memory log
	onNow   func()           // called whenever the applier reads the clock
	intake  IntakeConfig
	applier ApplierConfig
	idle    bool // do not run the applier
}

func newWorld(t testing.TB, o worldOptions) *world {
	t.Helper()
	w := &world{store: posture.NewStore()}
	w.clock.now.Store(int64(start))
	w.log = NewMemoryLog(w.clock.Now)
	var log Log = w.log
	if o.log != nil {
		log = o.log(w)
	}
	o.applier.Store, o.applier.Now = w.store, w.clock.Now
	if o.onNow != nil {
		o.applier.Now = func() authz.Instant {
			o.onNow()
			return w.clock.Now()
		}
	}
	var err error
	if w.applier, err = NewApplier(o.applier); err != nil {
		t.Fatal(err)
	}
	o.intake.Log, o.intake.Applier, o.intake.Store, o.intake.Now = log, w.applier, w.store, w.clock.Now
	if w.intake, err = NewIntake(o.intake); err != nil {
		t.Fatal(err)
	}
	w.stop = func() {}
	if !o.idle {
		w.run(t, log, nil)
	}
	return w
}

// run starts the applier and waits until it has caught up.
func (w *world) run(t testing.TB, log Log, from Positions) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.err = w.applier.Run(ctx, log, from)
	}()
	w.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(w.stop)
	select {
	case <-w.applier.CaughtUp():
	case <-done:
		t.Fatalf("the applier ended: %v", w.err)
	}
}

// boss may say anything.
var boss = Sender{
	Source:    Source{Kind: "client", Name: "boss"},
	Authority: Authority{Types: []string{"*"}, Kinds: []string{"*", "everything"}, Tenants: []string{"default", "acme"}, Overrule: true},
}

// as is a sender who may say anything in its own name.
func as(name string) Sender {
	return Sender{
		Source:    Source{Kind: "client", Name: name},
		Authority: Authority{Types: []string{"*"}, Kinds: []string{"*", "everything"}, Tenants: []string{"default"}},
	}
}

func (w *world) push(t testing.TB, sender Sender, body string) Receipt {
	t.Helper()
	receipt, err := w.intake.Push(context.Background(), sender, []byte(body))
	if err != nil {
		t.Fatalf("%s\n%v", body, err)
	}
	return receipt
}

func (w *world) refused(t testing.TB, sender Sender, body string) error {
	t.Helper()
	before := w.written()
	receipt, err := w.intake.Push(context.Background(), sender, []byte(body))
	if err == nil {
		t.Fatalf("%s\nwas accepted: %+v", body, receipt)
	}
	if after := w.written(); after != before {
		t.Errorf("%s\nwas refused (%v), and %d records were written", body, err, after-before)
	}
	return err
}

func (w *world) written() int {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	return len(w.log.entries)
}

// of gives what posture says of an entity of the default tenant now.
func (w *world) of(ref string) *posture.Effective {
	r, err := authz.ParseRef(ref)
	if err != nil {
		panic(err)
	}
	return w.store.Get(r.In("default")).At(w.clock.Now())
}

// append puts records into the log that no intake has seen.
func (w *world) append(t testing.TB, records ...[]byte) {
	t.Helper()
	if _, err := w.log.Append(context.Background(), records); err != nil {
		t.Fatal(err)
	}
	if err := w.applier.WaitApplied(context.Background(), FormatAsOf(w.log.ID(), Positions{0: int64(w.written())})); err != nil {
		t.Fatal(err)
	}
}

// record encodes a signal of boss that it may quarantine all entities of.
func record(body string, change ...func(*Record)) []byte {
	r := Record{Source: boss.Source, Tenant: "default", Body: []byte(body), Verdict: Verdict{MayQuarantine: ^uint64(0)}}
	for _, f := range change {
		f(&r)
	}
	return EncodeRecord(nil, &r)
}

func id(name string) string { return fmt.Sprintf(`"id":%q`, name) }

func about(refs ...string) string { return fmt.Sprintf(`"entities":%s`, quoted(refs)) }

func quoted(list []string) string {
	out := "["
	for i, s := range list {
		if i > 0 {
			out += ","
		}
		out += fmt.Sprintf("%q", s)
	}
	return out + "]"
}

func when(i authz.Instant) string { return fmt.Sprintf(`"time":%q`, i) }
