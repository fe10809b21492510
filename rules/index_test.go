package rules

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"vigil/authz"
)

// perturbed gives f with the attribute a changed: to something else, or to nothing.
func perturb(t *rapid.T, f *Frame, root, name string) *Frame {
	g := &Frame{Request: f.Request.Clone(), Standings: f.Standings, Now: f.Now}
	properties := map[string]*authz.Object{
		"subject": &g.Request.Subject.Properties, "action": &g.Request.Action.Properties,
		"resource": &g.Request.Resource.Properties, "context": &g.Request.Context,
	}[root]
	*properties = slices.DeleteFunc(*properties, func(m authz.Member) bool { return m.Name == name })
	if rapid.IntRange(0, 3).Draw(t, "drop") > 0 {
		*properties = append(*properties, authz.Member{Name: name, Value: drawValue(t)})
	}
	return g
}

// TestReadsCoverWhatVerdictsDependOn: no request attribute that is not in Plan.Reads changes
// a verdict, and each one that is in it stands in a candidate's condition.
func TestReadsCoverWhatVerdictsDependOn(t *testing.T) {
	names := map[string][]string{
		"subject": {"role", "nick", "level", "undeclared"}, "action": {"dry", "undeclared"}, "context": {"geo", "hour", "undeclared"},
		"resource": {"amount", "count", "note", "tags", "items", "sizes", "urgent", "due", "grace", "undeclared"},
	}
	rapid.Check(t, func(t *rapid.T) {
		rules := drawRules(t, 6)
		set := mustLoadRapid(t, generatedHead+strings.Join(rules, ""))
		f := drawFrame(t)
		class := rapid.SampledFrom([]string{"high-high", "low", ""}).Draw(t, "class")
		p := set.Plan(f.Request.Action.Name, f.Request.Resource.Type, f.Request.Resource.ID)
		before := fmt.Sprintf("%+v", p.Evaluate(f, class))
		read := map[string]bool{}
		for _, a := range p.Reads {
			root, _, _ := strings.Cut(a.Scope, ".")
			name := root + "." + a.Name
			read[name] = true
			if !strings.Contains(strings.Join(rules, ""), name) {
				t.Fatalf("%s is in Reads and in no rule:\n%s", name, strings.Join(rules, ""))
			}
		}
		for _, root := range slices.Sorted(maps.Keys(names)) {
			for _, name := range names[root] {
				if read[root+"."+name] {
					continue
				}
				g := perturb(t, f, root, name)
				if after := fmt.Sprintf("%+v", p.Evaluate(g, class)); after != before {
					t.Fatalf("%s.%s is not in Reads and changes the verdict\nrules:\n%s\nfrom %s\n  to %s", root, name, strings.Join(rules, ""), before, after)
				}
			}
		}
		if !p.ReadsResourceID && !strings.Contains(strings.Join(rules, ""), ":") {
			g := &Frame{Request: f.Request.Clone(), Standings: f.Standings, Now: f.Now}
			g.Request.Resource.ID = "another"
			if after := fmt.Sprintf("%+v", p.Evaluate(g, class)); after != before {
				t.Fatalf("the resource id changes the verdict")
			}
		}
	})
}

// TestReadsAreGenuine: for each attribute in Reads there is a request whose verdict it
// changes, so that nothing is in cache keys for nothing.
func TestReadsAreGenuine(t *testing.T) {
	set := mustLoad(t, twelveRules)
	f := benchFrame()
	p := set.Plan("pay", "payment", "inv-88")
	var names []string
	for _, a := range p.Reads {
		names = append(names, a.Scope+"."+a.Name)
		g := benchFrame()
		before := fmt.Sprintf("%+v", p.Evaluate(f, "high-high"))
		*a.Value(g.Request) = authz.Value{Kind: authz.List}
		if after := fmt.Sprintf("%+v", p.Evaluate(g, "high-high")); after == before {
			t.Errorf("%s.%s changes nothing", a.Scope, a.Name)
		}
	}
	want := "[context.hour resource.payment.amount resource.payment.currency resource.payment.supplier subject.user.role]"
	if got := fmt.Sprint(names); got != want {
		t.Errorf("reads %s, want %s", got, want)
	}
	if p := set.Plan("tools/call", "tool", "search"); len(p.Reads) != 0 {
		t.Errorf("a call of a tool reads %v", p.Reads)
	}
}

