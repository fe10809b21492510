package signals

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vigil/authz"
	"vigil/posture"
)

// TestEveryTypeIsInForceWhenAcknowledged pushes one signal of each type and looks at
// posture right after the answer.
func TestEveryTypeIsInForceWhenAcknowledged(t *testing.T) {
	cases := []struct {
		name    string
		body    []string // pushed one after the other
		inForce func(w *world) bool
	}{
		{"register", []string{signalJSON("register", `"class":"high-high"`, `"labels":{"role":"r"}`, `"scopes":["b","a"]`, `"code":"sha256:1"`, `"model":"m"`)},
			func(w *world) bool {
				e := w.of("agent:a")
				return e.Registered && e.Class == "high-high" && e.Labels["role"] == "r" && slices.Equal(e.Scopes, []string{"a", "b"}) && e.Code == "sha256:1" && e.Model == "m"
			}},
		{"attest pass", []string{signalJSON("attest", `"result":"pass"`)},
			func(w *world) bool { return w.of("agent:a").Attested == authz.AttestPassed }},
		{"attest fail", []string{signalJSON("attest", `"result":"fail"`)},
			func(w *world) bool { return w.of("agent:a").Attested == authz.AttestFailed }},
		{"risk", []string{signalJSON("risk", `"risk":72`)},
			func(w *world) bool { return w.of("agent:a").Risk == 72 }},
		{"quarantine", []string{signalJSON("quarantine", about("agent:a", "everything"))},
			func(w *world) bool {
				return w.of("agent:a").Status == authz.Quarantined && w.of("everything").Status == authz.Quarantined
			}},
		{"release", []string{signalJSON("quarantine"), signalJSON("release", id("2"), when(start))},
			func(w *world) bool { return w.of("agent:a").Status == authz.Active }},
		{"narrow", []string{signalJSON("narrow", `"scopes":["read"]`)},
			func(w *world) bool {
				return w.of("agent:a").Narrowed && slices.Equal(w.of("agent:a").Left, []string{"read"})
			}},
		{"narrow to nothing", []string{signalJSON("narrow", `"scopes":[]`)},
			func(w *world) bool { return w.of("agent:a").Narrowed && len(w.of("agent:a").Left) == 0 }},
		{"require_approval", []string{signalJSON("require_approval", `"actions":["pay"]`)},
			func(w *world) bool { return slices.Equal(w.of("agent:a").ApprovalFor, []string{"pay"}) }},
		{"require_approval for all", []string{signalJSON("require_approval")},
			func(w *world) bool { return slices.Equal(w.of("agent:a").ApprovalFor, []string{"*"}) }},
		{"taint", []string{signalJSON("taint")},
			func(w *world) bool { return w.of("agent:a").Tainted }},
		{"revoke", []string{signalJSON("revoke", about("session:s"))},
			func(w *world) bool { return w.of("session:s").Status == authz.Revoked }},
		{"revoke issued before", []string{signalJSON("revoke", about("user:kim"), `"issued_before":"2026-11-23T03:00:00Z"`)},
			func(w *world) bool {
				return w.of("user:kim").Status == authz.Active && w.of("user:kim").Cutoff == at("2026-11-23T03:00:00Z")
			}},
		{"decommission", []string{signalJSON("decommission")},
			func(w *world) bool { return w.of("agent:a").Status == authz.Decommissioned }},
		{"lift", []string{signalJSON("taint"), signalJSON("lift", id("2"), `"lifts":{"type":"taint","id":"INC-1"}`)},
			func(w *world) bool { return !w.of("agent:a").Tainted }},
		{"lift before what it lifts", []string{signalJSON("lift", id("2"), `"lifts":{"type":"taint","id":"INC-1"}`), signalJSON("taint")},
			func(w *world) bool { return !w.of("agent:a").Tainted }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, worldOptions{})
			if len(c.body) == 1 && c.inForce(w) {
				t.Fatal("in force before anything was said")
			}
			for _, body := range c.body {
				w.push(t, boss, body)
			}
			if !c.inForce(w) {
				t.Errorf("not in force: %+v", w.of("agent:a"))
			}
		})
	}
}

