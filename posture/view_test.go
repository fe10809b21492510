package posture

import (
	"testing"

	"vigil/authz"
)

func risk(value int, at authz.Instant) Fact {
	return Fact{Facet: Risk, Source: "client:soar", ID: "r", Time: at, Risk: value}
}

// viewOf reads keys until what it read is confirmed.
func viewOf(s *Store, keys ...authz.Key) *View {
	v := new(View)
	for {
		v.Reset(s)
		for _, key := range keys {
			v.Read(key)
		}
		if v.Confirm() {
			return v
		}
	}
}

func TestAStampEndsWithAnyChangeOfWhatWasRead(t *testing.T) {
	a, b, unborn := agent("a"), agent("b"), agent("unborn")
	foreign := authz.Ref{Kind: authz.KindAgent, ID: "x"}.In("tenant without entities")
	short := Fact{Facet: Hold, Source: "client:soar", ID: "q", Time: 1, Until: 10, Held: true}
	for _, c := range []struct {
		name  string
		do    func(s *Store)
		stays bool
	}{
		{"nothing", func(*Store) {}, true},
		{"another entity", func(s *Store) { s.Apply(2, []Change{{b, []Fact{risk(5, 9)}}}) }, true},
		{"a duplicate", func(s *Store) { s.Apply(2, []Change{{a, []Fact{short}}}) }, true},
		{"a superseded fact", func(s *Store) { s.Apply(2, []Change{{a, []Fact{risk(1, 0)}}}) }, true},
		{"a fact that says nothing", func(s *Store) { s.Apply(2, []Change{{unborn, []Fact{{Facet: Lift}}}}) }, true},
		{"pruning that finds nothing", func(s *Store) { s.Prune(9) }, true},
		{"a signal", func(s *Store) { s.Apply(2, []Change{{a, []Fact{risk(5, 9)}}}) }, false},
		{"a signal about several", func(s *Store) { s.Apply(2, []Change{{b, []Fact{risk(5, 9)}}, {a, []Fact{risk(5, 9)}}}) }, false},
		{"a birth", func(s *Store) { s.Apply(2, []Change{{unborn, []Fact{risk(5, 9)}}}) }, false},
		{"the birth of a tenant", func(s *Store) { s.Apply(2, []Change{{foreign, []Fact{risk(5, 9)}}}) }, false},
		{"pruning that forgets a fact", func(s *Store) { s.Prune(10) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := NewStore()
			s.Apply(1, []Change{{a, []Fact{risk(3, 3), short}}, {b, []Fact{risk(3, 3)}}})
			v := viewOf(s, a, unborn, foreign)
			stamp := stampOf(v)
			if !stamp.Current() || !v.Confirm() {
				t.Fatal("stale from the start")
			}
			c.do(s)
			if stamp.Current() != c.stays {
				t.Errorf("current: %v", stamp.Current())
			}
			if v.Confirm() != c.stays {
				t.Errorf("confirmed: %v", v.Confirm())
			}
		})
	}
}

// TestTheCellOfAnEntityBeingBornIsWatched is the case that a birth counter alone would
// miss: the counter was loaded after the bump, and the record is not stored yet.
func TestTheCellOfAnEntityBeingBornIsWatched(t *testing.T) {
	s := NewStore()
	a := agent("a")
	st := s.begin(a)
	st.next, _ = s.joined(1, a.ID, st.next, []Fact{risk(5, 1)}, "")
	c := s.bear(&st)
	v := new(View)
	v.Reset(s)
	if v.Read(a) != nil || !v.Confirm() {
		t.Fatal("in force before it was stored")
	}
	stamp := stampOf(v)
	if !stamp.Current() {
		t.Fatal("stale before it was stored")
	}
	c.rec.Store(st.next)
	if v.Confirm() || stamp.Current() {
		t.Error("the birth went unnoticed")
	}
}