func mustLoadRapid(t *rapid.T, file string) *Set {
	bundle, errs := Parse(bundleFS(file))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	set, errs := Compile(bundle)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return set
}

func TestPlans(t *testing.T) {
	set := mustLoad(t, `
vigil: 1
attributes:
  resource.doc: {size: {type: int, required: true}}
  resource.tool: {}
  resource.page: {size: {type: int, default: 1}}
actions: {read: {}, write: {}}
rules:
  - {id: any, effect: allow, when: "true"}
  - {id: doc, effect: allow, on: {resources: [doc]}, when: "true"}
  - {id: read, effect: allow, on: {actions: [read]}, when: resource.size > 1}
  - {id: t1, effect: allow, on: {resources: ["tool:t1"]}, when: "true"}
  - {id: tools, effect: allow, on: {resources: [tool, "tool:t2"]}, when: 'resource.id != ""'}
  - {id: write-t1, effect: allow, on: {actions: [write], resources: ["tool:t1"]}, when: 'resource.type == "tool"'}
  - {id: write-typed, effect: allow, on: {actions: [write]}, when: 'resource.type != ""'}
  - {id: subject, effect: allow, on: {actions: [write], resources: [doc]}, when: 'subject.id == "kim"'}
  - {id: colon, effect: allow, on: {resources: ["tool:a:b"]}, when: "true"}
`)
	ordinals := map[uint32]bool{}
	for _, c := range []struct {
		action, resourceType, id string
		candidates               string
		reads                    string
		readsID, readsType       bool
	}{
		{"read", "doc", "1", "any doc read", "resource.doc.size", false, false},
		{"read", "page", "1", "any read", "resource.page.size", false, false},
		{"read", "other", "1", "any read", "", false, false},
		{"read", "tool", "x", "any read tools", "", true, false},
		{"read", "tool", "t1", "any read t1 tools", "", true, false},
		{"read", "tool", "t2", "any read tools", "", true, false},
		{"read", "tool", "a:b", "any colon read tools", "", true, false},
		{"write", "tool", "t1", "any t1 tools write-t1 write-typed", "", true, false},
		{"write", "doc", "1", "any doc subject write-typed", "", false, false},
		{"write", "page", "1", "any write-typed", "", false, true},
		{"write", "other", "1", "any write-typed", "", false, true},
	} {
		p := set.Plan(c.action, c.resourceType, c.id)
		var ids, reads []string
		for _, g := range p.groups {
			for _, r := range g.rules {
				ids = append(ids, r.source.ID)
			}
		}
		for _, a := range p.Reads {
			reads = append(reads, a.Scope+"."+a.Name)
		}
		slices.Sort(ids)
		name := fmt.Sprint(c.action, " ", c.resourceType, " ", c.id)
		if got := strings.Join(ids, " "); got != c.candidates {
			t.Errorf("%s: candidates %s, want %s", name, got, c.candidates)
		}
		if got := strings.Join(reads, " "); got != c.reads || p.ReadsResourceID != c.readsID || p.ReadsResourceType != c.readsType {
			t.Errorf("%s: reads %q, id %v, type %v; want %q, %v, %v", name, got, p.ReadsResourceID, p.ReadsResourceType, c.reads, c.readsID, c.readsType)
		}
		if p.Action == nil || p.Action.Name != c.action {
			t.Errorf("%s: action %v", name, p.Action)
		}
		ordinals[p.Ordinal] = true
	}
	if !set.Plan("write", "doc", "1").ReadsSubjectID || set.Plan("write", "tool", "1").ReadsSubjectID {
		t.Error("ReadsSubjectID does not say which plans read it")
	}
	if set.Plan("delete", "doc", "1") != nil {
		t.Error("an undeclared action has a plan")
	}
	if set.Plan("write", "page", "1") != set.Plan("write", "other", "1") {
		t.Error("types that nothing distinguishes have plans of their own")
	}
	if len(ordinals) != 9 { // "tool:t2" and "tool:x" have one each; page and other of write share one
		t.Errorf("%d ordinals", len(ordinals))
	}
}

