package authzen

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"vigil/authz"
)

func exampleAnswer() authz.Answer {
	return authz.Answer{
		Decision: &authz.Decision{
			Effect: authz.Deny, Class: authz.ClassGate, Code: authz.EntityQuarantined,
			Entity:      authz.Ref{Kind: authz.KindAgent, ID: "invoice-agent"},
			ReasonUser:  "Not permitted.",
			ReasonAdmin: "agent:invoice-agent quarantined by soar, INC-4711",
			ValidUntil:  authz.InstantOf(time.Date(2026, 11, 23, 5, 4, 5, 0, time.UTC)),
			Bundle:      "sha256:9f2c41d0",
		},
		AsOf: "v1.kQ3x",
		At:   authz.InstantOf(time.Date(2026, 11, 23, 3, 5, 0, 123e6, time.UTC)),
	}
}

func TestDecisionsAsTheyAreWritten(t *testing.T) {
	gate := exampleAnswer()
	forever := exampleAnswer()
	forever.Decision = &authz.Decision{Effect: authz.Allow, Class: authz.ClassAllow, Code: authz.Allowed, ValidUntil: authz.Forever, Rules: []string{"pay-small", `q"\`}, Bundle: "sha256:1"}
	required := exampleAnswer()
	required.Decision = &authz.Decision{
		Effect: authz.Require, Class: authz.ClassRequire, Code: authz.Obliged, ReasonUser: "Payments above 5,000 need an approval.",
		Obligations: []authz.Obligation{{ID: "o1", Type: "approval", Properties: []byte(`{"group":"ap-managers"}`)}, {Type: "notify"}},
		Errors:      []authz.RuleError{{Rule: "r1", Input: "resource.amount", Message: "no such\nattribute"}, {Rule: "r2", Message: "overflow"}},
		Observed:    []authz.Observation{{Rule: "o", Effect: authz.Deny}},
		Entity:      authz.Ref{Kind: authz.KindEverything}, Input: "resource.amount", ValidUntil: authz.Forever, Bundle: "sha256:1",
	}
	waived := exampleAnswer()
	waived.Decision = &authz.Decision{Effect: authz.Allow, Class: authz.ClassAllow, Code: authz.Allowed, ValidUntil: authz.Forever, Bundle: "sha256:1", Waived: []string{"client:soc/INC-7", `a"b`}}
	for _, c := range []struct {
		name   string
		answer authz.Answer
		full   bool
		want   string
	}{
		{"codes", gate, false, `{"decision":false,"context":{"effect":"deny","class":"gate","code":"quarantined","obligations":[],"reason_user":"Not permitted.","as_of":"v1.kQ3x"}}`},
		{"full", gate, true, `{"decision":false,"context":{"effect":"deny","class":"gate","code":"quarantined","obligations":[],"reason_user":"Not permitted.","reason_admin":"agent:invoice-agent quarantined by soar, INC-4711","entity":"agent:invoice-agent","rules":[],"bundle":"sha256:9f2c41d0","valid_until":"2026-11-23T05:04:05.000Z","as_of":"v1.kQ3x","decided_at":"2026-11-23T03:05:00.123Z"}}`},
		{"allow, codes", forever, false, `{"decision":true,"context":{"effect":"allow","class":"allow","code":"allowed","obligations":[],"as_of":"v1.kQ3x"}}`},
		{"allow, full", forever, true, `{"decision":true,"context":{"effect":"allow","class":"allow","code":"allowed","obligations":[],"rules":["pay-small","q\"\\"],"bundle":"sha256:1","as_of":"v1.kQ3x","decided_at":"2026-11-23T03:05:00.123Z"}}`},
		{"require, codes", required, false, `{"decision":false,"context":{"effect":"require","class":"require","code":"obligation_required","obligations":[{"id":"o1","type":"approval","properties":{"group":"ap-managers"}},{"type":"notify"}],"reason_user":"Payments above 5,000 need an approval.","as_of":"v1.kQ3x"}}`},
		{"require, full", required, true, `{"decision":false,"context":{"effect":"require","class":"require","code":"obligation_required","obligations":[{"id":"o1","type":"approval","properties":{"group":"ap-managers"}},{"type":"notify"}],"reason_user":"Payments above 5,000 need an approval.","entity":"everything","input":"resource.amount","rules":[],"errors":[{"rule":"r1","input":"resource.amount","message":"no such\nattribute"},{"rule":"r2","message":"overflow"}],"observed":[{"rule":"o","effect":"deny"}],"bundle":"sha256:1","as_of":"v1.kQ3x","decided_at":"2026-11-23T03:05:00.123Z"}}`},
		{"waived, codes", waived, false, `{"decision":true,"context":{"effect":"allow","class":"allow","code":"allowed","obligations":[],"as_of":"v1.kQ3x"}}`},
		{"waived, full", waived, true, `{"decision":true,"context":{"effect":"allow","class":"allow","code":"allowed","obligations":[],"rules":[],"waived":["client:soc/INC-7","a\"b"],"bundle":"sha256:1","as_of":"v1.kQ3x","decided_at":"2026-11-23T03:05:00.123Z"}}`},
		{"nothing", authz.Answer{}, true, `{"decision":false,"context":{"effect":"deny","class":"error","code":"could_not_evaluate","obligations":[]}}`},
		{"the zero decision", authz.Answer{Decision: new(authz.Decision)}, false, `{"decision":false,"context":{"effect":"deny","class":"default","code":"","obligations":[]}}`},
	} {
		got := AppendDecision([]byte("x"), c.answer, c.full)
		if string(got) != "x"+c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
		// The same from memory: made, then found.
		c.answer.Memo = new(authz.Memo)
		for range 2 {
			if again := AppendDecision([]byte("x"), c.answer, c.full); string(again) != string(got) {
				t.Errorf("%s, remembered:\n got %s\nwant %s", c.name, again, got)
			}
		}
		if !jsontext.Value(got[1:]).IsValid() {
			t.Errorf("%s: not JSON: %s", c.name, got)
		}
	}
	out := OpenBatch(nil)
	out = AppendItemError(Separate(out, 0), 400, `missing_member: /evaluations/0/a"b`)
	out = CloseBatch(AppendDecision(Separate(out, 1), authz.Answer{}, false))
	if want := `{"evaluations":[{"decision":false,"context":{"effect":"deny","class":"error","code":"could_not_evaluate","obligations":[],"error":{"status":400,"message":"missing_member: /evaluations/0/a\"b"}}},`; !strings.HasPrefix(string(out), want) || !jsontext.Value(out).IsValid() {
		t.Errorf("%s", out)
	}
}

// What only operators may see never reaches a caller that gets codes.
func TestCodesTellNoMore(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		a := exampleAnswer()
		d := *a.Decision
		d.Effect, d.Class = authz.Effect(rng.IntN(3)), authz.Class(rng.IntN(7))
		d.ReasonAdmin, d.Input, d.Rules, d.Bundle = "SECRET risk 72 of 70", "SECRET", []string{"SECRET"}, "SECRET"
		d.Entity = authz.Ref{Kind: authz.Kind(1 + rng.IntN(authz.NumKinds-1)), ID: "SECRET"}
		d.Errors, d.Observed = []authz.RuleError{{Rule: "SECRET", Message: "SECRET"}}, []authz.Observation{{Rule: "SECRET"}}
		d.Waived = []string{"SECRET"}
		a.Decision = &d
		got := string(AppendDecision(nil, a, false))
		if strings.Contains(got, "SECRET") || strings.Contains(got, "valid_until") || strings.Contains(got, "decided_at") {
			t.Fatal(got)
		}
		if (d.Effect == authz.Allow) != strings.HasPrefix(got, `{"decision":true,`) {
			t.Fatal(d.Effect, got)
		}
	}
}

func TestWritingAllocatesNothing(t *testing.T) {
	a := exampleAnswer()
	a.Decision.Obligations = []authz.Obligation{{ID: "o", Type: "t", Properties: []byte("{}")}}
	a.Decision.Errors = []authz.RuleError{{Rule: "r", Input: "i", Message: "\x00é\xff"}}
	a.Decision.Rules = []string{"a", "b"}
	buf := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(200, func() {
		buf = AppendDecision(buf[:0], a, true)
		buf = AppendDecision(buf, a, false)
		buf = AppendItemError(buf, 400, "missing_member")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// What differs from call to call is not remembered, nor is one degree of detail taken for
// the other.
func TestOnlyWhatAllAnswersShareIsRemembered(t *testing.T) {
	memo := new(authz.Memo)
	for i := range 8 {
		answer := exampleAnswer()
		answer.AsOf, answer.At = "v1.kQ3x"+strings.Repeat("y", i), answer.At.Add(time.Duration(i)*time.Second)
		answer.Expires = answer.At.Add(time.Minute)
		full := i%2 == 0
		want := string(AppendDecision(nil, answer, full))
		answer.Memo = memo
		if got := string(AppendDecision(nil, answer, full)); got != want {
			t.Errorf("answer %d:\n got %s\nwant %s", i, got, want)
		}
	}
	if memo.Brief.Load() == nil || memo.Full.Load() == nil {
		t.Error("nothing was remembered")
	}
}

func TestDecisionsThatReadAlikeShareTheirText(t *testing.T) {
	one, two, other := exampleAnswer(), exampleAnswer(), exampleAnswer()
	other.Decision = &authz.Decision{Effect: authz.Allow, Class: authz.ClassAllow, Code: authz.Allowed}
	for _, a := range []*authz.Answer{&one, &two, &other} {
		a.Memo = new(authz.Memo)
		AppendDecision(nil, *a, false)
	}
	if one.Memo.Brief.Load() != two.Memo.Brief.Load() || one.Memo.Brief.Load() == other.Memo.Brief.Load() {
		t.Error("a text is not shared, or with a decision that reads otherwise")
	}
}
