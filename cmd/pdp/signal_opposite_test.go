package main

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"vigil/authz"
	"vigil/posture"
	"vigil/server/control"
	"vigil/signals"
)

// TestTakingBackLeavesTheRestAsIfItHadNotBeenSaid: of random lines that a record keeps,
// random facts are taken back. From then on the entity is what it is by the others alone,
// now and at every end to come, and on the way never less restricted than before and after.
// What is taken back may be dated ahead of who takes it back, and a word that comes
// meanwhile, which nobody has seen, stays.
func TestTakingBackLeavesTheRestAsIfItHadNotBeenSaid(t *testing.T) {
	begun := authz.InstantOf(time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC))
	key := authz.Key{Tenant: "default", Kind: authz.KindAgent, ID: "a"}
	rapid.Check(t, func(t *rapid.T) {
		said := posture.NewStore()
		now, holds := begun, rapid.Bool().Draw(t, "holds")
		for i := range rapid.IntRange(1, 6).Draw(t, "facts") {
			now = now.Add(time.Second)
			f := posture.Fact{Source: "client:soar", ID: fmt.Sprint(i), Time: now}
			// Mostly each ends before those that are older, so that those are kept.
			if minutes := 7 - i - rapid.IntRange(-1, 1).Draw(t, "sooner"); minutes < 8 {
				f.Until = now.Add(time.Duration(minutes)*time.Minute + time.Second)
			}
			if holds {
				f.Facet, f.Held = posture.Hold, rapid.IntRange(0, 3).Draw(t, "held") > 0
			} else {
				f.Facet, f.Risk = posture.Risk, 10*rapid.IntRange(0, 5).Draw(t, "risk")
			}
			said.Apply(now, []posture.Change{{Key: key, Facts: []posture.Fact{f}}})
		}
		now = now.Add(time.Duration(rapid.IntRange(-4, 1).Draw(t, "the clock of who takes it back")) * time.Second)
		kept := slices.Collect(said.Get(key).Facts())
		facts, back := make([]control.Fact, len(kept)), make([]bool, len(kept))
		never := posture.NewStore() // what was taken back was never said
		for i := range kept {
			facts[i] = asListed(&kept[i])
			back[i] = !neutral(&facts[i]) && rapid.Bool().Draw(t, "back")
			if !back[i] {
				never.Apply(now, []posture.Change{{Key: key, Facts: kept[i : i+1]}})
			}
		}
		drafts, err := opposites("agent:a", facts, back)
		if err != nil {
			t.Fatal(err)
		}
		if rapid.Bool().Draw(t, "meanwhile") {
			f := posture.Fact{Source: "client:soar", ID: "meanwhile", Time: kept[len(kept)-1].Time.Add(time.Second), Facet: kept[0].Facet, Held: true, Risk: 70}
			for _, s := range []*posture.Store{said, never} {
				s.Apply(now, []posture.Change{{Key: key, Facts: []posture.Fact{f}}})
			}
		}
		want, before := never.Get(key), said.Get(key).At(now)
		for _, d := range drafts {
			body, err := d.envelope(&signalFlags{}, now.Time(), "u-"+rapid.StringMatching("[a-z]{8}").Draw(t, "id"))
			if err != nil {
				t.Fatal(err)
			}
			said.Apply(now, []posture.Change{{Key: key, Facts: []posture.Fact{asStated(t, body)}}})
			at := now.Add(time.Millisecond)
			if got := said.Get(key).At(at); got.Status < min(before.Status, want.At(at).Status) || got.Risk < min(before.Risk, want.At(at).Risk) {
				t.Fatalf("less in force on the way: %v %d, before %v %d, in the end %v %d",
					got.Status, got.Risk, before.Status, before.Risk, want.At(at).Status, want.At(at).Risk)
			}
		}
		for second := 0; second < 400; second += 3 {
			at := now.Add(time.Duration(second) * time.Second)
			if got := said.Get(key).At(at); got.Status != want.At(at).Status || got.Risk != want.At(at).Risk {
				t.Fatalf("after %d s: %v, risk %d; want %v, risk %d", second, got.Status, got.Risk, want.At(at).Status, want.At(at).Risk)
			}
		}
	})
}

// asListed is a fact as the control port lists it.
func asListed(f *posture.Fact) control.Fact {
	out := control.Fact{Source: f.Source, ID: f.ID, Time: f.Time.String(), Active: true}
	if f.Until != authz.Forever {
		out.Until = f.Until.String()
	}
	switch f.Facet {
	case posture.Risk:
		out.Type, out.Risk = "risk", &f.Risk
	case posture.Hold:
		out.Type = map[bool]string{true: "quarantine", false: "release"}[f.Held]
	case posture.Taint:
		out.Type = "taint"
	case posture.ApprovalRequired:
		out.Type = "require_approval"
	case posture.Narrow:
		out.Type = "narrow"
	default:
		out.Type = "of no matter here"
	}
	return out
}

// asStated is the fact that a signal's envelope states.
func asStated(t *rapid.T, body map[string]any) posture.Fact {
	instant := func(member string) authz.Instant {
		text, ok := body[member].(string)
		if !ok {
			return 0
		}
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		return authz.InstantOf(at)
	}
	f := posture.Fact{Facet: posture.Hold, ID: body["id"].(string), Time: instant("time"), Until: instant("expires")}
	f.Source, _ = body["source"].(string)
	if f.Until == 0 {
		f.Until = authz.Forever
	}
	switch body["type"].(signals.Type) {
	case signals.TypeLift:
		of := body["lifts"].(liftTarget)
		facets := map[string]posture.Facet{"taint": posture.Taint, "require_approval": posture.ApprovalRequired, "narrow": posture.Narrow}
		f.Facet, f.Lifts = posture.Lift, &posture.Target{Facet: facets[of.Type], Source: of.Source, ID: of.ID}
	case signals.TypeRisk:
		f.Facet, f.Risk = posture.Risk, *body["risk"].(*int)
	case signals.TypeQuarantine:
		f.Held = true
	}
	return f
}
