package main

import (
	"slices"
	"strings"
	"testing"
)

func TestVerdictSaysHowAValueStandsToItsBar(t *testing.T) {
	for _, c := range []struct {
		bar   Bar
		value float64
		want  string
	}{
		{Bar{Bar: 2, Aim: 1.3, Most: true}, 2.01, "SHORT"},
		{Bar{Bar: 2, Aim: 1.3, Most: true}, 2, "ok"},
		{Bar{Bar: 2, Aim: 1.3, Most: true}, 1.3, "ok, aim"},
		{Bar{Bar: .85, Aim: .92}, .849, "SHORT"},
		{Bar{Bar: .85, Aim: .92}, .85, "ok"},
		{Bar{Bar: .85, Aim: .92}, .92, "ok, aim"},
		{Bar{Most: true, Exact: true}, 1, "SHORT"},
		{Bar{Most: true, Exact: true}, 0, "ok"},
		{Bar{Aim: 1.2, Most: true}, 100, "short of the aim"},
		{Bar{Aim: 1.2, Most: true}, 1.1, "aim"},
	} {
		if got := c.bar.verdict(c.value); got != c.want {
			t.Errorf("%+v of %v: %q, want %q", c.bar, c.value, got, c.want)
		}
	}
}

func TestShareIsAboveOneExactlyWhereABarIsShort(t *testing.T) {
	for _, b := range bars {
		if b.Bar == 0 {
			continue
		}
		for _, value := range []float64{b.Bar / 3, b.Bar * .999, b.Bar, b.Bar * 1.001, b.Bar * 3} {
			if short := b.verdict(value) == "SHORT"; short != (b.share(value) > 1) {
				t.Errorf("%s: %v is %q, and the share %v", b.ID, value, b.verdict(value), b.share(value))
			}
		}
	}
}

// sectionOf finds the sections that a row can come from.
func sectionsOf(id string) (names []string) {
	for _, s := range sections {
		if slices.ContainsFunc(s.prefixes, func(p string) bool { return strings.HasPrefix(id, p) }) {
			names = append(names, s.name)
		}
	}
	return names
}

func TestEveryBarAndThresholdIsOfExactlyOneSection(t *testing.T) {
	ids := []string{}
	for _, b := range bars {
		ids = append(ids, b.ID)
	}
	for _, full := range []bool{false, true} {
		limits, err := thresholdsFor("", full)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range limits.Limits {
			ids = append(ids, l.Row)
		}
	}
	for _, id := range ids {
		if names := sectionsOf(id); len(names) != 1 {
			t.Errorf("%s is of sections %v", id, names)
		}
	}
}

// A threshold may be stricter than the bar, and has a margin for noise of its own. In the
// full run a laxer one would let a bar slip unseen; the quick one, which guards what is
// reached against changes, says what the bar is.
func TestThresholdsAreNoLaxerThanTheirBars(t *testing.T) {
	for _, full := range []bool{false, true} {
		limits, err := thresholdsFor("", full)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range limits.Limits {
			b, ok := barOf(l.Row)
			if !ok {
				continue
			}
			const rounding = 1.001
			if b.Most && (l.Max == nil || *l.Max > b.Bar*rounding) || !b.Most && (l.Min == nil || *l.Min < b.Bar/rounding) {
				if full || !strings.Contains(l.Why, "the bar is") {
					t.Errorf("full %v: %+v is laxer than the bar %s", full, l, b.limit())
				}
			}
			if b.Exact && l.Margin != 0 {
				t.Errorf("full %v: %s is exact and has a margin", full, l.Row)
			}
		}
	}
}
