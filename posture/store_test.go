package posture

import (
	"bytes"
	"testing"

	"vigil/authz"
)

func agent(id string) authz.Key { return authz.Ref{Kind: authz.KindAgent, ID: id}.In("default") }

func registered(id, source string, at authz.Instant, class string) Fact {
	return Fact{Facet: Registration, Source: source, ID: id, Time: at,
		Registration: &Registered{Class: class, Labels: map[string]string{"role": "invoice-agent"}, Scopes: []string{"b", "a"}}}
}

func TestRegisterQuarantineReleaseRevoke(t *testing.T) {
	s := NewStore()
	a := agent("invoice-agent")
	apply := func(f Fact) Result { return s.Apply(100, []Change{{Key: a, Facts: []Fact{f}}})[0] }
	hold := func(id string, at authz.Instant, held bool) Fact {
		return Fact{Facet: Hold, Source: "client:soar", ID: id, Time: at, Held: held}
	}
	steps := []struct {
		fact    Fact
		outcome Outcome
		known   bool
		status  authz.Status
	}{
		{registered("r1", "client:cd", 1, "high-high"), Applied, false, authz.Active},
		{registered("r1", "client:cd", 1, "high-high"), Duplicate, true, authz.Active},
		{registered("r0", "client:cd", 0, "low"), Superseded, true, authz.Active},
		{hold("q1", 10, true), Applied, true, authz.Quarantined},
		{hold("q1", 10, true), Duplicate, true, authz.Quarantined},
		{hold("q0", 9, false), Superseded, true, authz.Quarantined},
		{hold("q2", 11, false), Applied, true, authz.Active},
		{hold("q1", 10, true), Superseded, true, authz.Active},
		{Fact{Facet: Revoke, Source: "client:soar", ID: "x", Time: 12}, Applied, true, authz.Revoked},
		{hold("q3", 13, true), Applied, true, authz.Revoked},
		{Fact{Facet: Decommission, Source: "client:cd", ID: "d", Time: 14}, Applied, true, authz.Decommissioned},
		{Fact{Facet: Taint, Source: "client:dlp", ID: "t", Time: 14}, Applied, true, authz.Decommissioned},
		{Fact{Facet: Lift, Source: "client:dlp", ID: "l", Time: 15, Lifts: &Target{Taint, "client:dlp", "t"}}, Applied, true, authz.Decommissioned},
		{Fact{Facet: Taint, Source: "client:dlp", ID: "t", Time: 14}, Lifted, true, authz.Decommissioned},
	}
	for i, step := range steps {
		r := apply(step.fact)
		if r.Outcome != step.outcome || r.Known != step.known {
			t.Errorf("step %d: %v, known %v; want %v, %v", i, r.Outcome, r.Known, step.outcome, step.known)
		}
		e := s.Get(a).At(100)
		if e.Status != step.status {
			t.Errorf("step %d: %v; want %v", i, e.Status, step.status)
		}
		if !e.Registered || e.Class != "high-high" || e.ID != "invoice-agent" || len(e.Scopes) != 2 || e.Scopes[0] != "a" {
			t.Errorf("step %d: %+v", i, e.Standing)
		}
	}
	if s.Get(a).At(100).Tainted {
		t.Error("tainted after the lift")
	}
	var b bytes.Buffer
	if err := s.WriteSnapshot(&b, 100); err != nil {
		t.Fatal(err)
	}
	back, err := ReadSnapshot(bytes.NewReader(b.Bytes()), 100)
	if err != nil {
		t.Fatal(err)
	}
	if back.Digest(100) != s.Digest(100) {
		t.Error("the snapshot has another digest")
	}
	if s.Len()[authz.KindAgent] != 1 || s.Held()[authz.KindAgent] != 1 {
		t.Error(s.Len(), s.Held())
	}
}

// TestAKeyOfNoKindDoesNothing: it would be in snapshots that nobody could read.
func TestAKeyOfNoKindDoesNothing(t *testing.T) {
	s := newStore(4, &defaultCaps)
	for _, kind := range []authz.Kind{authz.NoKind, authz.Kind(authz.NumKinds), 255} {
		key := authz.Key{Tenant: "default", Kind: kind, ID: "x"}
		r := s.Apply(1, []Change{{key, []Fact{risk(1, 1)}}, {agent("a"), []Fact{risk(1, 1)}}})
		if r[0].Outcome != NoChange || r[0].Record != nil || r[1].Record == nil || s.Get(key) != nil {
			t.Errorf("%+v", r)
		}
	}
	reload(t, s, 1)
}

