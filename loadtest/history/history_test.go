package history

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Hand-made histories: sig and dec are short for what a table needs.
type option func(*Signal)

func sig(id string, begun, acknowledged Time, held bool, refs ...string) Signal {
	return Signal{ID: id, Source: "client:soar", Entities: refs, Held: held, At: int64(begun), Begun: begun, Acknowledged: acknowledged}
}

func with(s Signal, changes ...option) Signal {
	for _, change := range changes {
		change(&s)
	}
	return s
}

func about(refs ...string) option { return func(s *Signal) { s.Entities = refs } }
func at(time int64) option        { return func(s *Signal) { s.At = time } }
func position(n uint64) option    { return func(s *Signal) { s.Position = n } }
func source(name string) option   { return func(s *Signal) { s.Source = name } }
func until(t Time) option         { return func(s *Signal) { s.Until = t } }
func revoked() option             { return func(s *Signal) { s.Facet, s.Held = Revoke, false } }
func item(outcome string, refs ...string) Item {
	return Item{Question: strings.Join(refs, " "), Entities: refs, Outcome: outcome}
}

func dec(id uint64, start, end Time, items ...Item) Decision {
	return Decision{ID: id, Start: start, End: end, Items: items}
}

func asOf(d Decision, n uint64) Decision { d.AsOf = n; return d }

const a, b, s1 = "agent:a", "agent:b", "session:s"

// z is required, and may be silent for 50.
const z = "source:client:z"

func beat(id string, begun, acknowledged, heard Time) Signal {
	return Signal{ID: id, Source: "client:z", Entities: []string{z}, Facet: Heartbeat, Heard: heard, Begun: begun, Acknowledged: acknowledged}
}

func waive(id string, begun, acknowledged, until Time) Signal {
	return Signal{ID: id, Source: "client:soar", Entities: []string{z}, Facet: Waive, Begun: begun, Acknowledged: acknowledged, Until: until}
}

func lift(id string, begun, acknowledged Time, of string) Signal {
	return Signal{ID: id, Source: "client:soar", Entities: []string{z}, Facet: Lift, Lifts: of, Begun: begun, Acknowledged: acknowledged}
}

