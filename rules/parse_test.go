package rules

import (
	"io/fs"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"vigil/authz"
)

// bundleOf gives a file system of names and contents, with a manifest that lists them.
func bundleOf(files map[string]string) fs.FS {
	m := make(fstest.MapFS)
	var listed []string
	for name, data := range files {
		m[name] = &fstest.MapFile{Data: []byte(data)}
		if name != manifestName && !strings.HasSuffix(name, testSuffix) {
			listed = append(listed, name)
		}
	}
	if _, ok := files[manifestName]; !ok {
		slices.Sort(listed)
		m[manifestName] = &fstest.MapFile{Data: []byte("vigil: 1\nfiles: [" + strings.Join(listed, ", ") + "]\nprofiles: {default: {}}\n")}
	}
	return m
}

func mustParse(t *testing.T, fsys fs.FS) *Bundle {
	t.Helper()
	b, errs := Parse(fsys)
	if errs != nil {
		t.Fatal(errs)
	}
	return b
}

// TestASilenceIsStatedByFileAndByCase: what a case sets takes the place of what its file
// states.
func TestASilenceIsStatedByFileAndByCase(t *testing.T) {
	b := mustParse(t, os.DirFS("testdata/good/everything"))
	high := b.Profiles["high-high"]
	if want := []Need{{"client:siem", time.Minute}, {"issuer:https://idp.example", 720 * time.Hour}}; !slices.Equal(high.Needs, want) || high.OnSilence != StaleApproval {
		t.Errorf("%+v", high)
	}
	cases := b.Tests[0].Cases
	if want := map[string]time.Duration{"client:siem": 7 * time.Minute, "issuer:https://idp.example": NeverHeard}; !reflect.DeepEqual(cases[0].Silence, want) {
		t.Errorf("%+v", cases[0].Silence)
	}
	if want := map[string]time.Duration{"issuer:https://idp.example": 0}; !reflect.DeepEqual(cases[1].Silence, want) {
		t.Errorf("%+v", cases[1].Silence)
	}
	if !cases[0].Entities["source:client:siem"].Waived {
		t.Error("nothing is waived")
	}
}

// TestTheDigestCoversWhatProfilesNeed: and is what it was before where none needs anything.
func TestTheDigestCoversWhatProfilesNeed(t *testing.T) {
	of := func(sources, profiles string) string {
		_, set, errs := Load(bundleOf(map[string]string{
			manifestName: "vigil: 1\nfiles: [a.yaml]\n" + sources + "profiles: {" + profiles + "}\n", "a.yaml": "vigil: 1\n"}))
		if errs != nil {
			t.Fatal(errs)
		}
		return set.Digest()
	}
	const two = "sources: {client:a: {max_silence: 1m}, client:b: {max_silence: 1m}}\n"
	seen := map[string]int{}
	for i, digest := range []string{
		of("", "a: {}, b: {}"),
		of(two, "a: {needs: [client:a, client:b]}, b: {}"),
		of(two, "a: {needs: [client:a]}, b: {needs: [client:b]}"),
		of(two, "a: {}, b: {needs: [client:b, client:a]}"),
		of(two, "a: {}, b: {needs: [client:b, client:a], on_silence: approval}"),
		of("sources: {client:a: {max_silence: 61s}, client:b: {max_silence: 1m}}\n", "a: {}, b: {needs: [client:b, client:a]}"),
	} {
		if first, twice := seen[digest]; twice {
			t.Errorf("bundles %d and %d have one digest", first, i)
		}
		seen[digest] = i
	}
	if of(two, "a: {needs: [client:b, client:a], on_silence: deny}, b: {}") != of("sources: {client:b: {max_silence: 60s}, client:a: {max_silence: 1m}}\n", "b: {}, a: {needs: [client:a, client:b]}") {
		t.Error("two that mean the same differ")
	}
	if got := of("", "a: {}, b: {}"); got != "sha256:a07a0059a654480f3003ecf24582518a2597c8a66e295017c9d55dae55e73a2c" {
		t.Errorf("a bundle without sources has the digest %s", got)
	}
}