func TestReceiptSaysWhatEachSignalDid(t *testing.T) {
	w := newWorld(t, worldOptions{})
	receipt := w.push(t, boss, "["+signalJSON("quarantine", about("agent:a", "agent:b"))+","+
		signalJSON("release", id("2"), about("agent:a"), `"tenant":"acme"`)+"]")
	if got := receipt.AsOf; got != w.store.AsOf() || got != FormatAsOf(w.log.ID(), Positions{0: 2}) {
		t.Errorf("as of %s, the store %s", got, w.store.AsOf())
	}
	first, second := receipt.Results[0], receipt.Results[1]
	if first.ID != "INC-1" || first.Outcome != posture.Applied || first.Tenant != "default" || len(first.Entities) != 2 {
		t.Errorf("first: %+v", first)
	}
	if e := first.Entities[1]; e.Key.ID != "b" || e.Known || e.Record.At(start).Status != authz.Quarantined {
		t.Errorf("entity: %+v", e)
	}
	if second.Outcome != posture.NoChange || second.Tenant != "acme" {
		t.Errorf("second: %+v", second)
	}
	again := w.push(t, boss, signalJSON("quarantine", id("3"), about("agent:a", "agent:new")))
	if e := again.Results[0].Entities; !e[0].Known || e[1].Known {
		t.Errorf("known: %v, %v", e[0].Known, e[1].Known)
	}
}

// probe is a log that watches the order of things.
type probe struct {
	*MemoryLog
	durable   atomic.Int64 // records that Append has written
	delivered func(first, last int64)
	follow    func() error // instead of following, where it is set
}

func (p *probe) Append(ctx context.Context, records [][]byte) ([]Position, error) {
	positions, err := p.MemoryLog.Append(ctx, records)
	p.durable.Add(int64(len(positions)))
	return positions, err
}

func (p *probe) Follow(ctx context.Context, from Positions, deliver func([]Entry) error, caughtUp func()) error {
	if p.follow != nil {
		return p.follow()
	}
	return p.MemoryLog.Follow(ctx, from, func(entries []Entry) error {
		p.delivered(entries[0].Position.Offset, entries[len(entries)-1].Position.Offset)
		return deliver(entries)
	}, caughtUp)
}

// TestDurableThenAppliedThenPublishedThenAcknowledged looks from each step at the others:
// when a record is applied its position is not published yet, when a position is
// published everything before it is in force, and when a push is answered its position
// is published.
func TestDurableThenAppliedThenPublishedThenAcknowledged(t *testing.T) {
	var p *probe
	var w *world
	var applying, acknowledged atomic.Int64 // offset of the first of the batch being applied; acknowledged pushes
	reach := func() int64 {
		token := w.store.AsOf()
		if token == "" {
			return 0
		}
		_, at, err := ParseAsOf(token)
		if err != nil {
			t.Error(err)
		}
		return at[0]
	}
	started := false
	w = newWorld(t, worldOptions{
		idle: true,
		log: func(w *world) Log {
			p = &probe{MemoryLog: w.log}
			p.delivered = func(first, _ int64) { applying.Store(first) }
			return p
		},
		onNow: func() { // the applier is about to apply one record of the batch
			if started && reach() > applying.Load() {
				t.Errorf("position %d is published while record %d is not applied", reach(), applying.Load())
			}
			if n := acknowledged.Load(); n > applying.Load() {
				t.Errorf("%d pushes were answered while record %d is not applied", n, applying.Load())
			}
		},
	})
	started = true
	w.run(t, p, nil)
	const pushes = 500
	done := make(chan struct{})
	go func() { // published → in force
		defer close(done)
		for seen := int64(0); seen < pushes; {
			seen = reach()
			for i := range seen {
				if ref := fmt.Sprintf("agent:%d", i); w.of(ref).Status != authz.Revoked {
					t.Errorf("position %d is published, %s is %v", seen, ref, w.of(ref).Status)
					return
				}
			}
		}
	}()
	for i := range int64(pushes) {
		receipt := w.push(t, boss, signalJSON("revoke", id(fmt.Sprint(i)), about(fmt.Sprintf("agent:%d", i))))
		acknowledged.Add(1)
		if _, at, err := ParseAsOf(receipt.AsOf); err != nil || at[0] < i+1 || reach() < i+1 || p.durable.Load() < i+1 {
			t.Fatalf("push %d was answered as of %v; published %d, durable %d", i, at, reach(), p.durable.Load())
		}
	}
	<-done
}

