package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"

	"github.com/go-json-experiment/json"
)

// Thresholds is what the rows of a run have to be, as a file, for machines that come and
// go: ratios within the run, counts and sizes, never times.
type Thresholds struct {
	V int `json:"v"` // 1
	// Calm is how much of a raw evaluation a read that misses the caches takes on a machine
	// for which the limits are as they stand.
	Calm   float64 `json:"calm"`
	Limits []Limit `json:"limits"`
}

// Limit is about one row's value.
type Limit struct {
	Row string   `json:"row"`
	Max *float64 `json:"max,omitzero"`
	Min *float64 `json:"min,omitzero"`
	// Margin is how much noise is put up with, as a share of the limit: 0.1 lets a
	// maximum of 2 be 2.2. Exact counts have none, and missing one once is final.
	Margin float64 `json:"margin,omitzero"`
	// Reads is for how many reads that miss the caches the row may wait longer than its
	// reference does: where one takes more than Thresholds.Calm, a maximum grows by as many
	// times what it takes more.
	Reads float64 `json:"reads,omitzero"`
	Why   string  `json:"why"`
}

//go:embed thresholds/quick.json
var quickThresholds []byte

//go:embed thresholds/full.json
var fullThresholds []byte

// thresholdsFor gives those of a file, or the ones built in for the kind of run.
func thresholdsFor(name string, full bool) (*Thresholds, error) {
	switch {
	case name != "":
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		t, err := decodeThresholds(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return t, nil
	case full:
		return decodeThresholds(fullThresholds)
	}
	return decodeThresholds(quickThresholds)
}

func decodeThresholds(data []byte) (*Thresholds, error) {
	t := &Thresholds{}
	if err := json.UnmarshalRead(bytes.NewReader(data), t, json.RejectUnknownMembers(true)); err != nil {
		return nil, err
	}
	if t.V != 1 {
		return nil, fmt.Errorf("/v: version %d; this program reads version 1", t.V)
	}
	if len(t.Limits) == 0 {
		return nil, errors.New("/limits: there are none")
	}
	if !(t.Calm > 0) {
		return nil, fmt.Errorf("/calm: want more than 0, not %v", t.Calm)
	}
	for i, l := range t.Limits {
		switch {
		case l.Row == "":
			return nil, fmt.Errorf("/limits/%d/row: it is empty", i)
		case l.Max == nil && l.Min == nil:
			return nil, fmt.Errorf("/limits/%d: neither max nor min", i)
		case !(l.Reads >= 0) || l.Reads > 0 && l.Max == nil:
			return nil, fmt.Errorf("/limits/%d/reads: want 0 or more, beside a max, not %v", i, l.Reads)
		case !(l.Margin >= 0 && l.Margin <= 1):
			return nil, fmt.Errorf("/limits/%d/margin: want 0 to 1, not %v", i, l.Margin)
		case l.Why == "":
			return nil, fmt.Errorf("/limits/%d/why: say why", i)
		}
	}
	return t, nil
}

// missed says which limits the rows do not keep on a machine where a read that misses the
// caches takes so much of a raw evaluation. A limit on a row that was not measured is not
// kept, unless its section was left out on purpose.
func (t *Thresholds) missed(rows []Row, read float64, leftOut func(id string) bool) (missed []string) {
	for _, l := range t.Limits {
		row := find(rows, l.Row)
		if row == nil && leftOut(l.Row) {
			continue
		}
		if why := l.missedBy(row, t.slow(read)); why != "" {
			missed = append(missed, why)
		}
	}
	return missed
}

// slow is how much longer than on a calm machine a read takes.
func (t *Thresholds) slow(read float64) float64 { return max(0, read-t.Calm) }

// noisy gives the rows that miss a limit perhaps by noise alone: those that might keep it
// when they are measured again.
func (t *Thresholds) noisy(rows []Row, read float64) (ids []string) {
	for _, l := range t.Limits {
		if row := find(rows, l.Row); row != nil && l.Margin > 0 && l.missedBy(row, t.slow(read)) != "" {
			ids = append(ids, l.Row)
		}
	}
	return ids
}

// better takes from a later measurement the rows that keep a limit with a margin that the
// earlier ones missed, and the rows that miss one without a margin.
func (t *Thresholds) better(earlier, later []Row, read float64) []Row {
	if earlier == nil {
		return later
	}
	rows := slices.Clone(earlier)
	for _, l := range t.Limits {
		was, is := find(rows, l.Row), find(later, l.Row)
		if was == nil || is == nil {
			continue
		}
		missed, misses := l.missedBy(was, t.slow(read)) != "", l.missedBy(is, t.slow(read)) != ""
		if l.Margin > 0 && missed && !misses || l.Margin == 0 && misses {
			*was = *is
		}
	}
	return rows
}

// missedBy says how a row does not keep the limit where a read takes so much longer, or "".
func (l *Limit) missedBy(row *Row, slow float64) string {
	switch {
	case row == nil:
		return l.Row + ": it was not measured"
	case !row.comparable():
		return fmt.Sprintf("%s: it is in %s, which no threshold is for: they differ from machine to machine", l.Row, row.Unit)
	case math.IsNaN(row.Value):
		return l.Row + ": it is no number"
	case l.Max != nil && row.Value > *l.Max*(1+l.Margin)+l.Reads*slow:
		return fmt.Sprintf("%s: %s, at most %v with a margin of %v%s: %s", l.Row, number(row.Value), *l.Max, l.Margin, l.allowed(slow), l.Why)
	case l.Min != nil && row.Value < *l.Min*(1-l.Margin):
		return fmt.Sprintf("%s: %s, at least %v with a margin of %v: %s", l.Row, number(row.Value), *l.Min, l.Margin, l.Why)
	}
	return ""
}

// allowed says what slow memory adds to a maximum.
func (l *Limit) allowed(slow float64) string {
	if l.Reads*slow == 0 {
		return ""
	}
	return fmt.Sprintf(", and %s for memory that is slow here", number(l.Reads*slow))
}

func find(rows []Row, id string) *Row {
	for i := range rows {
		if rows[i].ID == id {
			return &rows[i]
		}
	}
	return nil
}