func TestHandMadeHistories(t *testing.T) {
	fresh := func(it Item, outcome string) Item { it.Fresh = outcome; return it }
	valid := func(it Item, until Time) Item { it.Until = until; return it }
	again := func(it Item) Item { it.Recomputed = true; return it }
	for _, tc := range []struct {
		name      string
		signals   []Signal
		decisions []Decision
		want      Property // of the last decision; all others are right
		tells     string   // what the story says
	}{
		{"nothing happened", nil, []Decision{dec(1, 1, 2, item(Allow, a))}, None, ""},
		{"denied after the acknowledgement", []Signal{sig("q", 1, 5, true, a)}, []Decision{dec(1, 6, 7, item(Deny, a))}, None, ""},
		{"allowed while the signal is under way", []Signal{sig("q", 1, 5, true, a)}, []Decision{dec(1, 4, 9, item(Allow, a))}, None, ""},
		{"denied while the signal is under way", []Signal{sig("q", 1, 5, true, a)}, []Decision{dec(1, 2, 3, item(Deny, a))}, None, ""},
		{"a call that begins with the acknowledgement's instant is after it", []Signal{sig("q", 1, 5, true, a)}, []Decision{dec(1, 5, 6, item(Allow, a))}, C1, "withdrawn"},
		{"never acknowledged: either is right", []Signal{sig("q", 1, 0, true, a)}, []Decision{dec(1, 100, 101, item(Allow, a)), dec(2, 102, 103, item(Deny, a))}, None, ""},

		{"C1: allowed after the acknowledgement", []Signal{sig("q", 1, 5, true, a)}, []Decision{dec(1, 6, 7, item(Allow, a))}, C1, "decision 1 allows what q had withdrawn"},
		{"C1: of two entities one is held", []Signal{sig("q", 1, 5, true, s1)}, []Decision{dec(1, 6, 7, item(Allow, a, s1))}, C1, "q"},
		{"C1: two sources hold, one lets go", []Signal{sig("q", 1, 2, true, a), with(sig("r", 1, 2, true, a), source("client:other")), sig("f", 3, 4, false, a)},
			[]Decision{dec(1, 6, 7, item(Allow, a))}, C1, "r"},
		{"C1: a short hold on top of a lasting one", []Signal{sig("q", 1, 2, true, a), with(sig("q2", 3, 4, true, a), until(10))},
			[]Decision{dec(1, 5, 6, item(Deny, a)), dec(2, 11, 12, item(Deny, a)), dec(3, 13, 14, item(Allow, a))}, C5, "decision 3"},
		{"the hold has ended", []Signal{with(sig("q", 1, 2, true, a), until(10))}, []Decision{dec(1, 5, 6, item(Deny, a)), dec(2, 11, 12, item(Allow, a))}, None, ""},
		{"the hold ends during the call", []Signal{with(sig("q", 1, 2, true, a), until(10))}, []Decision{dec(1, 9, 11, item(Allow, a)), dec(2, 9, 11, item(Deny, a))}, None, ""},

		{"C2: denied after the release", []Signal{sig("q", 1, 2, true, a), sig("f", 3, 4, false, a)}, []Decision{dec(1, 6, 7, item(Deny, a))}, C2, "still answers as before f"},
		{"C2: a denial that nothing explains", nil, []Decision{dec(1, 6, 7, item(Deny, a))}, C2, "no instant"},
		{"C2: another fresh answer", nil, []Decision{dec(1, 6, 7, fresh(item(Allow, a), Deny))}, C2, "a fresh evaluation says deny"},
		{"the fresh answer is the same", nil, []Decision{dec(1, 6, 7, fresh(item(Allow, a), Allow))}, None, ""},

		{"C3: held for another's quarantine", []Signal{sig("q", 1, 2, true, b)}, []Decision{dec(1, 6, 7, item(Deny, a))}, C3, "as if q were about"},
		{"C3: computed again for another's signal", []Signal{sig("q", 4, 5, true, b)}, []Decision{dec(1, 1, 2, item(Allow, a)), dec(2, 6, 7, again(item(Allow, a)))}, C3, "computed again"},
		{"computed again for its own", []Signal{sig("f", 4, 5, false, a)}, []Decision{dec(1, 1, 2, item(Allow, a)), dec(2, 6, 7, again(item(Allow, a)))}, None, ""},

		{"C5: seen denied, then allowed, before any acknowledgement", []Signal{sig("q", 1, 20, true, a)},
			[]Decision{dec(1, 2, 3, item(Deny, a)), dec(2, 4, 5, item(Allow, a))}, C5, "allows again"},
		{"two calls that overlap may see it in either order", []Signal{sig("q", 1, 20, true, a)},
			[]Decision{dec(1, 2, 5, item(Deny, a)), dec(2, 4, 6, item(Allow, a))}, None, ""},
		{"C5: a revocation comes undone", []Signal{with(sig("r", 1, 2, false, s1), revoked()), sig("f", 3, 4, false, s1)},
			[]Decision{dec(1, 5, 6, item(Deny, s1)), dec(2, 8, 9, item(Allow, s1))}, C5, "allows again"},
		{"C5: an older release that came later", []Signal{with(sig("q", 1, 2, true, a), at(10)), with(sig("f", 3, 4, false, a), at(5))},
			[]Decision{dec(1, 8, 9, item(Allow, a))}, C5, "older signal that came later"},
		{"an older release that came later changes nothing", []Signal{with(sig("q", 1, 2, true, a), at(10)), with(sig("f", 3, 4, false, a), at(5))},
			[]Decision{dec(1, 8, 9, item(Deny, a))}, None, ""},
		{"C5: of one event time the quarantine speaks", []Signal{with(sig("q", 1, 2, true, a), at(10)), with(sig("f", 3, 4, false, a), at(10))},
			[]Decision{dec(1, 8, 9, item(Allow, a))}, C5, "undo q"},

		{"C8: a batch of two instants", []Signal{sig("q", 1, 9, true, a, b)}, []Decision{dec(1, 2, 3, item(Allow, a), item(Deny, b))}, C8, "no one instant"},
		{"C8: a decision that mixes its records", []Signal{sig("qa", 1, 2, true, a), sig("qs", 3, 10, true, s1), sig("fa", 11, 20, false, a)},
			[]Decision{dec(1, 4, 15, item(Allow, a, s1))}, C8, "no one instant"},
		{"the same, while the second may be late", []Signal{sig("qa", 1, 2, true, a), sig("qs", 3, 30, true, s1), sig("fa", 11, 20, false, a)},
			[]Decision{dec(1, 4, 15, item(Allow, a, s1))}, None, ""},
		{"C8: the signals of before with the now of after", []Signal{with(sig("q", 1, 2, true, a), until(10)), with(sig("q2", 5, 6, true, a), source("client:other"))},
			[]Decision{dec(1, 4, 15, item(Allow, a))}, C8, "no one instant"},
		{"the same, while the second may be late", []Signal{with(sig("q", 1, 2, true, a), until(10)), with(sig("q2", 5, 11, true, a), source("client:other"))},
			[]Decision{dec(1, 4, 15, item(Allow, a))}, None, ""},
		{"C8: older than what was acknowledged", []Signal{with(sig("q", 1, 2, true, b), position(7))}, []Decision{asOf(dec(1, 5, 6, item(Allow, a)), 6)}, C8, "position 6, though 7"},
		{"C8: names what it does not know", []Signal{with(sig("q", 1, 20, true, a), position(7))}, []Decision{asOf(dec(1, 5, 6, item(Allow, a)), 7)}, C8, "does not know"},
		{"older while it is under way", []Signal{with(sig("q", 1, 20, true, a), position(7))}, []Decision{asOf(dec(1, 5, 6, item(Allow, a)), 6)}, None, ""},
		{"C8: older than demanded", nil, []Decision{{ID: 1, Start: 1, End: 2, AsOf: 3, AtLeast: 4, Items: []Item{item(Allow, a)}}}, C8, "demanded"},
		{"C10: never heard", nil, []Decision{dec(1, 1, 2, item(Allow, a, z))}, C10, "never heard"},
		{"stopped by a silence", nil, []Decision{dec(1, 1, 2, item(Deny, a, z))}, None, ""},
		{"heard", []Signal{beat("h", 1, 5, 3)}, []Decision{dec(1, 6, 7, item(Allow, a, z)), dec(2, 51, 52, item(Allow, a, z)), dec(3, 53, 54, item(Deny, a, z))}, None, ""},
		{"C10: allowed from when the source is silent", []Signal{beat("h", 1, 5, 3)}, []Decision{dec(1, 53, 54, item(Allow, a, z))}, C10, "52ns  without another, source:client:z is silent"},
		{"it falls silent during the call", []Signal{beat("h", 1, 5, 3)}, []Decision{dec(1, 52, 54, item(Allow, a, z)), dec(2, 52, 54, item(Deny, a, z))}, None, ""},
		{"C10: the silence of a source that was heard goes unnoticed, while another is", []Signal{beat("h", 1, 5, 3), with(beat("o", 60, 61, 60), about("source:client:o"))},
			[]Decision{dec(1, 70, 71, item(Allow, a, z))}, C10, "fallen silent"},
		{"the silence of a source that is not needed", nil, []Decision{dec(1, 1, 2, item(Allow, a))}, None, ""},
		{"C10: stopped though the source was heard", []Signal{beat("h", 1, 5, 3)}, []Decision{dec(1, 6, 7, item(Deny, a, z))}, C10, "a silence that h had ended"},
		{"C10: stopped though it was heard again", []Signal{beat("h", 1, 5, 3), beat("h2", 60, 64, 60)},
			[]Decision{dec(1, 55, 56, item(Deny, a, z)), dec(2, 65, 66, item(Deny, a, z))}, C10, "a silence that h2 had ended"},
		{"an earlier heartbeat that came later says nothing", []Signal{beat("h", 1, 5, 40), beat("late", 60, 61, 10)},
			[]Decision{dec(1, 89, 89, item(Allow, a, z)), dec(2, 90, 91, item(Allow, a, z))}, C10, "fallen silent"},
		{"C10: stopped, which another's quarantine does not explain", []Signal{beat("h", 1, 5, 3), sig("q", 1, 2, true, b)}, []Decision{dec(1, 6, 7, item(Deny, a, z))}, C10, "h had ended"},
		{"between beginning and acknowledgement the log took it at any time", []Signal{beat("h", 10, 20, 0)},
			[]Decision{dec(1, 21, 22, item(Allow, a, z)), dec(2, 60, 61, item(Deny, a, z)), dec(3, 65, 66, item(Allow, a, z)), dec(4, 71, 72, item(Deny, a, z))}, None, ""},
		{"C10: not that late", []Signal{beat("h", 10, 20, 0)}, []Decision{dec(1, 70, 72, item(Allow, a, z))}, C10, "fallen silent"},
		{"C10: not that early", []Signal{beat("h", 10, 20, 0)}, []Decision{dec(1, 58, 59, item(Deny, a, z))}, C10, "h had ended"},
		{"under way, it counts or not", []Signal{beat("h", 10, 30, 12)}, []Decision{dec(1, 13, 14, item(Deny, a, z)), dec(2, 15, 16, item(Allow, a, z))}, None, ""},
		{"C10: seen alive, then stopped", []Signal{beat("h", 10, 30, 12)}, []Decision{dec(1, 13, 14, item(Allow, a, z)), dec(2, 15, 16, item(Deny, a, z))}, C10, "h had ended"},
		{"waived", []Signal{waive("w", 1, 2, 90)}, []Decision{dec(1, 3, 4, item(Allow, a, z)), dec(2, 90, 91, item(Deny, a, z))}, None, ""},
		{"C10: an exception that has ended", []Signal{beat("h", 1, 5, 3), waive("w", 10, 11, 90)}, []Decision{dec(1, 60, 61, item(Allow, a, z)), dec(2, 90, 91, item(Allow, a, z))}, C10, "exception w had ended"},
		{"C10: an exception that was lifted", []Signal{waive("w", 1, 2, 90), lift("l", 5, 6, "w")}, []Decision{dec(1, 5, 7, item(Allow, a, z)), dec(2, 8, 9, item(Allow, a, z))}, C10, "exception w had been lifted"},
		{"C10: an exception that was lifted comes again", []Signal{lift("l", 1, 2, "w"), waive("w", 5, 6, 90)}, []Decision{dec(1, 8, 9, item(Allow, a, z))}, C10, "exception w had been lifted"},
		{"C10: the exception of another is not this one", []Signal{with(waive("w", 1, 2, 90), about("source:client:o"))}, []Decision{dec(1, 8, 9, item(Allow, a, z))}, C10, "never heard"},
		{"of two exceptions one is lifted", []Signal{waive("w", 1, 2, 90), waive("w2", 1, 2, 90), lift("l", 5, 6, "w")}, []Decision{dec(1, 8, 9, item(Allow, a, z))}, None, ""},
		{"C10: stopped though there is an exception", []Signal{waive("w", 1, 2, 90)}, []Decision{dec(1, 3, 4, item(Deny, a, z))}, C10, "a silence that w had ended"},
		{"valid until the source would be silent", []Signal{beat("h", 1, 5, 3)}, []Decision{dec(1, 6, 7, valid(item(Allow, a, z), 53))}, None, ""},
		{"C10: valid beyond it", []Signal{beat("h", 1, 5, 3), sig("noise", 1, 2, false, a)}, []Decision{dec(1, 6, 7, valid(item(Allow, a, z), 54))}, C10, "is valid when a source"},
		{"valid for as long as it may have been heard", []Signal{beat("h", 1, 5, 3), beat("h2", 6, 9, 8)}, []Decision{dec(1, 6, 7, valid(item(Allow, a, z), 58))}, None, ""},
		{"C10: valid beyond an exception", []Signal{waive("w", 1, 2, 90)}, []Decision{dec(1, 6, 7, valid(item(Allow, a, z), 91))}, C10, "is valid when a source"},
		{"a denial is no allow, however long it is valid", nil, []Decision{dec(1, 6, 7, valid(item(Deny, a, z), Never))}, None, ""},
		{"C8: alive before the quarantine's end, silent after", []Signal{beat("h", 1, 2, 1), with(sig("q", 1, 2, true, a), until(55))},
			[]Decision{dec(1, 45, 60, item(Allow, a, z))}, C8, "no one instant"},
		{"C8: a batch in which a source is silent for one of two", []Signal{beat("h", 1, 2, 1)}, []Decision{dec(1, 45, 60, item(Allow, a, z), item(Deny, b, z))}, C8, "no one instant"},
		{"C1: held, and the source is alive", []Signal{beat("h", 1, 2, 1), sig("q", 1, 5, true, a)}, []Decision{dec(1, 6, 7, item(Allow, a, z))}, C1, "q"},
		{"C3: computed again for a heartbeat", []Signal{beat("h", 1, 2, 1), beat("h2", 10, 11, 10)}, []Decision{dec(1, 4, 5, item(Allow, a, z)), dec(2, 16, 17, again(item(Allow, a, z)))}, C3, "computed again"},
		{"computed again for an exception", []Signal{beat("h", 1, 2, 1), waive("w", 10, 11, 90)}, []Decision{dec(1, 4, 5, item(Allow, a, z)), dec(2, 16, 17, again(item(Allow, a, z)))}, None, ""},
		{"refused as stale", nil, []Decision{{ID: 1, Start: 1, End: 2, AsOf: 3, AtLeast: 4, Items: []Item{item(Stale, a)}}}, None, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := New(AllowUnlessHeld)
			c.Require(z, 50)
			for _, s := range tc.signals {
				c.Signal(s)
			}
			for _, d := range tc.decisions {
				c.Decision(d)
			}
			found := c.Settle()
			if tc.want == None {
				if len(found.Broken) != 0 {
					t.Fatalf("a right history is called wrong: %v", found.Stories)
				}
				return
			}
			if len(found.Broken) != 1 || found.Broken[tc.want] != 1 {
				t.Fatalf("found %v, want one of %s\n%v", found.Broken, tc.want, found.Stories)
			}
			if story := found.Stories[tc.want].String(); !strings.Contains(story, tc.tells) {
				t.Errorf("the story does not say %q:\n%s", tc.tells, story)
			}
		})
	}
}