func TestParseTheBundleOfTheDocumentation(t *testing.T) {
	b := mustParse(t, os.DirFS("testdata/good/payments"))
	if got := keys(b.Profiles); !slices.Equal(got, []string{"default", "high-high"}) {
		t.Errorf("profiles: %q", got)
	}
	high := b.Profiles["high-high"]
	if high.MaxFeedAge != 5*time.Second || high.OnStale != StaleDeny || !slices.Equal(high.Requires, []authz.Kind{authz.KindSession}) {
		t.Errorf("high-high: %+v", high)
	}
	role := b.Attributes["subject.user"]["role"]
	if role.Type != TypeString || role.Default == nil || role.Default.Str != "" || role.Required {
		t.Errorf("role: %+v", role)
	}
	amount := b.Attributes["resource.payment"]["amount"]
	if amount.Type != TypeNumber || *amount.Min != 0 || amount.Max != nil || !amount.Required || amount.Scope != "resource.payment" {
		t.Errorf("amount: %+v", amount)
	}
	if a := b.Actions["pay"]; a.Scope != "propose:payments" || a.Low {
		t.Errorf("pay: %+v", a)
	}
	if l := b.Lists["approved_suppliers"]; len(l.Values) != 2 || l.Values[0].Str != "acme" {
		t.Errorf("list: %+v", l)
	}
	r := b.Rules[0]
	if r.ID != "pay-small" || r.Effect != authz.Allow || r.Observe || !r.WhenBlock || r.WhenPos != (Pos{"payments.yaml", 15, 7}) ||
		!strings.HasPrefix(r.When, "agent.labels.role ==") || !slices.Equal(r.Classes, []string{"high-high"}) {
		t.Errorf("pay-small: %+v", r)
	}
	if o := b.Rules[2].Obligations[0]; o.ID != "pay-large-approval" || o.Type != "approval" || string(o.Properties) != `{"group":"ap-managers"}` {
		t.Errorf("obligation: %+v", o)
	}
	if len(b.Tests) != 1 || len(b.Tests[0].Cases) != 3 {
		t.Fatalf("tests: %+v", b.Tests)
	}
	small, large, risky := b.Tests[0].Cases[0], b.Tests[0].Cases[1], b.Tests[0].Cases[2]
	if got := small.Request.Resource.Properties.Get("amount").Num; got != 4200 {
		t.Errorf("small: amount %v", got)
	}
	if got := large.Request.Resource.Properties.Get("amount").Num; got != 9000 {
		t.Errorf("large: amount %v", got)
	}
	if small.Entities["agent:invoice-agent"].Risk != 0 || risky.Entities["agent:invoice-agent"].Risk != 71 {
		t.Errorf("risk: %+v, %+v", small.Entities, risky.Entities)
	}
	if got := small.Now.String(); got != "2026-11-23T09:00:00Z" {
		t.Errorf("now: %s", got)
	}
}

