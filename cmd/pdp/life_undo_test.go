package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"pgregory.net/rapid"

	"vigil/authz"
	"vigil/engine/enginetest"
	"vigil/posture"
	"vigil/server/control"
	"vigil/signals"
)

// undoing is one `pdp signal undo`: whose, of what, and over whose words.
type undoing struct {
	sender     signals.Sender
	id         string // of the signal that is taken back; "" for all that was said of the entities
	allSources bool
	keys       []authz.Key // in one tenant
	unseen     string      // the id of a word that came meanwhile
}

// takes reports whether u takes back a fact: the words of docs/signals.md, "Taking back".
func (u *undoing) takes(f posture.Fact) bool {
	switch f.Facet {
	case posture.Hold:
		if !f.Held {
			return false // a release is taken back by a new quarantine
		}
	case posture.Risk:
		if f.Risk == 0 {
			return false
		}
	case posture.Taint, posture.ApprovalRequired, posture.Narrow:
	default:
		return false
	}
	return f.ID != u.unseen && (u.allSources || f.Source == u.sender.Source.String()) && (u.id == "" || u.id == signalOf(f))
}

// signalOf is the id of the signal that stated a fact.
func signalOf(f posture.Fact) string {
	_, id, _ := signals.SplitOverrulingID(f.ID)
	return id
}

// ofAnUndo reports whether a fact says again what was left when something was taken back.
func ofAnUndo(f posture.Fact) bool { return strings.HasPrefix(signalOf(f), "u") }

// undo takes something back as pdp signal undo does: it looks at what is kept, and sends
// what takes it back. From then on everything is as if it had not been said, now and at
// every end to come. Now and then a source has another word meanwhile, which stays.
func (l *life) undo() {
	if l.faulty || l.unsure != nil {
		l.signal()
		return
	}
	u := l.someUndoing()
	if u == nil {
		l.signal()
		return
	}
	l.pass(time.Millisecond) // what was dated back to 5 s ahead is not ahead by more
	drafts := l.drafts(u)
	if rapid.IntRange(0, 3).Draw(l.t, "meanwhile") == 2 {
		if p := l.interruption(u); p != nil {
			l.push(p)
		}
	}
	var back []posture.Fact
	for _, key := range u.keys {
		for _, f := range l.twin.Said[key] {
			if u.takes(f) && f.Until > l.now() {
				back = append(back, f)
			}
		}
	}
	if len(drafts) == 0 {
		l.without(u)() // nothing is kept of it
		return
	}
	if l.sendUndo(u, drafts) {
		for _, f := range back {
			l.tally.undone(u, f)
			l.undone[signalOf(f)] = true
		}
	}
}

