package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/go-json-experiment/json"
)

// Thresholds is what the results of a command have to be, as a file. It is for machines
// that come and go, so it speaks of counts, ratios within one run and allocations, never of
// times.
type Thresholds struct {
	V      int     `json:"v"` // 1
	Limits []Limit `json:"limits"`
}

// Limit is about one metric.
type Limit struct {
	Metric string   `json:"metric"`
	Max    *float64 `json:"max,omitzero"`
	Min    *float64 `json:"min,omitzero"`
	// Margin is how much noise is put up with, as a share of the limit: 0.1 lets a
	// maximum of 2 be 2.2. Exact counts have none.
	Margin float64 `json:"margin,omitzero"`
	Why    string  `json:"why"`
}

func readThresholds(name string) (*Thresholds, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, usageError{err}
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, 1<<20))
	if err != nil {
		return nil, err
	}
	t, err := decodeThresholds(data)
	if err != nil {
		return nil, badUsage("%s: %w", name, err)
	}
	return t, nil
}

func decodeThresholds(data []byte) (*Thresholds, error) {
	t := &Thresholds{}
	if err := json.Unmarshal(data, t, json.RejectUnknownMembers(true)); err != nil {
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
		case l.Metric == "":
			return nil, fmt.Errorf("/limits/%d/metric: it is empty", i)
		case l.Max == nil && l.Min == nil:
			return nil, fmt.Errorf("/limits/%d: neither max nor min", i)
		case l.Margin < 0 || l.Margin > 1:
			return nil, fmt.Errorf("/limits/%d/margin: want 0 to 1, not %v", i, l.Margin)
		case l.Why == "":
			return nil, fmt.Errorf("/limits/%d/why: say why", i)
		}
	}
	return t, nil
}

// missed says which limits a report does not keep. A limit on something that was not
// measured is not kept.
func (t *Thresholds) missed(r *Report) (missed []string) {
	for _, l := range t.Limits {
		m, ok := r.metric(l.Metric)
		switch {
		case !ok:
			missed = append(missed, fmt.Sprintf("threshold %s: it was not measured", l.Metric))
		case m.Unit != count && m.Unit != ratio && m.Unit != perCall:
			missed = append(missed, fmt.Sprintf("threshold %s: it is in %s, which no threshold is for: they differ from machine to machine", l.Metric, m.Unit))
		case math.IsNaN(m.Value):
			missed = append(missed, fmt.Sprintf("threshold %s: it is no number", l.Metric))
		case l.Max != nil && m.Value > *l.Max*(1+l.Margin):
			missed = append(missed, fmt.Sprintf("threshold %s: %v, at most %v with a margin of %v: %s", l.Metric, m.Value, *l.Max, l.Margin, l.Why))
		case l.Min != nil && m.Value < *l.Min*(1-l.Margin):
			missed = append(missed, fmt.Sprintf("threshold %s: %v, at least %v with a margin of %v: %s", l.Metric, m.Value, *l.Min, l.Margin, l.Why))
		}
	}
	return missed
}