func TestPlanAllocatesNothing(t *testing.T) {
	set := mustLoad(t, twelveRules)
	n := testing.AllocsPerRun(100, func() {
		set.Plan("pay", "payment", "x")
		set.Plan("tools/call", "tool", "mail")
		set.Plan("tools/call", "other", "mail")
		set.Plan("nothing", "", "")
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestTooManyPlansAreRefused: rules that multiply actions by resource ids fail to load
// instead of filling the memory.
func TestTooManyPlansAreRefused(t *testing.T) {
	b := &Bundle{Actions: map[string]*Action{}, Attributes: map[string]map[string]*Attribute{"resource.tool": {}}}
	r := &Rule{ID: "wide", When: "true", WhenBlock: true}
	for i := range 1000 {
		name := fmt.Sprint("a", i)
		b.Actions[name] = &Action{Name: name}
		r.Resources = append(r.Resources, fmt.Sprint("tool:", i))
	}
	b.Rules = []*Rule{r}
	if _, errs := Compile(b); len(errs) != 1 || !strings.Contains(errs[0].Message, "more than 250000 combinations") {
		t.Errorf("got %v", errs)
	}
	for i := range 1000 {
		r.Actions = append(r.Actions, fmt.Sprint("a", i%1000))
	}
	r.Resources = append(r.Resources, "tool:x", "tool:y")
	if _, errs := Compile(b); len(errs) != 1 || errs[0].Rule != "wide" || !strings.Contains(errs[0].Message, "more than 1000000 combinations") {
		t.Errorf("got %v", errs)
	}
}

// TestDigestAndDecisionsDoNotDependOnOrder compiles one bundle many times, its files, rules
// and lists shuffled, and compares digests and a table of decisions.
func TestDigestAndDecisionsDoNotDependOnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := drawRules(t, 8)
		var frames []*Frame
		for range 4 {
			frames = append(frames, drawFrame(t))
		}
		table := func(set *Set) string {
			var b strings.Builder
			b.WriteString(set.Digest() + "\n")
			for _, f := range frames {
				p := set.Plan(f.Request.Action.Name, f.Request.Resource.Type, f.Request.Resource.ID)
				fmt.Fprintf(&b, "%d %+v\n", p.Ordinal, p.Evaluate(f, "low"))
				for _, a := range p.Reads {
					b.WriteString(a.Scope + "." + a.Name + " ")
				}
			}
			return b.String()
		}
		want := table(mustLoadRapid(t, generatedHead+strings.Join(rules, "")))
		shuffle := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		for range 3 {
			shuffled := slices.Clone(rules)
			shuffle.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			cut := shuffle.IntN(len(shuffled) + 1)
			fsys := bundleFS(generatedHead + strings.Join(shuffled[:cut], ""))
			if cut == 0 {
				fsys = bundleFS(strings.TrimSuffix(generatedHead, "rules:\n"))
			}
			if cut < len(shuffled) {
				fsys["z.yaml"] = fsys["a.yaml"]
				delete(fsys, "a.yaml")
				text := "# a comment\nvigil:   1\nrules:\n" + strings.Join(shuffled[cut:], "\n# another\n")
				file := *fsys["z.yaml"]
				file.Data = []byte(text)
				fsys["a.yaml"] = &file
				manifest := *fsys["bundle.yaml"]
				manifest.Data = []byte("vigil: 1\nprofiles: {low: {max_feed_age: 30000ms}, high-high: {max_feed_age: 5s}}\nfiles:\n- z.yaml\n- a.yaml\n")
				fsys["bundle.yaml"] = &manifest
			}
			_, set, errs := Load(fsys)
			if len(errs) > 0 {
				t.Fatal(errs)
			}
			if got := table(set); got != want {
				t.Fatalf("rules:\n%s\n got %s\nwant %s", strings.Join(rules, ""), got, want)
			}
		}
	})
}

