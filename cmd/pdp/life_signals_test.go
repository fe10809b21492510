package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"vigil/authz"
	"vigil/engine/enginetest"
	"vigil/posture"
	"vigil/signals"
)

// pushed is one push: what was sent, and what the twin is to remember of it.
type pushed struct {
	sender     signals.Sender
	body       string
	statements []*statement
	boot       int           // in which it was sent first
	at         authz.Instant // when it was sent first
	tries      []authz.Instant
}

// heard gives when the log may have taken something of p, if it took the first n signals; 0
// for not at all. A heartbeat has none.
func (p *pushed) heard(n int) []authz.Instant {
	switch {
	case n > 0:
		return p.tries
	case len(p.statements) == 0:
		return append([]authz.Instant{0}, p.tries...)
	}
	return []authz.Instant{0}
}

// statement is one signal as the twin understands it.
type statement struct {
	id   string
	json string
	keys []authz.Key
	fact posture.Fact // as it is where nothing has to be clamped
	// dated: it overrules, so the fact's time was fixed when it was first accepted, whenever
	// it is sent again; the signal's own time is sent.
	dated bool
	sent  authz.Instant
	// permissive: it is refused where it is dated too far ahead.
	permissive bool
}

// taken gives what a statement says if the log took it at appended.
func (s *statement) taken(appended authz.Instant) posture.Fact {
	f := s.fact
	if s.dated {
		return f
	}
	f.Time = min(f.Time, appended.Add(5*time.Second))
	if f.Facet == posture.IssuedBefore {
		f.Cutoff = min(f.Cutoff, appended)
	}
	return f
}

func (p *pushed) about() map[authz.Key]bool {
	all := map[authz.Key]bool{}
	for _, s := range p.statements {
		for _, key := range s.keys {
			all[key] = true
		}
	}
	return all
}

// remember makes the twin know what was acknowledged.
func (l *life) remember(all []*statement, appended authz.Instant) {
	for _, s := range all {
		f := s.taken(appended)
		for _, key := range s.keys {
			same := func(o posture.Fact) bool {
				return o.Source == f.Source && o.ID == f.ID && o.Facet == f.Facet && o.Time == f.Time && o.Cutoff == f.Cutoff
			}
			if slices.ContainsFunc(l.twin.Said[key], same) {
				continue
			}
			l.twin.Said[key] = append(l.twin.Said[key], f)
		}
	}
}

// arrived counts what is out of the ordinary about a signal that the log took at appended,
// and what it does to risks.
func (c *tally) arrived(l *life, s *statement, appended authz.Instant) {
	f, key := s.taken(appended), s.keys[0]
	again := slices.ContainsFunc(l.twin.Said[key], func(o posture.Fact) bool { return o.Source == f.Source && o.ID == f.ID && o.Facet == f.Facet })
	for what, is := range map[string]bool{
		"sent again":                 again,
		"sent again once taken back": again && l.undone[s.id],
		"late":                       !again && !s.dated && l.overtaken(s),
		"ahead":                      !s.dated && f.Time > appended && f.Time == s.fact.Time,
		"ahead, dated back":          f.Time < s.fact.Time,
		"long ago":                   !s.dated && f.Time < appended.Add(-time.Minute),
	} {
		if is {
			c.steps["a signal "+what]++
		}
	}
	if f.Facet != posture.Risk {
		return
	}
	before := enginetest.Twin{Said: map[authz.Key][]posture.Fact{key: l.twin.Said[key]}}
	was := before.Risk(key, appended)
	before.Said[key] = append(slices.Clone(before.Said[key]), f)
	switch is := before.Risk(key, appended); {
	case is > was:
		c.steps["a risk rises"]++
	case is < was:
		c.steps["a risk falls"]++
	}
	// Two words that overlap: one day the risk is another without a word.
	for _, at := range before.Ends(key, appended) {
		switch was, is := before.Risk(key, at-1), before.Risk(key, at); {
		case is > was:
			c.steps["a risk rises at an end to come"]++
		case is < was && is > 0:
			c.steps["a risk falls at an end to come, to another"]++
		}
	}
}