func TestAStoryHoldsNothingThatItWouldBeAsWrongWithout(t *testing.T) {
	c := New(AllowUnlessHeld)
	for i := range 10 {
		c.Signal(sig(fmt.Sprint("noise-", i), Time(10*i+1), Time(10*i+2), i%2 == 0, a))
		c.Signal(sig(fmt.Sprint("other-", i), Time(10*i+3), Time(10*i+4), true, b))
	}
	c.Signal(sig("the-one", 200, 210, true, a))
	c.Decision(dec(1, 150, 151, item(Allow, a)))
	c.Decision(dec(2, 300, 301, item(Allow, a)))
	story := c.Settle().Stories[C1]
	if len(story.Lines) != 5 || strings.Contains(story.String(), "noise") || strings.Contains(story.String(), "other-") {
		t.Errorf("want the signal, its acknowledgement, the decision's start and end, and the reason:\n%s", story)
	}
}

func TestAStoryOfASilenceHoldsWhatLapsedLast(t *testing.T) {
	for name, tc := range map[string]struct {
		more  []Signal
		item  Item
		lines int // besides the decision's two and the reason
	}{
		"a heartbeat":            {nil, item(Allow, a, z), 4},
		"an exception":           {[]Signal{waive("w", 150, 151, 290)}, item(Allow, a, z), 3},
		"an exception, lifted":   {[]Signal{waive("w", 150, 151, 900), lift("l", 160, 161, "w")}, item(Allow, a, z), 5},
		"a silence that is over": {[]Signal{beat("again", 280, 281, 280)}, item(Deny, a, z), 4},
		"valid for too long":     {[]Signal{beat("again", 280, 281, 280)}, Item{Question: "a", Entities: []string{a, z}, Outcome: Allow, Until: 999}, 4},
	} {
		c := New(AllowUnlessHeld)
		c.Require(z, 50)
		for i := range 10 {
			c.Signal(beat(fmt.Sprint("noise-", i), Time(10*i+1), Time(10*i+2), Time(10*i+1)))
			c.Signal(sig(fmt.Sprint("other-", i), Time(10*i+3), Time(10*i+4), false, b, a))
		}
		for _, s := range tc.more {
			c.Signal(s)
		}
		c.Decision(dec(2, 300, 301, tc.item))
		story := c.Settle().Stories[C10]
		if len(story.Lines) != tc.lines+3 || strings.Contains(story.String(), "other-") {
			t.Errorf("%s:\n%s", name, story)
		}
	}
}

