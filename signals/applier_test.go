package signals

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vigil/authz"
	"vigil/posture"
)

// TestUnreadableSignals: what another version may have written holds those entities that
// its source could have quarantined; all else that cannot be applied is a dead letter.
// Either way the feed goes on.
func TestUnreadableSignals(t *testing.T) {
	only := func(bits uint64) func(*Record) { return func(r *Record) { r.Verdict.MayQuarantine = bits } }
	cases := []struct {
		name   string
		record []byte
		held   []string // else a dead letter
		dead   string
	}{
		{"newer version", record(signalJSON("quarantine", `"v":2`)), []string{"agent:a"}, ""},
		{"unknown type", record(signalJSON("suspend")), []string{"agent:a"}, ""},
		{"unknown member", record(signalJSON("release", `"until_called":true`)), []string{"agent:a"}, ""},
		{"unknown member that is deep", record(signalJSON("release", `"x":`+strings.Repeat("[", 500)+strings.Repeat("]", 500))), []string{"agent:a"}, ""},
		{"unknown shape of a known member", record(signalJSON("risk", `"risk":{"score":99}`)), []string{"agent:a"}, ""},
		{"risk out of range", record(signalJSON("risk", `"risk":1000`)), []string{"agent:a"}, ""},
		{"unknown kind beside a known one", record(signalJSON("quarantine", about("flock:x", "agent:a", "agent:b"))), []string{"agent:a", "agent:b"}, ""},
		{"more entities than we write, still readable", record(signalJSON("suspend", about("agent:a", "everything"))), []string{"agent:a", "everything"}, ""},
		{"entities the source may not all quarantine", record(signalJSON("suspend", about("agent:a", "agent:b", "user:u")), only(0b101)), []string{"agent:a", "user:u"}, ""},
		{"a field that must be understood", append(record(signalJSON("release")), 17, 1, 'x'), []string{"agent:a"}, ""},
		{"a field that need not be", append(record(signalJSON("taint")), 14, 1, 'x'), nil, ""},

		{"unknown kinds only", record(signalJSON("suspend", about("flock:x"))), nil, `unreadable (bad_value: /type: unknown type "suspend"), and it names no entity that its source may hold`},
		{"a source that may not quarantine", record(signalJSON("suspend"), only(0)), nil, `unreadable (bad_value: /type: unknown type "suspend"), and it names no entity that its source may hold`},
		{"no JSON", record(`quarantine agent:a`), nil, "unreadable: syntax: invalid character 'q' at start of value (byte 0)"},
		{"no id", record(signalJSON("suspend", "-id")), nil, `unreadable: missing_member: "id" is missing`},
		{"no time", record(signalJSON("suspend", `"time":5`)), nil, "unreadable: wrong_type: /time: want a string, got a number"},
		{"version 0", record(signalJSON("suspend", `"v":0`)), nil, "unreadable: bad_value: /v: no version: 0"},
		{"trailing data", record(signalJSON("taint") + "{}"), nil, "unreadable: trailing_data: an object follows (byte 89)"},
		{"a batch", record("[" + signalJSON("taint") + "]"), nil, "unreadable: wrong_type: want an object, got an array"},
		{"too large", record(signalJSON("taint", `"x":"`+strings.Repeat("x", MaxSignal)+`"`)), nil, "unreadable: too_large: the signal is too large"},
		{"another tenant", record(signalJSON("suspend", `"tenant":"acme"`)), nil, `it says tenant "acme", but was accepted for "default"`},
		{"another tenant, readable", record(signalJSON("release", `"tenant":"acme"`)), nil, `it says tenant "acme", but was accepted for "default"`},
		{"another line without authority", record(signalJSON("release", `"source":"client:edr"`)), nil, "it speaks in the line of client:edr without authority"},
		{"permissive and dated ahead", record(signalJSON("release", when(start.Add(time.Minute)))), nil, "its time is 1m0s ahead of the log's"},
		{"no record", []byte("hello"), nil, "not a record of a signal"},
		{"an empty record", nil, nil, "not a record of a signal"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, worldOptions{})
			w.append(t, c.record, record(signalJSON("revoke", id("next"), about("session:next"))))
			if got := w.of("session:next").Status; got != authz.Revoked {
				t.Fatalf("the feed did not go on: %v", got)
			}
			var held []string
			w.store.Walk(func(k authz.Key, r *posture.Record) bool {
				if r.At(start).Status == authz.Unreadable {
					held = append(held, k.Ref().String())
				}
				return true
			})
			slices.Sort(held)
			if !slices.Equal(held, c.held) {
				t.Errorf("held: %q, want %q", held, c.held)
			}
			letters := w.applier.DeadLetters()
			if c.dead == "" {
				if len(letters) != 0 {
					t.Errorf("dead letters: %+v", letters)
				}
				return
			}
			if len(letters) != 1 || letters[0].Reason != c.dead || letters[0].Position.Offset != 0 || letters[0].Appended != start {
				t.Errorf("dead letters: %+v", letters)
			}
			if p := w.applier.Progress(); p.DeadLetters != 1 {
				t.Errorf("%d are counted", p.DeadLetters)
			}
		})
	}
}

