package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
)

// measureEmpty starts a replica on empty topics and lets it be.
func (b *scalingBench) measureEmpty(ctx context.Context, a *replica) error {
	if err := b.createTopics(ctx, a); err != nil {
		return err
	}
	if _, _, err := a.start(ctx); err != nil { // it makes its folder
		return err
	}
	if err := a.stop(); err != nil {
		return err
	}
	var err error
	if b.empty.took, b.empty.processor, err = a.start(ctx); err != nil {
		return err
	}
	b.report.add("empty.start", seconds, b.empty.took.Seconds())
	b.report.add("empty.start_cpu", seconds, b.empty.processor.Seconds())
	if b.idle, err = b.watch(ctx, a, func() error { return pause(ctx, b.step) }); err != nil {
		return err
	}
	u, err := a.use()
	if err != nil {
		return err
	}
	b.report.add("idle.connections", count, float64(u.open))
	b.report.add("idle.requests", perSecond, float64(b.idle.requests)/b.idle.took.Seconds())
	b.report.add("idle.received", bytesPerSecond, float64(b.idle.received)/b.idle.took.Seconds())
	b.report.add("idle.cores", ratio, b.idle.cores())
	heap, resident, err := a.memory(ctx)
	b.emptyHeap, b.emptyResident = heap, resident
	b.report.add("empty.heap", byteCount, heap)
	b.report.add("empty.resident", byteCount, resident)
	return err
}