func TestParseEveryKey(t *testing.T) {
	b := mustParse(t, os.DirFS("testdata/good/everything"))
	high := b.Profiles["high-high"]
	if high.OnStale != StaleApproval || high.MaxAttestationAge != 24*time.Hour || len(high.Requires) != 6 || !slices.IsSorted(high.Requires) {
		t.Errorf("high-high: %+v", high)
	}
	if !slices.Equal(b.Agentless.Types, []string{"user", "service"}) || b.Agentless.Profile != "default" {
		t.Errorf("agentless: %+v", b.Agentless)
	}
	if b.Attributes["resource.tool"] == nil || len(b.Attributes["resource.tool"]) != 0 {
		t.Error("a resource type without attributes is not declared")
	}
	doc := b.Attributes["resource.doc"]
	if created := doc["created"]; created.Type != TypeTimestamp || created.Default.Str != "2026-01-01T00:00:00Z" {
		t.Errorf("created: %+v", created)
	}
	if tags := doc["tags"]; tags.Type != TypeList || tags.Elem != TypeString || tags.Default.Kind != authz.List || *tags.Max != 16 {
		t.Errorf("tags: %+v", tags)
	}
	byID := map[string]*Rule{}
	for _, r := range b.Rules {
		byID[r.ID] = r
	}
	if r := byID["watch"]; !r.Observe || r.When != "true" {
		t.Errorf("watch: %+v", r)
	}
	if r := byID["hours"]; r.Granularity != time.Minute {
		t.Errorf("hours: %+v", r)
	}
	ask := byID["ask"]
	var ids []string
	for _, o := range ask.Obligations {
		ids = append(ids, o.ID)
	}
	if !slices.Equal(ids, []string{"ask", "second", "ask.3"}) {
		t.Errorf("obligation ids: %q", ids)
	}
	if got, want := string(ask.Obligations[1].Properties), `{"a":{"x":"2026-01-01T00:00:00Z","y":"é"},"b":[1,2.5,true,null]}`; got != want {
		t.Errorf("properties: %s, want %s", got, want)
	}
	if got := b.Lists["zones"].Values[2].Str; got != "on" {
		t.Errorf("zones: %q, want the word as written", got)
	}
	plain, set := b.Tests[0].Cases[0], b.Tests[0].Cases[1]
	agent := plain.Entities["agent:a.b"]
	if !agent.Registered || agent.Labels["role"] != "x" || agent.Attested == nil || !*agent.Attested || agent.Narrowed == nil || len(agent.Narrowed) != 0 {
		t.Errorf("agent: %+v", agent)
	}
	if plain.Expect.Rules == nil || len(plain.Expect.Rules) != 0 {
		t.Error("no rules expected must differ from rules not checked")
	}
	agent = set.Entities["agent:a.b"]
	if agent.Labels["team"] != "core" || agent.Labels["role"] != "x" || agent.Risk != 99 {
		t.Errorf("changed agent: %+v", agent)
	}
	if _, still := set.Entities["everything"]; still {
		t.Error("null did not remove the entity")
	}
	if set.Entities["agent:new.one"].Risk != 3 || set.Entities["session:s-1"].Status != "revoked" {
		t.Errorf("new entities: %+v", set.Entities)
	}
	if set.Request.Context.Get("session") != nil || plain.Request.Context.Get("session") == nil {
		t.Error("null did not remove the session, or removed it from other cases")
	}
	n := set.Request.Subject.Properties.Get("deep").Members[0].Value
	if n.Members[0].Value.Num != 2 || n.Members[2].Value.Members[0].Value.Num != -0.5 {
		t.Errorf("deep: %+v", n)
	}
	if got := set.Request.Resource.Properties.Get("extra").Members[0].Name; got != "made" {
		t.Errorf("extra: %q", got)
	}
	if !slices.Equal(set.Expect.Rules, []string{"ask", "watch"}) {
		t.Errorf("expected rules: %q", set.Expect.Rules)
	}
}

// TestTheOrderOfFilesAndRulesMeansNothing parses a bundle and the same bundle with the list
// of files, the rules and the members of mappings shuffled.
func TestTheOrderOfFilesAndRulesMeansNothing(t *testing.T) {
	attributes := []string{"a: {type: string}", "b: {type: int, default: 3}", "c: {type: list, of: int}"}
	actions := []string{"read: {scope: r}", "write: {}", "erase: {impact: low}"}
	profiles := []string{"default: {}", "high: {requires: [user, session]}", "low: {max_feed_age: 5s}"}
	parts := []string{"x.yaml", "y.yaml", "z.yaml"}
	meaning := func(order *rand.Rand) any {
		shuffle := func(list []string) string {
			list = slices.Clone(list)
			order.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
			return strings.Join(list, ", ")
		}
		b := mustParse(t, bundleOf(map[string]string{
			manifestName: "vigil: 1\nfiles: [" + shuffle(parts) + "]\nprofiles: {" + shuffle(profiles) + "}\n",
			"x.yaml":     "vigil: 1\nattributes: {context: {" + shuffle(attributes) + "}}\n",
			"y.yaml":     "vigil: 1\nactions: {" + shuffle(actions) + "}\n",
			"z.yaml":     "vigil: 1\nrules: [{id: r1, effect: deny, when: 'true'}]\n",
		}))
		b.Files, b.Sources, b.texts = nil, nil, nil
		for _, p := range b.Profiles {
			p.Pos = Pos{}
		}
		for _, a := range b.Actions {
			a.Pos = Pos{}
		}
		for _, a := range b.Attributes["context"] {
			a.Pos = Pos{}
		}
		return b
	}
	first := meaning(rand.New(rand.NewPCG(0, 0)))
	for seed := range uint64(20) {
		if again := meaning(rand.New(rand.NewPCG(seed, 1))); !reflect.DeepEqual(first, again) {
			t.Fatalf("seed %d: %+v\nwant %+v", seed, again, first)
		}
	}
}