// TestDigestChangesWithMeaning: whatever a bundle says makes another digest when it says
// something else.
func TestDigestChangesWithMeaning(t *testing.T) {
	base := `vigil: 1
attributes:
  resource.doc: {size: {type: int, min: 0, max: 10, required: true}}
  context: {geo: {type: string, max: 9, default: a}}
actions: {read: {scope: "r"}, write: {}}
lists: {l: [a, b]}
rules:
  - id: one
    effect: require
    on: {actions: [read], resources: [doc], classes: [low]}
    when: resource.size > 1
    obligations: [{id: o, type: approval, properties: {group: x, n: 1}}]
    reason_user: "U"
    reason_admin: "A"
`
	digestOf := func(file string) string {
		return mustLoad(t, file).Digest()
	}
	want := digestOf(base)
	if !strings.HasPrefix(want, "sha256:") || len(want) != len("sha256:")+64 {
		t.Fatalf("digest %q", want)
	}
	seen := map[string]string{want: "the base"}
	for _, change := range [][2]string{
		{"type: int, min: 0", "type: number, min: 0"}, {"min: 0", "min: 1"}, {"max: 10", "max: 11"}, {"max: 10, ", ""}, {", required: true", ", default: 1"},
		{"default: a", "default: b"}, {"default: a", "required: true"}, {`"r"`, `"s"`}, {"write: {}", "write: {impact: low}"}, {"write: {}", "delete: {}"},
		{"[a, b]", "[a, c]"}, {"[a, b]", "[a]"}, {"{l:", "{m:"}, {"id: one", "id: two"}, {"effect: require", "effect: deny"},
		{"actions: [read]", "actions: [read, write]"}, {"actions: [read], ", ""}, {"resources: [doc], ", ""}, {"resources: [doc]", "resources: [\"doc:1\"]"},
		{"[low]", "[high-high]"}, {", classes: [low]", ", subjects: [s]"}, {"size > 1", "size > 2"}, {"id: o,", "id: p,"}, {"type: approval", "type: step_up"},
		{"group: x", "group: y"}, {"n: 1", "n: 2"}, {`"U"`, `"V"`}, {`"A"`, `"B"`}, {"effect: require", "effect: require\n    mode: observe"},
		{"context: {geo", "subject.s: {geo"},
	} {
		changed := strings.Replace(base, change[0], change[1], 1)
		if strings.Contains(change[1], "deny") {
			changed = strings.Replace(changed, "    obligations: [{id: o, type: approval, properties: {group: x, n: 1}}]\n", "", 1)
		}
		if strings.Contains(change[1], "subjects: [s]") {
			changed = strings.Replace(changed, "attributes:\n", "attributes:\n  subject.s: {}\n", 1)
		}
		if changed == base {
			t.Fatalf("%q is not in the base", change[0])
		}
		got := digestOf(changed)
		if before := seen[got]; before != "" {
			t.Errorf("%q for %q has the digest of %s", change[1], change[0], before)
		}
		seen[got] = fmt.Sprintf("%q for %q", change[1], change[0])
	}
	for _, same := range [][2]string{
		{"{group: x, n: 1}", "{n: 1.0, group: \"x\"}"}, {"[a, b]", "[b, a]"}, {"when: resource.size > 1", "when: |\n      resource.size > 1\n"},
		{"lists:", "# a comment\nlists:"}, {"[read]", "[ \"read\" ]"},
	} {
		if got := digestOf(strings.Replace(base, same[0], same[1], 1)); got != want {
			t.Errorf("%q for %q makes another digest", same[1], same[0])
		}
	}
}
