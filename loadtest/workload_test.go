package main

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"vigil/rules"
)

func small() shape { return shape{agents: 20, requests: 50, rules: 12, zipf: 1.1, seed: 7} }

func written(t testing.TB, s shape) string {
	t.Helper()
	w, err := generate(s)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := w.write("-", &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestTheSameSeedGivesTheSameWorkload(t *testing.T) {
	first := written(t, small())
	if again := written(t, small()); again != first {
		t.Error("it differs")
	}
	other := small()
	other.seed++
	if written(t, other) == first {
		t.Error("another seed gives the same")
	}
	w, err := decodeWorkload([]byte(first))
	if err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if err := w.write("-", &again); err != nil || again.String() != first {
		t.Errorf("it is read as something else: %v", err)
	}
}

func TestGeneratedWorkloadsHaveEveryAnswerAndRulesThatLoad(t *testing.T) {
	for _, n := range []int{fixedRules, 12, 300} {
		s := small()
		s.rules, s.requests = n, 400
		w, err := generate(s)
		if err != nil {
			t.Fatal(err)
		}
		files := fstest.MapFS{}
		for name, text := range w.Bundle {
			files[name] = &fstest.MapFile{Data: []byte(text)}
		}
		bundle, _, errs := rules.Load(files)
		if len(errs) > 0 || len(bundle.Rules) != n {
			t.Fatalf("%d rules of %d: %v", len(bundle.Rules), n, errs)
		}
		answers := map[string]int{}
		for _, r := range w.Requests {
			answers[r.Expect]++
		}
		if len(answers) != 3 {
			t.Errorf("%d rules: %v", n, answers)
		}
	}
}

func TestWorkloadsAreReadStrictly(t *testing.T) {
	good := written(t, small())
	for name, change := range map[string][2]string{
		"version":         {`"v": 1`, `"v": 2`},
		"unknown member":  {`"v": 1`, `"v": 1, "more": 1`},
		"member twice":    {`"v": 1`, `"v": 1, "v": 1`},
		"wrong type":      {`"v": 1`, `"v": "1"`},
		"zipf":            {`"zipf": 1.1`, `"zipf": 0.9`},
		"expect":          {`"expect": "allow"`, `"expect": "maybe"`},
		"agent twice":     {`"id": "agent-000001"`, `"id": "agent-000000"`},
		"agent's id":      {`"id": "agent-000001"`, `"id": ""`},
		"class":           {`"class": "default"`, `"class": ""`},
		"path in bundle":  {`"rules.yaml":`, `"../rules.yaml":`},
		"race":            {`$AGENT`, `agent`},
		"trailing data":   {"\n}\n", "\n} {}"},
		"body is no JSON": {`"body": {`, `"body": [{`},
	} {
		broken := strings.Replace(good, change[0], change[1], 1)
		if broken == good {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := decodeWorkload([]byte(broken)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzDecodeWorkload(f *testing.F) {
	s := small()
	s.agents, s.requests = 2, 3
	f.Add([]byte(written(f, s)))
	f.Add([]byte(`{"v":1,"requests":[{"body":{},"expect":"allow"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		w, err := decodeWorkload(data)
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := w.write("-", &out); err != nil {
			t.Fatalf("it cannot be written again: %v", err)
		}
		again, err := decodeWorkload(out.Bytes())
		if err != nil {
			t.Fatalf("it is not read again: %v", err)
		}
		if len(again.Requests) != len(w.Requests) || !reflect.DeepEqual(again.Bundle, w.Bundle) || again.Race.Body != w.Race.Body {
			t.Fatal("it is another one")
		}
	})
}

func FuzzDecodeThresholds(f *testing.F) {
	f.Add([]byte(`{"v":1,"limits":[{"metric":"a.b","max":0,"margin":0.1,"why":"because"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if limits, err := decodeThresholds(data); err == nil {
			limits.missed(newReport("run"))
		}
	})
}

func TestThresholds(t *testing.T) {
	r := newReport("run")
	r.add("a", ratio, 1.05)
	r.add("n", count, 1)
	r.add("time", seconds, 1)
	for name, tc := range map[string]struct {
		limit  string
		missed string
	}{
		"within":             {`"metric":"a","max":1.1`, ""},
		"within the margin":  {`"metric":"a","max":1,"margin":0.1`, ""},
		"beyond the margin":  {`"metric":"a","max":1,"margin":0.04`, "at most 1"},
		"below":              {`"metric":"a","min":2,"margin":0.1`, "at least 2"},
		"above":              {`"metric":"a","min":1`, ""},
		"none are put up":    {`"metric":"n","max":0,"margin":1`, "at most 0"},
		"not measured":       {`"metric":"b","max":1`, "not measured"},
		"a time is no limit": {`"metric":"time","max":2`, "no threshold"},
	} {
		t.Run(name, func(t *testing.T) {
			limits, err := decodeThresholds([]byte(`{"v":1,"limits":[{` + tc.limit + `,"why":"w"}]}`))
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(limits.missed(r), "\n"); tc.missed == "" && got != "" || !strings.Contains(got, tc.missed) {
				t.Errorf("%q", got)
			}
		})
	}
	for _, broken := range []string{``, `{}`, `{"v":1,"limits":[]}`, `{"v":2,"limits":[{"metric":"a","max":1,"why":"w"}]}`,
		`{"v":1,"limits":[{"metric":"a","max":1}]}`, `{"v":1,"limits":[{"metric":"a","why":"w"}]}`, `{"v":1,"limits":[{"metric":"a","max":1,"why":"w","margin":2}]}`,
		`{"v":1,"limits":[{"metric":"a","maximum":1,"why":"w"}]}`} {
		if _, err := decodeThresholds([]byte(broken)); err == nil {
			t.Errorf("%s: no error", broken)
		}
	}
}
