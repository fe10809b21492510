//go:build e2e && linux

package e2e

import (
	"fmt"
	"slices"
	"time"
)

// plain is what docs/signals.md says of signals, written as plainly as it can be: it keeps
// every word that was said of an entity, and reads all of them. It is who is right.
type plain struct {
	words map[string][]word // by entity
	void  map[string]bool   // what was lifted, see word.name
}

// word is what one signal says of one entity.
type word struct {
	source, id, kind string // kind is the type of the signal
	at, until        time.Time
	risk             int
	actions          []string // of a demand for approval
}

// never is when that ends which has no end.
var never = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)

// mostAhead is how far ahead of its taking a word may be dated.
const mostAhead = 5 * time.Second

func newPlain() *plain { return &plain{words: map[string][]word{}, void: map[string]bool{}} }

// matter is that of a line, in which a source's newest word speaks; "" for words that all
// stand.
func (w word) matter() string {
	switch w.kind {
	case "quarantine", "release":
		return "hold"
	case "risk":
		return "risk"
	}
	return ""
}

// restricts reports whether w says that there is anything.
func (w word) restricts() bool { return w.kind != "release" && (w.kind != "risk" || w.risk > 0) }

// permits reports whether w can permit something: it is refused where it is too far ahead.
func (w word) permits() bool { return w.kind == "release" || w.kind == "risk" }

func (w word) name(ref string) string { return ref + " " + w.source + " " + w.kind + " " + w.id }

// say takes a word that was taken at some instant. It reports false for one that is refused.
func (p *plain) say(ref string, w word, taken time.Time) bool {
	if latest := taken.Add(mostAhead); w.at.After(latest) {
		if w.permits() {
			return false
		}
		w.at = latest
	}
	p.words[ref] = append(p.words[ref], w)
	return true
}

// newer reports whether a counts as newer than b, of one line.
func newer(a, b word) bool {
	if !a.at.Equal(b.at) {
		return a.at.After(b.at)
	}
	if a.kind != b.kind {
		return a.kind == "quarantine"
	}
	if a.risk != b.risk {
		return a.risk > b.risk
	}
	return a.until.After(b.until)
}

// line gives the words of a source on a matter that a node has kept: those that have not
// ended and that no newer one outlasts. The oldest comes first.
func (p *plain) line(ref, source, matter string, now time.Time) []word {
	var all, kept []word
	for _, w := range p.words[ref] {
		if w.source == source && w.matter() == matter && w.until.After(now) {
			all = append(all, w)
		}
	}
	for _, w := range all {
		if !slices.ContainsFunc(all, func(o word) bool { return newer(o, w) && !o.until.Before(w.until) }) {
			kept = append(kept, w)
		}
	}
	slices.SortFunc(kept, func(a, b word) int {
		if newer(b, a) {
			return -1
		}
		return 1
	})
	return slices.CompactFunc(kept, func(a, b word) bool { return !newer(a, b) && !newer(b, a) }) // said twice
}

// undo takes words back: it is as if they had not been said. Of a line that holds for what
// was kept; what is left counts from just after the newest of it. It reports whether there
// was anything to take back.
func (p *plain) undo(ref string, now time.Time, back func(word) bool) bool {
	found := false
	type of struct{ source, matter string }
	lines := map[of]bool{}
	var left []word
	for _, w := range p.words[ref] {
		switch {
		case w.matter() != "":
			lines[of{w.source, w.matter()}] = true
		case w.until.After(now) && back(w) && !p.void[w.name(ref)]:
			found = true
			p.void[w.name(ref)] = true
		}
		left = append(left, w)
	}
	for l := range lines {
		kept := p.line(ref, l.source, l.matter, now)
		oldest := slices.IndexFunc(kept, func(w word) bool { return w.restricts() && back(w) })
		if oldest < 0 {
			continue
		}
		found = true
		at := kept[len(kept)-1].at
		silence := word{source: l.source, id: "undo", kind: map[string]string{"hold": "release", "risk": "risk"}[l.matter], until: never}
		again := []word{silence}
		if oldest > 0 {
			again[0] = kept[oldest-1]
		}
		for _, w := range kept[oldest+1:] {
			if !w.restricts() || !back(w) {
				again = append(again, w)
			}
		}
		for i, w := range again {
			w.at = at.Add(time.Duration(i + 1))
			w.id = "undo"
			left = append(left, w)
		}
	}
	p.words[ref] = left
	return found
}

// standing is what is in force of an entity.
type standing struct {
	Status      string   `json:"status"`
	Risk        int      `json:"risk"`
	Tainted     bool     `json:"tainted"`
	Narrowed    bool     `json:"narrowed"`
	ApprovalFor []string `json:"approval_for"`
}

func (s standing) String() string {
	return fmt.Sprintf("%s, risk %d, tainted %t, narrowed %t, approval for %v", s.Status, s.Risk, s.Tainted, s.Narrowed, s.ApprovalFor)
}

// standing reads everything that was said of an entity.
func (p *plain) standing(ref string, now time.Time) standing {
	s := standing{Status: "active"}
	speaks := map[string]word{} // by source and matter
	for _, w := range p.words[ref] {
		if !w.until.After(now) || p.void[w.name(ref)] {
			continue
		}
		switch w.kind {
		case "taint":
			s.Tainted = true
		case "narrow":
			s.Narrowed = true
		case "require_approval":
			s.ApprovalFor = append(s.ApprovalFor, w.actions...)
		case "revoke":
			s.Status = "revoked"
		default:
			key := w.source + " " + w.matter()
			if o, there := speaks[key]; !there || newer(w, o) {
				speaks[key] = w
			}
		}
	}
	for _, w := range speaks {
		s.Risk = max(s.Risk, w.risk)
		if w.kind == "quarantine" && s.Status == "active" {
			s.Status = "quarantined"
		}
	}
	slices.Sort(s.ApprovalFor)
	s.ApprovalFor = slices.Compact(s.ApprovalFor)
	if slices.Contains(s.ApprovalFor, "*") {
		s.ApprovalFor = []string{"*"}
	}
	return s
}

// payment is the answer to whether an agent may pay in a session, as client.decide asks and
// the rules of examples/invoice have it, in the word of answer.String.
func (p *plain) payment(agent, session string, now time.Time) string {
	a, s := p.standing("agent:"+agent, now), p.standing("session:"+session, now)
	for _, status := range []string{"revoked", "quarantined"} {
		if a.Status == status || s.Status == status {
			return "deny " + status
		}
	}
	switch {
	case a.Narrowed || s.Narrowed: // of nothing else than what it needs is ever left
		return "deny scope_not_held"
	case a.Tainted:
		return "deny denied_by_rule"
	case a.Risk >= 70:
		return "deny no_allow_rule"
	case len(a.ApprovalFor) > 0 || len(s.ApprovalFor) > 0:
		return "deny approval_required"
	}
	return "allow"
}

// near is an instant within d of now at which a word of anything ends; zero for none.
func (p *plain) near(now time.Time, d time.Duration) time.Time {
	for _, words := range p.words {
		for _, w := range words {
			if w.until.After(now.Add(-d)) && w.until.Before(now.Add(d)) {
				return w.until
			}
		}
	}
	return time.Time{}
}
