package rules

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"vigil/authz"
)

// TestValuesAreNeverCoerced holds every declared type against every kind of JSON value.
func TestValuesAreNeverCoerced(t *testing.T) {
	limit := func(f float64) *float64 { return &f }
	list := func(vs ...authz.Value) authz.Value {
		v := authz.Value{Kind: authz.List}
		for _, e := range vs {
			v.Members = append(v.Members, authz.Member{Value: e})
		}
		return v
	}
	entries := func(vs ...authz.Value) authz.Value {
		v := list(vs...)
		v.Kind = authz.Map
		for i := range v.Members {
			v.Members[i].Name = fmt.Sprint("k", i)
		}
		return v
	}
	many := make([]authz.Value, 65)
	for i := range many {
		many[i] = text("x")
	}
	yesValue, noValue := authz.Value{Kind: authz.Bool, Num: 1}, authz.Value{Kind: authz.Bool}
	for _, c := range []struct {
		attr Attribute
		v    authz.Value
		want string // what is boxed, or what is wrong
	}{
		{Attribute{Type: TypeString}, text("a"), "a"},
		{Attribute{Type: TypeString}, text(strings.Repeat("x", 1024)), strings.Repeat("x", 1024)},
		{Attribute{Type: TypeString}, text(strings.Repeat("x", 1025)), "1025 bytes, more than 1024"},
		{Attribute{Type: TypeString, Max: limit(3)}, text("äb"), "äb"},
		{Attribute{Type: TypeString, Max: limit(3)}, text("ää"), "4 bytes, more than 3"},
		{Attribute{Type: TypeString}, number(1), "want a string, got a number"},
		{Attribute{Type: TypeString}, yesValue, "want a string, got a bool"},
		{Attribute{Type: TypeString}, list(text("a")), "want a string, got a list"},
		{Attribute{Type: TypeBool}, yesValue, "true"},
		{Attribute{Type: TypeBool}, noValue, "false"},
		{Attribute{Type: TypeBool}, text("true"), "want a bool, got a string"},
		{Attribute{Type: TypeBool}, number(1), "want a bool, got a number"},
		{Attribute{Type: TypeInt}, number(5000), "5000"},
		{Attribute{Type: TypeInt}, number(math.Copysign(0, -1)), "0"},
		{Attribute{Type: TypeInt}, number(5000.5), "5000.5 is no integer within 2^53"},
		{Attribute{Type: TypeInt}, number(1 << 53), "9007199254740992"},
		{Attribute{Type: TypeInt}, number(-(1 << 53)), "-9007199254740992"},
		{Attribute{Type: TypeInt}, number(1<<53 + 2), "9.007199254740994e+15 is no integer within 2^53"},
		{Attribute{Type: TypeInt}, number(1e300), "1e+300 is no integer within 2^53"},
		{Attribute{Type: TypeInt}, text("5"), "want an int, got a string"},
		{Attribute{Type: TypeInt, Min: limit(1)}, number(0), "0 is less than 1"},
		{Attribute{Type: TypeInt, Max: limit(9)}, number(10), "10 is more than 9"},
		{Attribute{Type: TypeNumber}, number(5000), "5000"},
		{Attribute{Type: TypeNumber}, number(2.5), "2.5"},
		{Attribute{Type: TypeNumber}, number(math.NaN()), "no finite number"},
		{Attribute{Type: TypeNumber}, number(math.Inf(1)), "no finite number"},
		{Attribute{Type: TypeNumber, Min: limit(0)}, number(math.Inf(-1)), "no finite number"},
		{Attribute{Type: TypeNumber}, text("2.5"), "want a number, got a string"},
		{Attribute{Type: TypeNumber, Min: limit(0), Max: limit(1)}, number(-0.1), "-0.1 is less than 0"},
		{Attribute{Type: TypeTimestamp}, text("2026-11-23T09:00:00Z"), "2026-11-23T09:00:00Z"},
		{Attribute{Type: TypeTimestamp}, text("2026-11-23T09:00:00.5+02:00"), "2026-11-23T07:00:00.5Z"},
		{Attribute{Type: TypeTimestamp}, text("2026-11-23 09:00:00Z"), "want a timestamp as RFC 3339 has it"},
		{Attribute{Type: TypeTimestamp}, text("2026-11-23T9:00:00Z"), "want a timestamp as RFC 3339 has it"},
		{Attribute{Type: TypeTimestamp}, text("2026-11-23T09:00:00,5Z"), "want a timestamp as RFC 3339 has it"},
		{Attribute{Type: TypeTimestamp}, text("2026-02-30T09:00:00Z"), "want a timestamp as RFC 3339 has it"},
		{Attribute{Type: TypeTimestamp}, text("0000-01-01T00:00:00Z"), "want a timestamp as RFC 3339 has it"},
		{Attribute{Type: TypeTimestamp}, number(1e9), "want a timestamp, got a number"},
		{Attribute{Type: TypeDuration}, text("1h30m"), "1h30m0s"},
		{Attribute{Type: TypeDuration}, text("-2s"), "-2s"},
		{Attribute{Type: TypeDuration}, text("1 hour"), "want a duration, such as 90s or 1h30m"},
		{Attribute{Type: TypeDuration}, text("9999999h"), "want a duration, such as 90s or 1h30m"},
		{Attribute{Type: TypeDuration}, number(90), "want a duration, got a number"},
		{Attribute{Type: TypeList, Elem: TypeString}, list(), "[]"},
		{Attribute{Type: TypeList, Elem: TypeString}, list(text("a"), text("b")), `["a", "b"]`},
		{Attribute{Type: TypeList, Elem: TypeString}, list(text("a"), number(1)), "member 1: want a string, got a number"},
		{Attribute{Type: TypeList, Elem: TypeString}, list(authz.Value{}), "member 0: want a string, got null"},
		{Attribute{Type: TypeList, Elem: TypeString}, list(many...), "65 members, more than 64"},
		{Attribute{Type: TypeList, Elem: TypeString, Max: limit(1)}, list(text("a"), text("b")), "2 members, more than 1"},
		{Attribute{Type: TypeList, Elem: TypeString}, list(text(strings.Repeat("x", 1025))), "member 0: 1025 bytes, more than 1024"},
		{Attribute{Type: TypeList, Elem: TypeInt}, list(number(1), number(1.5)), "member 1: want an int, got a number"},
		{Attribute{Type: TypeList, Elem: TypeNumber}, list(number(1), number(1.5)), "[1, 1.5]"},
		{Attribute{Type: TypeList, Elem: TypeBool}, list(yesValue), "[true]"},
		{Attribute{Type: TypeList, Elem: TypeString}, entries(text("a")), "want a list of string, got a map"},
		{Attribute{Type: TypeMap, Elem: TypeString}, entries(text("a")), "a map of 1"},
		{Attribute{Type: TypeMap, Elem: TypeInt}, entries(number(1), text("a")), "member 1: want an int, got a string"},
		{Attribute{Type: TypeMap, Elem: TypeString}, authz.Value{Kind: authz.Map, Members: []authz.Member{{Name: strings.Repeat("k", 1025), Value: text("")}}}, "a key of 1025 bytes, more than 1024"},
		{Attribute{Type: TypeMap, Elem: TypeString}, list(text("a")), "want a map of string, got a list"},
		{Attribute{Type: TypeMap, Elem: TypeString}, text("{}"), "want a map of string, got a string"},
	} {
		var sl slot
		sl.attr = &c.attr
		sl.fill(&c.attr, &c.v)
		var got string
		switch sl.state {
		case slotBad:
			got = explainBad(&c.attr, &c.v)
		case slotOK:
			got = strings.TrimSuffix(strings.TrimPrefix(showValue(sl.value()), `"`), `"`)
			if len(c.v.Str) > maxDetailText && c.attr.Type == TypeString {
				got = c.v.Str
			}
		}
		if got != c.want {
			t.Errorf("%s of %+v: got %q, want %q", c.attr.typeName(), c.v, got, c.want)
		}
	}
}