func TestTheShortestStoryIsKept(t *testing.T) {
	c := New(AllowUnlessHeld)
	c.Signal(sig("early", 1, 2, true, a))
	c.Decision(dec(1, 500, 501, item(Allow, a)))
	c.Decision(dec(2, 3, 4, item(Allow, a)))
	found := c.Settle()
	if found.Broken[C1] != 2 || found.StaleAllow != 2 || !strings.Contains(found.Stories[C1].String(), "decision 2 starts") {
		t.Errorf("%+v", found)
	}
}

func TestAHistoryInPiecesIsJudgedAsAWhole(t *testing.T) {
	c := New(AllowUnlessHeld)
	c.Signal(sig("q", 1, 2, true, a))
	if found := c.Settle(); found.Signals != 1 || len(found.Broken) != 0 {
		t.Fatalf("%+v", found)
	}
	c.Decision(dec(1, 3, 4, item(Deny, a)))
	c.Settle()
	for i := range 200 { // long enough for the first to be folded away
		c.Signal(with(sig(fmt.Sprint("other", i), Time(10+2*i), Time(11+2*i), false, a), source("client:other")))
		c.Decision(dec(2, Time(11+2*i), Time(11+2*i), item(Deny, a)))
	}
	c.Settle()
	if n := len(c.entities[a].recent) + len(c.entities[a].base); n > 4*keptRecent {
		t.Errorf("%d signals are kept of one entity", n)
	}
	c.Decision(dec(3, 1000, 1001, item(Allow, a)))
	if found := c.Settle(); len(found.Broken) != 1 || found.Decisions != 202 {
		t.Errorf("%+v", found)
	}
}