// suppose makes the twin know something until restore.
func (l *life) suppose(all []*statement, heard authz.Instant) (restore func()) {
	said, before := maps.Clone(l.twin.Said), maps.Clone(l.twin.Heard)
	l.remember(all, l.unsure.at)
	l.hear(l.unsure.sender, heard)
	return func() { l.twin.Said, l.twin.Heard = said, before }
}

// heartbeat is what a sender that has nothing to say pushes.
func (l *life) heartbeat(sender signals.Sender) *pushed {
	l.serial++
	return &pushed{sender: sender, boot: l.boots, body: fmt.Sprintf(
		`{"v":1,"id":"s%d","type":"heartbeat","entities":["source:%s"],"time":%q}`, l.serial, sender.Source, l.now())}
}

// hear makes the twin know that the log took something of sender.
func (l *life) hear(sender signals.Sender, at authz.Instant) {
	source := sender.Source.String()
	l.twin.Heard[source] = max(l.twin.Heard[source], at)
}

var (
	everyKind = signals.Authority{Types: []string{"*"}, Kinds: []string{"*", "everything", "source"}, Tenants: []string{authz.DefaultTenant, "acme"}}
	soar      = signals.Sender{Source: signals.Source{Kind: "client", Name: "soar"}, Authority: everyKind}
	siem      = signals.Sender{Source: signals.Source{Kind: "client", Name: "siem"}, Authority: everyKind}
	boss      = signals.Sender{Source: signals.Source{Kind: "client", Name: "boss"}, Authority: signals.Authority{
		Types: everyKind.Types, Kinds: everyKind.Kinds, Tenants: everyKind.Tenants, Overrule: true,
	}}
	intern = signals.Sender{Source: signals.Source{Kind: "client", Name: "intern"}, Authority: signals.Authority{
		Types: []string{"taint"}, Kinds: []string{"tool"}, Tenants: []string{authz.DefaultTenant},
	}}
)

// settleIn registers the agents, so that something is allowed.
func (l *life) settleIn() {
	for _, tenant := range everyKind.Tenants {
		s := l.draft(posture.Registration, tenant, []authz.Ref{{Kind: authz.KindAgent, ID: "1"}, {Kind: authz.KindAgent, ID: "2"}}, birth)
		s.fact.Registration = &posture.Registered{Class: "default", Scopes: []string{"propose:payments"}, Code: "sha256:c0", Labels: map[string]string{"role": "reader"}}
		l.push(l.bundle(soar, s))
	}
}

func (l *life) draft(facet posture.Facet, tenant string, about []authz.Ref, at authz.Instant) *statement {
	l.serial++
	s := &statement{id: fmt.Sprint("s", l.serial), fact: posture.Fact{Facet: facet, Time: at, Until: authz.Forever}}
	for _, ref := range about {
		s.keys = append(s.keys, ref.In(tenant))
	}
	return s
}

// bundle makes a push of statements, whose sources and ids it fills in.
func (l *life) bundle(sender signals.Sender, all ...*statement) *pushed {
	p := &pushed{sender: sender, statements: all, boot: l.boots}
	var bodies []string
	for _, s := range all {
		if !s.dated {
			s.fact.Source, s.fact.ID = sender.Source.String(), s.id
		}
		s.json = s.encode(sender)
		bodies = append(bodies, s.json)
	}
	p.body = bodies[0]
	if len(bodies) > 1 {
		p.body = "[" + strings.Join(bodies, ",") + "]"
	}
	return p
}

