package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"vigil/authz"
	"vigil/signals"
)

// world is a cluster with a way to disturb its brokers, and logs on it.
type world struct {
	t       testing.TB
	fake    *kfake.Cluster
	gates   []*gate
	configs map[string]string
	lines   *lines // what logs say
	skew    atomic.Int64
}

// newWorld makes a cluster of so many brokers, with a log of so many partitions.
func newWorld(t testing.TB, brokers int, partitions int32) *world {
	t.Helper()
	w := &world{t: t, lines: new(lines)}
	var mu sync.Mutex
	listen := func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		if err != nil {
			return nil, err
		}
		mu.Lock()
		defer mu.Unlock()
		g := newGate(l)
		w.gates = append(w.gates, g)
		return &gatedListener{l, g}, nil
	}
	w.fake = fakeCluster(t, kfake.NumBrokers(brokers), kfake.ListenFn(listen))
	t.Cleanup(func() {
		for _, g := range w.gates {
			g.open()
		}
	})
	w.configs = map[string]string{configMinInsync: fmt.Sprint(brokers/2 + 1)}
	w.create("log", partitions)
	return w
}

func (w *world) create(topic string, partitions int32) {
	w.t.Helper()
	if err := w.fake.CreateTopic(topic, partitions, w.configs); err != nil {
		w.t.Fatal(err)
	}
	for p := range partitions { // the brokers lead them in turn
		if err := w.fake.MoveTopicPartition(topic, p, p%int32(len(w.gates))); err != nil {
			w.t.Fatal(err)
		}
	}
}

// now is the wall clock, and what a test adds to it.
func (w *world) now() authz.Instant {
	return authz.InstantOf(time.Now()) + authz.Instant(w.skew.Load())
}

func (w *world) config(inputs ...string) Config {
	cfg := Config{
		Brokers: w.fake.ListenAddrs(), Topic: "log", AllowWeak: []string{"all"}, Poll: 100 * time.Millisecond,
		Now: w.now, Logger: slog.New(slog.NewTextHandler(w.lines, nil)),
	}
	for _, in := range inputs {
		cfg.Inputs = append(cfg.Inputs, Input{Topic: in, Grants: []signals.Grant{{Authority: signals.Authority{
			Tenants: []string{authz.DefaultTenant}, Types: []string{"*"}, Kinds: []string{"*"},
		}}}})
	}
	return cfg
}

// openLog opens a log, which ends with the test.
func (w *world) openLog(cfg Config) *Log {
	w.t.Helper()
	l, err := Open(bounded(w.t), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = l.Close() })
	return l
}

// following is a Follow that runs.
type following struct {
	t      testing.TB
	cancel context.CancelFunc
	caught chan struct{}
	done   chan struct{}
	err    error // once done is closed

	mu      sync.Mutex
	entries map[int32][]signals.Entry
	failing error
	hook    func([]signals.Entry)
}

func follow(t testing.TB, l *Log, from signals.Positions) *following {
	ctx, cancel := context.WithCancel(context.Background())
	f := &following{t: t, cancel: cancel, caught: make(chan struct{}), done: make(chan struct{}), entries: map[int32][]signals.Entry{}}
	go func() {
		defer close(f.done)
		f.err = l.Follow(ctx, from, f.deliver, func() { close(f.caught) })
	}()
	t.Cleanup(f.stop)
	return f
}

func (f *following) deliver(entries []signals.Entry) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hook != nil {
		f.hook(entries)
	}
	for _, e := range entries {
		e.Record = slices.Clone(e.Record) // its memory is the log's
		f.entries[e.Position.Partition] = append(f.entries[e.Position.Partition], e)
	}
	return f.failing
}

func (f *following) stop() {
	f.cancel()
	<-f.done
}

func (f *following) wait() {
	f.t.Helper()
	select {
	case <-f.caught:
	case <-f.done:
		f.t.Fatalf("it ended: %v", f.err)
	case <-time.After(time.Minute):
		f.t.Fatal("it does not catch up")
	}
}

// ended waits for the error of Follow.
func (f *following) ended() error {
	f.t.Helper()
	select {
	case <-f.done:
		return f.err
	case <-time.After(time.Minute):
		f.t.Fatal("it does not end")
		return nil
	}
}

func (f *following) finished() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// values are those that were delivered of a partition.
func (f *following) values(number int32) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, e := range f.entries[number] {
		all = append(all, string(e.Record))
	}
	return all
}

func (f *following) count() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, all := range f.entries {
		n += len(all)
	}
	return n
}

// grow gives a topic more partitions.
func grow(t testing.TB, cl *kgo.Client, topic string, partitions int32) {
	t.Helper()
	req := kmsg.NewPtrCreatePartitionsRequest()
	of := kmsg.NewCreatePartitionsRequestTopic()
	of.Topic, of.Count = topic, partitions
	req.Topics = append(req.Topics, of)
	if res, err := req.RequestWith(t.Context(), cl); err != nil || res.Topics[0].ErrorCode != 0 {
		t.Fatal(res, err)
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in a minute: %s", what)
		}
	}
}

// lines collects what is logged.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func bytesOf(values ...string) [][]byte {
	var all [][]byte
	for _, v := range values {
		all = append(all, []byte(v))
	}
	return all
}

func TestWhatIsAppendedIsDeliveredAndMakesTheViewFresh(t *testing.T) {
	w := newWorld(t, 3, 4)
	w.create("risks", 2)
	l := w.openLog(w.config("risks"))
	cl := client(t, w.fake)
	put(t, cl, "risks", 1, "before")
	f := follow(t, l, nil)
	f.wait()
	if got := f.values(base("risks") + 1); !slices.Equal(got, []string{"before"}) {
		t.Errorf("%q", got)
	}
	asked := w.now()
	eventually(t, "fresh", func() bool { return l.FreshAt() >= asked })
	for i := range 20 {
		at, err := l.Append(t.Context(), bytesOf(fmt.Sprint("a", i), fmt.Sprint("b", i)))
		if err != nil || len(at) != 2 || at[0].Partition != at[1].Partition || at[1].Offset != at[0].Offset+1 {
			t.Fatal(at, err)
		}
		eventually(t, "delivered", func() bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			all := f.entries[at[0].Partition]
			return len(all) > int(at[1].Offset) && string(all[at[0].Offset].Record) == fmt.Sprint("a", i) && all[at[1].Offset].Position == at[1]
		})
	}
	if l.Health() != nil || l.Partitions() != 6 {
		t.Error(l.Health(), l.Partitions())
	}
	f.stop()
	if !errors.Is(f.err, context.Canceled) {
		t.Error(f.err)
	}
}