func TestWrongDefaultsAreRefused(t *testing.T) {
	five, long := number(5), text("abcdef")
	three := 3.0
	b := &Bundle{
		Actions: map[string]*Action{"act": {Name: "act"}},
		Attributes: map[string]map[string]*Attribute{"context": {
			"a": {Scope: "context", Name: "a", Type: TypeString, Default: &five, Pos: Pos{File: "a.yaml", Line: 3, Column: 5}},
			"b": {Scope: "context", Name: "b", Type: TypeString, Max: &three, Default: &long, Pos: Pos{File: "a.yaml", Line: 4, Column: 5}},
			"c": {Scope: "context", Name: "c", Type: TypeInt, Default: &five},
		}},
	}
	_, errs := Compile(b)
	want := "a.yaml:3:5: the default of a: want a string, got a number\na.yaml:4:5: the default of b: 6 bytes, more than 3"
	if errs.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", errs, want)
	}
}

func TestConstantLists(t *testing.T) {
	set := mustLoad(t, `
vigil: 1
attributes: {context: {n: {type: number, required: true}, i: {type: int, required: true}, s: {type: string, required: true}}}
actions: {act: {}}
lists: {texts: [a, b], numbers: [1, 2.5, 9007199254740992]}
rules:
  - {id: exists, effect: allow, when: 'lists.texts.exists(x, x == context.s)'}
  - {id: number, effect: allow, when: 'context.n in lists.numbers'}
  - {id: int, effect: allow, when: 'context.i in lists.numbers'}
  - {id: text, effect: allow, when: 'context.s in lists.texts'}
  - {id: size, effect: allow, when: 'size(lists.texts) == 2 && lists.numbers[1] == 2.5'}
  - {id: sum, effect: allow, when: 'context.i + 0 in lists.numbers'}
  - {id: equal, effect: allow, when: 'lists.texts == ["a", "b"]'}
  - {id: sets, effect: allow, when: 'sets.contains(lists.texts, [context.s])'}
`)
	for want, c := range map[string][3]authz.Value{
		"[equal exists int number sets size sum text]": {number(2.5), number(1), text("b")},
		"[equal number size]":                          {number(1), number(2), text("c")},
		"[equal int size sum]":                         {number(1.5), number(1 << 53), text("")},
	} {
		f := &Frame{Request: &authz.Request{Context: authz.Object{{Name: "n", Value: c[0]}, {Name: "i", Value: c[1]}, {Name: "s", Value: c[2]}}}}
		if got := fmt.Sprint(set.Plan("act", "x", "").Evaluate(f, "").Rules); got != want {
			t.Errorf("%v: got %s, want %s", c, got, want)
		}
	}
}