// TestUnreadableFactDoesNotDependOnTheReader: versions that fail on a signal for
// different reasons put the same fact in its place.
func TestUnreadableFactDoesNotDependOnTheReader(t *testing.T) {
	rec := record(signalJSON("suspend", `"v":2`))
	e := Entry{Appended: start, Record: rec}
	a := new(Applier)
	one := a.read(&e)
	testHookRead = func(*Entry) { panic("a fault") }
	defer func() { testHookRead = nil }()
	other := a.read(&e)
	if one.unread == nil || other.unread == nil || one.unread.Error() == other.unread.Error() {
		t.Fatalf("want two reasons: %v, %v", one.unread, other.unread)
	}
	if !reflect.DeepEqual(one.changes, other.changes) {
		t.Errorf("two reasons made two facts:\n%+v\n%+v", one.changes, other.changes)
	}
}

func TestALiftEndsAnUnreadableSignal(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.append(t, record(signalJSON("suspend")))
	w.push(t, boss, signalJSON("lift", id("2"), `"lifts":{"type":"unreadable","id":"INC-1"}`))
	if got := w.of("agent:a").Status; got != authz.Active {
		t.Errorf("status %v", got)
	}
}

// TestAReaderThatPanicsHoldsTheEntities: a fault of ours must not lose a signal, nor end
// the process.
func TestAReaderThatPanicsHoldsTheEntities(t *testing.T) {
	w := newWorld(t, worldOptions{idle: true})
	testHookRead = func(e *Entry) {
		if e.Position.Offset == 0 {
			panic("a fault")
		}
	}
	defer func() { testHookRead = nil }()
	if _, err := w.log.Append(context.Background(), [][]byte{record(signalJSON("revoke")), record(signalJSON("taint", id("2"), about("user:u")))}); err != nil {
		t.Fatal(err)
	}
	w.run(t, w.log, nil)
	w.stop()
	if len(w.applier.DeadLetters()) != 0 || w.of("agent:a").Status != authz.Unreadable || !w.of("user:u").Tainted {
		t.Errorf("dead letters %+v, agent:a %+v, user:u %+v", w.applier.DeadLetters(), w.of("agent:a"), w.of("user:u"))
	}
}