// A model engine that is right: each signal comes into force at one instant between its
// beginning and its acknowledgement, each decision is true of one between its start and
// its end. Whatever the history, nothing may be found.
func TestNoRightHistoryIsCalledWrong(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		refs := []string{a, b, s1}
		pick := func(label string) []string {
			n := rapid.IntRange(1, len(refs)).Draw(t, label)
			return rapid.Permutation(slices.Clone(refs)).Draw(t, label)[:n]
		}
		type force struct {
			at Time
			s  Signal
		}
		var forces []force
		for i := range rapid.IntRange(0, 12).Draw(t, "signals") {
			begun := Time(rapid.IntRange(1, 100).Draw(t, "begun"))
			in := begun + Time(rapid.IntRange(0, 20).Draw(t, "until force"))
			s := sig(fmt.Sprint("s", i), begun, in+Time(rapid.IntRange(0, 20).Draw(t, "until ack")), rapid.Bool().Draw(t, "held"), pick("of")...)
			s.At = int64(rapid.IntRange(1, 8).Draw(t, "time"))
			s.Source = rapid.SampledFrom([]string{"x", "y"}).Draw(t, "source")
			if rapid.IntRange(0, 9).Draw(t, "kind") == 0 {
				s.Facet, s.Held = Revoke, false
			}
			if rapid.IntRange(0, 4).Draw(t, "end") == 0 {
				s.Until = Time(rapid.IntRange(20, 120).Draw(t, "until"))
			}
			took := begun + Time(rapid.IntRange(0, int(in-begun)).Draw(t, "append"))
			switch rapid.IntRange(0, 5).Draw(t, "about a source") {
			case 0, 1:
				s.Facet, s.Held, s.Until, s.Entities, s.Heard = Heartbeat, false, 0, []string{z}, took
			case 2:
				s.Facet, s.Held, s.Entities = Waive, false, []string{z}
			case 3:
				s.Facet, s.Held, s.Until, s.Entities = Lift, false, 0, []string{z}
				s.Lifts = fmt.Sprint("s", rapid.IntRange(0, 12).Draw(t, "lifts"))
			}
			if rapid.IntRange(0, 7).Draw(t, "lost") == 0 {
				s.Acknowledged = 0
			}
			forces = append(forces, force{in, s})
		}
		silence := Time(rapid.IntRange(10, 60).Draw(t, "silence"))
		// silent says it without the checker's words: who was heard and waived by then.
		silent := func(now Time) bool {
			var heard Time
			waived := map[string]bool{}
			for _, f := range forces {
				switch {
				case f.at > now:
				case f.s.Facet == Heartbeat:
					heard = max(heard, f.s.Heard+silence)
				case f.s.Facet == Waive && (f.s.Until == 0 || f.s.Until > now):
					if _, lifted := waived[f.s.ID]; !lifted {
						waived[f.s.ID] = true
					}
				case f.s.Facet == Lift:
					waived[f.s.Lifts] = false
				}
			}
			return heard <= now && !slices.Contains(slices.Collect(maps.Values(waived)), true)
		}
		c := New(AllowUnlessHeld)
		c.Require(z, silence)
		for _, f := range forces {
			if rapid.Bool().Draw(t, "not known when it was heard") {
				f.s.Heard = 0
			}
			c.Signal(f.s)
		}
		refs = append(refs, z)
		for i := range rapid.IntRange(1, 20).Draw(t, "decisions") {
			start := Time(rapid.IntRange(1, 140).Draw(t, "start"))
			instant := start + Time(rapid.IntRange(0, 20).Draw(t, "instant"))
			d := dec(uint64(i), start, instant+Time(rapid.IntRange(1, 20).Draw(t, "end")))
			for range rapid.IntRange(1, 2).Draw(t, "items") {
				entities := pick("about")
				var standings []Standing
				for _, ref := range entities {
					var facts []*signal
					for j := range forces {
						if f := &forces[j]; f.at <= instant && slices.Contains(f.s.Entities, ref) {
							facts = append(facts, &signal{Signal: f.s, arrival: j})
						}
					}
					stands := standing(facts, instant, false)
					stands.Silent = ref == z && silent(instant)
					standings = append(standings, stands)
				}
				d.Items = append(d.Items, item(AllowUnlessHeld("", standings), entities...))
			}
			c.Decision(d)
		}
		if found := c.Settle(); len(found.Broken) != 0 {
			t.Fatalf("%v", found.Stories)
		}
	})
}

