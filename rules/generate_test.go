package rules

import (
	"fmt"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"vigil/authz"
)

// generatedHead declares what generated rules read: every type, required, with a default
// and optional, and names that several types declare in different ways.
const generatedHead = `
vigil: 1
attributes:
  subject.user:
    role:  {type: string, default: none}
    nick:  {type: string, max: 8}
    level: {type: int, required: true}
  subject.bot:
    level: {type: int, default: 3}
  resource.doc:
    amount: {type: number, min: 0, max: 100000, required: true}
    count:  {type: int, default: 7}
    note:   {type: string}
    tags:   {type: map, of: string, max: 4}
    items:  {type: list, of: string, max: 4, default: [x]}
    sizes:  {type: list, of: number, max: 4, required: true}
    urgent: {type: bool, required: true}
    due:    {type: timestamp}
    grace:  {type: duration, default: 1m}
  resource.tool:
    amount: {type: number}
    count:  {type: int, required: true}
  action.pay: {dry: {type: bool, default: false}}
  context:
    geo:  {type: string}
    hour: {type: int, min: 0, max: 23, required: true}
actions: {pay: {}, read: {}, "tools/call": {}}
lists: {names: [a, b, alpha], levels: [1, 2.5, 5000]}
rules:
`

// atom is a condition without guards, and the optional attributes that it reads.
type atom struct {
	text  string
	needs []string
}

func drawAtom(t *rapid.T) atom {
	num := func() string {
		return rapid.SampledFrom([]string{"0", "1", "2.5", "-3", "5000", "70", "9007199254740993"}).Draw(t, "n")
	}
	text := func() string { return rapid.SampledFrom([]string{`"a"`, `"b"`, `""`, `"alpha"`, `"ü"`}).Draw(t, "s") }
	order := func() string {
		return rapid.SampledFrom([]string{"==", "!=", "<", "<=", ">", ">="}).Draw(t, "op")
	}
	same := func() string { return rapid.SampledFrom([]string{"==", "!=", "<", ">="}).Draw(t, "op") }
	switch rapid.IntRange(0, 31).Draw(t, "atom") {
	case 0:
		return atom{"resource.amount " + order() + " " + num(), []string{"resource.amount"}}
	case 1:
		return atom{"resource.count " + order() + " " + num(), nil}
	case 2:
		return atom{"resource.note " + same() + " " + text(), []string{"resource.note"}}
	case 3:
		return atom{"subject.role " + same() + " " + text(), nil}
	case 4:
		return atom{"subject.nick.startsWith(" + text() + ")", []string{"subject.nick"}}
	case 5:
		return atom{"subject.level " + order() + " resource.count", nil}
	case 6:
		return atom{`resource.tags.k == ` + text(), []string{"resource.tags", "resource.tags.k"}}
	case 7:
		return atom{`resource.tags["k"] in ["a", "b"]`, []string{"resource.tags", "resource.tags.k"}}
	case 8:
		return atom{`resource.tags.?k.orValue("none") == ` + text(), []string{"resource.tags"}}
	case 9:
		return atom{text() + " in resource.items", nil}
	case 10:
		return atom{"resource.items.exists(i, i == " + text() + ")", nil}
	case 11:
		return atom{"resource.sizes.all(i, i " + order() + " " + num() + ")", nil}
	case 12:
		return atom{"resource.urgent", nil}
	case 13:
		return atom{"resource.urgent == action.dry", nil}
	case 14:
		return atom{`resource.due < timestamp("2026-01-01T00:00:00Z")`, []string{"resource.due"}}
	case 15:
		return atom{`resource.grace >= duration("90s")`, nil}
	case 16:
		return atom{"context.geo in lists.names", []string{"context.geo"}}
	case 17:
		return atom{"context.hour " + order() + " " + num(), nil}
	case 18:
		return atom{"agent.risk " + order() + " " + num(), nil}
	case 19:
		return atom{"agent.labels.role == " + text(), []string{"agent.labels.role"}}
	case 20:
		return atom{"session.risk < 50", []string{"session"}}
	case 21:
		return atom{`"a" in session.scopes`, []string{"session"}}
	case 22:
		return atom{"agent.tainted", nil}
	case 23:
		return atom{`agent.status != "active"`, nil}
	case 24:
		return atom{"resource.count + 1 " + order() + " 8", nil}
	case 25:
		return atom{"resource.amount * 2.0 > 10.0", []string{"resource.amount"}}
	case 26:
		return atom{"size(resource.items) > 1", nil}
	case 27:
		return atom{"10 / resource.count > 1", nil}
	case 28:
		return atom{"math.greatest(resource.count, 5) > 6", nil}
	case 29:
		return atom{"resource.count in lists.levels", nil}
	case 30:
		return atom{`resource.note.matches("^a+$")`, []string{"resource.note"}}
	}
	return atom{"now.getMinutes() % 2 == 0", nil}
}