// TestASignalThatMakesTheStorePanicHoldsItsEntities: the next start and every replica
// would meet it again, so the feed goes on; and it stops where even the hold panics.
func TestASignalThatMakesTheStorePanicHoldsItsEntities(t *testing.T) {
	for _, twice := range []bool{false, true} {
		n := 0
		w := newWorld(t, worldOptions{idle: true, onNow: func() {
			if n++; n == 2 || twice && n == 3 {
				panic("a fault")
			}
		}})
		for i := range 3 {
			if _, err := w.log.Append(context.Background(), [][]byte{record(signalJSON("revoke", id(fmt.Sprint(i)), about(fmt.Sprintf("agent:%d", i))))}); err != nil {
				t.Fatal(err)
			}
		}
		if twice {
			err := w.applier.Run(context.Background(), w.log, nil)
			if err == nil || !strings.Contains(err.Error(), "partition 0, offset 1: panic while applying a signal: a fault") {
				t.Fatalf("got %v", err)
			}
			if w.of("agent:2").Status != authz.Active || w.applier.Progress().Applied[0] != 0 {
				t.Error("it went on")
			}
			continue
		}
		w.run(t, w.log, nil)
		w.stop()
		if a, b := w.of("agent:1").Status, w.of("agent:2").Status; a != authz.Unreadable || b != authz.Revoked {
			t.Errorf("agent:1 is %v, agent:2 is %v", a, b)
		}
	}
}

func TestDeadLettersAreBoundedAndTheLogLinesToo(t *testing.T) {
	var lines bytes.Buffer
	w := newWorld(t, worldOptions{idle: true, applier: ApplierConfig{Logger: slog.New(slog.NewJSONHandler(&lines, nil))}})
	const n = 3*keptDeadLetters + 7
	for i := range n {
		if _, err := w.log.Append(context.Background(), [][]byte{record(fmt.Sprintf("bad %d", i))}); err != nil {
			t.Fatal(err)
		}
	}
	w.run(t, w.log, nil)
	w.stop()
	letters := w.applier.DeadLetters()
	if len(letters) != keptDeadLetters || w.applier.Progress().DeadLetters != n {
		t.Fatalf("%d kept, %d counted", len(letters), w.applier.Progress().DeadLetters)
	}
	for i, l := range letters {
		if l.Position.Offset != int64(n-keptDeadLetters+i) || l.Source != "client:boss" {
			t.Fatalf("letter %d is %+v", i, l)
		}
	}
	if got := strings.Count(lines.String(), "\n"); got != 10 {
		t.Errorf("%d lines in one instant:\n%s", got, lines.String())
	}
	if !strings.Contains(lines.String(), `"msg":"a record of the log was not applied","partition":0,"offset":0,"source":"client:boss","id":"","reason":"unreadable: syntax: invalid character 'b' at start of value (byte 0)","suppressed":0`) {
		t.Errorf("the line: %s", lines.String())
	}
}

func TestCountersAreBounded(t *testing.T) {
	w := newWorld(t, worldOptions{idle: true})
	for i := range maxCounts + 50 {
		rec := record(signalJSON("taint", about(fmt.Sprintf("agent:%d", i))), func(r *Record) { r.Source.Name = fmt.Sprint(i) })
		if _, err := w.log.Append(context.Background(), [][]byte{rec}); err != nil {
			t.Fatal(err)
		}
	}
	w.run(t, w.log, nil)
	w.stop()
	counts := w.applier.Progress().Counts
	sum := uint64(0)
	for _, n := range counts {
		sum += n
	}
	if len(counts) > maxCounts+8 || sum != maxCounts+50 {
		t.Errorf("%d counters, %d counted", len(counts), sum)
	}
}

// TestEveryOrderReachesTheSamePosture: permutations and repetitions of a log, applied in
// batches of any size, leave the same facts. Append times travel with the records.
func TestEveryOrderReachesTheSamePosture(t *testing.T) {
	var want [32]byte
	var entries []Entry
	for i := range 120 {
		entries = append(entries, Entry{Appended: start.Add(time.Duration(i) * time.Second), Record: anyRecord(rand.New(rand.NewPCG(1, uint64(i))), i)})
	}
	now := start.Add(time.Hour)
	digest := func(entries []Entry) [32]byte {
		w := replay(t, entries)
		return w.store.Digest(now)
	}
	want = digest(entries)
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, seed))
		order := slices.Clone(entries)
		for range r.IntN(30) {
			order = append(order, entries[r.IntN(len(entries))])
		}
		r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for i := range order {
			order[i].Position.Offset = int64(i)
		}
		if digest(order) != want {
			t.Fatalf("seed %d: posture differs", seed)
		}
	}
	if want == digest(entries[:100]) {
		t.Error("the last signals said nothing")
	}
}

