package posture

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"vigil/authz"
)

// The world of the model is small, so that facts meet: equal times, equal ends, equal
// ids with other content, lifts before and after what they lift.
const modelEnd = 40 // the largest finite instant

var modelKeys = []authz.Key{
	agent("a"), agent("b"),
	authz.Ref{Kind: authz.KindSession, ID: "a"}.In("default"),
	authz.Ref{Kind: authz.KindAgent, ID: "a"}.In("other"),
	authz.Ref{Kind: authz.KindEverything}.In("default"),
}

var anyFacet = rapid.SampledFrom([]Facet{
	Registration, Hold, Hold, Hold, Risk, Risk, Risk, Attest, Attest, Taint, ApprovalRequired, Narrow, Narrow,
	Revoke, IssuedBefore, Decommission, UnreadableSignal, Lift, Lift, Waive,
})

func drawFact(t *rapid.T) Fact { return drawFactOf(t, anyFacet.Draw(t, "facet")) }

func drawFactOf(t *rapid.T, facet Facet) Fact {
	f := Fact{
		Facet:  facet,
		Source: rapid.SampledFrom([]string{"client:soar", "issuer:idp"}).Draw(t, "source"),
		ID:     rapid.SampledFrom([]string{"1", "2", "3", "4", "5"}).Draw(t, "id"),
		Time:   authz.Instant(rapid.IntRange(1, 8).Draw(t, "time")),
		Until: rapid.SampledFrom([]authz.Instant{
			0, authz.Forever, authz.Forever, 3, 10, 20, 30, modelEnd,
		}).Draw(t, "until"),
		Reason: rapid.SampledFrom([]string{"", "x"}).Draw(t, "reason"),
	}
	names := func(of ...string) []string {
		return rapid.SliceOfN(rapid.SampledFrom(of), 0, 3).Draw(t, "names")
	}
	switch f.Facet {
	case Registration:
		f.Registration = &Registered{Class: rapid.SampledFrom([]string{"", "low", "high"}).Draw(t, "class"), Scopes: names("r", "s")}
		if rapid.Bool().Draw(t, "labelled") {
			f.Registration.Labels = map[string]string{"role": f.ID, "team": "x"}
		}
	case Hold:
		f.Held = rapid.Bool().Draw(t, "held")
	case Risk:
		f.Risk = rapid.SampledFrom([]int{0, 20, 50, 100}).Draw(t, "risk")
	case Attest:
		f.Passed = rapid.Bool().Draw(t, "passed")
	case ApprovalRequired:
		f.Actions = names("pay", "read", "*", "post")
	case Narrow:
		f.Scopes = names("r", "s", "t")
	case IssuedBefore:
		f.Cutoff = authz.Instant(rapid.IntRange(1, 4).Draw(t, "cutoff"))
	case UnreadableSignal:
		f.Record = rapid.SampledFrom([]string{"", "r", "s"}).Draw(t, "record")
	case Lift:
		f.Lifts = &Target{
			Facet:  rapid.SampledFrom([]Facet{Taint, ApprovalRequired, Narrow, UnreadableSignal, Waive}).Draw(t, "lifted facet"),
			Source: rapid.SampledFrom([]string{"client:soar", "issuer:idp"}).Draw(t, "lifted source"),
			ID:     rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "lifted id"),
		}
	}
	return f
}

func drawSignal(t *rapid.T) []Change {
	changes := make([]Change, rapid.IntRange(1, 3).Draw(t, "entities"))
	for i := range changes {
		changes[i].Key = rapid.SampledFrom(modelKeys).Draw(t, "entity")
		changes[i].Facts = make([]Fact, rapid.IntRange(1, 2).Draw(t, "facts"))
		for j := range changes[i].Facts {
			changes[i].Facts[j] = drawFact(t)
		}
	}
	return changes
}

// withdrawn is what the outcome of a signal goes by: all that the twin says, without whom
// a maximum is laid to, and with what the worst status hides.
func withdrawn(t twin, key authz.Key, now authz.Instant) any {
	say := t.at(key, now)
	say.RevokedBy, say.CutoffBy, say.RiskBy, say.AttestedBy = "", "", "", nil
	unreadable := only(of(t[key], UnreadableSignal), func(f Fact) bool { return !lifted(t[key], f) })
	return []any{
		say, len(of(t[key], Revoke)) > 0, len(of(t[key], Decommission)) > 0, ids(distinct(unreadable)),
	}
}

func reload(t interface{ Fatal(...any) }, s *Store, now authz.Instant) *Store {
	var b bytes.Buffer
	if err := s.WriteSnapshot(&b, now); err != nil {
		t.Fatal(err)
	}
	back := newStore(4, s.caps)
	if err := back.restore(bytes.NewReader(b.Bytes()), now); err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if err := back.WriteSnapshot(&again, now); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), again.Bytes()) {
		t.Fatal("a snapshot of a snapshot is another")
	}
	return back
}

