package authz

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"
)

func TestReferencesReadBackAsWritten(t *testing.T) {
	for _, r := range []Ref{
		{KindAgent, "invoice-agent"}, {KindUser, "spiffe://acme/u:1"}, {KindEverything, ""}, {KindTool, "büro"}, {KindSource, "issuer:https://idp"},
	} {
		got, err := ParseRef(r.String())
		if err != nil || got != r {
			t.Errorf("%q: %v, %v", r, got, err)
		}
	}
	for s, want := range map[string]string{
		"agent":                         `entity "agent": want kind:id, such as agent:agent`,
		"agnt:a":                        `entity "agnt:a": unknown kind "agnt"; there are agent, instance, user, session, token, grant, code, model, tool, tenant, everything, source`,
		"none:a":                        `entity "none:a": unknown kind "none"; there are agent, instance, user, session, token, grant, code, model, tool, tenant, everything, source`,
		"agent:":                        `entity "agent:": the id is empty`,
		"everything:x":                  `entity "everything:x": "everything" takes no id`,
		"source:siem":                   `entity "source:siem": a source is client:NAME, issuer:NAME or topic:NAME`,
		"source:client:":                `entity "source:client:": a source is client:NAME, issuer:NAME or topic:NAME`,
		"source:agent:a":                `entity "source:agent:a": a source is client:NAME, issuer:NAME or topic:NAME`,
		"agent:a\nb":                    `entity "agent:a\nb": the id holds a control character (0x0a)`,
		"agent:a\xff":                   `entity "agent:a\xff": the id is not valid UTF-8`,
		"user:" + string('\uFFFD'):      "entity \"user:\uFFFD\": the id is not valid UTF-8",
		"user:" + longID(MaxID + 1)[0:]: `the id has 513 bytes, more than 512`,
	} {
		if _, err := ParseRef(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", s, err, want)
		}
	}
}

func longID(n int) string { return strings.Repeat("x", n) }

func TestEverythingStandsAboveTenants(t *testing.T) {
	if k := (Ref{Kind: KindEverything}).In("acme"); k.Tenant != "" {
		t.Errorf("%+v", k)
	}
	if k := (Ref{Kind: KindTenant, ID: "acme"}).In("acme"); k.Tenant != "acme" {
		t.Errorf("%+v", k)
	}
}

func TestTheZeroDecisionIsADenial(t *testing.T) {
	var d Decision
	if d.Effect != Deny || d.Class != ClassDefault || d.Effect.String() != "deny" {
		t.Errorf("%+v", d)
	}
}

func TestInstantsDoNotOverflow(t *testing.T) {
	if Forever.Add(time.Hour) != Forever || (Forever-1).Add(time.Hour) != Forever {
		t.Error("an end beyond Forever")
	}
	if InstantOf(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)) != Forever-1 {
		t.Error("a far future is clamped")
	}
	if InstantOf(time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)) >= 0 {
		t.Error("a far past is clamped")
	}
	at := InstantOf(time.Date(2026, 11, 23, 3, 4, 5, 6, time.UTC))
	if got := at.String(); got != "2026-11-23T03:04:05.000000006Z" {
		t.Error(got)
	}
}

// value makes a Value of fuzzer bytes: any bytes are some value.
func value(data []byte, depth int) (Value, []byte) {
	next := func() byte {
		if len(data) == 0 {
			return 0
		}
		b := data[0]
		data = data[1:]
		return b
	}
	text := func() string {
		n := min(int(next()%5), len(data))
		s := string(data[:n])
		data = data[n:]
		return s
	}
	switch kind := ValueKind(next() % 6); kind {
	case Bool:
		return Value{Kind: Bool, Num: float64(next() & 1)}, data
	case Number:
		return Value{Kind: Number, Num: float64(int8(next())) / 2}, data
	case String:
		return Value{Kind: String, Str: text()}, data
	case List, Map:
		v := Value{Kind: kind}
		for range next() % 4 {
			var m Member
			if kind == Map {
				m.Name = text()
			}
			if depth > 0 {
				m.Value, data = value(data, depth-1)
			}
			v.Members = append(v.Members, m)
		}
		return v, data
	}
	return Value{}, data
}

func equal(a, b Value) bool {
	if a.Kind != b.Kind || math.Float64bits(a.Num) != math.Float64bits(b.Num) || a.Str != b.Str || len(a.Members) != len(b.Members) {
		return false
	}
	for i := range a.Members {
		if a.Members[i].Name != b.Members[i].Name || !equal(a.Members[i].Value, b.Members[i].Value) {
			return false
		}
	}
	return true
}

// Two sequences of values have one encoding only if they are the same: no value's
// encoding is a prefix of another's, so concatenations cannot collide either.
func FuzzKeyEncodingIsInjective(f *testing.F) {
	f.Add([]byte{3, 2, 'a', 'b', 3, 1, 'c'}, []byte{3, 1, 'a', 3, 2, 'b', 'c'})
	f.Add([]byte{4, 2, 3, 1, 'a', 0}, []byte{4, 1, 3, 1, 'a', 0})
	f.Add([]byte{5, 1, 1, 'a', 0}, []byte{4, 1, 0})
	f.Add([]byte{0}, []byte{3, 0})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var va, vb [3]Value
		for i := range va {
			va[i], a = value(a, 3)
			vb[i], b = value(b, 3)
		}
		var ka, kb []byte
		same := true
		for i := range va {
			ka, kb = va[i].AppendKey(ka), vb[i].AppendKey(kb)
			same = same && equal(va[i], vb[i])
		}
		if bytes.Equal(ka, kb) != same {
			t.Fatalf("%+v\n%+v\nequal %v, keys %x %x", va, vb, same, ka, kb)
		}
	})
}

func TestANullMemberIsAbsent(t *testing.T) {
	o := Object{{Name: "a"}, {Name: "b", Value: Value{Kind: Bool}}}
	if o.Get("a") != nil || o.Get("c") != nil || o.Get("b") == nil {
		t.Error("a null or missing member was found, or a false one was not")
	}
}

func TestACloneSharesNothing(t *testing.T) {
	name := []byte("name")
	r := &Request{Subject: Party{ID: string(name), Properties: Object{{Name: "l", Value: Value{Kind: List, Members: []Member{{Value: Value{Kind: String, Str: "x"}}}}}}}}
	c := r.Clone()
	r.Subject.Properties[0].Value.Members[0].Value.Str = "changed"
	if got := c.Subject.Properties[0].Value.Members[0].Value.Str; got != "x" {
		t.Errorf("the clone changed to %q", got)
	}
}

// CheckID looks at several bytes at once: every byte is found in every place.
func TestCheckIDFindsEveryByteInEveryPlace(t *testing.T) {
	for length := 1; length <= 20; length++ {
		for place := range length {
			for c := range 256 {
				id := []byte(strings.Repeat("a", length))
				id[place] = byte(c)
				fit := c >= 0x20 && c < 0x7f
				if err := CheckID(string(id)); (err == nil) != fit {
					t.Fatalf("%q: %v", id, err)
				}
			}
		}
	}
	for _, id := range []string{"agent-ü", "ü", "名前-1234567890", "a\u00a0b"} {
		if err := CheckID(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
}