func TestDuplicateIsAnsweredAsSuch(t *testing.T) {
	w := newWorld(t, worldOptions{})
	body := signalJSON("quarantine", about("agent:a", "agent:b"), `"reason":"r"`)
	if got := w.push(t, boss, body).Results[0].Outcome; got != posture.Applied {
		t.Fatalf("first: %v", got)
	}
	records := func() (all [2]*posture.Record) {
		for i, name := range []string{"a", "b"} {
			all[i] = w.store.Get(authz.Ref{Kind: authz.KindAgent, ID: name}.In("default"))
		}
		return all
	}
	before := records()
	w.clock.advance(time.Hour)
	// The same signal, spelt otherwise.
	spelt := " " + strings.Replace(body, `"reason":"r"`, "\t\"reason\" : \"\\u0072\"", 1)
	if got := w.push(t, boss, spelt).Results[0].Outcome; got != posture.Duplicate {
		t.Errorf("again: %v", got)
	}
	if records() != before {
		t.Error("a duplicate changed posture")
	}
	if heard := w.store.Heard(boss.Source.String()); heard != w.clock.Now() {
		t.Error("whoever sends a duplicate is alive, and was last heard at", heard)
	}
}

// TestDuplicateWaitsForTheOriginal: while the original is not in force, sending it again
// is not answered either.
func TestDuplicateWaitsForTheOriginal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		var p *probe
		w := newWorld(t, worldOptions{log: func(w *world) Log {
			p = &probe{MemoryLog: w.log, delivered: func(int64, int64) { <-gate }}
			return p
		}})
		defer w.stop()
		var answered atomic.Int64
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				w.push(t, boss, signalJSON("revoke"))
				answered.Add(1)
			})
			synctest.Wait()
		}
		if n := answered.Load(); n != 0 {
			t.Errorf("%d pushes were answered before anything was applied", n)
		}
		close(gate)
		all.Wait()
		if got := w.of("agent:a").Status; got != authz.Revoked {
			t.Errorf("status %v", got)
		}
	})
}

func TestOneIDForTwoSignalsIsAConflict(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.push(t, boss, "["+signalJSON("quarantine", `"reason":"r"`)+","+signalJSON("taint", id("2"))+"]")
	others := []string{
		signalJSON("quarantine"),
		signalJSON("release", `"reason":"r"`),
		signalJSON("quarantine", `"reason":"r"`, about("agent:b")),
		signalJSON("quarantine", `"reason":"r"`, when(start)),
		signalJSON("quarantine", `"reason":"r"`, `"tenant":"acme"`),
		signalJSON("quarantine", `"reason":"r"`, `"expires":"2027-01-01T00:00:00Z"`),
	}
	first := 0
	check := func(w *world, body string) {
		t.Helper()
		first++
		err := w.refused(t, boss, "["+signalJSON("risk", id(fmt.Sprint("new", first)), `"risk":5`)+","+body+"]")
		var conflict *ConflictError
		if !errors.Is(err, ErrConflict) || !errors.As(err, &conflict) || conflict.Index != 1 || conflict.Pointer != "/1/id" || conflict.ID != "INC-1" {
			t.Errorf("%s: %v", body, err)
		}
	}
	for _, body := range others {
		check(w, body)
	}
	// Another source may use the id. What a refused batch claimed is free again.
	w.push(t, as("edr"), others[0])
	w.push(t, boss, signalJSON("risk", id("new1"), `"risk":6`))

	// A process that has forgotten the ids finds them in what the entity keeps, where it
	// was not about others only, and a later time does not look like one that was clamped.
	w.intake.recent = newRecentIDs()
	for _, i := range []int{0, 1, 5} {
		check(w, others[i])
	}
	w.push(t, boss, signalJSON("quarantine", `"reason":"r"`))
}