// signal sends something new. While the outcome of a push is unknown, that one is sent again,
// as a good client does, before anything else.
func (l *life) signal() {
	if l.unsure != nil {
		l.push(l.unsure)
		return
	}
	t := l.t
	sender := rapid.SampledFrom([]signals.Sender{soar, soar, siem, boss, boss}).Draw(t, "sender")
	if rapid.IntRange(0, 29).Draw(t, "sender is the intern") == 17 {
		sender = intern
	}
	if rapid.IntRange(0, 7).Draw(t, "a heartbeat") == 5 {
		l.push(l.heartbeat(sender))
		return
	}
	if sender.Source != intern.Source && rapid.IntRange(0, 9).Draw(t, "words that overlap") == 7 {
		l.push(l.bundle(sender, l.overlapping(sender)...))
		return
	}
	var all []*statement
	for range rapid.SampledFrom([]int{1, 1, 1, 1, 2, 3}).Draw(t, "signals") {
		all = append(all, l.statement(sender))
	}
	if sender.Source == intern.Source {
		p := l.bundle(sender, all...)
		var refused *signals.RefusedError
		if _, err := l.n.intake.Push(context.Background(), sender, []byte(p.body)); !errors.As(err, &refused) && !errors.Is(err, signals.ErrUnavailable) && !l.tooEarly(p, err) {
			t.Fatalf("%s\nof one who may not: %v", p.body, err)
		}
		return
	}
	l.push(l.bundle(sender, all...))
}

// push sends p and makes the twin remember what the answer says of it.
func (l *life) push(p *pushed) {
	n := l.n
	before := l.now()
	if p.at == 0 {
		p.at = before
	}
	p.tries = append(p.tries, before)
	l.tally.pushes++
	receipt, err := n.intake.Push(context.Background(), p.sender, []byte(p.body))
	l.t.Logf("%v, now %v: %s: %v", p.sender.Source, before, p.body, err)
	var stale *signals.DecodeError
	switch {
	case err == nil:
		appended := n.feed.Progress().Last
		if appended < before || appended > l.now() {
			l.t.Fatalf("appended at %v, sent at %v, acknowledged at %v", appended, before, l.now())
		}
		if l.tooEarly(p, nil) {
			l.t.Fatalf("accepted at %v, though it permits something from too far ahead: %s", appended, p.body)
		}
		l.appended = max(l.appended, appended)
		l.floor, l.newest = max(l.floor, appended), receipt.AsOf
		for _, s := range p.statements {
			l.tally.arrived(l, s, appended)
		}
		l.remember(p.statements, appended)
		l.hear(p.sender, appended)
		if l.unsure == p {
			l.unsure, l.sure = nil, 0
		}
		if len(p.statements) > 0 {
			l.accepted = append(l.accepted, p)
		}
		if len(l.accepted) > 40 {
			l.accepted = l.accepted[1:]
		}
		l.demanded()
	case errors.Is(err, signals.ErrUnavailable):
		l.tally.refused++
		if !l.faulty {
			l.t.Fatalf("refused on a disk that is well: %v", err)
		}
	case errors.Is(err, signals.ErrUnknownOutcome):
		l.tally.unknown++
		if !l.faulty {
			l.t.Fatalf("unknown on a disk that is well: %v", err)
		}
		if l.unsure == nil {
			l.unsure, l.sure = p, 0
		}
	case l.tooEarly(p, err):
	case errors.As(err, &stale) && slices.ContainsFunc(p.statements, func(s *statement) bool { return s.dated }) && slices.Contains(l.accepted, p):
		// What it overruled is forgotten, and so is it: it overrules nothing anew.
	default:
		l.t.Fatalf("at %v\n%s\n%v", before, p.body, err)
	}
}

// tooEarly reports whether a push has to be refused for its times, and was.
func (l *life) tooEarly(p *pushed, err error) bool {
	var bad *signals.DecodeError
	if err != nil && !errors.As(err, &bad) {
		return false
	}
	latest := l.now().Add(5 * time.Second)
	return slices.ContainsFunc(p.statements, func(s *statement) bool {
		return !s.dated && (s.permissive && s.fact.Time > latest || s.fact.Cutoff > latest)
	})
}

// resolve makes every outcome known, on a disk that is well.
func (l *life) resolve() {
	if l.unsure != nil {
		l.push(l.unsure)
	}
}

