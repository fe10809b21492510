package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"vigil/authz"
	"vigil/posture"
	"vigil/signals"
)

// someEntities draws one to three entities, mostly agents.
func (l *life) someEntities() []authz.Ref {
	t := l.t
	var all []authz.Ref
	for range rapid.SampledFrom([]int{1, 1, 1, 2, 3}).Draw(t, "entities") {
		kind := rapid.SampledFrom(authz.Kinds()).Draw(t, "kind")
		if rapid.IntRange(0, 2).Draw(t, "about an agent") == 0 || kind >= authz.KindTenant && kind != authz.KindSource && rapid.IntRange(0, 4).Draw(t, "about all") > 0 {
			kind = authz.KindAgent
		}
		ref := authz.Ref{Kind: kind}
		switch kind {
		case authz.KindEverything:
		case authz.KindTenant:
			ref.ID = authz.DefaultTenant
		case authz.KindTool:
			ref.ID = rapid.SampledFrom([]string{"mail", "shell"}).Draw(t, "tool")
		case authz.KindCode:
			ref.ID = rapid.SampledFrom([]string{"sha256:c0", "sha256:c1"}).Draw(t, "code")
		case authz.KindModel:
			ref.ID = "sha256:m0"
		case authz.KindSource:
			ref.ID = rapid.SampledFrom([]string{"client:soar", "client:siem"}).Draw(t, "source")
		default:
			ref.ID = rapid.SampledFrom([]string{"1", "2"}).Draw(t, "id")
		}
		if !slices.Contains(all, ref) {
			all = append(all, ref)
		}
	}
	return all
}

var (
	facetsDrawn = []posture.Facet{
		posture.Registration, posture.Hold, posture.Hold, posture.Hold, posture.Hold, posture.Risk, posture.Risk, posture.Risk,
		posture.Attest, posture.Attest, posture.Taint, posture.ApprovalRequired, posture.Narrow, posture.Lift, posture.Lift, posture.Lift,
		posture.Waive, posture.Waive,
	}
	facetsForGood = []posture.Facet{posture.Revoke, posture.Revoke, posture.IssuedBefore, posture.IssuedBefore, posture.Decommission}
)

// statement draws one signal of sender.
func (l *life) statement(sender signals.Sender) *statement {
	t := l.t
	tenant, about := authz.DefaultTenant, l.someEntities()
	if rapid.IntRange(0, 9).Draw(t, "tenant") == 7 {
		tenant = "acme"
		about = slices.DeleteFunc(about, func(r authz.Ref) bool { return r.Kind == authz.KindTenant })
		if len(about) == 0 {
			about = []authz.Ref{{Kind: authz.KindTenant, ID: tenant}}
		}
	}
	facet := rapid.SampledFrom(facetsDrawn).Draw(t, "facet")
	if rapid.IntRange(0, 24).Draw(t, "for good") == 17 { // rare, for little comes after them; small numbers are drawn more often
		facet = rapid.SampledFrom(facetsForGood).Draw(t, "facet for good")
	}
	if l.last != nil && rapid.IntRange(0, 2).Draw(t, "the same matter") == 1 {
		facet = l.last.fact.Facet
		about, tenant = []authz.Ref{l.last.keys[0].Ref()}, cmp.Or(l.last.keys[0].Tenant, authz.DefaultTenant)
	}
	if sender.Source == intern.Source {
		facet = posture.Risk
	}
	about = slices.DeleteFunc(about, func(r authz.Ref) bool { return !speaksOf(facet, r.Kind) })
	if len(about) == 0 && facet == posture.Waive {
		about = []authz.Ref{{Kind: authz.KindSource, ID: "client:soar"}}
	} else if len(about) == 0 {
		about = []authz.Ref{{Kind: authz.KindSession, ID: "2"}}
	}
	if l.mayOverrule(sender, facet) {
		if s := l.overruling(facet, tenant, about[0]); s != nil {
			l.last = s
			return s
		}
	}
	s := l.draft(facet, tenant, about, l.when())
	l.value(s, sender)
	l.last = s
	return s
}