// TestAClampedSignalIsNoConflictWithItself: what was dated ahead is kept with an earlier
// time; the same signal again is still the same.
func TestAClampedSignalIsNoConflictWithItself(t *testing.T) {
	w := newWorld(t, worldOptions{})
	for _, body := range []string{
		signalJSON("quarantine", when(start.Add(time.Hour))),
		signalJSON("revoke", id("2"), about("user:u"), fmt.Sprintf(`"issued_before":%q`, start.Add(4*time.Second))),
	} {
		w.push(t, boss, body)
		w.clock.advance(3 * time.Second)
		w.intake.recent = newRecentIDs()
		w.push(t, boss, body)
	}
}

// TestASignalIsNoConflictWithItselfWhereTheClockIsBehind: another replica took it, or this
// one before its clock was put right. The log dated it as it says, and this clock would not.
func TestASignalIsNoConflictWithItselfWhereTheClockIsBehind(t *testing.T) {
	w := newWorld(t, worldOptions{})
	for _, body := range []string{
		signalJSON("quarantine", when(start.Add(4*time.Second))),
		signalJSON("revoke", id("2"), about("user:u"), fmt.Sprintf(`"issued_before":%q`, start)),
	} {
		w.push(t, boss, body)
		w.clock.advance(-3 * time.Second)
		w.intake.recent = newRecentIDs()
		w.push(t, boss, body)
		w.clock.advance(3 * time.Second)
	}
}