// anyRecord makes a record of any type, some unreadable, about few entities.
func anyRecord(r *rand.Rand, i int) []byte {
	refs := []string{"agent:a", "agent:b", "session:s", "everything"}
	more := []string{id(fmt.Sprint(i)), about(refs[r.IntN(3)], refs[3]), when(start.Add(time.Duration(r.IntN(400)-200) * time.Second))}
	var typ Type
	switch types := Types(); r.IntN(16) {
	case 0:
		typ, more = TypeRegister, append(more[:1:1], about(refs[r.IntN(3)]), fmt.Sprintf(`"class":"c%d"`, r.IntN(3)))
	case 1:
		typ, more = TypeAttest, append(more[:1:1], about(refs[r.IntN(3)]), `"result":"pass"`)
	case 2:
		typ, more = TypeRisk, append(more, fmt.Sprintf(`"risk":%d`, r.IntN(101)))
	case 3:
		typ, more = TypeNarrow, append(more, `"scopes":["a"]`)
	case 4:
		typ, more = TypeRevoke, append(more, fmt.Sprintf(`"issued_before":%q`, start.Add(time.Duration(r.IntN(300))*time.Second)))
	case 5:
		typ, more = TypeLift, append(more, fmt.Sprintf(`"lifts":{"type":"taint","id":"%d"}`, r.IntN(120)))
	case 6:
		typ = "suspend"
	case 7:
		typ = types[4] // release
	case 8:
		typ, more = TypeQuarantine, append(more, fmt.Sprintf(`"expires":%q`, start.Add(2*time.Hour)))
	case 9, 10:
		typ = TypeQuarantine
	case 11:
		typ, more = TypeWaive, append(more[:1:1], when(start), `"entities":["source:client:s1"]`,
			fmt.Sprintf(`"expires":%q`, start.Add(time.Duration(1+r.IntN(90))*time.Minute)), `"reason":"r"`)
	case 12:
		typ, more = TypeLift, append(more[:1:1], `"entities":["source:client:s1"]`, fmt.Sprintf(`"lifts":{"type":"waive","id":"%d"}`, r.IntN(120)))
	case 13:
		typ, more = TypeHeartbeat, append(more[:1:1], `"entities":["source:client:s1"]`)
	default:
		typ = TypeTaint
	}
	return record(signalJSON(string(typ), more...), func(rec *Record) { rec.Source.Name = fmt.Sprint("s", r.IntN(3)) })
}

// TestReplayUnderOtherAuthority: what was accepted stays accepted, and what a source could
// hold it still holds, though it may do nothing today.
func TestReplayUnderOtherAuthority(t *testing.T) {
	w := newWorld(t, worldOptions{intake: IntakeConfig{DeclaredClass: func(string) bool { return true }}})
	w.push(t, as("edr"), signalJSON("quarantine", about("agent:a", "agent:b")))
	w.push(t, as("edr"), signalJSON("register", id("2"), `"class":"retired"`, about("agent:b")))
	w.push(t, boss, signalJSON("release", id("3"), `"source":"client:edr"`))
	w.push(t, boss, signalJSON("taint", id("4"), `"tenant":"acme"`))

	again := newWorld(t, worldOptions{idle: true, intake: IntakeConfig{DeclaredClass: func(string) bool { return false }}})
	again.log = w.log
	again.run(t, w.log, nil)
	if again.store.Digest(start) != w.store.Digest(start) {
		t.Error("posture differs")
	}
}