// overlapping draws words of one line, each newer than the one before and mostly ending
// sooner, so that all of them are kept.
func (l *life) overlapping(sender signals.Sender) []*statement {
	t := l.t
	about := authz.Ref{Kind: authz.KindAgent, ID: rapid.SampledFrom([]string{"1", "2"}).Draw(t, "id")}
	facet := rapid.SampledFrom([]posture.Facet{posture.Hold, posture.Risk, posture.Risk}).Draw(t, "facet")
	at := l.now().Add(-10 * time.Second)
	at -= at % authz.Instant(time.Second)
	var all []*statement
	for i := range rapid.IntRange(2, 4).Draw(t, "words") {
		s := l.draft(facet, authz.DefaultTenant, []authz.Ref{about}, at.Add(time.Duration(i)*time.Second))
		l.value(s, sender)
		s.fact.Until = l.now().Add(time.Duration(10*(6-i)+rapid.IntRange(0, 15).Draw(t, "for longer")) * time.Second)
		all = append(all, s)
		l.last = s
	}
	return all
}

func speaksOf(facet posture.Facet, kind authz.Kind) bool {
	if kind == authz.KindSource || facet == posture.Waive {
		return kind == authz.KindSource && facet == posture.Waive
	}
	concrete := kind != authz.KindTenant && kind != authz.KindEverything
	switch facet {
	case posture.Registration, posture.Attest, posture.Decommission:
		return concrete
	case posture.Revoke:
		return concrete && kind != authz.KindUser && kind != authz.KindTool
	}
	return true
}

// when draws an event time about now, in whole seconds, so that times collide; now and
// then so far ahead that it is clamped or refused, or long ago.
func (l *life) when() authz.Instant {
	now := l.now()
	at := (now - now%authz.Instant(time.Second)).Add(time.Duration(rapid.IntRange(-30, 3).Draw(l.t, "time")) * time.Second)
	switch {
	case l.faulty:
		return min(at, now) // nobody will know when the log took it
	case rapid.IntRange(0, 11).Draw(l.t, "dated ahead") == 7:
		return now.Add(time.Duration(rapid.SampledFrom([]int{4, 5, 6, 7, 9, 600, 86_400}).Draw(l.t, "ahead")) * time.Second)
	case rapid.IntRange(0, 19).Draw(l.t, "dated behind") == 7: // a clock that is wrong, or a message that was long on its way
		return at.Add(-time.Duration(rapid.SampledFrom([]int{100, 3_600, 86_400 * 365}).Draw(l.t, "behind")) * time.Second)
	}
	return at
}

