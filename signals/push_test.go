package signals

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"vigil/authz"
	"vigil/posture"
)

// handOver takes a body the way of a push up to the log, and reads each of its records as
// the applier that it was handed to does and as a replay does. It reports how many it read.
func handOver(t *testing.T, sender Sender, body []byte, appended authz.Instant) int {
	w := newWorld(t, worldOptions{})
	defer w.stop()
	batch, err := Decode(body)
	if err != nil {
		return 0
	}
	records, err := w.intake.prepare(sender, batch)
	if err != nil {
		return 0
	}
	a := w.applier
	p, err := a.expect(records, batch.Signals, false)
	if err != nil {
		t.Fatal(err)
	}
	defer a.forget(p)
	here, replay := *newReaderOf(t, p, a.origin), *newReaderOf(t, nil, a.origin+2)
	for i, record := range p.encoded {
		if _, known := p.signal(i, record); !known {
			t.Fatalf("record %d is not known again", i)
		}
		e := &Entry{Appended: appended, Record: record}
		one, other := here.read(e), replay.read(e)
		if one.push != p || one.index != i || other.push != nil {
			t.Fatalf("record %d was taken for %d of %p, and the replay's for one of %p", i, one.index, one.push, other.push)
		}
		one.push, one.index = nil, 0
		if !reflect.DeepEqual(one, other) {
			t.Fatalf("%s\nhanded over %+v\n  read back %+v", batch.Bodies[i], one, other)
		}
	}
	return len(p.encoded)
}

// newReaderOf gives an applier that reads only.
func newReaderOf(t *testing.T, p *push, origin uint64) *Applier {
	a, err := NewApplier(ApplierConfig{Store: posture.NewStore(), Now: func() authz.Instant { return start }})
	if err != nil {
		t.Fatal(err)
	}
	a.origin = origin
	if p != nil {
		a.expected = []*push{p}
	}
	return a
}

// TestWhatIsHandedOverIsWhatAReplayReads: an applier does not read anew what its own
// process appended. A restart and every replica do, and must get the same.
func TestWhatIsHandedOverIsWhatAReplayReads(t *testing.T) {
	for _, c := range goodSignals {
		for _, sender := range []Sender{boss, as("soar")} {
			for _, late := range []time.Duration{-time.Hour, 0, time.Hour} {
				handOver(t, sender, []byte(c.body), start.Add(late))
			}
		}
	}
	read := 0
	for _, body := range []string{
		signalJSON("quarantine"),
		signalJSON("quarantine", `"source":"client:soar"`),
		signalJSON("quarantine", `"tenant":"default"`),
		signalJSON("lift", `"lifts":{"type":"taint","id":"1"}`),
		"[" + signalJSON("narrow", `"scopes":["b","a"]`) + " , " + signalJSON("risk", id("2"), `"risk":7`, about("user:u", "agent:b")) + "]",
	} {
		read += handOver(t, as("soar"), []byte(body), start)
	}
	if read != 6 {
		t.Errorf("%d records were read", read)
	}
}

// FuzzHandOver is the same for any body.
func FuzzHandOver(f *testing.F) {
	for _, c := range goodSignals {
		f.Add([]byte(c.body), int64(0))
	}
	f.Add([]byte("["+signalJSON("taint", `"tenant":"default"`)+","+signalJSON("lift", id("2"), `"lifts":{"type":"taint","id":"1"}`)+"]"), int64(-time.Hour))
	f.Fuzz(func(t *testing.T, body []byte, late int64) {
		appended := start + authz.Instant(late%int64(time.Hour))
		handOver(t, boss, body, appended)
		handOver(t, as("soar"), body, appended)
	})
}

// TestOtherBytesAreReadAnew: a record that says to be one that is waited for, and is not,
// is read for what it is.
func TestOtherBytesAreReadAnew(t *testing.T) {
	w := newWorld(t, worldOptions{})
	records := []Record{{Origin: w.applier.origin, Source: boss.Source, Tenant: "default", Body: []byte(signalJSON("release"))}}
	release, err := DecodeOne(records[0].Body)
	if err != nil {
		t.Fatal(err)
	}
	p, err := w.applier.expect(records, []Signal{release}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer w.applier.forget(p)
	w.append(t, record(signalJSON("quarantine"), func(r *Record) { r.Origin, r.Seq = w.applier.origin, p.first }))
	if got := w.of("agent:a").Status; got != authz.Quarantined {
		t.Errorf("the quarantine in the log was taken for something else: %v", got)
	}
}

// TestPushesAreFoundByTheirRecords: whatever the order in which pushes come and go, each
// record is found in its own, and no other number in any.
func TestPushesAreFoundByTheirRecords(t *testing.T) {
	w := newWorld(t, worldOptions{})
	a := w.applier
	var waiting []*push
	for _, n := range []int{1, 3, 1, 2, 5} {
		p, err := a.expect(make([]Record, n), make([]Signal, n), false)
		if err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, p)
	}
	last := a.lastSeq.Load()
	for len(waiting) > 0 {
		reader := newReaderOf(t, nil, a.origin)
		a.mu.Lock()
		reader.expected = slices.Clone(a.mu.pushes)
		a.mu.Unlock()
		found := map[string]int{}
		for seq := range last + 3 {
			p, i := reader.own(&Record{Origin: a.origin, Seq: seq})
			if p == nil {
				continue
			}
			if seq != p.first+uint64(i) || !slices.Contains(waiting, p) {
				t.Fatalf("number %d is found as %d of a push from %d on", seq, i, p.first)
			}
			found[fmt.Sprint(p.first)]++
		}
		for _, p := range waiting {
			if n := found[fmt.Sprint(p.first)]; n != len(p.encoded) {
				t.Fatalf("%d of the %d records from %d on are found", n, len(p.encoded), p.first)
			}
		}
		if p, _ := reader.own(&Record{Origin: a.origin ^ 8, Seq: waiting[0].first}); p != nil {
			t.Fatal("another process's record is found")
		}
		gone := waiting[len(waiting)/2]
		a.forget(gone)
		waiting = slices.DeleteFunc(waiting, func(p *push) bool { return p == gone })
	}
}

// TestAPushEndsOnlyWhenEachOfItsRecordsWasApplied, though one of them comes twice.
func TestAPushEndsOnlyWhenEachOfItsRecordsWasApplied(t *testing.T) {
	w := newWorld(t, worldOptions{})
	p, err := w.applier.expect(make([]Record, 2), make([]Signal, 2), false)
	if err != nil {
		t.Fatal(err)
	}
	defer w.applier.forget(p)
	ended := func() bool {
		select {
		case <-p.done:
			return true
		default:
			return false
		}
	}
	for _, index := range []int{1, 1, 0} {
		if ended() {
			t.Fatalf("it ended before record %d", index)
		}
		w.applier.mu.Lock()
		(&applied{push: p, index: index}).settleLocked("as of")
		w.applier.mu.Unlock()
	}
	if !ended() || p.asOf != "as of" {
		t.Errorf("ended %v, as of %q", ended(), p.asOf)
	}
}