// resend delivers something again that was acknowledged before.
func (l *life) resend() {
	if l.unsure != nil || len(l.accepted) == 0 {
		l.signal()
		return
	}
	some, what := l.accepted, rapid.IntRange(0, 3).Draw(l.t, "what must not work again")
	if of := []func(*statement) bool{nil, l.overtaken, l.lifted, func(s *statement) bool { return s.dated }}[what]; of != nil {
		spent := slices.DeleteFunc(slices.Clone(some), func(p *pushed) bool { return !slices.ContainsFunc(p.statements, of) })
		if len(spent) > 0 {
			some = spent
		}
	}
	p := rapid.SampledFrom(some).Draw(l.t, "again")
	if l.faulty && slices.ContainsFunc(p.statements, func(s *statement) bool { return s.dated || s.fact.Time > l.now() }) {
		return // what it says would depend on when the log took it, which nobody would know
	}
	if p.boot != l.boots && slices.ContainsFunc(p.statements, l.forgotten) {
		return
	}
	p.at = l.now()
	if p.boot == l.boots && rapid.IntRange(0, 5).Draw(l.t, "another of the same id") == 5 && !l.faulty {
		other := strings.Replace(p.body, `"v":1`, `"v":1,"ticket":"another"`, 1)
		if _, err := l.n.intake.Push(context.Background(), p.sender, []byte(other)); !errors.Is(err, signals.ErrConflict) && !l.tooEarly(p, err) {
			var gone *signals.DecodeError
			if !errors.As(err, &gone) || !p.statements[0].dated {
				l.t.Fatalf("%s\nwas sent before with other words: %v", other, err)
			}
		}
		return
	}
	l.push(p)
}

// lifted reports whether a statement was lifted.
func (l *life) lifted(s *statement) bool {
	return slices.ContainsFunc(l.twin.Said[s.keys[0]], func(f posture.Fact) bool {
		return f.Facet == posture.Lift && *f.Lifts == posture.Target{Facet: s.fact.Facet, Source: s.fact.Source, ID: s.fact.ID}
	})
}

// overtaken reports whether something newer of the same matter was said by the same source.
func (l *life) overtaken(s *statement) bool {
	return slices.ContainsFunc(l.twin.Said[s.keys[0]], func(f posture.Fact) bool {
		return f.Facet == s.fact.Facet && f.Source == s.fact.Source && f.Time > s.fact.Time
	})
}

// forgotten reports whether a node that was started since cannot tell whether it has had
// an overruling before: its line has said something since that counts as seen by its time.
func (l *life) forgotten(s *statement) bool {
	return s.dated && slices.ContainsFunc(l.twin.Said[s.keys[0]], func(f posture.Fact) bool {
		return f.Facet == s.fact.Facet && f.Source == s.fact.Source && f.ID != s.fact.ID && f.Time >= s.fact.Time && f.Time <= s.sent.Add(5*time.Second)
	})
}

// stray puts a record into the log that no intake of this version wrote: of a newer
// version, or of nobody.
func (l *life) stray() {
	if l.faulty || l.unsure != nil {
		l.signal()
		return
	}
	l.serial++
	record := []byte("this is no record of a signal")
	about := l.someEntities()
	quarantines := rapid.IntRange(0, 3).Draw(l.t, "a newer version's") == 2
	if quarantines {
		id := fmt.Sprint("s", l.serial)
		body := fmt.Sprintf(`{"v":2,"id":%q,"type":"entangle","tenant":"default","entities":[%s],"time":%q}`, id, quotedRefs(about), l.now())
		record = signals.EncodeRecord(nil, &signals.Record{
			Source: siem.Source, Tenant: authz.DefaultTenant, Body: []byte(body), Verdict: signals.Verdict{MayQuarantine: 1},
		})
		key := about[0].In(authz.DefaultTenant)
		l.twin.Said[key] = append(l.twin.Said[key], posture.Fact{
			Facet: posture.UnreadableSignal, Source: siem.Source.String(), ID: id, Time: l.now(), Until: authz.Forever,
		})
		l.hear(siem, l.now())
	}
	at, err := l.n.journal.Append(context.Background(), [][]byte{record})
	if err != nil {
		l.t.Fatal(err)
	}
	l.newest = signals.FormatAsOf(l.n.journal.ID(), signals.Positions{0: at[0].Offset + 1})
	l.appended = max(l.appended, l.now())
	l.floor = max(l.floor, l.now())
	l.demanded()
}
