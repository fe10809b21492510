package signals

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"vigil/authz"
	"vigil/posture"
)

// readLate applies a record by a version that cannot read it, and gives what a version that
// can makes of the snapshot of that. The log was trimmed meanwhile: whoever follows it finds
// nothing of the signal there.
func readLate(t *testing.T, record []byte) *posture.Store {
	t.Helper()
	old := newWorld(t, worldOptions{})
	testHookRead = func(*Entry) { panic("this version does not know it") }
	old.append(t, record)
	testHookRead = nil
	if got := old.of("agent:a").Status; got != authz.Unreadable {
		t.Fatalf("status %v", got)
	}
	var snapshot bytes.Buffer
	if err := old.store.WriteSnapshot(&snapshot, start); err != nil {
		t.Fatal(err)
	}
	store, err := posture.ReadSnapshot(&snapshot, start)
	if err != nil {
		t.Fatal(err)
	}
	now := func() authz.Instant { return start }
	a, err := NewApplier(ApplierConfig{Store: store, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx, NewMemoryLog(now), nil) }()
	<-a.CaughtUp()
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	return store
}

var agentA = authz.Ref{Kind: authz.KindAgent, ID: "a"}.In(authz.DefaultTenant)

// TestAVersionThatReadsItAppliesWhatItHeld: the record outlives the log in a snapshot,
// and what comes of it is what a reader that knew it at once has.
func TestAVersionThatReadsItAppliesWhatItHeld(t *testing.T) {
	revoke := record(signalJSON("revoke"))
	store := readLate(t, revoke)
	known := newWorld(t, worldOptions{})
	known.append(t, revoke)
	if got := store.Get(agentA).At(start).Status; got != authz.Revoked {
		t.Errorf("status %v, want revoked", got)
	}
	if store.Digest(start) != known.store.Digest(start) {
		t.Error("a late reader has another posture than one that read it at once")
	}
}

// What can be read by now and yet cannot be applied must not end what it held: that would
// let go of an entity for a reason that nobody has seen.
func TestWhatIsReadLateAndCannotBeAppliedStaysHeld(t *testing.T) {
	store := readLate(t, record(signalJSON("release", `"time":"2027-11-23T09:00:00Z"`))) // far ahead of the log's time
	if got := store.Get(agentA).At(start).Status; got != authz.Unreadable {
		t.Errorf("status %v, want unreadable", got)
	}
}

// TestARollingUpgradeDropsNoRevocation: two replicas follow one log, one of them of a version
// that does not know what the other's version writes. Whatever that revokes is held where it
// cannot be read; what both know is the same on both; and once the older one is replaced,
// from its own snapshot, both have one posture.
func TestARollingUpgradeDropsNoRevocation(t *testing.T) {
	older, newer := newWorld(t, worldOptions{}), newWorld(t, worldOptions{})
	defer func() { testHookRead = nil }()
	of := func(kind string, i int) string { return fmt.Sprintf("session:%s-%d", kind, i) }
	for i := range 20 {
		both := record(signalJSON("revoke", id(of("both", i)), about(of("both", i))))
		late := record(signalJSON("revoke", id(of("late", i)), about(of("late", i), "agent:a")))
		testHookRead = func(e *Entry) {
			if bytes.Equal(e.Record, late) {
				panic("this version does not know it")
			}
		}
		older.append(t, both, late)
		testHookRead = nil
		newer.append(t, both, late)
		for ref, want := range map[string]authz.Status{of("both", i): authz.Revoked, of("late", i): authz.Unreadable} {
			if got := older.of(ref).Status; got != want {
				t.Fatalf("the older version says %v of %s, want %v", got, ref, want)
			}
			if got := newer.of(ref).Status; got != authz.Revoked {
				t.Fatalf("the newer version says %v of %s", got, ref)
			}
		}
	}
	older.stop()
	var snapshot bytes.Buffer
	if err := older.store.WriteSnapshot(&snapshot, start); err != nil {
		t.Fatal(err)
	}
	store, err := posture.ReadSnapshot(&snapshot, start)
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewApplier(ApplierConfig{Store: store, Now: older.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	upgraded := &world{log: older.log, store: store, applier: a}
	upgraded.run(t, older.log, older.applier.Progress().Applied)
	upgraded.stop()
	if store.Digest(start) != newer.store.Digest(start) {
		t.Error("the replica that was upgraded has another posture than the one that was new")
	}
}