// someUndoing draws what to take back; nil where nothing was ever said that can be.
func (l *life) someUndoing() *undoing {
	t := l.t
	u := &undoing{sender: rapid.SampledFrom([]signals.Sender{soar, siem, boss, boss}).Draw(t, "who takes back")}
	u.allSources = u.sender.Authority.Overrule && rapid.IntRange(0, 3).Draw(t, "all sources") > 0
	type said struct {
		key authz.Key
		of  posture.Fact
	}
	var all []said
	for key, facts := range l.twin.Said {
		for _, f := range facts {
			if f.Until > l.now() && u.takes(f) {
				all = append(all, said{key, f})
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	slices.SortFunc(all, func(a, b said) int {
		return strings.Compare(fmt.Sprint(a.key, a.of.Time, a.of.ID, a.of.Facet), fmt.Sprint(b.key, b.of.Time, b.of.ID, b.of.Facet))
	})
	if again := slices.DeleteFunc(slices.Clone(all), func(s said) bool { return !ofAnUndo(s.of) }); len(again) > 0 && rapid.Bool().Draw(t, "what an undo said") {
		all = again
	}
	one := rapid.SampledFrom(all).Draw(t, "what is taken back")
	if rapid.IntRange(0, 3).Draw(t, "all of the entity") == 2 {
		u.keys = []authz.Key{one.key}
		return u
	}
	u.id = signalOf(one.of)
	for key, facts := range l.twin.Said {
		if slices.ContainsFunc(facts, u.takes) {
			u.keys = append(u.keys, key)
		}
	}
	slices.SortFunc(u.keys, func(a, b authz.Key) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return u
}

// drafts are the signals that the command sends, made of what the node lists.
func (l *life) drafts(u *undoing) []draft {
	want := takeBack{types: reversible, allSources: u.allSources}
	if u.id != "" {
		want.wanted = saidBySignals(u.id)
	}
	own := u.sender.Source.String()
	if u.allSources {
		own = ""
	}
	var all []draft
	for _, key := range u.keys {
		listed := listedOf(l.n.posture.Get(key), l.now())
		back, _ := want.among(listed, own)
		drafts, err := opposites(key.Ref().String(), listed, back)
		if err != nil {
			l.t.Fatal(err)
		}
		all = append(all, drafts...)
	}
	return all
}

// interruption is a word that a source has while something of its line is being taken back;
// nil for none. It is later than all that the line has said, and by more than clocks may
// differ where the line is overruled.
func (l *life) interruption(u *undoing) *pushed {
	key := u.keys[0]
	for _, f := range l.twin.Said[key] {
		sender, speaks := senders[f.Source]
		if f.Facet != posture.Hold && f.Facet != posture.Risk || !u.takes(f) || !speaks {
			continue
		}
		newest := f.Time
		for _, o := range l.twin.Said[key] {
			if o.Facet == f.Facet && o.Source == f.Source {
				newest = max(newest, o.Time)
			}
		}
		at := newest.Add(time.Microsecond)
		if f.Source != u.sender.Source.String() {
			at = newest.Add(signals.MaxAhead + time.Second)
		}
		at = max(at, l.now().Add(time.Duration(rapid.IntRange(-3, 1).Draw(l.t, "time of the other word"))*time.Second))
		s := l.draft(f.Facet, key.Tenant, []authz.Ref{key.Ref()}, at)
		l.value(s, sender)
		if at > l.now().Add(signals.MaxAhead) {
			return nil
		}
		l.tally.steps["undo raced by another word"]++
		u.unseen = s.id
		return l.bundle(sender, s)
	}
	return nil
}

var senders = map[string]signals.Sender{soar.Source.String(): soar, siem.Source.String(): siem, boss.Source.String(): boss}

// sendUndo sends drafts as one batch. It reports false where that was refused.
func (l *life) sendUndo(u *undoing, drafts []draft) bool {
	p, hopeless := l.undoOf(u, drafts)
	if hopeless {
		l.mustRefuse(p)
		return false
	}
	after := l.without(u)
	l.push(p)
	if len(l.accepted) == 0 || l.accepted[len(l.accepted)-1] != p {
		return false // push has found that as it should be
	}
	after()
	return true
}

// undoOf makes one push of drafts. It is hopeless where it speaks in a line of which nothing
// that was seen is left.
func (l *life) undoOf(u *undoing, drafts []draft) (p *pushed, hopeless bool) {
	l.serial++
	id := fmt.Sprint("u", l.serial)
	var bodies []map[string]any
	p = &pushed{sender: u.sender, boot: l.boots}
	tenant := ""
	for _, key := range u.keys {
		tenant = cmp.Or(tenant, key.Tenant) // everything is of none
	}
	for i := range drafts {
		f := &signalFlags{Tenant: cmp.Or(tenant, authz.DefaultTenant)}
		body, err := drafts[i].envelope(f, l.now().Time(), fmt.Sprintf("%s-%d", id, i+1))
		if err != nil {
			l.t.Fatal(err)
		}
		bodies = append(bodies, body)
		s := l.stated(u.sender, f.Tenant, body)
		hopeless = hopeless || s.dated && s.fact.Time == 0
		p.statements = append(p.statements, s)
	}
	// Those of one line are dated in the order of their times.
	for _, s := range p.statements {
		for _, o := range p.statements {
			if s.dated && o.dated && o.sent < s.sent && o.keys[0] == s.keys[0] && o.fact.Source == s.fact.Source && o.fact.Facet == s.fact.Facet {
				s.fact.Time++
			}
		}
	}
	body, err := json.Marshal(bodies, json.Deterministic(true))
	if err != nil {
		l.t.Fatal(err)
	}
	p.body = string(body)
	return p, hopeless
}

// without gives a function that holds the store against a world in which nothing of what u
// takes back was ever said: now, and at every end to come.
func (l *life) without(u *undoing) (check func()) {
	want := map[authz.Key]*enginetest.Twin{}
	for _, key := range u.keys {
		if !l.tied(u, key) {
			want[key] = l.twin.Without(key, u.takes)
		}
	}
	return func() {
		for key, world := range want {
			now := l.now()
			for _, at := range append(l.twin.Ends(key, now), now) {
				if wrong := world.Differs(key, at, l.n.posture.Get(key).At(at)); wrong != "" {
					l.t.Fatalf("taken back: %+v\nstill, at %v: %s", u, at, wrong)
				}
			}
		}
	}
}

// tied reports whether one of two words of a line that agree in time, in what they say and
// in their end is to be taken back. One is kept; which, only the hash of its content says.
func (l *life) tied(u *undoing, key authz.Key) bool {
	for _, f := range l.twin.Said[key] {
		for _, o := range l.twin.Said[key] {
			if f.Facet == o.Facet && (f.Facet == posture.Hold || f.Facet == posture.Risk) && f.Source == o.Source && f.Time == o.Time &&
				f.Until == o.Until && f.Held == o.Held && f.Risk == o.Risk && u.takes(f) != u.takes(o) {
				return true
			}
		}
	}
	return false
}

// mustRefuse sends what speaks in a line of which nothing is left but what came meanwhile.
func (l *life) mustRefuse(p *pushed) {
	var bad *signals.DecodeError
	if _, err := l.n.intake.Push(context.Background(), p.sender, []byte(p.body)); !errors.As(err, &bad) || bad.Pointer != "/time" && !strings.HasSuffix(bad.Pointer, "/time") {
		l.t.Fatalf("%s\noverrules what nobody has seen: %v", p.body, err)
	}
	l.tally.steps["undo refused, for another word stands in the place of all"]++
}

// stated reads a signal as its sender wrote it. Its time is 0 where it speaks in another
// source's line, of which nothing is known to it.
func (l *life) stated(sender signals.Sender, tenant string, body map[string]any) *statement {
	f := asStated(l.t, body)
	ref, err := authz.ParseRef(body["entities"].([]string)[0])
	if err != nil {
		l.t.Fatal(err)
	}
	key := ref.In(tenant)
	s := &statement{id: f.ID, keys: []authz.Key{key}, fact: f}
	f, own := s.fact, sender.Source.String()
	switch {
	case f.Facet == posture.Lift:
		s.permissive, s.fact.Source = true, own
	case f.Source == own:
		s.permissive = !f.Held
	default:
		s.dated, s.sent = true, f.Time
		s.fact.ID, s.fact.Time = signals.OverrulingID(sender.Source, f.ID), 0
		for o := range l.n.posture.Get(key).Facts() {
			if o.Facet == f.Facet && o.Source == f.Source && o.Time <= s.sent.Add(signals.MaxAhead) {
				s.fact.Time = max(s.fact.Time, o.Time+1)
			}
		}
	}
	return s
}

// listedOf is what the control port lists of a record, oldest first.
func listedOf(r *posture.Record, now authz.Instant) []control.Fact {
	facts := slices.SortedStableFunc(r.Facts(), func(a, b posture.Fact) int { return cmp.Compare(a.Time, b.Time) })
	all := make([]control.Fact, len(facts))
	for i := range facts {
		all[i] = asListed(&facts[i])
		all[i].Active = facts[i].Until > now
	}
	return all
}

// undone counts what was taken back, by type and by whom.
func (c *tally) undone(u *undoing, f posture.Fact) {
	what := map[posture.Facet]string{
		posture.Hold: "quarantine", posture.Risk: "risk", posture.Taint: "taint", posture.ApprovalRequired: "require_approval", posture.Narrow: "narrow",
	}[f.Facet]
	whose := "own"
	if f.Source != u.sender.Source.String() {
		whose = "another's"
	}
	c.steps["undo of "+whose+" "+what]++
	if ofAnUndo(f) {
		c.steps["undo of an undo"]++
	}
}
