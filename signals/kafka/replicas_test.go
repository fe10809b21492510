package kafka

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"vigil/authz"
	"vigil/posture"
	"vigil/signals"
)

// replica is what a process has around its log.
type replica struct {
	log     *Log
	store   *posture.Store
	applier *signals.Applier
	intake  *signals.Intake
	stop    func()
}

func (w *world) replica(cfg Config) *replica {
	w.t.Helper()
	r := &replica{log: w.openLog(cfg), store: posture.NewStore()}
	var err error
	if r.applier, err = signals.NewApplier(signals.ApplierConfig{Store: r.store, Now: w.now}); err != nil {
		w.t.Fatal(err)
	}
	if r.intake, err = signals.NewIntake(signals.IntakeConfig{Log: r.log, Applier: r.applier, Store: r.store, Now: w.now}); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.applier.Run(ctx, r.log, nil); err != nil {
			w.t.Error(err)
		}
	}()
	r.stop = func() { cancel(); <-done }
	w.t.Cleanup(r.stop)
	select {
	case <-r.applier.CaughtUp():
	case <-time.After(time.Minute):
		w.t.Fatal("it does not catch up")
	}
	return r
}

var soc = signals.Sender{
	Source:    signals.Source{Kind: "client", Name: "soc"},
	Authority: signals.Authority{Tenants: []string{authz.DefaultTenant}, Types: []string{"*"}, Kinds: []string{"*"}},
}

func quarantine(id, agent string, at authz.Instant) []byte {
	return fmt.Appendf(nil, `{"v":1,"id":%q,"type":"quarantine","entities":["agent:%s"],"time":%q}`, id, agent, at)
}

func (r *replica) holds(agent string, now authz.Instant) bool {
	return r.store.Get(authz.Ref{Kind: authz.KindAgent, ID: agent}.In(authz.DefaultTenant)).At(now).Status != authz.Active
}

// The promise of FreshAt, with everything that it rests on disturbed: what was acknowledged
// before that instant, by whomever, is in force here. And in the end replicas are the same.
func TestReplicasAgreeAndAFreshOneKnowsWhatWasAcknowledged(t *testing.T) {
	w := newWorld(t, 3, 3)
	w.create("risks", 2)
	cfg := w.config("risks")
	replicas := []*replica{w.replica(cfg), w.replica(cfg), w.replica(cfg)}

	stop := make(chan struct{})
	var chaos, pushers sync.WaitGroup
	chaos.Go(func() {
		random := rand.New(rand.NewPCG(1, 2))
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			g := w.gates[random.IntN(3)]
			switch random.IntN(6) {
			case 0:
				g.cut()
			case 1:
				g.hold()
				time.Sleep(30 * time.Millisecond)
				g.open()
			case 2:
				g.loseAnswers()
				time.Sleep(10 * time.Millisecond)
				g.open()
			default:
				topic, partitions := "log", 3
				if random.IntN(2) == 0 {
					topic, partitions = "risks", 2
				}
				if err := w.fake.MoveTopicPartition(topic, int32(random.IntN(partitions)), int32(random.IntN(3))); err != nil {
					t.Error(err)
				}
			}
		}
	})
	cl := client(t, w.fake)
	knows := func(agent string, acknowledged authz.Instant) {
		for i, r := range replicas {
			eventually(t, "fresh", func() bool { return r.log.FreshAt() >= acknowledged })
			if !r.holds(agent, w.now()) {
				t.Errorf("replica %d is fresh as of %s, but does not know that %s was quarantined before", i, r.log.FreshAt(), agent)
			}
		}
	}
	for p := range 4 {
		pushers.Go(func() {
			for i := range 8 {
				agent := fmt.Sprintf("p%d-%d", p, i)
				body := quarantine(agent, agent, w.now())
				if p == 3 {
					err := cl.ProduceSync(context.Background(), &kgo.Record{Topic: "risks", Partition: int32(i % 2), Value: body}).FirstErr()
					if err != nil { // this client has less patience than what it goes through
						continue
					}
					knows(agent, w.now())
					continue
				}
				receipt, err := replicas[p].intake.Push(context.Background(), soc, body)
				switch {
				case errors.Is(err, signals.ErrUnavailable), errors.Is(err, signals.ErrUnknownOutcome):
					continue
				case err != nil:
					t.Error(err)
					continue
				}
				acknowledged := w.now()
				if !replicas[p].holds(agent, w.now()) {
					t.Errorf("%s is acknowledged and not in force", agent)
				}
				knows(agent, acknowledged)
				if err := replicas[(p+1)%3].applier.WaitApplied(context.Background(), receipt.AsOf); err != nil {
					t.Error(err)
				}
			}
		})
	}
	pushers.Wait()
	close(stop)
	chaos.Wait()
	for _, g := range w.gates {
		g.open()
	}
	end := w.now()
	for _, r := range replicas {
		eventually(t, "fresh", func() bool { return r.log.FreshAt() >= end })
	}
	now := w.now()
	for i, r := range replicas[1:] {
		if r.store.Digest(now) != replicas[0].store.Digest(now) {
			t.Errorf("replica %d has another posture than replica 0", i+1)
		}
		if got, want := r.applier.Progress(), replicas[0].applier.Progress(); got.AsOf != want.AsOf || got.DeadLetters != 0 {
			t.Errorf("replica %d is at %v with %d dead letters, replica 0 at %v", i+1, got.Applied, got.DeadLetters, want.Applied)
		}
	}
	late := w.replica(cfg) // from the beginning, in another order
	if late.store.Digest(now) != replicas[0].store.Digest(now) {
		t.Error("a replica that comes late has another posture")
	}
}
