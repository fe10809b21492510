package decision

import (
	"strings"
	"testing"
)

// batchBody makes a batch of items with these actions; "-" is an item without a resource.
func batchBody(semantic string, actions ...string) string {
	var b strings.Builder
	b.WriteString(`{"subject":{"type":"user","id":"kim","properties":{"act":{"sub":"bot"}}},`)
	if semantic != "" {
		b.WriteString(`"options":{"evaluations_semantic":"` + semantic + `"},`)
	}
	b.WriteString(`"evaluations":[`)
	for i, a := range actions {
		if i > 0 {
			b.WriteByte(',')
		}
		if a == "-" {
			b.WriteString(`{"action":{"name":"pay"}}`)
			continue
		}
		b.WriteString(`{"action":{"name":"` + a + `"},"resource":{"type":"p","id":"1"}}`)
	}
	return b.String() + "]}"
}

// short shows the answers to a batch as letters: Allow, Deny, Missing something, Stale,
// Unavailable, fault.
func short(body string) string {
	body, ok := strings.CutPrefix(body, `{"evaluations":[`)
	if !ok {
		return "not a batch: " + body
	}
	var out []byte
	for _, item := range strings.Split(body, `{"decision":`)[1:] {
		switch {
		case strings.HasPrefix(item, "true"):
			out = append(out, 'A')
		case strings.Contains(item, `"error":{"status":400,"message":"missing_member: /evaluations/`):
			out = append(out, 'M')
		case strings.Contains(item, `"code":"no_allow_rule"`):
			out = append(out, 'D')
		case strings.Contains(item, `"code":"stale"`):
			out = append(out, 'S')
		case strings.Contains(item, `"code":"unavailable"`):
			out = append(out, 'U')
		default:
			out = append(out, 'f')
		}
	}
	return string(out)
}

func TestBatchesEndWhereTheirSemanticSays(t *testing.T) {
	p := newPort(t, func(c *Config) { c.AtLeast = &waiter{} }).listen()
	all, deny, permit := "execute_all", "deny_on_first_deny", "permit_on_first_permit"
	for _, c := range []struct {
		semantic, actions, want string
		asked                   int64 // questions that reached the engine
	}{
		{"", "pay deny pay", "ADA", 3},
		{all, "deny - pay", "DMA", 2},
		{all, "-", "M", 0},
		{deny, "pay deny pay", "AD", 2},
		{deny, "pay pay", "AA", 2},
		{deny, "pay - pay", "AM", 1},
		{deny, "- deny", "M", 0},
		{deny, "deny - pay", "D", 1},
		{permit, "deny pay pay", "DA", 2},
		{permit, "- deny pay deny", "MDA", 2},
		{permit, "deny -", "DM", 1},
		{permit, "pay", "A", 1},
		{all, "pay nothing pay", "AfA", 3},
		{all, "pay panic deny", "fff", 2},
		{deny, "pay panic deny", "f", 2},
	} {
		before := p.engine.calls.Load()
		got := p.call(call{path: pathEvaluations, body: batchBody(c.semantic, strings.Fields(c.actions)...)})
		if got.status != 200 || short(got.body) != c.want || p.engine.calls.Load()-before != c.asked {
			t.Errorf("%s of %q: %d %s after %d questions, want %s after %d", c.semantic, c.actions, got.status, short(got.body), p.engine.calls.Load()-before, c.want, c.asked)
		}
	}
	for _, c := range []struct{ name, body, want string }{
		{"no evaluations", goodBody, `{"decision":true,`},
		{"empty evaluations", strings.Replace(goodBody, "{", `{"evaluations":[],`, 1), `{"decision":true,`},
		{"null evaluations", strings.Replace(goodBody, "{", `{"evaluations":null,`, 1), `{"decision":true,`},
		{"single fault", actionBody("panic"), `{"decision":false,`},
	} {
		if got := p.call(call{path: pathEvaluations, body: c.body}); got.status != 200 || !strings.HasPrefix(got.body, c.want) {
			t.Errorf("%s: %d %s", c.name, got.status, got.body)
		}
	}
	for _, c := range []struct{ name, body, want string }{
		{"unknown semantic", batchBody("any", "pay"), "unknown_semantic: /options/evaluations_semantic: want execute_all, deny_on_first_deny or permit_on_first_permit (byte "},
		{"single that lacks", `{"subject":{"type":"user","id":"kim"}}`, "missing_member: /action\n"},
		{"item of the wrong type", strings.Replace(batchBody("", "pay"), `"evaluations":[`, `"evaluations":[7,`, 1), "wrong_type: /evaluations/0: want an object, got number (byte "},
		{"too many", batchBody("", strings.Fields(strings.Repeat("a ", 1001))...), "too_many: /evaluations: at most 1000 (byte "},
	} {
		if c.name == "too many" && len(c.body) > 64<<10 {
			c.body = `{"evaluations":[` + strings.Repeat("{},", 1000) + "{}]}"
		}
		if got := p.call(call{path: pathEvaluations, body: c.body}); got.status != 400 || !strings.HasPrefix(got.body, c.want) {
			t.Errorf("%s: %d %s", c.name, got.status, got.body)
		}
	}
	stale := p.call(call{path: pathEvaluations, body: batchBody(all, "pay", "-", "pay"), header: []string{"Vigil-At-Least: v9"}})
	if short(stale.body) != "SMS" {
		t.Error("stale:", short(stale.body))
	}
	stale = p.call(call{path: pathEvaluations, body: batchBody(deny, "pay", "pay"), header: []string{"Vigil-At-Least: v9"}})
	if short(stale.body) != "S" {
		t.Error("stale:", short(stale.body))
	}
}

func TestTheLargestBatchIsAnsweredWhole(t *testing.T) {
	p := newPort(t, nil).listen()
	body := `{"subject":{"type":"a","id":"b"},"action":{"name":"deny"},"resource":{"type":"p","id":"1"},"evaluations":[` +
		strings.Repeat("{},", 999) + `{"action":{"name":"pay"}}]}`
	got := p.call(call{path: pathEvaluations, body: body})
	if want := strings.Repeat("D", 999) + "A"; short(got.body) != want {
		t.Fatal(short(got.body))
	}
}
