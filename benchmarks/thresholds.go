package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"math"
	"os"

	"github.com/go-json-experiment/json"
)

// Thresholds is what the rows of a run have to be, as a file, for machines that come and
// go: ratios within the run, counts and sizes, never times.
type Thresholds struct {
	V      int     `json:"v"` // 1
	Limits []Limit `json:"limits"`
}

// Limit is about one row's value.
type Limit struct {
	Row string   `json:"row"`
	Max *float64 `json:"max,omitzero"`
	Min *float64 `json:"min,omitzero"`
	// Margin is how much noise is put up with, as a share of the limit: 0.1 lets a
	// maximum of 2 be 2.2. Exact counts have none.
	Margin float64 `json:"margin,omitzero"`
	Why    string  `json:"why"`
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
	for i, l := range t.Limits {
		switch {
		case l.Row == "":
			return nil, fmt.Errorf("/limits/%d/row: it is empty", i)
		case l.Max == nil && l.Min == nil:
			return nil, fmt.Errorf("/limits/%d: neither max nor min", i)
		case !(l.Margin >= 0 && l.Margin <= 1):
			return nil, fmt.Errorf("/limits/%d/margin: want 0 to 1, not %v", i, l.Margin)
		case l.Why == "":
			return nil, fmt.Errorf("/limits/%d/why: say why", i)
		}
	}
	return t, nil
}

// missed says which limits the rows do not keep. A limit on a row that was not measured is
// not kept, unless its section was left out on purpose.
func (t *Thresholds) missed(rows []Row, leftOut func(id string) bool) (missed []string) {
	for _, l := range t.Limits {
		row := find(rows, l.Row)
		switch {
		case row == nil && leftOut(l.Row):
		case row == nil:
			missed = append(missed, l.Row+": it was not measured")
		case !row.comparable():
			missed = append(missed, fmt.Sprintf("%s: it is in %s, which no threshold is for: they differ from machine to machine", l.Row, row.Unit))
		case math.IsNaN(row.Value):
			missed = append(missed, l.Row+": it is no number")
		case l.Max != nil && row.Value > *l.Max*(1+l.Margin):
			missed = append(missed, fmt.Sprintf("%s: %s, at most %v with a margin of %v: %s", l.Row, number(row.Value), *l.Max, l.Margin, l.Why))
		case l.Min != nil && row.Value < *l.Min*(1-l.Margin):
			missed = append(missed, fmt.Sprintf("%s: %s, at least %v with a margin of %v: %s", l.Row, number(row.Value), *l.Min, l.Margin, l.Why))
		}
	}
	return missed
}

func find(rows []Row, id string) *Row {
	for i := range rows {
		if rows[i].ID == id {
			return &rows[i]
		}
	}
	return nil
}
