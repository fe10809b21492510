package rules

import (
	"math"
	"regexp"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"vigil/authz"
)

// maxExactInt is the largest integer such that a float64 holds it and its neighbours exactly
// (I-JSON, RFC 7493, section 2.2).
const maxExactInt = 1<<53 - 1

// jsonNumber is how numbers are written in a bundle: as in JSON. YAML has more ways, such as
// 010 for eight and 1_000, that a reader takes for something else.
var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// number reads a finite number.
func (d *document) number(n *yaml.Node, what string) (float64, bool) {
	if n.Kind != yaml.ScalarNode || (n.Tag != "!!int" && n.Tag != "!!float") {
		d.wrongKind(n, what+" as a number")
		return 0, false
	}
	if !jsonNumber.MatchString(n.Value) {
		d.fail(n, "the number %s: write it as in JSON", clipped(n.Value))
		return 0, false
	}
	f, err := strconv.ParseFloat(n.Value, 64)
	if err != nil || math.IsInf(f, 0) {
		d.fail(n, "the number %s is out of range", clipped(n.Value))
		return 0, false
	}
	return f, true
}

// integer reads a whole number from low to high.
func (d *document) integer(n *yaml.Node, what string, low, high int64) (int64, bool) {
	f, ok := d.number(n, what)
	switch {
	case !ok:
		return 0, false
	case f != math.Trunc(f):
		d.fail(n, "%s: %s is not a whole number", what, clipped(n.Value))
		return 0, false
	case f < float64(low) || f > float64(high):
		d.fail(n, "%s: %s is not within %d to %d", what, clipped(n.Value), low, high)
		return 0, false
	}
	return int64(f), true
}

// duration reads a duration from low to high, written as "90s" or "1h30m".
func (d *document) duration(n *yaml.Node, what string, low, high time.Duration) (time.Duration, bool) {
	if !isString(n) {
		d.wrongKind(n, what+` as a duration such as "30s"`)
		return 0, false
	}
	v, err := time.ParseDuration(n.Value)
	switch {
	case err != nil:
		d.fail(n, `%s: %s is not a duration such as "30s" or "1h30m"`, what, quoted(n.Value))
		return 0, false
	case v < low || v > high:
		d.fail(n, "%s: %s is not within %s to %s", what, n.Value, low, high)
		return 0, false
	}
	return v, true
}

// The times that a test may state. Zero means "not stated" in authz.Instant.
var (
	firstTime = time.Date(1970, 1, 2, 0, 0, 0, 0, time.UTC)
	lastTime  = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
)

// instant reads a time in RFC 3339.
func (d *document) instant(n *yaml.Node, what string) (authz.Instant, bool) {
	if !isString(n) {
		d.wrongKind(n, what+" as a time such as 2026-11-23T09:00:00Z")
		return 0, false
	}
	t, err := time.Parse(time.RFC3339Nano, n.Value)
	switch {
	case err != nil:
		d.fail(n, "%s: %s is not a time such as 2026-11-23T09:00:00Z (RFC 3339)", what, quoted(n.Value))
		return 0, false
	case t.Before(firstTime) || t.After(lastTime):
		d.fail(n, "%s: %s is not within the years 1970 to 2199", what, n.Value)
		return 0, false
	}
	return authz.InstantOf(t), true
}

// value reads anything that JSON can say: the properties of requests and obligations. Times
// are strings, as in JSON.
func (d *document) value(n *yaml.Node, what string) (authz.Value, bool) {
	switch {
	case n.Kind == yaml.AliasNode:
		return authz.Value{}, false // reported already
	case n.Kind == yaml.MappingNode:
		members, ok := d.object(n, what)
		return authz.Value{Kind: authz.Map, Members: members}, ok
	case n.Kind == yaml.SequenceNode:
		list := authz.Value{Kind: authz.List, Members: make([]authz.Member, 0, len(n.Content))}
		good := true
		for _, item := range n.Content {
			v, ok := d.value(item, what)
			good = good && ok
			list.Members = append(list.Members, authz.Member{Value: v})
		}
		return list, good
	case n.Tag == "!!null":
		return authz.Value{}, true
	case n.Tag == "!!bool":
		b, ok := d.boolean(n, what)
		if b {
			return authz.Value{Kind: authz.Bool, Num: 1}, ok
		}
		return authz.Value{Kind: authz.Bool}, ok
	case n.Tag == "!!int", n.Tag == "!!float":
		f, ok := d.number(n, what)
		return authz.Value{Kind: authz.Number, Num: f}, ok
	case isString(n):
		return authz.Value{Kind: authz.String, Str: n.Value}, true
	}
	d.wrongKind(n, what+" as a string, number, boolean, list or mapping")
	return authz.Value{}, false
}

// object reads a mapping as a JSON object, in the order of the file.
func (d *document) object(n *yaml.Node, what string) (authz.Object, bool) {
	list, good := d.entries(n, what)
	if !good {
		return nil, false
	}
	members := make(authz.Object, 0, len(list))
	for _, e := range list {
		v, ok := d.value(e.value, what)
		good = good && ok
		members = append(members, authz.Member{Name: e.name, Value: v})
	}
	return members, good
}