// TestPostureIsWhatTheTwinSays compares the store with the twin through random
// histories: at the present and at every instant to come.
func TestPostureIsWhatTheTwinSays(t *testing.T) {
	if raceEnabled {
		t.Skip("one goroutine, many steps")
	}
	rapid.Check(t, func(t *rapid.T) {
		s, plain := newStore(4, &defaultCaps), twin{}
		var now authz.Instant = 1
		var history [][]Change
		apply := func(changes []Change) {
			before := map[authz.Key]string{}
			for _, c := range changes {
				before[c.Key] = fmt.Sprintf("%+v", withdrawn(plain, c.Key, now))
			}
			known := map[authz.Key]bool{}
			for _, c := range changes {
				known[c.Key] = s.Get(c.Key) != nil
			}
			plain.apply(changes)
			results := s.Apply(now, changes)
			for i, r := range results {
				if r.Key != changes[i].Key || r.Known != known[r.Key] || r.Record != s.Get(r.Key) {
					t.Fatalf("result %d: %+v", i, r)
				}
				if len(changes) > 1 {
					continue
				}
				after := fmt.Sprintf("%+v", withdrawn(plain, r.Key, now))
				if (after != before[r.Key]) != (r.Outcome == Applied) {
					t.Fatalf("%v, but\n%s became\n%s", r.Outcome, before[r.Key], after)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"signal": func(t *rapid.T) {
				changes := drawSignal(t)
				history = append(history, changes)
				apply(changes)
			},
			"duplicate": func(t *rapid.T) {
				if len(history) > 0 {
					apply(rapid.SampledFrom(history).Draw(t, "which"))
				}
			},
			"time": func(t *rapid.T) { now += authz.Instant(rapid.IntRange(0, 10).Draw(t, "by")) },
			"prune": func(t *rapid.T) {
				s.Prune(now)
				var held [authz.NumKinds]int
				for _, key := range modelKeys {
					if plain.at(key, now).Status != authz.Active {
						held[key.Kind]++
					}
				}
				if s.Held() != held {
					t.Fatalf("held %v; want %v", s.Held(), held)
				}
			},
			"snapshot": func(t *rapid.T) { s = reload(t, s, now) },
			"": func(t *rapid.T) {
				for _, key := range modelKeys {
					r := s.Get(key)
					for _, at := range instants(now) {
						e := r.At(at)
						if at < e.From || at >= e.Until {
							t.Fatalf("at %d: an Effective for [%d, %d)", at, e.From, e.Until)
						}
						got := said(e)
						got.ID = key.ID // of a nil record it is empty
						if d := difference(got, plain.at(key, at)); d != "" {
							t.Fatalf("%v at %d, now %d:\n%s", key, at, now, d)
						}
					}
				}
				checkCounts(t, s)
			},
		})
	})
}

// checkCounts compares the maintained counters with a walk.
func checkCounts(t *rapid.T, s *Store) {
	var known, held [authz.NumKinds]int
	unreadable := 0
	s.Walk(func(k authz.Key, r *Record) bool {
		known[k.Kind]++
		if len(r.eff.all(UnreadableSignal)) > 0 {
			unreadable++
		}
		if r.eff.Status != authz.Active {
			held[k.Kind]++
		}
		return true
	})
	if s.Len() != known || s.Held() != held || s.Unreadable() != unreadable {
		t.Fatalf("counted %v, %v, %d; walked %v, %v, %d", s.Len(), s.Held(), s.Unreadable(), known, held, unreadable)
	}
}

// TestAnyOrderReachesTheSamePosture takes one history through stores that see it in
// other orders, with repetitions, snapshots and pruning in between.
func TestAnyOrderReachesTheSamePosture(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		history := rapid.SliceOfN(rapid.Custom(drawSignal), 1, 25).Draw(t, "history")
		end := authz.Instant(rapid.IntRange(1, modelEnd+1).Draw(t, "end"))
		straight := newStore(4, &defaultCaps)
		for _, changes := range history {
			straight.Apply(end, changes)
		}
		want := straight.Digest(end)

		repeated := slices.Concat(history, rapid.SliceOf(rapid.SampledFrom(history)).Draw(t, "repetitions"))
		shuffled := rapid.Permutation(repeated).Draw(t, "order")
		s := newStore(4, &defaultCaps)
		now := authz.Instant(1)
		for _, changes := range shuffled {
			now = min(end, now+authz.Instant(rapid.IntRange(0, 3).Draw(t, "time")))
			switch rapid.IntRange(0, 9).Draw(t, "between") {
			case 0:
				s.Prune(now)
			case 1:
				s = reload(t, s, now)
			}
			s.Apply(now, changes)
		}
		if s.Digest(end) != want {
			t.Fatalf("at %d: other facts:\n%s\nwant\n%s", end, dump(s), dump(straight))
		}
		for _, at := range instants(end) {
			if s.Digest(at) != straight.Digest(at) {
				t.Fatalf("other facts at %d", at)
			}
			for _, key := range modelKeys {
				got, wanted := said(s.Get(key).At(at)), said(straight.Get(key).At(at))
				got.ID, wanted.ID = key.ID, key.ID // one store may have forgotten the entity
				if d := difference(got, wanted); d != "" {
					t.Fatalf("%v at %d:\n%s", key, at, d)
				}
			}
		}
		if s.Prune(end); s.Digest(end) != want || reload(t, s, end).Digest(end) != want {
			t.Fatal("pruning or a snapshot changed the digest")
		}
	})
}

// instants are now and those of the future around which facts end.
func instants(now authz.Instant) []authz.Instant {
	return append([]authz.Instant{now}, only([]authz.Instant{3, 9, 10, 20, 29, 30, modelEnd, modelEnd + 1},
		func(at authz.Instant) bool { return at > now })...)
}

func dump(s *Store) (out string) {
	for _, key := range modelKeys {
		for f := range s.Get(key).Facts() {
			out += fmt.Sprintf("%v %+v\n", key, f)
		}
	}
	return out
}