func TestFacts(t *testing.T) {
	rec := Record{Source: soar, Tenant: "acme", Target: ""}
	appended := start
	facts := func(body string, change ...func(*Record)) ([]posture.Change, error) {
		r := rec
		for _, f := range change {
			f(&r)
		}
		s, err := DecodeOne([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return Facts(&r, &s, appended)
	}
	event := at("2026-11-23T03:04:05Z")

	changes, err := facts(signalJSON("quarantine", about("agent:a", "everything"), `"expires":"2026-11-24T00:00:00Z"`, `"actor":"k"`, `"reason":"r"`, `"ticket":"t"`))
	if err != nil {
		t.Fatal(err)
	}
	f := changes[0].Facts[0]
	if len(changes) != 2 || changes[0].Key != (authz.Key{Tenant: "acme", Kind: authz.KindAgent, ID: "a"}) || changes[1].Key != (authz.Key{Kind: authz.KindEverything}) ||
		f.Facet != posture.Hold || !f.Held || f.Source != "client:soar" || f.ID != "INC-1" || f.Time != event ||
		f.Until != at("2026-11-24T00:00:00Z") || f.Actor != "k" || f.Reason != "r" || f.Ticket != "t" {
		t.Errorf("got %+v", changes)
	}

	times := []struct {
		name string
		body string
		time authz.Instant
		cut  authz.Instant
		err  string
	}{
		{"past", signalJSON("release"), event, 0, ""},
		{"5 s ahead, permissive", signalJSON("release", when(appended.Add(MaxAhead))), appended.Add(MaxAhead), 0, ""},
		{"more than 5 s ahead, permissive", signalJSON("release", when(appended.Add(MaxAhead)+1)), 0, 0, "its time is 5s ahead of the log's"},
		{"5 s ahead, restrictive", signalJSON("taint", when(appended.Add(MaxAhead))), appended.Add(MaxAhead), 0, ""},
		{"more than 5 s ahead, restrictive", signalJSON("taint", when(appended.Add(time.Hour))), appended.Add(MaxAhead), 0, ""},
		{"more than 5 s ahead, failed attestation", signalJSON("attest", `"result":"fail"`, when(appended.Add(time.Hour))), appended.Add(MaxAhead), 0, ""},
		{"more than 5 s ahead, passed attestation", signalJSON("attest", `"result":"pass"`, when(appended.Add(time.Hour))), 0, 0, "its time is 1h0m0s ahead of the log's"},
		{"cut-off in the past", signalJSON("revoke", `"issued_before":"2026-11-23T03:04:05Z"`), event, event, ""},
		{"cut-off ahead", signalJSON("revoke", `"issued_before":"2027-01-01T00:00:00Z"`), event, appended, ""},
	}
	for _, c := range times {
		changes, err := facts(c.body)
		if c.err != "" {
			if err == nil || err.Error() != c.err {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil || changes[0].Facts[0].Time != c.time || changes[0].Facts[0].Cutoff != c.cut {
			t.Errorf("%s: %+v, %v", c.name, changes, err)
		}
	}

	dated := func(r *Record) { r.Target, r.Dated = "client:edr", event-100 }
	changes, err = facts(signalJSON("release", `"source":"client:edr"`), dated)
	if err != nil || changes[0].Facts[0].Source != "client:edr" || changes[0].Facts[0].ID != "client:soar/INC-1" || changes[0].Facts[0].Time != event-100 {
		t.Errorf("overruling: %+v, %v", changes, err)
	}
	if _, err = facts(signalJSON("release", `"source":"client:edr"`, `"expires":"2026-11-23T03:04:06Z"`), func(r *Record) { r.Target, r.Dated = "client:edr", start }); err == nil {
		t.Error("an overruling that ends before it begins was let through")
	}
	changes, err = facts(signalJSON("lift", `"lifts":{"type":"narrow","id":"x"}`))
	if err != nil || *changes[0].Facts[0].Lifts != (posture.Target{Facet: posture.Narrow, Source: "client:soar", ID: "x"}) {
		t.Errorf("lift: %+v, %v", changes, err)
	}
}

func TestWaitApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{}, 100)
		w := newWorld(t, worldOptions{idle: true, applier: ApplierConfig{MaxWaiters: 2, MaxWait: time.Second}})
		defer w.stop()
		ctx := context.Background()
		of := func(n int64) string { return FormatAsOf(w.log.ID(), Positions{0: n}) }
		if err := w.applier.WaitApplied(ctx, of(1)); !errors.Is(err, ErrUnavailable) {
			t.Errorf("before it runs: %v", err)
		}
		w.run(t, &probe{MemoryLog: w.log, delivered: func(int64, int64) { <-gate }}, nil)

		for _, token := range []string{of(0), w.store.AsOf()} {
			if err := w.applier.WaitApplied(ctx, token); err != nil {
				t.Errorf("where it is: %v", err)
			}
		}
		if err := w.applier.WaitApplied(ctx, "v1.nonsense"); !errors.Is(err, ErrBadAsOf) {
			t.Errorf("nonsense: %v", err)
		}
		if err := w.applier.WaitApplied(ctx, FormatAsOf(LogID{1}, Positions{0: 0})); !errors.Is(err, ErrOtherLog) {
			t.Errorf("another log: %v", err)
		}
		if err := w.applier.WaitApplied(ctx, of(100)); !errors.Is(err, ErrPastHead) {
			t.Errorf("past the head: %v", err)
		}
		if err := w.applier.WaitApplied(ctx, FormatAsOf(w.log.ID(), Positions{7: 1})); !errors.Is(err, ErrPastHead) {
			t.Errorf("a partition that there is not: %v", err)
		}

		if _, err := w.log.Append(ctx, [][]byte{record(signalJSON("revoke"))}); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() {
				if err := w.applier.WaitApplied(ctx, of(1)); err != nil || w.of("agent:a").Status != authz.Revoked {
					t.Errorf("after waiting: %v, %v", err, w.of("agent:a").Status)
				}
			})
		}
		synctest.Wait()
		if err := w.applier.WaitApplied(ctx, of(1)); !errors.Is(err, ErrOverloaded) {
			t.Errorf("the third: %v", err)
		}
		before := time.Now()
		gate <- struct{}{}
		all.Wait()
		if waited := time.Since(before); waited != 0 {
			t.Errorf("they were told %v after it was in force", waited)
		}
		left, cancel := context.WithCancel(ctx)
		cancel()
		if err := w.applier.WaitApplied(left, of(2)); !errors.Is(err, ErrPastHead) {
			t.Errorf("who left: %v", err)
		}
		if n := len(w.applier.mu.waiters); n != 0 {
			t.Errorf("%d still wait", n)
		}
	})
}