func TestOneBadMemberOfABatchWritesNothing(t *testing.T) {
	w := newWorld(t, worldOptions{intake: IntakeConfig{DeclaredClass: func(class string) bool { return class == "c" }}})
	good := signalJSON("revoke", id("good"))
	for _, c := range []struct{ name, bad, want string }{
		{"undecodable", signalJSON("risk"), `missing_member: /1: "risk" is missing in a risk`},
		{"not authorized", signalJSON("quarantine", `"tenant":"evil"`), `client:boss does not speak for tenant "evil"`},
		{"dated ahead", signalJSON("release", when(start.Add(5*time.Second+1))), "bad_value: /1/time: is 5s ahead of this clock: a release may be 5s ahead at most"},
		{"a passed attestation dated ahead", signalJSON("attest", `"result":"pass"`, when(start.Add(time.Hour))), "bad_value: /1/time: is 1h0m0s ahead of this clock: an attest may be 5s ahead at most"},
		{"a risk dated ahead", signalJSON("risk", `"risk":5`, when(start.Add(time.Hour))), "bad_value: /1/time: is 1h0m0s ahead of this clock: a risk may be 5s ahead at most"},
		{"a registration dated ahead", signalJSON("register", `"class":"c"`, when(start.Add(time.Hour))), "bad_value: /1/time: is 1h0m0s ahead of this clock: a register may be 5s ahead at most"},
		{"a lift dated ahead", signalJSON("lift", `"lifts":{"type":"taint","id":"x"}`, when(start.Add(time.Hour))), "bad_value: /1/time: is 1h0m0s ahead of this clock: a lift may be 5s ahead at most"},
		{"a cut-off ahead", signalJSON("revoke", fmt.Sprintf(`"issued_before":%q`, start.Add(time.Minute))), "bad_value: /1/issued_before: is 1m0s ahead of this clock: what is yet to be issued cannot be revoked"},
		{"an undeclared class", signalJSON("register", `"class":"hihg"`), `bad_value: /1/class: the rules declare no class "hihg"`},
		{"nothing to overrule", signalJSON("release", `"source":"client:edr"`), "bad_value: /1/source: client:edr has said nothing about agent:a that a release could overrule"},
		{"overruling about two", signalJSON("release", `"source":"client:edr"`, about("agent:a", "agent:b")), "bad_value: /1/entities: a signal in another source's line is about one entity"},
	} {
		if err := w.refused(t, boss, "["+good+","+c.bad+"]"); err.Error() != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if got := w.of("agent:a").Status; got != authz.Active {
		t.Errorf("status %v", got)
	}
	w.push(t, boss, signalJSON("register", `"class":"anything"`, about("user:u"))) // only agents have profiles
}

func TestARefusalPointsIntoTheBatch(t *testing.T) {
	w := newWorld(t, worldOptions{})
	bad := signalJSON("quarantine", about("agent:a", "tenant:acme"))
	for body, want := range map[string]string{bad: "/entities/1", "[" + bad + "]": "/0/entities/1"} {
		var refused *RefusedError
		if err := w.refused(t, boss, body); !errors.As(err, &refused) || refused.Pointer != want {
			t.Errorf("%s: %#v", body, err)
		}
	}
}

func TestRestrictiveSignalsMayBeDatedAhead(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.push(t, boss, signalJSON("quarantine", when(start.Add(time.Hour))))
	if got := w.of("agent:a").Status; got != authz.Quarantined {
		t.Fatalf("status %v", got)
	}
	w.clock.advance(6 * time.Second)
	w.push(t, boss, signalJSON("release", id("2"), when(w.clock.Now())))
	if got := w.of("agent:a").Status; got != authz.Active {
		t.Errorf("a quarantine dated an hour ahead outlasts a release: %v", got)
	}
}

func TestOverrulingSpeaksInTheLineOfTheOther(t *testing.T) {
	w := newWorld(t, worldOptions{})
	edr, held := as("edr"), func() authz.Status { return w.of("agent:a").Status }
	w.push(t, edr, signalJSON("quarantine"))
	w.clock.advance(time.Hour)
	w.push(t, boss, signalJSON("release", id("B-1"), when(w.clock.Now())))
	if held() != authz.Quarantined {
		t.Fatal("a release in one's own line ended another's quarantine")
	}
	release := signalJSON("release", id("B-2"), `"source":"client:edr"`, when(w.clock.Now()), `"actor":"kim"`)
	if err := w.refused(t, as("other"), release); err.Error() != "client:other may not overrule client:edr" {
		t.Error(err)
	}
	if got := w.push(t, boss, release).Results[0].Outcome; got != posture.Applied || held() != authz.Active {
		t.Fatalf("overruled: %v, %v", got, held())
	}
	var overruling *posture.Fact
	for f := range w.store.Get(authz.Key{Tenant: "default", Kind: authz.KindAgent, ID: "a"}).Facts() {
		if f.Facet == posture.Hold && f.Source == "client:edr" && !f.Held {
			overruling = &f
		}
	}
	if overruling == nil || overruling.ID != "client:boss/B-2" || overruling.Actor != "kim" ||
		overruling.Time != at("2026-11-23T03:04:05Z")+1 {
		t.Fatalf("the fact: %+v", overruling)
	}
	// Again it is the same, also for a process that has forgotten it.
	w.intake.recent = newRecentIDs()
	if got := w.push(t, boss, release).Results[0].Outcome; got != posture.Duplicate {
		t.Errorf("again: %v", got)
	}
	// What the other knew only later was not overruled, though it is older than the release.
	w.push(t, edr, signalJSON("quarantine", id("late"), when(start.Add(time.Minute))))
	if held() != authz.Quarantined {
		t.Error("a release overruled what nobody had seen")
	}
}

func TestOverrulingIsReplayedAsItWasAccepted(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.push(t, as("edr"), signalJSON("risk", `"risk":90`))
	w.push(t, boss, signalJSON("risk", id("2"), `"risk":0`, `"source":"client:edr"`))
	w.push(t, as("edr"), signalJSON("quarantine", id("3")))
	again := replay(t, w.log.entries)
	if again.of("agent:a").Risk != 0 || again.store.Digest(start) != w.store.Digest(start) {
		t.Errorf("replayed: %+v", again.of("agent:a"))
	}
}

// replay applies entries to a new store, in the given order, under no authority at all.
func replay(t testing.TB, entries []Entry) *world {
	t.Helper()
	w := newWorld(t, worldOptions{idle: true})
	w.log.entries = entries
	w.run(t, w.log, nil)
	w.stop()
	return w
}

func TestPushFailsWhileNothingCanBeAccepted(t *testing.T) {
	body := signalJSON("revoke")
	sick := errors.New("disk on fire")

	w := newWorld(t, worldOptions{idle: true})
	if err := w.refused(t, boss, body); !errors.Is(err, ErrUnavailable) {
		t.Errorf("before the feed runs: %v", err)
	}
	w.run(t, w.log, nil)
	w.log.SetHealth(sick)
	if err := w.refused(t, boss, body); !errors.Is(err, ErrUnavailable) || !errors.Is(err, sick) {
		t.Errorf("with a sick log: %v", err)
	}
	w.log.SetHealth(nil)
	w.log.FailAppend(fmt.Errorf("%w: full", ErrUnavailable), false)
	if err := w.refused(t, boss, body); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("with an append that wrote nothing: %v", err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := w.intake.Push(ended, boss, []byte(body)); !errors.Is(err, ErrUnavailable) || w.written() != 0 {
		t.Errorf("with a context that has ended: %v, %d written", err, w.written())
	}
	// What failed claimed nothing: the id is free for another signal.
	w.push(t, boss, signalJSON("taint"))
	w.stop()
	if err := w.refused(t, boss, body); !errors.Is(err, ErrUnavailable) {
		t.Errorf("after the feed ended: %v", err)
	}
}

func TestUnknownOutcomeIsSaidAndSendingAgainIsSafe(t *testing.T) {
	w := newWorld(t, worldOptions{})
	for _, written := range []bool{true, false} {
		body := signalJSON("revoke", id(fmt.Sprint(written)), about(fmt.Sprintf("agent:%v", written)))
		w.log.FailAppend(errors.New("connection reset"), written)
		if _, err := w.intake.Push(context.Background(), boss, []byte(body)); !errors.Is(err, ErrUnknownOutcome) || errors.Is(err, ErrUnavailable) {
			t.Errorf("written %v: %v", written, err)
		}
		if got := w.push(t, boss, body).Results[0].Outcome; (got == posture.Duplicate) != written {
			t.Errorf("written %v, again: %v", written, got)
		}
	}
	if n := len(w.applier.mu.pushes); n != 0 {
		t.Errorf("%d records are still waited for", n)
	}
}

// TestPushNeverWaitsForEver: a caller that leaves, and a log that never delivers.
func TestPushNeverWaitsForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		w := newWorld(t, worldOptions{log: func(w *world) Log {
			return &probe{MemoryLog: w.log, delivered: func(int64, int64) { <-gate }}
		}, intake: IntakeConfig{MaxWait: time.Minute, MaxWaiting: 2}})
		defer w.stop()
		ctx, cancel := context.WithCancel(context.Background())
		var all sync.WaitGroup
		errs := make([]error, 2)
		for i, ctx := range []context.Context{ctx, context.Background()} {
			all.Go(func() { _, errs[i] = w.intake.Push(ctx, boss, []byte(signalJSON("revoke", id(fmt.Sprint(i))))) })
		}
		synctest.Wait()
		if _, err := w.intake.Push(context.Background(), boss, []byte(signalJSON("revoke", id("3")))); !errors.Is(err, ErrOverloaded) {
			t.Errorf("the third push: %v", err)
		}
		cancel()
		all.Wait() // the second ends after a minute of the bubble's clock
		if !errors.Is(errs[0], ErrUnknownOutcome) || !errors.Is(errs[0], context.Canceled) {
			t.Errorf("whose caller left: %v", errs[0])
		}
		if !errors.Is(errs[1], ErrUnknownOutcome) || !errors.Is(errs[1], context.DeadlineExceeded) {
			t.Errorf("who waited: %v", errs[1])
		}
		close(gate)
		synctest.Wait()
		if got := w.of("agent:a").Status; got != authz.Revoked {
			t.Errorf("what was sent is in force in the end: %v", got)
		}
	})
}

func TestPushHearsThatTheFeedStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("hole at offset 7")
		gate := make(chan struct{})
		w := newWorld(t, worldOptions{log: func(w *world) Log { return &brokenLog{w.log, gate, broken} }})
		var err error
		var all sync.WaitGroup
		all.Go(func() { _, err = w.intake.Push(context.Background(), boss, []byte(signalJSON("revoke"))) })
		synctest.Wait()
		before := time.Now()
		close(gate)
		all.Wait()
		w.stop()
		if waited := time.Since(before); !errors.Is(err, ErrUnknownOutcome) || waited != 0 {
			t.Errorf("the push: %v, after %v", err, waited)
		}
		if !errors.Is(w.err, broken) || !errors.Is(w.applier.Err(), broken) || !errors.Is(w.applier.Progress().Err, broken) {
			t.Errorf("run: %v, the feed: %v", w.err, w.applier.Err())
		}
		if _, err := w.intake.Push(context.Background(), boss, []byte(signalJSON("taint", id("2")))); !errors.Is(err, ErrUnavailable) || !errors.Is(err, broken) {
			t.Errorf("the next push: %v", err)
		}
		if got := w.applier.BrokenSince(); got != start {
			t.Errorf("broken since %v", got)
		}
		// Trying again in vain is the same fault.
		w.clock.advance(time.Minute)
		vain := &probe{MemoryLog: w.log, delivered: func(int64, int64) { panic("unreached") }}
		vain.follow = func() error { return broken }
		if err := w.applier.Run(context.Background(), vain, w.applier.Progress().Applied); !errors.Is(err, broken) || w.applier.BrokenSince() != start {
			t.Errorf("again: %v, since %v", err, w.applier.BrokenSince())
		}
		// It can be resumed where it stopped.
		w.run(t, w.log, w.applier.Progress().Applied)
		defer w.stop()
		synctest.Wait()
		if got := w.of("agent:a").Status; got != authz.Revoked || w.applier.Err() != nil || w.applier.BrokenSince() != 0 {
			t.Errorf("resumed: %v, %v", got, w.applier.Err())
		}
	})
}