// value draws what s says.
func (l *life) value(s *statement, sender signals.Sender) {
	t, f := l.t, &s.fact
	until := max(l.now(), f.Time).Add(time.Duration(rapid.IntRange(1, 60).Draw(t, "for")) * time.Second)
	ends := rapid.Bool().Draw(t, "ends")
	switch f.Facet {
	case posture.Registration:
		s.permissive = true
		f.Time += authz.Instant(l.serial) // of two equally new ones a hash decides, which the twin has not
		ends = ends && rapid.Bool().Draw(t, "registration ends")
		f.Registration = &posture.Registered{
			Class:  rapid.SampledFrom([]string{"default", "default", "default", "careful", "careful", "undeclared"}).Draw(t, "class"),
			Labels: map[string]string{"role": rapid.SampledFrom([]string{"reader", "writer"}).Draw(t, "role")},
			Scopes: []string{"propose:payments"},
			Code:   rapid.SampledFrom([]string{"", "sha256:c0", "sha256:c1"}).Draw(t, "code bound"),
			Model:  rapid.SampledFrom([]string{"", "sha256:m0"}).Draw(t, "model bound"),
		}
	case posture.Hold:
		f.Held = rapid.IntRange(0, 2).Draw(t, "held") == 0
		s.permissive = !f.Held
	case posture.Risk:
		s.permissive = true
		f.Risk = rapid.SampledFrom([]int{0, 20, 60, 95}).Draw(t, "risk")
	case posture.Attest:
		f.Passed = rapid.IntRange(0, 3).Draw(t, "passed") > 0
		s.permissive, ends = f.Passed, ends && f.Passed
	case posture.ApprovalRequired:
		f.Actions = []string{rapid.SampledFrom([]string{"*", "pay", "call"}).Draw(t, "approve")}
	case posture.Narrow:
		f.Scopes = rapid.SampledFrom([][]string{{}, {"propose:payments"}, {"other", "propose:payments"}}).Draw(t, "left")
	case posture.IssuedBefore:
		f.Cutoff, ends = birth.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "cut-off"))*time.Second), false
		if !l.faulty && rapid.IntRange(0, 3).Draw(t, "cut-off ahead") == 2 {
			f.Cutoff = l.now().Add(time.Duration(rapid.IntRange(-1, 8).Draw(t, "cut-off about now")) * time.Second)
		}
	case posture.Revoke, posture.Decommission:
		ends = false
	case posture.Waive:
		s.permissive, ends = true, true
		f.Time = max(f.Time, until.Add(-signals.MaxWaiver))
	case posture.Lift:
		s.permissive, ends = true, false
		l.aim(s, sender)
	}
	if ends {
		f.Until = until
	}
}

