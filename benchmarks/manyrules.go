package main

import (
	"context"
	"fmt"
	"strings"

	"vigil/authz"
	"vigil/engine"
	"vigil/identity"
	"vigil/rules"
)

// spreading is how many rules differ from one another.
type spreading struct {
	id, what string
	on, when func(i int) string
	action   func(i int) string
}

// manyRequests is how many different requests are decided under many rules, spread evenly
// over them.
const manyRequests = 10

var spreadings = []spreading{
	{"action", "each rule has its own action",
		func(i int) string { return fmt.Sprintf("actions: [act-%05d], resources: [tool]", i) }, func(int) string { return "" },
		func(i int) string { return fmt.Sprintf("act-%05d", i) }},
	{"resource", "all rules act on tools/call and differ by resource id",
		func(i int) string { return fmt.Sprintf("actions: [tools/call], resources: [\"tool:t-%05d\"]", i) }, func(int) string { return "" },
		func(int) string { return "tools/call" }},
	{"global", "all rules are global and differ by an equality conjunct",
		nil, func(i int) string { return fmt.Sprintf(`resource.department == "d-%05d" && `, i) },
		func(int) string { return "tools/call" }},
}

// bundle is n rules of a spreading and two that all requests share. For actions n is at
// most 9,990: a bundle declares no more than 10,000.
func (s *spreading) bundle(n int) map[string]string {
	files := map[string]string{}
	var declared strings.Builder
	declared.WriteString("vigil: 1\nattributes:\n  resource.tool: {size: {type: int, min: 0, required: true}, department: {type: string, max: 16, required: true}}\nactions:\n  tools/call: {}\n")
	if s.id == "action" {
		for i := range n {
			fmt.Fprintf(&declared, "  %s: {}\n", s.action(i))
		}
	}
	declared.WriteString("rules:\n  - {id: any-risk, effect: deny, when: agent.risk >= 90}\n  - {id: any-status, effect: deny, when: 'agent.status != \"active\"'}\n")
	files["declared.yaml"] = declared.String()
	names := []string{"declared.yaml"}
	var b strings.Builder
	for i := range n {
		on := ""
		if s.on != nil {
			on = "on: {" + s.on(i) + "}, "
		}
		fmt.Fprintf(&b, "  - {id: r-%05d, effect: allow, %swhen: '%sagent.risk < %d && resource.size < 1000 && agent.labels.role == \"invoice-agent\"'}\n", i, on, s.when(i), 20+i%60)
		if i%2000 == 1999 || i == n-1 {
			name := fmt.Sprintf("rules-%02d.yaml", len(names))
			names = append(names, name)
			files[name] = "vigil: 1\nrules:\n" + b.String()
			b.Reset()
		}
	}
	files["bundle.yaml"] = "vigil: 1\nprofiles: {low-low: {}, low-high: {}, high-low: {}, high-high: {}}\nfiles: [" + strings.Join(names, ", ") + "]\n"
	return files
}

// request is one that rule i allows.
func (s *spreading) request(i int) engine.Item {
	request := &authz.Request{
		Subject: authz.Party{Type: "agent", ID: agentID(i % 100)}, Action: authz.Action{Name: s.action(i)},
		Resource: authz.Party{Type: "tool", ID: fmt.Sprintf("t-%05d", i), Properties: authz.Object{
			{Name: "size", Value: authz.Value{Kind: authz.Number, Num: 10}},
			{Name: "department", Value: authz.Value{Kind: authz.String, Str: fmt.Sprintf("d-%05d", i)}}}},
	}
	item := engine.Item{Request: request, Principal: &authz.Principal{}}
	mapping := identity.DefaultMapping()
	mapping.Principal(caller, item.Request, item.Principal)
	return item
}

// underRules are the two ways to decide under a set: the rules alone, and everything.
func (s *spreading) underRules(n int) (alone, whole subject, end func(), err error) {
	_, set, err := loadBundle(s.bundle(n))
	if err != nil {
		return alone, whole, nil, err
	}
	h, err := newHouse(set, newFleet(100), engine.Config{Cache: engine.CacheOff})
	if err != nil {
		return alone, whole, nil, err
	}
	items := make([]engine.Item, manyRequests)
	frames := make([]*rules.Frame, manyRequests)
	for i := range items {
		items[i] = s.request(i * (n / manyRequests))
		frames[i] = &rules.Frame{Request: items[i].Request, Now: h.clock.Now()}
		frames[i].Standings[authz.KindAgent] = &authz.Standing{ID: items[i].Principal.Agent, Registered: true, Risk: 5, Labels: map[string]string{"role": "invoice-agent"}}
		if a := h.Decide(caller, items[i].Request, items[i].Principal); a.Effect != authz.Allow {
			h.Close()
			return alone, whole, nil, fmt.Errorf("%s: rule %d of %d does not allow: %s %s", s.id, i, n, a.Code, a.ReasonAdmin)
		}
	}
	i, k := 0, 0
	alone = subject{name: "rules", run: func(n int) {
		for range n {
			f := frames[i%manyRequests]
			set.Plan(f.Request.Action.Name, "tool", f.Request.Resource.ID).Evaluate(f, "low-low")
			i++
		}
	}}
	whole = subject{name: "decisions", run: func(n int) {
		for range n {
			it := &items[k%manyRequests]
			h.Decide(caller, it.Request, it.Principal)
			k++
		}
	}}
	return alone, whole, h.Close, nil
}

// measureRules decides under 10 and under many rules that are equally many candidates.
func (b *bench) measureRules(ctx context.Context) error {
	plot := Series{ID: "rules", Title: "Nanoseconds of one fresh decision, by number of rules", X: "rules", Y: "ns", LogX: true, LogY: true}
	for _, s := range spreadings {
		line := Line{Name: s.what}
		var subjects []subject
		var sizes []int
		for _, n := range []int{10, 100, 1000, 9_990} {
			if !b.full && (n == 100 || n == 1000) {
				continue
			}
			b.say("rules: %s: %s", s.what, thousands(float64(n)))
			alone, whole, end, err := s.underRules(n)
			if err != nil {
				return err
			}
			defer end()
			subjects, sizes = append(subjects, alone, whole), append(sizes, n)
		}
		times, err := interleave(ctx, b.rounds, subjects...)
		if err != nil {
			return err
		}
		last := len(sizes) - 1
		for i, n := range sizes {
			line.Points = append(line.Points, Point{float64(n), median(times[2*i+1])})
		}
		plot.Lines = append(plot.Lines, line)
		note := ""
		if s.on == nil {
			note = "rules whose `on` names nothing are looked up by the value that each asks for"
		}
		b.add(ratio("rules."+s.id, "a decision under 9,990 rules: "+s.what, "10 rules", nanoseconds, times[2*last+1], times[1], note))
		b.add(ratio("rules."+s.id+".alone", "the rules alone, 9,990: "+s.what, "10 rules", nanoseconds, times[2*last], times[0], ""))
	}
	b.plot(plot)
	return nil
}