// TestChangesOfOneEntityInOneSignalAddUp gives several changes the same key.
func TestChangesOfOneEntityInOneSignalAddUp(t *testing.T) {
	s := newStore(4, &defaultCaps)
	a, b := agent("a"), agent("b")
	r := s.Apply(1, []Change{{a, []Fact{risk(1, 1)}}, {b, []Fact{risk(1, 1)}}, {a, []Fact{risk(2, 2)}}, {a, []Fact{risk(2, 2)}}})
	for i, want := range []Outcome{Applied, Applied, Applied, Duplicate} {
		if r[i].Outcome != want || r[i].Known || r[i].Record != s.Get(r[i].Key) {
			t.Errorf("%d: %+v", i, r[i])
		}
	}
	if s.Get(a).At(1).Risk != 2 || s.Len()[authz.KindAgent] != 2 {
		t.Error(s.Get(a).At(1).Risk, s.Len())
	}
}

// TestALiftKillsForGood: whatever its own end says, before or after what it lifts, and
// after pruning.
func TestALiftKillsForGood(t *testing.T) {
	s := newStore(4, &defaultCaps)
	a := agent("a")
	taint := Fact{Facet: Taint, Source: "client:dlp", ID: "t", Time: 9}
	s.Apply(1, []Change{{a, []Fact{{Facet: Lift, Source: "client:x", ID: "l", Time: 1, Until: 5, Lifts: &Target{Taint, "client:dlp", "t"}}}}})
	s.Prune(10)
	s = reload(t, s, 10)
	if r := s.Apply(10, []Change{{a, []Fact{taint}}}); r[0].Outcome != Lifted || s.Get(a).At(10).Tainted {
		t.Error(r[0].Outcome, s.Get(a).At(10).Tainted)
	}
	// Another fact under the same id is dead as well; one of another source is not.
	taint.Reason = "again"
	other := taint
	other.Source = "client:other"
	s.Apply(10, []Change{{a, []Fact{taint, other}}})
	if by := s.Get(a).At(10).TaintedBy(); len(by) != 1 || by[0].Source != "client:other" {
		t.Errorf("%+v", by)
	}
}

// TestOfTooManyLiftsTheNewestAreKept: they are the likeliest to be met by a redelivery.
func TestOfTooManyLiftsTheNewestAreKept(t *testing.T) {
	s := newStore(4, &smallCaps)
	a := agent("a")
	for i, id := range []string{"2", "3", "1"} {
		s.Apply(1, []Change{{a, []Fact{{Facet: Lift, Source: "client:x", ID: "l", Time: []authz.Instant{2, 3, 1}[i], Lifts: &Target{Taint, "client:dlp", id}}}}})
	}
	for _, id := range []string{"2", "3"} {
		if r := s.Apply(1, []Change{{a, []Fact{{Facet: Taint, Source: "client:dlp", ID: id, Time: 1}}}}); r[0].Outcome != Lifted {
			t.Error(id, r[0].Outcome)
		}
	}
}

// TestAnEarlierInstantIsNotReadFromWhatIsReady asks a record about a time before that at
// which it was made.
func TestAnEarlierInstantIsNotReadFromWhatIsReady(t *testing.T) {
	s := newStore(4, &defaultCaps)
	a := agent("a")
	s.Apply(20, []Change{{a, []Fact{{Facet: Hold, Source: "client:x", ID: "q", Time: 1, Until: 10, Held: true}}}})
	for now, want := range map[authz.Instant]authz.Status{5: authz.Quarantined, 9: authz.Quarantined, 10: authz.Active, 30: authz.Active} {
		if e := s.Get(a).At(now); e.Status != want || e.From > now || e.Until <= now {
			t.Errorf("at %d: %v in [%d, %d)", now, e.Status, e.From, e.Until)
		}
	}
}