// TestAWaiterThatComesLateIsNotForgotten: between its look at the position and its place
// among the waiters, the position may have been reached, with nobody left to wake it.
func TestAWaiterThatComesLateIsNotForgotten(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.push(t, boss, signalJSON("taint"))
	late := &waiter{at: Positions{0: 1}, done: make(chan struct{})}
	if err := w.applier.enlist(late); err != nil {
		t.Fatal(err)
	}
	select {
	case <-late.done:
	default:
		t.Error("it waits for what is there")
	}
}

func TestRunIsForOneLogAndOneGoroutine(t *testing.T) {
	w := newWorld(t, worldOptions{})
	ctx := context.Background()
	if err := w.applier.Run(ctx, w.log, nil); err == nil || err.Error() != "signals: the applier is running already" {
		t.Errorf("twice: %v", err)
	}
	w.push(t, boss, signalJSON("taint"))
	w.push(t, boss, signalJSON("taint", id("2")))
	w.stop()
	if w.err != nil || w.applier.Err() != nil {
		t.Errorf("told to end, it says %v, %v", w.err, w.applier.Err())
	}
	if err := w.applier.Run(ctx, NewMemoryLog(w.clock.Now), nil); !errors.Is(err, ErrOtherLog) {
		t.Errorf("another log: %v", err)
	}
	if err := w.applier.Run(ctx, w.log, Positions{0: 5}); err == nil || err.Error() != "signals: the applier has not come to where it should start" {
		t.Errorf("with a hole: %v", err)
	}
	w.run(t, w.log, nil) // from the beginning again
	w.stop()
	if err := w.applier.deliver(w.log.entries[:1]); err != nil {
		t.Fatal(err)
	}
	if got := w.applier.Progress().Applied[0]; got != 2 {
		t.Errorf("went back to %d", got)
	}
}