// drawCondition draws a condition whose optional reads are mostly guarded.
func drawCondition(t *rapid.T, depth int) string {
	if depth > 0 {
		sub := func() string { return drawCondition(t, depth-1) }
		switch rapid.IntRange(0, 9).Draw(t, "node") {
		case 0, 1:
			return "(" + sub() + " && " + sub() + ")"
		case 2, 3:
			return "(" + sub() + " || " + sub() + ")"
		case 4:
			return "!" + parenthesised(sub())
		case 5:
			return "(" + sub() + " ? " + sub() + " : " + sub() + ")"
		}
	}
	a := drawAtom(t)
	text := a.text
	for _, need := range a.needs {
		switch rapid.IntRange(0, 11).Draw(t, "guard") {
		case 0: // unguarded: refused when optional, checked before CEL otherwise
		case 1, 2, 3, 4:
			text = "(has(" + need + ") && " + text + ")"
		case 5, 6:
			text = "(" + text + " && has(" + need + "))"
		case 7, 8, 9:
			text = "(!has(" + need + ") || " + text + ")"
		default:
			text = "(has(" + need + ") ? " + text + " : agent.risk > 50)"
		}
	}
	return text
}

func parenthesised(s string) string { return "(" + s + ")" }

// drawRule draws one rule as YAML.
func drawRule(t *rapid.T, id string) string {
	subset := func(label string, from ...string) string {
		some := rapid.SliceOfNDistinct(rapid.SampledFrom(from), 0, 2, rapid.ID).Draw(t, label)
		if len(some) == 0 {
			return ""
		}
		key := strings.TrimRight(label, "0123456789")
		return fmt.Sprintf("%s: [%s]", key, strings.Join(some, ", "))
	}
	var on []string
	for _, part := range []string{
		subset("actions", "pay", "read", "tools/call"),
		subset("resources", "doc", "tool", "\"tool:t1\"", "\"tool:t2\"", "\"doc:d1\""),
		subset("subjects", "user", "bot"),
		subset("classes", "high-high", "low"),
	} {
		if part != "" {
			on = append(on, part)
		}
	}
	effect := rapid.SampledFrom([]string{"allow", "allow", "allow", "require", "deny"}).Draw(t, "effect")
	var b strings.Builder
	fmt.Fprintf(&b, "  - id: %s\n    effect: %s\n", id, effect)
	if rapid.IntRange(0, 5).Draw(t, "mode") == 0 {
		b.WriteString("    mode: observe\n")
	}
	if len(on) > 0 {
		fmt.Fprintf(&b, "    on: {%s}\n", strings.Join(on, ", "))
	}
	when := drawCondition(t, rapid.IntRange(0, 3).Draw(t, "depth"))
	fmt.Fprintf(&b, "    when: |\n      %s\n", when)
	if strings.Contains(when, "now.") {
		fmt.Fprintf(&b, "    granularity: %s\n", rapid.SampledFrom([]string{"1m", "90s", "1h"}).Draw(t, "granularity"))
	}
	if effect == "require" {
		fmt.Fprintf(&b, "    obligations: [{id: o%d, type: approval}]\n", rapid.IntRange(0, 2).Draw(t, "obligation"))
	}
	return b.String()
}