// brokenLog stops following after gate.
type brokenLog struct {
	*MemoryLog
	gate chan struct{}
	err  error
}

func (l *brokenLog) Follow(ctx context.Context, from Positions, deliver func([]Entry) error, caughtUp func()) error {
	caughtUp()
	<-l.gate
	return l.err
}

// TestManyPushersHearOfTheirOwn: results never cross, whoever pushes what at once.
func TestManyPushersHearOfTheirOwn(t *testing.T) {
	w := newWorld(t, worldOptions{})
	var all sync.WaitGroup
	for p := range 16 {
		all.Go(func() {
			sender := as(fmt.Sprint(p))
			for i := range 50 {
				a, b := fmt.Sprintf("agent:%d-%d", p, i), fmt.Sprintf("session:%d-%d", p, i)
				receipt := w.push(t, sender, "["+signalJSON("quarantine", id(a), about(a))+","+
					signalJSON("revoke", id(b), about(b, "session:shared"))+"]")
				for j, ref := range []string{a, b} {
					r := receipt.Results[j]
					if r.ID != ref || r.Outcome != posture.Applied || r.Entities[0].Key.Ref().String() != ref {
						t.Errorf("%s: %+v", ref, r)
					}
				}
				if err := w.applier.WaitApplied(context.Background(), receipt.AsOf); err != nil {
					t.Error(err)
				}
				if w.of(a).Status != authz.Quarantined || w.of(b).Status != authz.Revoked {
					t.Errorf("%s or %s is not in force after its answer", a, b)
				}
			}
		})
	}
	all.Wait()
	p := w.applier.Progress()
	if p.Applied[0] != 1600 || p.Err != nil || !p.CaughtUp || p.Last != start || p.AsOf != w.store.AsOf() || p.Log != w.log.ID() {
		t.Errorf("progress %+v", p)
	}
	if got := p.Counts[SignalCount{"quarantine", "client:3", "applied"}]; got != 50 {
		t.Errorf("counted %d", got)
	}
}

func TestRecentIDsAreBounded(t *testing.T) {
	r := newRecentIDs()
	for i := range maxRecentIDs + 100 {
		if _, _, fresh, ok := r.claim("client:a", fmt.Sprint(i), []byte("x"), 0); !fresh || !ok {
			t.Fatalf("id %d: %v, %v", i, fresh, ok)
		}
	}
	if len(r.byID) != maxRecentIDs || len(r.order) != maxRecentIDs {
		t.Errorf("keeps %d ids in %d places", len(r.byID), len(r.order))
	}
	if _, _, fresh, ok := r.claim("client:a", fmt.Sprint(maxRecentIDs), []byte("y"), 0); fresh || ok {
		t.Errorf("a recent id for another signal: %v, %v", fresh, ok)
	}
}
