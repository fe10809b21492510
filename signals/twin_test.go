package signals

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"vigil/authz"
	"vigil/posture"
)

// history is what several partitions and inputs hold in the end, and what went through the
// spool of one replica before.
type history struct {
	partitions map[int32][]Entry
	spooled    []Entry // in the spool of the first replica, at offsets of their own
}

// newHistory makes n signals. Of those that the spool took, the log has the same bytes,
// taken later, and some of them twice, for a replica that crashed forwards again.
func newHistory(r *rand.Rand, n int) history {
	inputs := map[int32]*Input{
		5<<12 | 3: anything,
		6 << 12:   {Source: Source{Kind: "topic", Name: "soc"}, Grants: []Grant{{Until: start.Add(2 * time.Minute), Authority: anything.Grants[0].Authority}}},
	}
	places := []int32{0, 1, 5<<12 | 3, 6 << 12}
	h := history{partitions: map[int32][]Entry{}}
	put := func(partition int32, appended authz.Instant, record []byte) {
		all := h.partitions[partition]
		if len(all) > 0 {
			appended = max(appended, all[len(all)-1].Appended) // as brokers date
		}
		h.partitions[partition] = append(all, Entry{
			Position: Position{Partition: partition, Offset: int64(len(all))},
			Appended: appended, Record: record, Input: inputs[partition],
		})
	}
	for i := range n {
		taken := start.Add(time.Duration(i) * 2 * time.Second)
		data := anyRecord(r, i)
		rec, err := DecodeRecord(data)
		if err != nil {
			panic(err)
		}
		if takenBySpool(&rec, taken) && r.IntN(2) == 0 {
			if s, _ := DecodeOne(rec.Body); s.Type == TypeQuarantine && r.IntN(3) == 0 { // in another's line
				rec.Target, rec.Dated = "client:s1", taken-1
				data = EncodeRecord(nil, &rec)
			}
			h.spooled = append(h.spooled, Entry{Position: Position{Offset: int64(len(h.spooled))}, Appended: taken, Record: data})
			for range 1 + r.IntN(2) {
				put(int32(r.IntN(2)), taken.Add(time.Duration(r.IntN(600))*time.Second), data)
			}
			continue
		}
		partition := places[r.IntN(len(places))]
		if inputs[partition] != nil {
			data = rec.Body
		}
		if r.IntN(20) == 0 {
			put(partition, taken, []byte("garbage"))
		}
		put(partition, taken, data)
		if r.IntN(6) == 0 { // a producer that lost the answer
			put(partition, taken.Add(time.Second), data)
		}
	}
	return h
}

// takenBySpool is what Intake.spoolable checks of a signal.
func takenBySpool(rec *Record, now authz.Instant) bool {
	s, err := DecodeOne(rec.Body)
	if err != nil || s.Time > now || s.IssuedBefore > now {
		return false
	}
	return s.Type == TypeRisk || !s.permissive()
}

// apply delivers the history to a new replica in an order of its own: each partition in
// order, in batches of any size, from further back now and then; through a snapshot in
// between; and what it spooled, where it did, before the log has it.
func (h *history) apply(t *testing.T, r *rand.Rand, spools bool) *follower {
	now := start.Add(time.Duration(r.IntN(7200)-3600) * time.Second) // clocks differ, and count for nothing
	f := newFollower(t, func(cfg *ApplierConfig) { cfg.Now = func() authz.Instant { return now } })
	next := map[int32]int{}
	spool := func() {
		if err := f.deliverSpooled(h.spooled[:1+r.IntN(len(h.spooled))], func([]Entry) {}); err != nil {
			t.Fatal(err)
		}
	}
	for {
		var open []int32
		for partition, all := range h.partitions {
			if next[partition] < len(all) {
				open = append(open, partition)
			}
		}
		if len(open) == 0 {
			break
		}
		slices.Sort(open)
		partition := open[r.IntN(len(open))]
		all, at := h.partitions[partition], next[partition]
		if r.IntN(8) == 0 {
			at = r.IntN(at + 1) // it starts again further back
		}
		end := min(len(all), at+1+r.IntN(9))
		if err := f.deliver(all[at:end]); err != nil {
			t.Fatal(err)
		}
		next[partition] = max(next[partition], end)
		if spools && len(h.spooled) > 0 && r.IntN(4) == 0 {
			spool()
		}
		if r.IntN(12) == 0 {
			f.store.Prune(start.Add(time.Minute))
		}
		if r.IntN(25) == 0 {
			f = f.restarted()
		}
	}
	if spools && len(h.spooled) > 0 {
		if err := f.deliverSpooled(h.spooled, func([]Entry) {}); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// restarted gives the follower that begins with what a snapshot keeps of f.
func (f *follower) restarted() *follower {
	f.t.Helper()
	var snapshot bytes.Buffer
	if err := f.store.WriteSnapshot(&snapshot, start.Add(time.Minute)); err != nil {
		f.t.Fatal(err)
	}
	store, err := posture.ReadSnapshot(&snapshot, start.Add(time.Minute))
	if err != nil {
		f.t.Fatal(err)
	}
	again := newFollower(f.t, func(cfg *ApplierConfig) { cfg.Store = store })
	again.reached.Store(f.reached.Load())
	again.reread()
	return again
}

// TestTwoReplicasOfOneHistoryHaveOnePosture: one had part of it through its spool, minutes
// before the log; each met the partitions and inputs in an order of its own, some of it
// twice, and was started again in between.
func TestTwoReplicasOfOneHistoryHaveOnePosture(t *testing.T) {
	spooled, dead := 0, uint64(0)
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 11))
		h := newHistory(r, 100)
		one, other := h.apply(t, r, true), h.apply(t, r, false)
		for _, after := range []time.Duration{time.Minute, 5 * time.Minute, time.Hour, 3 * time.Hour, 48 * time.Hour} {
			if now := start.Add(after); one.store.Digest(now) != other.store.Digest(now) {
				t.Fatalf("seed %d: %v later they differ: %s", seed, after, difference(one.store, other.store, now))
			}
		}
		for partition, all := range h.partitions {
			if one.Progress().Applied[partition] != int64(len(all)) || other.Progress().Applied[partition] != int64(len(all)) {
				t.Fatalf("seed %d: partition %d ended at %v and %v", seed, partition, one.Progress().Applied, other.Progress().Applied)
			}
		}
		spooled += len(h.spooled)
		dead += other.Progress().DeadLetters
	}
	if spooled < 300 || dead < 30 {
		t.Errorf("only %d were spooled, and %d dead: the histories say little", spooled, dead)
	}
}

// difference names an entity that two stores say different things of.
func difference(a, b *posture.Store, now authz.Instant) (what string) {
	what = "in facts that are not in force"
	for _, way := range [][2]*posture.Store{{a, b}, {b, a}} {
		way[0].Walk(func(k authz.Key, r *posture.Record) bool {
			var facts [2][]string
			for i, rec := range []*posture.Record{r, way[1].Get(k)} {
				for f := range rec.Facts() {
					f.Record = ""
					facts[i] = append(facts[i], fmt.Sprintf("%+v", f))
				}
				slices.Sort(facts[i])
			}
			if !slices.Equal(facts[0], facts[1]) {
				what = fmt.Sprintf("%v:\n%q\n%q", k, facts[0], facts[1])
				return false
			}
			return true
		})
	}
	return what
}