// What is long past is folded away, and a decision that still answers from it is found.
func TestAnAllowFromLongAgoIsStale(t *testing.T) {
	c := New(AllowUnlessHeld)
	for i := range 300 {
		c.Signal(sig(fmt.Sprint("q", i), Time(10+2*i), Time(11+2*i), true, a))
		c.Decision(dec(uint64(i+2), Time(11+2*i), Time(11+2*i), item(Deny, a)))
	}
	c.Decision(dec(1, 5000, 5001, item(Allow, a)))
	if found := c.Settle(); found.Broken[C5] != 1 || found.StaleAllow != 1 {
		t.Errorf("%+v", found)
	}
}

// A source that is heard all the time costs no more memory than one that is heard once, and
// its silence is found after as long.
func TestManyHeartbeatsAreOneAndSoAreExceptionsThatAreOver(t *testing.T) {
	c := New(AllowUnlessHeld)
	c.Require(z, 50)
	for i := range 300 {
		now := Time(10 + 10*i)
		c.Signal(beat(fmt.Sprint("h", i), now, now+1, []Time{0, now}[i%2]))
		c.Signal(waive(fmt.Sprint("w", i), now+2, now+3, Time(20_000)))
		c.Signal(with(lift(fmt.Sprint("l", i), now+4, now+5, fmt.Sprint("w", i)), until(now+100)))
		c.Decision(dec(uint64(i+2), now+6, now+7, item(Allow, a, z)))
		c.Settle()
	}
	if n := len(c.entities[z].recent) + len(c.entities[z].base); n > 4*keptRecent {
		t.Errorf("%d signals are kept of one source", n)
	}
	c.Decision(dec(1, 5000, 5001, item(Allow, a, z)))
	if found := c.Settle(); found.Broken[C10] != 1 || found.StaleAllow != 1 || len(found.Broken) != 1 {
		t.Errorf("%+v", found)
	}
}

