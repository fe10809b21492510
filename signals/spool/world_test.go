package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"vigil/authz"
	"vigil/disk/disktest"
	"vigil/posture"
	"vigil/signals"
	"vigil/signals/journal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = func() authz.Instant {
	t, err := time.Parse(time.RFC3339, "2026-11-23T03:04:10Z")
	if err != nil {
		panic(err)
	}
	return authz.InstantOf(t)
}()

// errAway is what the log of all replicas says while it is away.
var errAway = errors.New("no broker answers")

// cluster is the log of all replicas, and one clock.
type cluster struct {
	now  atomic.Int64
	main *signals.MemoryLog
}

func newCluster() *cluster {
	c := new(cluster)
	c.now.Store(int64(start))
	c.main = signals.NewMemoryLog(c.Now)
	return c
}

func (c *cluster) Now() authz.Instant { return authz.Instant(c.now.Load()) }

// replica follows the log of a cluster, with a spool on a disk of its own where it has one.
type replica struct {
	*cluster
	t       *testing.T
	disk    *disktest.Memory
	main    mainLog
	store   *posture.Store
	applier *signals.Applier
	journal *journal.Journal
	spool   *Spool
	intake  *signals.Intake
	stop    func() // ends what runs and waits for it; twice is once
}

// mainLog is the log of all replicas as one of them sees it.
type mainLog struct {
	*signals.MemoryLog
	follow func(error) error // what the follower meets, where that is not nil
	sent   *recorder
}

// recorder keeps what was appended, or tried to be.
type recorder struct {
	mu      sync.Mutex
	records [][]byte
}

func (r *recorder) add(records [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, records...)
}

// take gives what was added since the last take.
func (r *recorder) take() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	records := r.records
	r.records = nil
	return records
}

func (l mainLog) Follow(ctx context.Context, from signals.Positions, deliver func([]signals.Entry) error, caughtUp func()) error {
	if l.follow != nil {
		if err := l.follow(nil); err != nil {
			return err
		}
	}
	return l.MemoryLog.Follow(ctx, from, func(entries []signals.Entry) error {
		if l.follow != nil {
			if err := l.follow(nil); err != nil {
				return err
			}
		}
		return deliver(entries)
	}, caughtUp)
}

func (l mainLog) Append(ctx context.Context, records [][]byte) ([]signals.Position, error) {
	if l.sent != nil {
		l.sent.add(records)
	}
	return l.MemoryLog.Append(ctx, records)
}

type options struct {
	disk  *disktest.Memory // of the spool; nil for a replica without one
	main  mainLog
	store *posture.Store
	from  signals.Positions
	spool func(*Config)
	idle  bool // the spool is open, and does not run
}

func (c *cluster) start(t *testing.T, o options) *replica {
	t.Helper()
	r := &replica{cluster: c, t: t, disk: o.disk, main: o.main, store: o.store}
	r.main.MemoryLog = c.main
	if r.store == nil {
		r.store = posture.NewStore()
	}
	var err error
	if r.applier, err = signals.NewApplier(signals.ApplierConfig{Store: r.store, Now: c.Now}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	intake := signals.IntakeConfig{Log: r.main, Applier: r.applier, Store: r.store, Now: c.Now}
	if o.disk != nil {
		r.journal, err = journal.Open("/spool", journal.Options{FS: o.disk, Now: c.Now, SegmentBytes: 4 << 10})
		if err != nil {
			t.Fatal(err)
		}
		cfg := Config{Log: r.journal, Applier: r.applier, Path: "/forwarded", FS: o.disk, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
		if o.spool != nil {
			o.spool(&cfg)
		}
		if r.spool, err = Open(cfg); err != nil {
			t.Fatal(err)
		}
		intake.Spool = r.spool
		if !o.idle {
			all.Go(func() { r.spool.Run(ctx, r.main) })
		}
	}
	if r.intake, err = signals.NewIntake(intake); err != nil {
		t.Fatal(err)
	}
	all.Go(func() {
		from := o.from
		for ctx.Err() == nil {
			if err := r.applier.Run(ctx, r.main, from); err != nil {
				select {
				case <-ctx.Done():
				case <-time.After(time.Second):
				}
			}
			from = r.applier.Progress().Applied
		}
	})
	r.stop = sync.OnceFunc(func() {
		cancel()
		all.Wait()
		if r.journal != nil {
			_ = r.journal.Close() // of a disk that may have stopped
		}
	})
	t.Cleanup(r.stop)
	synctest.Wait()
	return r
}

var boss = signals.Sender{
	Source:    signals.Source{Kind: "client", Name: "boss"},
	Authority: signals.Authority{Types: []string{"*"}, Kinds: []string{"*", "everything"}, Tenants: []string{"default"}, Overrule: true},
}

func as(name string) signals.Sender {
	return signals.Sender{Source: signals.Source{Kind: "client", Name: name},
		Authority: signals.Authority{Types: []string{"*"}, Kinds: []string{"*"}, Tenants: []string{"default"}}}
}

// body makes the JSON of a signal that is dated 5 s before the start.
func body(id, typ, ref string, more ...string) string {
	b := fmt.Sprintf(`{"v":1,"id":%q,"type":%q,"entities":[%q]`, id, typ, ref)
	dated := false
	for _, m := range more {
		b += "," + m
		dated = dated || len(m) > 7 && m[:7] == `"time":`
	}
	if !dated {
		b += fmt.Sprintf(`,"time":%q`, start.Add(-5*time.Second))
	}
	return b + "}"
}

func (r *replica) push(sender signals.Sender, body string) (signals.Receipt, error) {
	return r.intake.Push(context.Background(), sender, []byte(body))
}

func (r *replica) mustPush(sender signals.Sender, body string) signals.Receipt {
	r.t.Helper()
	receipt, err := r.push(sender, body)
	if err != nil {
		r.t.Fatalf("%s\n%v", body, err)
	}
	return receipt
}

func (r *replica) of(ref string) *posture.Effective {
	parsed, err := authz.ParseRef(ref)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.store.Get(parsed.In("default")).At(r.Now())
}

func (r *replica) status(ref string) authz.Status { return r.of(ref).Status }

// settle waits until all that runs waits for something, having given the forwarder time for
// its pauses.
func settle() {
	time.Sleep(time.Minute)
	synctest.Wait()
}