// drawRules draws one to n rules that all compile, in YAML, one a string.
func drawRules(t *rapid.T, n int) []string {
	var rules []string
	for i := range rapid.IntRange(1, n).Draw(t, "rules") {
		rules = append(rules, drawRule(t, fmt.Sprintf("r%02d", i)))
	}
	return thatCompile(t, rules)
}

// thatCompile leaves out the rules that are refused for what rules drawn by chance run into.
func thatCompile(t *rapid.T, rules []string) []string {
	for {
		bundle, errs := Parse(bundleFS(generatedHead + strings.Join(rules, "")))
		if len(errs) > 0 {
			t.Fatalf("does not parse: %v", errs)
		}
		_, errs = Compile(bundle)
		if !expectedRefusal(errs) {
			t.Fatalf("does not compile: %v", errs)
		}
		for _, e := range errs {
			rules = slices.DeleteFunc(rules, func(text string) bool {
				return strings.HasPrefix(text, "  - id: "+e.Rule+"\n") || strings.HasPrefix(text, "  - {id: "+e.Rule+",")
			})
		}
		if len(rules) == 0 {
			rules = append(rules, "  - {id: r99, effect: allow, when: agent.risk < 50}\n")
		}
		if len(errs) == 0 { // they are told up to a number
			return rules
		}
	}
}

// expectedRefusal says whether errs are of the kinds that generated rules run into.
func expectedRefusal(errs Errors) bool {
	for _, e := range errs {
		if !strings.Contains(e.Message, "is optional, so it may be absent") && !strings.Contains(e.Message, "which this rule is not on") &&
			!strings.Contains(e.Message, "restrict on.") && !strings.Contains(e.Message, "math.greatest") {
			return false
		}
	}
	return true
}

// drawValue draws a JSON value that fits none, one or several of the declared types.
func drawValue(t *rapid.T) authz.Value {
	switch rapid.IntRange(0, 11).Draw(t, "value") {
	case 0:
		return authz.Value{} // null
	case 1:
		return authz.Value{Kind: authz.Bool, Num: float64(rapid.IntRange(0, 1).Draw(t, "bool"))}
	case 2, 3, 4:
		return number(rapid.SampledFrom([]float64{0, 1, 2.5, -3, 5000, 70, 7, 100001, 1 << 53, 1 << 54}).Draw(t, "number"))
	case 5, 6, 7:
		return text(rapid.SampledFrom([]string{"a", "b", "", "alpha", "ü", "more than eight", "2025-12-31T23:59:59Z", "90s", "2026-13-01T00:00:00Z"}).Draw(t, "text"))
	case 8, 9:
		list := authz.Value{Kind: authz.List}
		for range rapid.IntRange(0, 5).Draw(t, "length") {
			list.Members = append(list.Members, authz.Member{Value: drawScalar(t)})
		}
		return list
	}
	m := authz.Value{Kind: authz.Map}
	for _, k := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"k", "l", "m", "n", "o"}), 0, 5, rapid.ID).Draw(t, "keys") {
		m.Members = append(m.Members, authz.Member{Name: k, Value: drawScalar(t)})
	}
	return m
}

func drawScalar(t *rapid.T) authz.Value {
	if rapid.IntRange(0, 3).Draw(t, "scalar") == 0 {
		return number(rapid.SampledFrom([]float64{1, 2.5, 5000}).Draw(t, "number"))
	}
	return text(rapid.SampledFrom([]string{"a", "b", "ü"}).Draw(t, "text"))
}