// TestErrorsDoNotDependOnChance: maps are everywhere in a Bundle; the messages must not show.
func TestErrorsDoNotDependOnChance(t *testing.T) {
	files := map[string]string{
		"b.yaml": "vigil: 1\nactions: {x: {scop: 1}, y: 2}\nlists: {a: 1, b: 2}\n",
		"a.yaml": "vigil: 1\nrules:\n" + strings.Repeat("- {id: r, effect: allow, when: 1, on: {actions: [a, b, c], classes: [q]}}\n", 30),
		"c.yaml": "vigil: 1\nattributes: {action.q: {}, action.w: {}, nonsense: {}}\n",
	}
	_, first := Parse(bundleOf(files))
	for range 10 {
		if _, again := Parse(bundleOf(files)); again.Error() != first.Error() {
			t.Fatalf("got\n%s\nthen\n%s", first, again)
		}
	}
	order := func(e Error) Pos { return e.Pos }
	if !slices.IsSortedFunc(first, func(a, b Error) int { return order(a).compare(order(b)) }) {
		t.Errorf("not in the order of the files:\n%s", first)
	}
}

func TestErrorsAreCappedAndCounted(t *testing.T) {
	var b strings.Builder
	b.WriteString("vigil: 1\nrules:\n")
	const wrong = 3000
	for range wrong {
		b.WriteString("- {}\n") // three keys are missing in each
	}
	_, errs := Parse(bundleOf(map[string]string{"a.yaml": b.String()}))
	if len(errs) != maxErrors+1 {
		t.Fatalf("%d errors, want %d", len(errs), maxErrors+1)
	}
	if got, want := errs[maxErrors].String(), "and 8800 more errors"; got != want {
		t.Errorf("the last is %q, want %q", got, want)
	}
}