// TestARecordThatWaitsMeansItsPredecessor holds a signal about two entities between
// its stores and its commit.
func TestARecordThatWaitsMeansItsPredecessor(t *testing.T) {
	s := NewStore()
	a, b := agent("a"), agent("b")
	s.Apply(1, []Change{{a, []Fact{risk(1, 1)}}, {b, []Fact{risk(1, 1)}}})
	sa := s.begin(a)
	old := sa.prev
	sa.next, _ = s.joined(1, a.ID, sa.next, []Fact{risk(2, 2)}, "")
	word := new(commit)
	sa.next.pending.Store(&pending{word: word, prev: old})

	before := viewOf(s, a, b)
	stampBefore := stampOf(before)
	sa.cell.rec.Store(sa.next)
	during := new(View)
	during.Reset(s)
	if during.Read(a) != old || s.Get(a) != old {
		t.Fatal("a record that waits was read")
	}
	during.Read(b)
	stampDuring := stampOf(during)
	if !before.Confirm() || !during.Confirm() {
		t.Error("moved before the commit")
	}
	word.done.Store(true)
	if before.Confirm() || during.Confirm() {
		t.Error("the commit is not a move")
	}
	if s.Get(a) != sa.next {
		t.Error("not in force after the commit")
	}
	after := viewOf(s, a, b)
	stampAfter := stampOf(after)
	sa.next.pending.Store(nil)
	if !after.Confirm() || !stampAfter.Current() {
		t.Error("clearing what the record waited for is a move")
	}
	if stampBefore.Current() || stampDuring.Current() {
		t.Error("a stamp of the predecessor is current after the commit")
	}
}

// TestADeadRecordIsAnAbsence holds an entity between its death and its removal, and
// lets it be born again.
func TestADeadRecordIsAnAbsence(t *testing.T) {
	s := NewStore()
	a := agent("a")
	s.Apply(1, []Change{{a, []Fact{risk(1, 1)}}})
	st := s.begin(a)
	alive := stampOf(viewOf(s, a))
	st.cell.rec.Store(dead)
	v := new(View)
	v.Reset(s)
	if v.Read(a) != nil || s.Get(a) != nil || !v.Confirm() {
		t.Fatal("a dead record was read")
	}
	stamp := stampOf(v)
	if alive.Current() || !stamp.Current() {
		t.Fatal("the death went unnoticed")
	}
	for i := range s.shards {
		sh := &s.shards[i]
		for j := range sh.table.Load().slots {
			if sh.table.Load().slots[j].Load() == st.cell {
				s.remove(sh, sh.table.Load(), j)
			}
		}
	}
	if !stamp.Current() {
		t.Error("the removal is a change")
	}
	s.Apply(1, []Change{{a, []Fact{risk(1, 1)}}})
	if stamp.Current() || v.Confirm() || alive.Current() {
		t.Error("a rebirth went unnoticed")
	}
}

func TestReadingAllocatesNothing(t *testing.T) {
	s := NewStore()
	a, everything := agent("a"), authz.Ref{Kind: authz.KindEverything}.In("")
	s.Apply(1, []Change{
		{a, []Fact{registered("r", "client:cd", 1, "high"), risk(3, 3)}},
		{everything, []Fact{risk(1, 1)}},
	})
	keys := []authz.Key{a, agent("unborn"), everything, authz.Ref{Kind: authz.KindTenant, ID: "default"}.In("default")}
	v := new(View)
	stamp := stampOf(viewOf(s, keys...))
	if n := testing.AllocsPerRun(100, func() {
		v.Reset(s)
		for _, key := range keys {
			if v.Read(key).At(5).Risk > 100 {
				t.Fatal("risk")
			}
		}
		if !v.Confirm() || !stamp.Current() {
			t.Fatal("moved")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestPruneRenewsWhatIsReady: past its interval a record is computed at each reading;
// Prune ends that.
func TestPruneRenewsWhatIsReady(t *testing.T) {
	s := newStore(4, &defaultCaps)
	a := agent("a")
	lapsing := registered("r", "client:cd", 1, "high")
	lapsing.Until = 10 // stays, and means unregistered
	s.Apply(1, []Change{{a, []Fact{lapsing}}})
	reading := func() float64 { return testing.AllocsPerRun(10, func() { s.Get(a).At(10) }) }
	if reading() == 0 {
		t.Fatal("ready for a time that was not known")
	}
	s.Prune(10)
	if n := reading(); n != 0 || s.Get(a).At(10).Registered {
		t.Errorf("%v allocations; registered: %v", n, s.Get(a).At(10).Registered)
	}
}

func stampOf(v *View) *Stamp {
	s := new(Stamp)
	v.Stamp(s)
	return s
}