// fitting are values that the declarations take, so that most requests get as far as CEL.
var fitting = map[string][]authz.Value{
	"role": {text("a"), text("alpha")}, "nick": {text("a"), text("alpha")}, "level": {number(1), number(5000)},
	"amount": {number(0), number(2.5), number(5000)}, "count": {number(0), number(7), number(5000)}, "note": {text("a"), text("aa")},
	"tags":   {{Kind: authz.Map}, {Kind: authz.Map, Members: []authz.Member{{Name: "k", Value: text("a")}}}},
	"items":  {{Kind: authz.List}, {Kind: authz.List, Members: []authz.Member{{Value: text("a")}, {Value: text("b")}}}},
	"sizes":  {{Kind: authz.List}, {Kind: authz.List, Members: []authz.Member{{Value: number(1)}, {Value: number(70)}}}},
	"urgent": {{Kind: authz.Bool}, {Kind: authz.Bool, Num: 1}}, "due": {text("2025-12-31T23:59:59Z"), text("2027-01-01T00:00:00+02:00")},
	"grace": {text("90s"), text("1s")}, "dry": {{Kind: authz.Bool}, {Kind: authz.Bool, Num: 1}}, "geo": {text("a"), text("x")}, "hour": {number(0), number(23)},
}

func drawProperties(t *rapid.T, names ...string) authz.Object {
	var o authz.Object
	for _, name := range names {
		switch rapid.IntRange(0, 9).Draw(t, name) {
		case 0, 1:
		case 2:
			o = append(o, authz.Member{Name: name, Value: drawValue(t)})
		default:
			o = append(o, authz.Member{Name: name, Value: rapid.SampledFrom(fitting[name]).Draw(t, "fit")})
		}
	}
	return o
}

func drawStanding(t *rapid.T) *authz.Standing {
	st := &authz.Standing{
		ID: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "id"), Registered: rapid.Bool().Draw(t, "registered"),
		Risk: rapid.IntRange(0, 100).Draw(t, "risk"), Tainted: rapid.Bool().Draw(t, "tainted"),
		Status: authz.Status(rapid.IntRange(0, 1).Draw(t, "status")), Class: "low",
	}
	if rapid.Bool().Draw(t, "labelled") {
		st.Labels = map[string]string{"role": rapid.SampledFrom([]string{"a", "alpha"}).Draw(t, "label")}
	}
	if rapid.Bool().Draw(t, "scoped") {
		st.Scopes = []string{"a", "c"}
	}
	return st
}

// drawFrame draws a request with its standings.
func drawFrame(t *rapid.T) *Frame {
	f := &Frame{
		Request: &authz.Request{
			Subject:  authz.Party{Type: rapid.SampledFrom([]string{"user", "bot", "ghost"}).Draw(t, "subject"), ID: "s", Properties: drawProperties(t, "role", "nick", "level")},
			Action:   authz.Action{Name: rapid.SampledFrom([]string{"pay", "read", "tools/call"}).Draw(t, "action"), Properties: drawProperties(t, "dry")},
			Resource: authz.Party{Type: rapid.SampledFrom([]string{"doc", "tool", "other"}).Draw(t, "resource"), ID: rapid.SampledFrom([]string{"t1", "t2", "d1", "x"}).Draw(t, "id")},
			Context:  drawProperties(t, "geo", "hour"),
		},
		Now: authz.Instant(rapid.Int64Range(0, 4e18).Draw(t, "now")),
	}
	f.Request.Resource.Properties = drawProperties(t, "amount", "count", "note", "tags", "items", "sizes", "urgent", "due", "grace")
	if rapid.IntRange(0, 9).Draw(t, "agent") > 0 {
		f.Standings[authz.KindAgent] = drawStanding(t)
	}
	if rapid.Bool().Draw(t, "session") {
		f.Standings[authz.KindSession] = drawStanding(t)
	}
	return f
}
