package signals

import (
	"bytes"
	"context"
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