func TestLimitsOfABundle(t *testing.T) {
	lines := func(n int, line string) string { return "vigil: 1\n" + strings.Repeat(line, n) }
	many := func(n int, what func(int) string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(what(i))
		}
		return b.String()
	}
	id := func(i int) string {
		return string([]byte{'a' + byte(i/676%26), 'a' + byte(i/26%26), 'a' + byte(i%26), 'a' + byte(i/17576)})
	}
	rules := func(from, n int) string {
		return "vigil: 1\nrules:\n" + many(n, func(i int) string { return "- {id: " + id(from+i) + ", effect: deny, when: x}\n" })
	}
	big := "vigil: 1\n# " + strings.Repeat("x", MaxFileSize-20) + "\n"
	manyBig := map[string]string{}
	for i := range 17 {
		manyBig[string(rune('a'+i))+".yaml"] = big
	}
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"file size", map[string]string{"a.yaml": strings.Repeat("#", MaxFileSize+1)}, "a.yaml: has more than 1048576 bytes"},
		{"bundle size", manyBig, "the bundle has more than 16777216 bytes"},
		{"lines", map[string]string{"a.yaml": lines(maxLines, "\n")}, "a.yaml: has more than 50000 lines"},
		{"depth", map[string]string{"a.yaml": "vigil: 1\nlists: {a: " + strings.Repeat("[", 40) + strings.Repeat("]", 40) + "}\n"}, "nested deeper than 32"},
		{"yaml depth", map[string]string{"a.yaml": strings.Repeat("[", 20000)}, "exceeded max depth"},
		{"rules", map[string]string{"a.yaml": rules(0, 1), "b.yaml": "vigil: 1\nrules: [" + strings.Repeat("{},", MaxRules) + "]\n"}, "b.yaml:2:8: the bundle has more than 20000 rules"},
		{"expression", map[string]string{"a.yaml": "vigil: 1\nrules: [{id: r, effect: deny, when: \"" + strings.Repeat("1", maxWhen+1) + "\"}]\n"}, "when has 16385 bytes, more than 16384"},
		{"list", map[string]string{"a.yaml": "vigil: 1\nlists: {a: [" + strings.Repeat("1,", 10_001) + "]}\n"}, "10001 items, more than 10000"},
		{"on", map[string]string{"a.yaml": "vigil: 1\nrules: [{id: r, effect: deny, when: x, on: {actions: [" + many(1001, func(i int) string { return id(i) + "," }) + "]}}]\n"}, "actions: 1001 items, more than 1000"},
		{"attributes", map[string]string{"a.yaml": "vigil: 1\nattributes:\n  context:\n" + many(5001, func(i int) string { return "    x" + id(i) + ": {type: int}\n" })}, "more than 5000 attributes"},
		{"reason", map[string]string{"a.yaml": "vigil: 1\nrules: [{id: r, effect: deny, when: x, reason_user: " + strings.Repeat("x", 257) + "}]\n"}, "reason_user has 257 bytes, more than 256"},
		{"properties", map[string]string{"a.yaml": "vigil: 1\nrules: [{id: r, effect: require, when: x, obligations: [{type: t, properties: {a: " + strings.Repeat("x", 5000) + "}}]}]\n"}, "bytes as JSON, more than 4096"},
		{"cases", map[string]string{"a.yaml": "vigil: 1\n", "a_test.yaml": "vigil: 1\nnow: 2026-01-01T00:00:00Z\nrequest:\n  subject: {type: a, id: a}\n  action: {name: a}\n  resource: {type: a, id: a}\n  context: {a: [" + strings.Repeat("1,", 2000) + "]}\ncases:\n" +
			many(1001, func(i int) string { return "- {name: " + id(i) + ", expect: {effect: deny}}\n" })}, "too many and too large"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, errs := Parse(bundleOf(c.files))
			if !strings.Contains(errs.Error(), c.want) {
				t.Errorf("got %.500s\nwant %s", errs.Error(), c.want)
			}
		})
	}
}

// TestACaseChangesNothingForTheNext: what a case sets, and what it removes, is its own.
func TestACaseChangesNothingForTheNext(t *testing.T) {
	head := "vigil: 1\nnow: 2026-11-23T09:00:00Z\nentities: {\"agent:a\": {registered: true, labels: {x: a, y: b}}}\n" +
		"request: {subject: {type: agent, id: a}, action: {name: read}, resource: {type: doc, id: d, properties: {n: 1, list: [1, 2]}}}\ncases:\n"
	touch := "request.subject.properties.touched: 1, \"entities.agent:a.risk\": 1"
	b := mustParse(t, bundleOf(map[string]string{
		"a.yaml": "vigil: 1\n",
		"a_test.yaml": head +
			"- {name: one, set: {request.resource.properties.n: 2, request.resource.properties.list.0: 9, \"entities.agent:a.labels.x\": z}, expect: {effect: deny}}\n" +
			"- {name: two, set: {request.resource.properties.list.1: ~, \"entities.agent:a.labels.y\": ~}, expect: {effect: deny}}\n" +
			"- {name: three, set: {" + touch + "}, expect: {effect: deny}}\n",
	}))
	last := b.Tests[0].Cases[2]
	if got := last.Request.Resource.Properties.Get("n").Num; got != 1 {
		t.Errorf("n is %v", got)
	}
	if list := last.Request.Resource.Properties.Get("list").Members; len(list) != 2 || list[0].Value.Num != 1 {
		t.Errorf("list is %+v", list)
	}
	if labels := last.Entities["agent:a"].Labels; labels["x"] != "a" || labels["y"] != "b" {
		t.Errorf("labels are %q", labels)
	}
	if second := b.Tests[0].Cases[1]; len(second.Request.Resource.Properties.Get("list").Members) != 1 || len(second.Entities["agent:a"].Labels) != 1 {
		t.Errorf("null did not remove: %+v", second)
	}
}