// watch gives what a replica spends while something is done.
func (b *scalingBench) watch(_ context.Context, r *replica, do func() error) (spent, error) {
	before, err := r.use()
	if err != nil {
		return spent{}, err
	}
	if err := do(); err != nil {
		return spent{}, err
	}
	after, err := r.use()
	return after.since(before), err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// measureRates produces signals at the rates that the tables are about, and looks at what
// the replica spends on them.
func (b *scalingBench) measureRates(ctx context.Context, a *replica) error {
	for _, rate := range rates {
		var produced kafkaStormResult
		spent, err := b.watch(ctx, a, func() error {
			produced = b.storm(ctx, rate)
			if produced.err != nil {
				return produced.err
			}
			return b.await(ctx, a, b.inputSent, b.logSent)
		})
		if err != nil {
			return err
		}
		name := fmt.Sprintf("rate_%.0f.", rate)
		n := float64(produced.produced)
		b.report.add(name+"signals", perSecond, n/spent.took.Seconds())
		b.report.add(name+"cores", ratio, spent.cores())
		b.report.add(name+"cpu_per_signal", seconds, (spent.processor.Seconds()-b.idle.cores()*spent.took.Seconds())/n)
		b.report.add(name+"received_per_signal", bytesEach, float64(spent.received)/n)
		b.report.add(name+"received", bytesPerSecond, float64(spent.received)/spent.took.Seconds())
		b.report.add(name+"requests", perSecond, float64(spent.requests)/spent.took.Seconds())
	}
	return nil
}

// fetchTime is how long a broker is asked for nothing.
const fetchTime = 2 * time.Second

// measureBroker asks the broker for what is not there, as often as it answers, and reads all
// that the input holds: what one request costs it, and what a byte.
func (b *scalingBench) measureBroker(ctx context.Context, _ *replica) error {
	if b.brokerPid == 0 {
		return nil
	}
	before := processorTime(b.brokerPid)
	fetches, err := b.fetchNothing(ctx, fetchTime)
	if err != nil {
		return err
	}
	b.report.add("broker.cpu_per_fetch", seconds, (processorTime(b.brokerPid)-before).Seconds()/float64(fetches))
	return nil
}

// pushTime is how long signals are pushed for.
const pushTime = 3 * time.Second

// measureLog pushes signals to a second replica, and looks at both: the first follows them,
// the second takes, appends and follows them.
func (b *scalingBench) measureLog(ctx context.Context, a *replica) error {
	second, err := b.newReplica("b", "")
	if err != nil {
		return err
	}
	if _, _, err := second.start(ctx); err != nil {
		return err
	}
	var pushed *loadResult
	const batch = 500
	var taker spent
	before := b.logSent
	follower, err := b.watch(ctx, a, func() (err error) {
		taker, err = b.watch(ctx, second, func() error {
			push := storm{batch: batch, connections: 4}.load(second.site, b.w, b.id+"-log", pushTime, b.timeout, b.shape.seed)
			if pushed = push.run(ctx); pushed.failed+pushed.wrong > 0 {
				return fmt.Errorf("%d pushes failed, %d were not taken, such as: %s", pushed.failed, pushed.wrong, pushed.example)
			}
			b.logSent += float64(pushed.answered * batch)
			return b.await(ctx, a, b.inputSent, b.logSent)
		})
		return err
	})
	if err != nil {
		return err
	}
	n := b.logSent - before
	b.report.add("log.signals", perSecond, n/pushed.took.Seconds())
	b.report.add("log.cpu_per_signal", seconds, follower.processor.Seconds()/n)
	b.report.add("log.received_per_signal", bytesEach, float64(follower.received)/n)
	b.report.add("log.taker_cpu_per_signal", seconds, taker.processor.Seconds()/n)
	return second.stop()
}

// measureHeld registers agents, gives each a risk, and revokes as many sessions, and looks
// at what each of the three adds to the memory of the replica.
func (b *scalingBench) measureHeld(ctx context.Context, a *replica) error {
	heap, _, err := a.memory(ctx)
	if err != nil {
		return err
	}
	for _, kind := range []struct {
		name string
		body func(i int, now string) signalBody
	}{
		{"agent", func(i int, now string) signalBody {
			return signalBody{ID: fmt.Sprintf("reg-%d", i), Type: "register", Entities: []string{fmt.Sprintf("agent:held-%07d", i)}, Time: now,
				Class: "default", Labels: map[string]string{"role": "payer", "team": fmt.Sprintf("team-%d", i%teams)}, Scopes: []string{"pay"}}
		}},
		{"fact", func(i int, now string) signalBody {
			risk := i % 60
			return signalBody{ID: fmt.Sprintf("risk-%d", i), Type: "risk", Entities: []string{fmt.Sprintf("agent:held-%07d", i)}, Time: now, Risk: &risk}
		}},
		{"session", func(i int, now string) signalBody {
			return signalBody{ID: fmt.Sprintf("rev-%d", i), Type: "revoke", Entities: []string{"session:" + sessionName(i)}, Time: now}
		}},
	} {
		spent, err := b.watch(ctx, a, func() error {
			if err := b.bulk(ctx, b.entities, func(i int) []byte { return encoded(kind.body(i, wireTime(time.Now()))) }); err != nil {
				return err
			}
			return b.await(ctx, a, b.inputSent, b.logSent)
		})
		if err != nil {
			return err
		}
		after, resident, err := a.memory(ctx)
		if err != nil {
			return err
		}
		n := float64(b.entities)
		b.report.add("held."+kind.name, bytesEach, (after-heap)/n)
		b.report.add("held."+kind.name+"_cpu", seconds, spent.processor.Seconds()/n)
		b.report.add("held."+kind.name+"_received", bytesEach, float64(spent.received)/n)
		if kind.name == "session" {
			b.report.add("held.resident", byteCount, resident)
			b.report.add("held.resident_to_heap", ratio, (resident-b.emptyResident)/(after-b.emptyHeap))
		}
		heap = after
	}
	return nil
}

// sessionName is a name that nothing like it came before, as sessions have, so that
// compression finds as little in it as there is.
func sessionName(i int) string {
	sum := sha256.Sum256(strconv.AppendInt(nil, int64(i), 10))
	return hex.EncodeToString(sum[:16])
}

// encoded is the JSON of a signal.
func encoded(s signalBody) []byte {
	s.V = 1
	body, err := json.Marshal(s, json.Deterministic(true))
	if err != nil {
		panic(err) // signalBody has nothing that cannot be marshalled
	}
	return body
}
