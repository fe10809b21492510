package main

import (
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestThresholdsAreReadStrictly(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`{"v":2,"limits":[]}`, "version 2"},
		{`{"v":1,"limits":[]}`, "there are none"},
		{`{"v":1,"limits":[{"row":"a","max":1,"why":"w"}]}`, "/calm"},
		{`{"v":1,"calm":1,"limits":[{"row":"a","max":1,"why":"w","maxx":2}]}`, "maxx"},
		{`{"v":1,"calm":1,"limits":[{"row":"","max":1,"why":"w"}]}`, "/limits/0/row"},
		{`{"v":1,"calm":1,"limits":[{"row":"a","why":"w"}]}`, "neither max nor min"},
		{`{"v":1,"calm":1,"limits":[{"row":"a","max":1,"margin":-0.1,"why":"w"}]}`, "margin"},
		{`{"v":1,"calm":1,"limits":[{"row":"a","max":1,"margin":2,"why":"w"}]}`, "margin"},
		{`{"v":1,"calm":1,"limits":[{"row":"a","min":1,"reads":2,"why":"w"}]}`, "reads"},
		{`{"v":1,"calm":1,"limits":[{"row":"a","max":1,"reads":-1,"why":"w"}]}`, "reads"},
		{`{"v":1,"calm":1,"limits":[{"row":"a","max":1}]}`, "say why"},
	} {
		if _, err := decodeThresholds([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want something about %q", c.text, err, c.want)
		}
	}
}

func TestALimitThatIsNotKeptIsMissed(t *testing.T) {
	two, one := 2.0, 1.0
	rows := []Row{
		{ID: "high", Value: 2.3, IsRatio: true}, {ID: "within", Value: 2.1, IsRatio: true}, {ID: "low", Value: .8, IsRatio: true},
		{ID: "nan", Value: math.NaN(), IsRatio: true}, {ID: "time", Value: 1, Unit: nanoseconds}, {ID: "rate", Value: 1, Unit: perSecond},
		{ID: "count", Value: 1, Unit: allocated},
	}
	for _, c := range []struct {
		limit Limit
		want  string // "" is kept
	}{
		{Limit{Row: "high", Max: &two, Margin: .1}, "at most 2"},
		{Limit{Row: "within", Max: &two, Margin: .1}, ""},
		{Limit{Row: "within", Max: &two}, "at most 2"},
		{Limit{Row: "low", Min: &one, Margin: .1}, "at least 1"},
		{Limit{Row: "low", Min: &one, Margin: .25}, ""},
		{Limit{Row: "nan", Max: &two}, "no number"},
		{Limit{Row: "time", Max: &two}, "differ from machine to machine"},
		{Limit{Row: "rate", Min: &one}, "differ from machine to machine"},
		{Limit{Row: "count", Max: new(float64)}, "at most 0"},
		{Limit{Row: "other.absent", Max: &one}, "not measured"},
		{Limit{Row: "skipped.absent", Max: &one}, ""},
	} {
		limits := Thresholds{Limits: []Limit{c.limit}}
		missed := limits.missed(rows, 0, func(id string) bool { return strings.HasPrefix(id, "skipped.") })
		if (len(missed) > 0) != (c.want != "") || c.want != "" && !strings.Contains(missed[0], c.want) {
			t.Errorf("%+v: %q, want %q", c.limit, missed, c.want)
		}
	}
}

func TestALimitAboutMemoryGrowsWhereMemoryIsSlow(t *testing.T) {
	two, zero := 2.0, 0.0
	limits := Thresholds{Calm: .25, Limits: []Limit{
		{Row: "waits", Max: &two, Margin: .5, Reads: 4}, {Row: "computes", Max: &two, Margin: .5}, {Row: "counts", Max: &zero},
	}}
	none := func(string) bool { return false }
	for _, c := range []struct {
		waits, read   float64
		missed, noisy string
	}{
		{4, .1, "waits computes counts", "waits computes"},
		{4, .49, "waits computes counts", "waits computes"},
		{4, .51, "computes counts", "computes"},
		{50, 3, "waits computes counts", "waits computes"},
	} {
		rows := []Row{{ID: "waits", Value: c.waits, IsRatio: true}, {ID: "computes", Value: 4, IsRatio: true}, {ID: "counts", Value: 1, Unit: allocated}}
		for _, got := range []struct {
			what string
			is   []string
			want string
		}{{"missed", limits.missed(rows, c.read, none), c.missed}, {"perhaps noise", limits.noisy(rows, c.read), c.noisy}} {
			for i := range got.is {
				got.is[i], _, _ = strings.Cut(got.is[i], ":")
			}
			if is := strings.Join(got.is, " "); is != got.want {
				t.Errorf("%v, and a read takes %v: %s: %q, want %q", c.waits, c.read, got.what, is, got.want)
			}
		}
	}
	if missed := limits.missed(nil, 1, none); len(missed) != 3 {
		t.Errorf("nothing was measured: missed %q", missed)
	}
}