// TestStartFromASnapshot: the position of the snapshot is published before anything is
// applied, and only the rest of the log is.
func TestStartFromASnapshot(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.push(t, boss, signalJSON("taint", about("agent:a")))
	w.push(t, boss, signalJSON("taint", id("2"), about("agent:b")))
	at := Positions{0: 1}
	again := newWorld(t, worldOptions{idle: true})
	again.log = w.log
	again.run(t, w.log, at)
	if again.of("agent:a").Tainted || !again.of("agent:b").Tainted {
		t.Error("it applied something else than the rest")
	}
	if again.store.AsOf() != w.store.AsOf() {
		t.Errorf("as of %s", again.store.AsOf())
	}
	if at[0] != 1 {
		t.Error("it changed the caller's positions")
	}
	empty := newWorld(t, worldOptions{})
	if empty.store.AsOf() != FormatAsOf(empty.log.ID(), nil) {
		t.Errorf("with an empty log: as of %q", empty.store.AsOf())
	}
}

// FuzzApply: no record stops the feed, whatever its bytes.
func FuzzApply(f *testing.F) {
	f.Add(record(signalJSON("quarantine")))
	f.Add(record(signalJSON("suspend", `"v":2`)))
	f.Add(append(record(signalJSON("release")), 17, 1, 'x'))
	f.Add(binary.AppendUvarint([]byte{recordMagic, recordVersion, 3}, 1<<62))
	for _, c := range goodSignals {
		f.Add(record(c.body, func(r *Record) { r.Target, r.Dated = "client:edr", start }))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := NewApplier(ApplierConfig{Store: posture.NewStore(), Now: func() authz.Instant { return start }})
		if err != nil {
			t.Fatal(err)
		}
		out, err := a.apply(&Entry{Appended: start, Record: data})
		if err != nil {
			t.Fatal(err)
		}
		if (out.dead == nil) == (len(out.results) == 0) {
			t.Fatalf("neither applied nor dead: %+v", out)
		}
		for _, r := range out.results {
			if s := r.Record.At(start); s == nil {
				t.Fatal("no posture")
			}
		}
	})
}

func BenchmarkApply(b *testing.B) {
	a, err := NewApplier(ApplierConfig{Store: posture.NewStore(), Now: func() authz.Instant { return start }})
	if err != nil {
		b.Fatal(err)
	}
	records := make([][]byte, 1000)
	for i := range records {
		records[i] = record(signalJSON("risk", id(fmt.Sprint(i)), about(fmt.Sprintf("agent:%d", i)), `"risk":50`, `"reason":"spike to a new supplier"`))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := a.apply(&Entry{Appended: start, Record: records[i%len(records)]}); err != nil {
			b.Fatal(err)
		}
	}
}

// TestObserverIsToldAfterTheAcknowledgement: of every record once, in order, when what it
// did is in force and published.
func TestObserverIsToldAfterTheAcknowledgement(t *testing.T) {
	var w *world
	told := make(chan string, 8)
	w = newWorld(t, worldOptions{applier: ApplierConfig{Observe: func(o *Observation) {
		held := false
		if len(o.Results) > 0 {
			held = w.store.Get(o.Results[0].Key).At(start).Status == authz.Quarantined
		}
		published := w.store.AsOf() == w.applier.Progress().AsOf // would wait for ever if the lock were held
		told <- fmt.Sprint(o.ID, " ", o.Type, " ", o.Source, " ", o.Tenant, " ", o.Outcome, " ", held, published)
	}}})
	w.push(t, boss, `{"v":1,"id":"q1","type":"quarantine","entities":["agent:a"],"time":"2026-11-23T03:04:05Z"}`)
	if _, err := w.log.Append(context.Background(), [][]byte{[]byte("rubbish")}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"q1 quarantine client:boss default applied true true", " none   dead_letter false true"} {
		if got := <-told; got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	}
}
