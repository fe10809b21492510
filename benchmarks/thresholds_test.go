package main

import (
	"math"
	"strings"
	"testing"
)

func TestThresholdsAreReadStrictly(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`{"v":2,"limits":[]}`, "version 2"},
		{`{"v":1,"limits":[]}`, "there are none"},
		{`{"v":1,"limits":[{"row":"a","max":1,"why":"w","maxx":2}]}`, "maxx"},
		{`{"v":1,"limits":[{"row":"","max":1,"why":"w"}]}`, "/limits/0/row"},
		{`{"v":1,"limits":[{"row":"a","why":"w"}]}`, "neither max nor min"},
		{`{"v":1,"limits":[{"row":"a","max":1,"margin":-0.1,"why":"w"}]}`, "margin"},
		{`{"v":1,"limits":[{"row":"a","max":1,"margin":2,"why":"w"}]}`, "margin"},
		{`{"v":1,"limits":[{"row":"a","max":1}]}`, "say why"},
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
		missed := limits.missed(rows, func(id string) bool { return strings.HasPrefix(id, "skipped.") })
		if (len(missed) > 0) != (c.want != "") || c.want != "" && !strings.Contains(missed[0], c.want) {
			t.Errorf("%+v: %q, want %q", c.limit, missed, c.want)
		}
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
