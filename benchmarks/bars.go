package main

import "strings"

// Bar is what has to hold of a row's value, and what a prototype says can be had.
type Bar struct {
	ID   string
	Bar  float64 // 0 where there is only an aim, unless Exact
	Aim  float64 // 0 for none, unless Exact
	Most bool    // the value is to be at most that, not at least
	// Exact: the bar is 0 and nothing else will do.
	Exact bool
}

// bars has one line for each row that something is demanded of.
var bars = []Bar{
	{ID: "http.cached.throughput", Bar: 0.85, Aim: 0.92},
	{ID: "http.off.throughput", Bar: 0.60, Aim: 0.70},
	{ID: "http.new.throughput", Bar: 0.60, Aim: 0.70},
	{ID: "cached.16.allocs", Most: true, Exact: true},
	{ID: "cached.10000.allocs", Most: true, Exact: true},
	{ID: "cached.16", Bar: 1.0 / 4, Aim: 1.0 / 6, Most: true},
	{ID: "cached.10000", Bar: 2.0 / 3, Aim: 1.0 / 2, Most: true},
	{ID: "fresh.rules", Bar: 1, Aim: 0.25, Most: true},
	{ID: "fresh.decision", Bar: 1, Aim: 0.25, Most: true},
	{ID: "rules.action", Bar: 1.2, Most: true},
	{ID: "rules.resource", Bar: 1.2, Most: true},
	{ID: "rules.global", Bar: 1.2, Most: true},
	{ID: "agents.fresh", Bar: 1.5, Most: true},
	{ID: "agents.cached", Bar: 1.5, Most: true},
	{ID: "agents.heap", Bar: 400, Aim: 250, Most: true},
	{ID: "signals.p99", Bar: 2, Aim: 1.3, Most: true},
	{ID: "signals.rate", Bar: .95 * signalRate}, // else the p99 is beside fewer signals than its bar says
	{ID: "race.stale", Most: true, Exact: true},
	{ID: "start.ready", Bar: 3, Aim: 1.5, Most: true},
}

func barOf(id string) (Bar, bool) {
	for _, b := range bars {
		if b.ID == id {
			return b, true
		}
	}
	return Bar{}, false
}

func (b *Bar) sign() string {
	if b.Most {
		return "≤ "
	}
	return "≥ "
}

func (b *Bar) limit() string {
	switch {
	case b.Exact:
		return "0"
	case b.Bar == 0:
		return ""
	}
	return b.sign() + number(b.Bar)
}

func (b *Bar) wish() string {
	if b.Aim == 0 {
		return ""
	}
	return b.sign() + number(b.Aim)
}

// reaches reports whether a value is on the right side of a limit.
func (b *Bar) reaches(value, limit float64) bool {
	if b.Most {
		return value <= limit
	}
	return value >= limit
}

// verdict says how a value stands to the bar, in a word: "ok", "short", and "ok, aim"
// where the aim is reached too.
func (b *Bar) verdict(value float64) string {
	var words []string
	if b.Exact || b.Bar != 0 {
		if !b.reaches(value, b.Bar) {
			return "SHORT"
		}
		words = append(words, "ok")
	}
	if b.Aim != 0 {
		if b.reaches(value, b.Aim) {
			words = append(words, "aim")
		} else if len(words) == 0 {
			words = append(words, "short of the aim")
		}
	}
	return strings.Join(words, ", ")
}