// aim gives a lift its target: something that was stated, or what may be stated next.
func (l *life) aim(s *statement, sender signals.Sender) {
	t, f := l.t, &s.fact
	f.Lifts = &posture.Target{Facet: posture.Taint, Source: sender.Source.String(), ID: fmt.Sprint("s", l.serial+1)}
	if rapid.IntRange(0, 5).Draw(t, "lift what comes") == 4 {
		return
	}
	type target struct {
		key authz.Key
		of  posture.Target
	}
	var all []target
	for key, facts := range l.twin.Said {
		for _, o := range facts {
			switch o.Facet {
			case posture.Taint, posture.ApprovalRequired, posture.Narrow, posture.UnreadableSignal, posture.Waive:
				if sender.Authority.Overrule || o.Source == sender.Source.String() && o.Facet != posture.UnreadableSignal {
					all = append(all, target{key, posture.Target{Facet: o.Facet, Source: o.Source, ID: o.ID}})
				}
			}
		}
	}
	if len(all) == 0 {
		return
	}
	slices.SortFunc(all, func(a, b target) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	// The newest ones stand most often.
	chosen := rapid.SampledFrom(all).Draw(t, "lift")
	s.keys, *f.Lifts = []authz.Key{chosen.key}, chosen.of
}

func (l *life) mayOverrule(sender signals.Sender, facet posture.Facet) bool {
	return sender.Authority.Overrule && !l.faulty && l.unsure == nil &&
		(facet == posture.Hold || facet == posture.Risk || facet == posture.Attest) && rapid.Bool().Draw(l.t, "overrules")
}

// overruling draws a word of the boss in another source's line: it counts just after the
// newest that this line says.
func (l *life) overruling(facet posture.Facet, tenant string, about authz.Ref) *statement {
	line := rapid.SampledFrom([]signals.Sender{soar, siem}).Draw(l.t, "line").Source.String()
	var newest posture.Fact
	for _, f := range l.twin.Said[about.In(tenant)] {
		if f.Facet == facet && f.Source == line && f.Time <= l.now().Add(5*time.Second) && (f.Time > newest.Time || f.Time == newest.Time && f.Until > newest.Until) {
			newest = f
		}
	}
	if newest.Until <= l.now() {
		return nil // nothing is known to be left of it
	}
	s := l.draft(facet, tenant, []authz.Ref{about}, newest.Time+1)
	s.dated, s.sent = true, l.now()
	s.fact.Source, s.fact.ID = line, "client:boss/"+s.id
	s.fact.Held = rapid.IntRange(0, 3).Draw(l.t, "held") == 0 && facet == posture.Hold
	s.fact.Passed = facet == posture.Attest && rapid.Bool().Draw(l.t, "passed")
	if facet == posture.Risk {
		s.fact.Risk = rapid.SampledFrom([]int{0, 20, 60, 95}).Draw(l.t, "risk")
	}
	return s
}

func quotedRefs(refs []authz.Ref) string {
	var all []string
	for _, r := range refs {
		all = append(all, fmt.Sprintf("%q", r))
	}
	return strings.Join(all, ",")
}

// encode gives the JSON of s as its sender sends it.
func (s *statement) encode(sender signals.Sender) string {
	f := &s.fact
	var refs []authz.Ref
	tenant := authz.DefaultTenant
	for _, key := range s.keys {
		refs = append(refs, key.Ref())
		if key.Tenant != "" {
			tenant = key.Tenant
		}
	}
	kind, more := "", ""
	list := func(name string, from []string) string { return fmt.Sprintf(`,%q:[%s]`, name, quotedTexts(from)) }
	switch f.Facet {
	case posture.Registration:
		r := f.Registration
		kind = "register"
		more = fmt.Sprintf(`,"class":%q,"labels":{"role":%q}`, r.Class, r.Labels["role"]) + list("scopes", r.Scopes)
		if r.Code != "" {
			more += fmt.Sprintf(`,"code":%q`, r.Code)
		}
		if r.Model != "" {
			more += fmt.Sprintf(`,"model":%q`, r.Model)
		}
	case posture.Hold:
		kind = map[bool]string{true: "quarantine", false: "release"}[f.Held]
	case posture.Risk:
		kind, more = "risk", fmt.Sprintf(`,"risk":%d`, f.Risk)
	case posture.Attest:
		kind, more = "attest", fmt.Sprintf(`,"result":%q`, map[bool]string{true: "pass", false: "fail"}[f.Passed])
	case posture.Taint:
		kind = "taint"
	case posture.ApprovalRequired:
		kind, more = "require_approval", list("actions", f.Actions)
	case posture.Narrow:
		kind, more = "narrow", list("scopes", f.Scopes)
	case posture.Revoke:
		kind = "revoke"
	case posture.IssuedBefore:
		kind, more = "revoke", fmt.Sprintf(`,"issued_before":%q`, f.Cutoff)
	case posture.Decommission:
		kind = "decommission"
	case posture.Waive:
		kind, more = "waive", `,"reason":"it is being moved"`
	case posture.Lift:
		of := map[posture.Facet]string{posture.Taint: "taint", posture.ApprovalRequired: "require_approval", posture.Narrow: "narrow", posture.UnreadableSignal: "unreadable", posture.Waive: "waive"}
		kind, more = "lift", fmt.Sprintf(`,"lifts":{"type":%q,"source":%q,"id":%q}`, of[f.Lifts.Facet], f.Lifts.Source, f.Lifts.ID)
	}
	if s.dated {
		more += fmt.Sprintf(`,"source":%q`, f.Source)
	}
	if f.Until != authz.Forever {
		more += fmt.Sprintf(`,"expires":%q`, f.Until)
	}
	at := f.Time
	if s.dated {
		at = s.sent
	}
	return fmt.Sprintf(`{"v":1,"id":%q,"type":%q,"tenant":%q,"entities":[%s],"time":%q%s}`, s.id, kind, tenant, quotedRefs(refs), at, more)
}

func quotedTexts(texts []string) string {
	var all []string
	for _, t := range texts {
		all = append(all, fmt.Sprintf("%q", t))
	}
	return strings.Join(all, ",")
}