func TestWhatIsMeasuredAgainForgivesNoiseAndNoCount(t *testing.T) {
	two, zero := 2.0, 0.0
	limits := Thresholds{Calm: 1, Limits: []Limit{{Row: "ratio", Max: &two, Margin: .5}, {Row: "count", Max: &zero}}}
	rows := func(ratio, count float64) []Row {
		return []Row{{ID: "ratio", Value: ratio, IsRatio: true}, {ID: "count", Value: count, Unit: allocated}, {ID: "free", Value: ratio}}
	}
	for _, c := range []struct {
		what                   string
		earlier, later, better []Row
	}{
		{"the first time", nil, rows(4, 1), rows(4, 1)},
		{"noise passes", rows(4, 0), rows(2, 0), []Row{rows(2, 0)[0], rows(2, 0)[1], rows(4, 0)[2]}},
		{"it was kept already", rows(2, 0), rows(4, 0), rows(2, 0)},
		{"as bad", rows(4, 0), rows(5, 0), rows(4, 0)},
		{"a count that was missed stays so", rows(2, 1), rows(2, 0), rows(2, 1)},
		{"a count that is missed later counts", rows(2, 0), rows(2, 1), rows(2, 1)},
	} {
		if got := limits.better(c.earlier, c.later, 0); !slices.Equal(got, c.better) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.what, got, c.better)
		}
	}
}

func TestASectionThatMissesALimitIsMeasuredAgain(t *testing.T) {
	probe, err := newMemoryProbe()
	if err != nil {
		t.Fatal(err)
	}
	probe.worst.Value = 1e9 // no machine is worse, so that what is measured here does not matter
	two := 2.0
	limits := &Thresholds{Calm: 1, Limits: []Limit{{Row: "ratio", Max: &two, Margin: .5}}}
	for _, c := range []struct {
		values []float64 // by attempt
		want   int       // attempts
		kept   bool
	}{
		{[]float64{2, 9, 9}, 1, true},
		{[]float64{9, 2, 9}, 2, true},
		{[]float64{9, 9, 9}, attempts, false},
	} {
		b := &bench{log: io.Discard, memory: probe, results: Results{Rows: []Row{{ID: "before"}}}}
		n := 0
		s := section{name: "s", run: func(b *bench, _ context.Context) error {
			b.add(Row{ID: "ratio", Value: c.values[n], IsRatio: true})
			n++
			return nil
		}}
		if err := b.measure(t.Context(), s, limits); err != nil {
			t.Fatal(err)
		}
		missed := limits.missed(b.results.Rows, 0, func(string) bool { return false })
		if n != c.want || (len(missed) == 0) != c.kept || len(b.results.Rows) != 2 || b.results.Rows[0].ID != "before" {
			t.Errorf("%v: measured %d times, missed %q, rows %+v", c.values, n, missed, b.results.Rows)
		}
	}
}

func TestAnAttemptThatFailsLosesNothingThatWasMeasured(t *testing.T) {
	probe, err := newMemoryProbe()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{log: io.Discard, memory: probe, results: Results{Rows: []Row{{ID: "before"}}}}
	broken := section{name: "s", run: func(*bench, context.Context) error { return errors.New("no") }}
	if err := b.measure(t.Context(), broken, &Thresholds{}); err == nil || len(b.results.Rows) != 1 {
		t.Errorf("%v, rows %+v", err, b.results.Rows)
	}
}

func TestAReadOfAChainVisitsEveryLineOfIt(t *testing.T) {
	c := newChain()
	lines, read := len(c.next)/lineWords, c.subject()
	seen := make([]bool, lines)
	for i := range lines {
		if line := int(c.at) / lineWords; int(c.at)%lineWords != 0 || seen[line] {
			t.Fatalf("after %d of %d reads it is at %d again, or within a line", i, lines, c.at)
		} else {
			seen[line] = true
		}
		read.run(1)
	}
	if c.at != 0 {
		t.Errorf("after every line it is at %d, not back", c.at)
	}
}

func TestOnlyRowsOfSectionsThatWereLeftOutAreForgiven(t *testing.T) {
	out := leftOut([]string{"rules"})
	for id, want := range map[string]bool{"rules.action": false, "http.cached.cpu": true, "cached.16": true, "strange": false} {
		if out(id) != want {
			t.Errorf("%s is left out: %v", id, out(id))
		}
	}
}

func TestSectionsAreChosenByName(t *testing.T) {
	if names, err := chosen(""); err != nil || len(names) != len(sections) {
		t.Error(names, err)
	}
	if names, err := chosen("rules,start"); err != nil || len(names) != 2 {
		t.Error(names, err)
	}
	if _, err := chosen("rules,strat"); err == nil || !strings.Contains(err.Error(), `"strat"`) {
		t.Error(err)
	}
}
