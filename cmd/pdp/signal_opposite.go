package main

import (
	"fmt"
	"slices"
	"time"

	"vigil/server/control"
	"vigil/signals"
)

// opposites gives the signals that take back the facts of an entity for which back is
// true, leaving the others as if those had never been said. facts are in order, oldest
// first, as the control port lists them.
//
// In a line these are dated just after the newest word that facts have of it: so they
// count before it though its clock was ahead of ours, and what is said meanwhile, which
// nobody has seen, counts before them.
func opposites(ref string, facts []control.Fact, back []bool) ([]draft, error) {
	var drafts []draft
	var lines []line
	for i := range facts {
		fact := &facts[i]
		if of := lineOf(fact); of != "" {
			if fact.Active {
				lines = addToLine(lines, line{source: fact.Source, of: of}, fact, back[i])
			}
			continue
		}
		if back[i] {
			drafts = append(drafts, draft{kind: signals.TypeLift, entities: []string{ref}, members: members{
				"lifts": liftTarget{Type: fact.Type, Source: fact.Source, ID: fact.ID},
			}})
		}
	}
	for i := range lines {
		again, err := lines[i].opposites(ref)
		if err != nil {
			return nil, err
		}
		drafts = append(drafts, again...)
	}
	return drafts, nil
}

// line is what one source says on one matter, where its newest word speaks. An older
// one is kept while it would last longer than all that are newer.
type line struct {
	source, of string
	facts      []*control.Fact // in force, oldest first
	back       []bool          // to be taken back
}

// lineOf names the matter of a fact's line; "" for a type whose facts all stand.
func lineOf(f *control.Fact) string {
	switch f.Type {
	case "quarantine", "release":
		return "hold"
	case "risk":
		return "risk"
	}
	return ""
}

func addToLine(lines []line, key line, fact *control.Fact, back bool) []line {
	at := slices.IndexFunc(lines, func(l line) bool { return l.source == key.source && l.of == key.of })
	if at < 0 {
		at, lines = len(lines), append(lines, key)
	}
	l := &lines[at]
	l.facts, l.back = append(l.facts, fact), append(l.back, back)
	return lines
}

// opposites takes back the facts of a line that are to be. What was said before the
// oldest of them is said again, until it would have ended, or that there is nothing; so it
// lasts longer than what it replaces. What was said after it and stays is said again on
// top of that, and comes first in the batch: at no moment is less in force than in the end.
func (l *line) opposites(ref string) ([]draft, error) {
	oldest := slices.Index(l.back, true)
	if oldest < 0 {
		return nil, nil
	}
	newest, err := time.Parse(time.RFC3339Nano, l.facts[len(l.facts)-1].Time)
	if err != nil {
		return nil, fmt.Errorf("the time of what %s says about %s: %w", l.source, ref, err)
	}
	base := draft{kind: signals.TypeRelease, entities: []string{ref}, line: l.source}
	if l.of == "risk" {
		none := 0
		base.kind, base.members = signals.TypeRisk, members{"risk": &none}
	}
	none := true
	if oldest > 0 {
		base = restatement(ref, l.facts[oldest-1])
		none = neutral(l.facts[oldest-1])
	}
	base.dated = newest.Add(1)
	drafts := []draft{base}
	for i := oldest + 1; i < len(l.facts); i++ {
		if l.back[i] || none && neutral(l.facts[i]) {
			continue // it hides nothing
		}
		none = false
		again := restatement(ref, l.facts[i])
		again.dated = newest.Add(1 + time.Duration(i-oldest))
		drafts = append(drafts, again)
	}
	slices.Reverse(drafts)
	return drafts, nil
}

// neutral reports whether a fact says that there is nothing.
func neutral(f *control.Fact) bool {
	return f.Type == "release" || f.Type == "risk" && f.Risk != nil && *f.Risk == 0
}

// restatement says a fact of a line anew, until it would have ended.
func restatement(ref string, f *control.Fact) draft {
	d := draft{kind: signals.Type(f.Type), entities: []string{ref}, line: f.Source, until: f.Until}
	if f.Risk != nil {
		d.members = members{"risk": f.Risk}
	}
	return d
}