func TestADecisionThatNeedsTooManySourcesIsUndecided(t *testing.T) {
	c := New(AllowUnlessHeld)
	it := item(Allow, a)
	for i := range maxSources + 1 {
		ref := fmt.Sprint("source:client:", i)
		c.Require(ref, 50)
		it.Entities = append(it.Entities, ref)
	}
	c.Decision(dec(1, 5, 6, it))
	if found := c.Settle(); found.Undecided != 1 || len(found.Broken) != 0 {
		t.Errorf("%+v", found)
	}
}

// A reader may sleep while one pusher sends many signals: their order is known, so there
// are not many worlds.
func TestManySignalsInOrderLeaveNothingUndecided(t *testing.T) {
	c := New(AllowUnlessHeld)
	for i := range 40 {
		c.Signal(sig(fmt.Sprint("q", i), Time(10+2*i), Time(11+2*i), i%2 == 0, a))
	}
	c.Decision(dec(1, 5, 500, item(Deny, a)))
	c.Decision(dec(2, 5, 9, item(Allow, a)))
	if found := c.Settle(); found.Undecided != 0 || len(found.Broken) != 0 {
		t.Errorf("%+v", found)
	}
	unordered := New(AllowUnlessHeld)
	for i := range 20 {
		unordered.Signal(sig(fmt.Sprint("q", i), 10, 500, i%2 == 0, a))
	}
	unordered.Decision(dec(1, 5, 500, item(Deny, a)))
	if found := unordered.Settle(); found.Undecided != 1 || len(found.Broken) != 0 {
		t.Errorf("%+v", found)
	}
}
