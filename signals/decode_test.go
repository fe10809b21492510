package signals

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"vigil/authz"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files")

// signalJSON builds the JSON of one signal: the envelope and then more members, where a
// member of the envelope may be overridden or, with "-name", left out.
func signalJSON(typ string, more ...string) string {
	members := []struct{ name, value string }{
		{"v", `1`}, {"id", `"INC-1"`}, {"type", `"` + typ + `"`},
		{"entities", `["agent:a"]`}, {"time", `"2026-11-23T03:04:05Z"`},
	}
	var out []string
	for _, m := range members {
		keep := true
		for _, x := range more {
			if x == "-"+m.name || strings.HasPrefix(x, `"`+m.name+`":`) {
				keep = false
			}
		}
		if keep {
			out = append(out, fmt.Sprintf("%q:%s", m.name, m.value))
		}
	}
	for _, x := range more {
		if !strings.HasPrefix(x, "-") {
			out = append(out, x)
		}
	}
	return "{" + strings.Join(out, ",") + "}"
}

func many(n int, f func(i int) string) string {
	all := make([]string, n)
	for i := range all {
		all[i] = f(i)
	}
	return strings.Join(all, ",")
}

// badSignals is every class of wrong signal. The messages are in testdata/errors.golden.
var badSignals = []struct{ name, body string }{
	{"empty body", ``},
	{"only space", "  \n"},
	{"not JSON", `quarantine agent:a`},
	{"cut off", `{"v":1,"id":"x"`},
	{"cut off in a string", `{"v":1,"id":"x`},
	{"comma at the end", `{"v":1,}`},
	{"single quotes", `{'v':1}`},
	{"NaN", signalJSON("risk", `"risk":NaN`)},
	{"infinity", signalJSON("risk", `"risk":1e999`)},
	{"leading zero", signalJSON("risk", `"risk":010`)},
	{"not an object", `"quarantine"`},
	{"null", `null`},
	{"list in a list", `[[` + signalJSON("taint") + `]]`},
	{"deep", strings.Repeat(`[`, 20000)},
	{"deep value", signalJSON("taint", `"reason":`+strings.Repeat(`[`, 20000))},
	{"trailing signal", signalJSON("taint") + signalJSON("taint")},
	{"trailing comma", signalJSON("taint") + `,`},
	{"trailing after a batch", `[` + signalJSON("taint") + `] x`},
	{"invalid UTF-8", signalJSON("taint", "\"reason\":\"\xff\"")},
	{"invalid UTF-8 in a name", signalJSON("taint", "\"rea\xffson\":\"x\"")},
	{"lone surrogate", signalJSON("taint", `"reason":"\ud800"`)},
	{"swapped surrogates", signalJSON("taint", `"reason":"\udc00\ud800"`)},
	{"duplicate member", signalJSON("quarantine", `"reason":"a","reason":"b"`)},
	{"duplicate member by escape", signalJSON("quarantine", `"reason":"a","r\u0065ason":"b"`)},
	{"duplicate label", signalJSON("register", `"class":"c","labels":{"a":"1","a":"2"}`)},
	{"unknown member", signalJSON("quarantine", `"reson":"a"`)},
	{"unknown member, nothing like it", signalJSON("quarantine", `"severity":"a"`)},
	{"member in another case", signalJSON("quarantine", `"Reason":"a"`)},
	{"member with a slash", signalJSON("quarantine", `"a/b~c":"a"`)},
	{"long unknown member", signalJSON("quarantine", `"`+strings.Repeat("x", 5000)+`":1`)},
	{"version missing", signalJSON("taint", "-v")},
	{"id missing", signalJSON("taint", "-id")},
	{"type missing", signalJSON("taint", "-type")},
	{"entities missing", signalJSON("taint", "-entities")},
	{"time missing", signalJSON("taint", "-time")},
	{"missing in the second", `[` + signalJSON("taint") + `,` + signalJSON("taint", "-time", `"id":"INC-2"`) + `]`},
	{"version 2", signalJSON("taint", `"v":2`)},
	{"version as a string", signalJSON("taint", `"v":"1"`)},
	{"version 1.5", signalJSON("taint", `"v":1.5`)},
	{"id empty", signalJSON("taint", `"id":""`)},
	{"id too long", signalJSON("taint", `"id":"`+strings.Repeat("x", MaxText+1)+`"`)},
	{"id with a line break", signalJSON("taint", `"id":"a\nb"`)},
	{"id a number", signalJSON("taint", `"id":4711`)},
	{"reason null", signalJSON("taint", `"reason":null`)},
	{"reason with an escape sequence", signalJSON("taint", `"reason":"\u001b[2J"`)},
	{"actor with a C1 control", signalJSON("taint", `"actor":"\u009b"`)},
	{"type unknown", signalJSON("quarantaine")},
	{"type unknown, nothing like it", signalJSON("explode")},
	{"type in another case", signalJSON("Quarantine")},
	{"type no signal", signalJSON("unreadable")},
	{"tenant empty", signalJSON("taint", `"tenant":""`)},
	{"entities empty", signalJSON("taint", `"entities":[]`)},
	{"entities a string", signalJSON("taint", `"entities":"agent:a"`)},
	{"entities an object", signalJSON("taint", `"entities":[{"kind":"agent"}]`)},
	{"entity twice", signalJSON("taint", `"entities":["agent:a","user:u","agent:a"]`)},
	{"entity without a kind", signalJSON("taint", `"entities":["invoice-agent"]`)},
	{"entity of unknown kind", signalJSON("taint", `"entities":["agnet:a"]`)},
	{"entity without an id", signalJSON("taint", `"entities":["agent:"]`)},
	{"entity with a long id", signalJSON("taint", `"entities":["agent:`+strings.Repeat("x", authz.MaxID+1)+`"]`)},
	{"entity with a very long id", signalJSON("taint", `"entities":["agent:`+strings.Repeat("x", 9000)+`"]`)},
	{"entity with a control character", signalJSON("taint", `"entities":["agent:a\u0000"]`)},
	{"everything with an id", signalJSON("taint", `"entities":["everything:x"]`)},
	{"too many entities", signalJSON("taint", `"entities":[`+many(MaxEntities+1, func(i int) string { return fmt.Sprintf(`"agent:%d"`, i) })+`]`)},
	{"time no time", signalJSON("taint", `"time":"yesterday"`)},
	{"time without a zone", signalJSON("taint", `"time":"2026-11-23T03:04:05"`)},
	{"time a number", signalJSON("taint", `"time":1795402245`)},
	{"time with a comma", signalJSON("taint", `"time":"2026-11-23T03:04:05,5Z"`)},
	{"time with one digit", signalJSON("taint", `"time":"2026-11-23T3:04:05Z"`)},
	{"time with a zone of 24 hours", signalJSON("taint", `"time":"2026-11-23T03:04:05+24:00"`)},
	{"time with a zone of 60 minutes", signalJSON("taint", `"time":"2026-11-23T03:04:05+00:60"`)},
	{"time with a space", signalJSON("taint", `"time":"2026-11-23 03:04:05Z"`)},
	{"time of a leap second", signalJSON("taint", `"time":"2016-12-31T23:59:60Z"`)},
	{"time of 29 February", signalJSON("taint", `"time":"2027-02-29T03:04:05Z"`)},
	{"time before all time", signalJSON("taint", `"time":"1970-01-01T00:00:00Z"`)},
	{"time after all time", signalJSON("taint", `"time":"2300-01-01T00:00:00Z"`)},
	{"expires at time", signalJSON("taint", `"expires":"2026-11-23T03:04:05Z"`)},
	{"expires before time", signalJSON("taint", `"expires":"2026-11-23T05:04:05+05:00"`)},
	{"revoke that ends", signalJSON("revoke", `"expires":"2027-01-01T00:00:00Z"`)},
	{"decommission that ends", signalJSON("decommission", `"expires":"2027-01-01T00:00:00Z"`)},
	{"lift that ends", signalJSON("lift", `"lifts":{"type":"taint","id":"x"},"expires":"2027-01-01T00:00:00Z"`)},
	{"failed attestation that ends", signalJSON("attest", `"result":"fail","expires":"2027-01-01T00:00:00Z"`)},
	{"risk missing", signalJSON("risk")},
	{"risk of 101", signalJSON("risk", `"risk":101`)},
	{"risk of -1", signalJSON("risk", `"risk":-1`)},
	{"risk with a fraction", signalJSON("risk", `"risk":50.5`)},
	{"risk as a string", signalJSON("risk", `"risk":"50"`)},
	{"risk that is a boolean", signalJSON("risk", `"risk":true`)},
	{"risk on a quarantine", signalJSON("quarantine", `"risk":50`)},
	{"scopes on a risk", signalJSON("risk", `"risk":5,"scopes":[]`)},
	{"result missing", signalJSON("attest")},
	{"result wrong", signalJSON("attest", `"result":"passed"`)},
	{"result a boolean", signalJSON("attest", `"result":true`)},
	{"attest a tenant", signalJSON("attest", `"result":"pass"`, `"entities":["tenant:default"]`)},
	{"narrow to nothing said", signalJSON("narrow")},
	{"scopes as a string", signalJSON("narrow", `"scopes":"read write"`)},
	{"scopes in one element", signalJSON("narrow", `"scopes":["read write"]`)},
	{"scope empty", signalJSON("narrow", `"scopes":[""]`)},
	{"scope twice", signalJSON("narrow", `"scopes":["a","b","a"]`)},
	{"too many scopes", signalJSON("narrow", `"scopes":[`+many(MaxList+1, func(i int) string { return fmt.Sprintf(`"s%d"`, i) })+`]`)},
	{"actions a string", signalJSON("require_approval", `"actions":"*"`)},
	{"class missing", signalJSON("register")},
	{"class empty", signalJSON("register", `"class":""`)},
	{"register everything", signalJSON("register", `"class":"c"`, `"entities":["everything"]`)},
	{"label a number", signalJSON("register", `"class":"c","labels":{"cost":5}`)},
	{"label without a name", signalJSON("register", `"class":"c","labels":{"":"x"}`)},
	{"label with a long name", signalJSON("register", `"class":"c","labels":{"`+strings.Repeat("x", MaxLabel+1)+`":"x"}`)},
	{"too many labels", signalJSON("register", `"class":"c","labels":{`+many(MaxLabels+1, func(i int) string { return fmt.Sprintf(`"l%d":""`, i) })+`}`)},
	{"code empty", signalJSON("register", `"class":"c","code":""`)},
	{"plain revoke of a user", signalJSON("revoke", `"entities":["agent:a","user:kim"]`)},
	{"plain revoke of a tool", signalJSON("revoke", `"entities":["tool:pay"]`)},
	{"plain revoke of a tenant", signalJSON("revoke", `"entities":["tenant:default"]`)},
	{"plain revoke of everything", signalJSON("revoke", `"entities":["everything"]`)},
	{"decommission everything", signalJSON("decommission", `"entities":["everything"]`)},
	{"issued_before on a quarantine", signalJSON("quarantine", `"issued_before":"2026-11-23T03:04:05Z"`)},
	{"issued_before no time", signalJSON("revoke", `"issued_before":"now"`)},
	{"lift nothing", signalJSON("lift")},
	{"lift without a type", signalJSON("lift", `"lifts":{"id":"x"}`)},
	{"lift without an id", signalJSON("lift", `"lifts":{"type":"taint"}`)},
	{"lift a quarantine", signalJSON("lift", `"lifts":{"type":"quarantine","id":"x"}`)},
	{"lift an unknown type", signalJSON("lift", `"lifts":{"type":"tiant","id":"x"}`)},
	{"lift with an unknown member", signalJSON("lift", `"lifts":{"type":"taint","ids":"x"}`)},
	{"lift with a duplicate member", signalJSON("lift", `"lifts":{"id":"x","id":"y","type":"taint"}`)},
	{"lift a string", signalJSON("lift", `"lifts":"INC-1"`)},
	{"lift in a line", signalJSON("lift", `"lifts":{"type":"taint","id":"x"},"source":"client:soar"`)},
	{"source no source", signalJSON("release", `"source":"soar"`)},
	{"source on a taint", signalJSON("taint", `"source":"client:soar"`)},
	{"waive an agent", signalJSON("waive", `"expires":"2026-11-23T05:04:05Z"`, `"reason":"r"`)},
	{"waive no source", signalJSON("waive", `"entities":["source:edr"]`, `"expires":"2026-11-23T05:04:05Z"`, `"reason":"r"`)},
	{"waive without end", signalJSON("waive", `"entities":["source:issuer:edr"]`, `"reason":"r"`)},
	{"waive for a month", signalJSON("waive", `"entities":["source:issuer:edr"]`, `"expires":"2026-12-23T05:04:05Z"`, `"reason":"r"`)},
	{"waive without a reason", signalJSON("waive", `"entities":["source:issuer:edr"]`, `"expires":"2026-11-23T05:04:05Z"`)},
	{"waive with an empty reason", signalJSON("waive", `"entities":["source:issuer:edr"]`, `"expires":"2026-11-23T05:04:05Z"`, `"reason":""`)},
	{"waive with a blank reason", signalJSON("waive", `"entities":["source:issuer:edr"]`, `"expires":"2026-11-23T05:04:05Z"`, `"reason":"  "`)},
	{"waive in a line", signalJSON("waive", `"entities":["source:issuer:edr"]`, `"expires":"2026-11-23T05:04:05Z"`, `"reason":"r"`, `"source":"client:soar"`)},
	{"heartbeat of an agent", signalJSON("heartbeat")},
	{"heartbeat of two", signalJSON("heartbeat", `"entities":["source:client:a","source:client:b"]`)},
	{"heartbeat that ends", signalJSON("heartbeat", `"entities":["source:client:a"]`, `"expires":"2026-11-23T05:04:05Z"`)},
	{"quarantine a source", signalJSON("quarantine", `"entities":["source:client:a"]`)},
	{"register a source", signalJSON("register", `"class":"c"`, `"entities":["source:client:a"]`)},
	{"lift a taint of a source", signalJSON("lift", `"lifts":{"type":"taint","id":"x"}`, `"entities":["source:client:a"]`)},
	{"lift a waive of an agent", signalJSON("lift", `"lifts":{"type":"waive","id":"x"}`, `"entities":["source:client:a","agent:a"]`)},
	{"lift of sources and others", signalJSON("lift", `"lifts":{"type":"unreadable","id":"x"}`, `"entities":["source:client:a","agent:a"]`)},
	{"batch empty", `[]`},
	{"batch with an id twice", `[` + signalJSON("taint") + `,` + signalJSON("quarantine") + `]`},
	{"batch too long", `[` + many(MaxBatch+1, func(i int) string { return signalJSON("taint", fmt.Sprintf(`"id":"%d"`, i)) }) + `]`},
	{"second of a batch bad", `[` + signalJSON("taint") + `,` + signalJSON("taint", `"id":"2","reson":""`) + `]`},
	{"signal too large", signalJSON("register", `"class":"c","labels":{`+many(MaxLabels, func(i int) string { return fmt.Sprintf(`"l%d":%q`, i, strings.Repeat("x", MaxText)) })+`}`)},
	{"body too large", strings.Repeat(" ", MaxBody+1)},
}

// TestEveryWrongSignalSaysWhatAndWhere holds the messages that people see.
func TestEveryWrongSignalSaysWhatAndWhere(t *testing.T) {
	var got strings.Builder
	for _, c := range badSignals {
		batch, err := Decode([]byte(c.body))
		var e *DecodeError
		if !errors.As(err, &e) {
			t.Errorf("%s: got %v, %v; want a DecodeError", c.name, batch, err)
			continue
		}
		if batch != nil {
			t.Errorf("%s: gave a batch beside the error", c.name)
		}
		if len(e.Detail) > 300 || len(e.Pointer) > 1100 {
			t.Errorf("%s: the message has %d bytes, the pointer %d", c.name, len(e.Detail), len(e.Pointer))
		}
		fmt.Fprintf(&got, "%s\n\t%s\n", c.name, e)
	}
	golden(t, "errors.golden", got.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(w)) {
		var a, b string
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b {
			t.Fatalf("%s, line %d:\n got %s\nwant %s\n(-rewrite writes it anew)", path, i+1, a, b)
		}
	}
}

func at(text string) authz.Instant {
	i, problem := parseInstant(text)
	if problem != "" {
		panic(problem)
	}
	return i
}

var goodSignals = []struct {
	body string
	want Signal
}{
	{signalJSON("quarantine", `"expires":"2026-11-23T05:04:05Z"`, `"actor":"kim@acme"`, `"reason":"beaconing"`, `"ticket":"INC-4711"`, `"tenant":"default"`),
		Signal{Type: TypeQuarantine, Expires: at("2026-11-23T05:04:05Z"), Actor: "kim@acme", Reason: "beaconing", Ticket: "INC-4711", Tenant: "default"}},
	{signalJSON("release", `"source":"client:soar"`), Signal{Type: TypeRelease, Line: "client:soar"}},
	{signalJSON("risk", `"risk":0`), Signal{Type: TypeRisk}},
	{signalJSON("risk", `"risk":100`), Signal{Type: TypeRisk, Risk: 100}},
	{signalJSON("risk", `"risk":5.0e1`), Signal{Type: TypeRisk, Risk: 50}},
	{signalJSON("attest", `"result":"pass"`, `"expires":"2026-11-24T00:00:00Z"`), Signal{Type: TypeAttest, Passed: true, Expires: at("2026-11-24T00:00:00Z")}},
	{signalJSON("attest", `"result":"fail"`), Signal{Type: TypeAttest}},
	{signalJSON("narrow", `"scopes":[]`), Signal{Type: TypeNarrow, Scopes: []string{}}},
	{signalJSON("narrow", `"scopes":["b","a"]`), Signal{Type: TypeNarrow, Scopes: []string{"a", "b"}}},
	{signalJSON("require_approval"), Signal{Type: TypeRequireApproval, Actions: []string{"*"}}},
	{signalJSON("require_approval", `"actions":[]`), Signal{Type: TypeRequireApproval, Actions: []string{"*"}}},
	{signalJSON("require_approval", `"actions":["pay","*"]`), Signal{Type: TypeRequireApproval, Actions: []string{"*"}}},
	{signalJSON("require_approval", `"actions":["read","pay"]`), Signal{Type: TypeRequireApproval, Actions: []string{"pay", "read"}}},
	{signalJSON("taint"), Signal{Type: TypeTaint}},
	{signalJSON("revoke"), Signal{Type: TypeRevoke}},
	{signalJSON("revoke", `"issued_before":"2026-11-23T00:00:00.25Z"`, `"entities":["user:kim","everything","tenant:default","tool:t"]`),
		Signal{Type: TypeRevoke, IssuedBefore: at("2026-11-23T00:00:00.25Z"), Entities: []authz.Ref{
			{Kind: authz.KindUser, ID: "kim"}, {Kind: authz.KindEverything}, {Kind: authz.KindTenant, ID: "default"}, {Kind: authz.KindTool, ID: "t"}}}},
	{signalJSON("decommission"), Signal{Type: TypeDecommission}},
	{signalJSON("lift", `"lifts":{"type":"taint","id":"INC-0"}`), Signal{Type: TypeLift, Lifts: &LiftTarget{Type: TypeTaint, ID: "INC-0"}}},
	{signalJSON("lift", `"lifts":{"type":"waive","id":"INC-0"}`, `"entities":["source:client:siem"]`),
		Signal{Type: TypeLift, Lifts: &LiftTarget{Type: TypeWaive, ID: "INC-0"}, Entities: []authz.Ref{{Kind: authz.KindSource, ID: "client:siem"}}}},
	{signalJSON("lift", `"lifts":{"type":"unreadable","id":"INC-0"}`, `"entities":["source:client:siem"]`),
		Signal{Type: TypeLift, Lifts: &LiftTarget{Type: TypeUnreadable, ID: "INC-0"}, Entities: []authz.Ref{{Kind: authz.KindSource, ID: "client:siem"}}}},
	{signalJSON("waive", `"entities":["source:issuer:https://idp","source:topic:edr"]`, `"expires":"2026-11-30T03:04:05Z"`, `"reason":"it is being moved"`),
		Signal{Type: TypeWaive, Expires: at("2026-11-30T03:04:05Z"), Reason: "it is being moved",
			Entities: []authz.Ref{{Kind: authz.KindSource, ID: "issuer:https://idp"}, {Kind: authz.KindSource, ID: "topic:edr"}}}},
	{signalJSON("heartbeat", `"entities":["source:client:siem"]`), Signal{Type: TypeHeartbeat, Entities: []authz.Ref{{Kind: authz.KindSource, ID: "client:siem"}}}},
	{signalJSON("lift", `"lifts":{"type":"unreadable","source":"issuer:https://idp","id":"INC-0"}`),
		Signal{Type: TypeLift, Lifts: &LiftTarget{Type: TypeUnreadable, Source: "issuer:https://idp", ID: "INC-0"}}},
	{signalJSON("register", `"class":"high-high"`, `"labels":{"role":"invoice-agent","empty":""}`, `"scopes":["b","a"]`, `"code":"sha256:1"`, `"model":"m"`),
		Signal{Type: TypeRegister, Class: "high-high", Labels: map[string]string{"role": "invoice-agent", "empty": ""}, Scopes: []string{"a", "b"}, Code: "sha256:1", Model: "m"}},
	{signalJSON("register", `"class":"c"`, `"labels":{}`, `"scopes":[]`), Signal{Type: TypeRegister, Class: "c"}},
	{"\n\t" + signalJSON("taint", `"entities":["agent:spiffe://acme/ns:1"]`) + "\r\n",
		Signal{Type: TypeTaint, Entities: []authz.Ref{{Kind: authz.KindAgent, ID: "spiffe://acme/ns:1"}}}},
	{signalJSON("taint", `"reason":"grüße 🙂 \ud83d\ude42"`), Signal{Type: TypeTaint, Reason: "grüße 🙂 🙂"}},
}

func TestDecodeReadsEveryTypeOfSignal(t *testing.T) {
	for _, c := range goodSignals {
		want := c.want
		want.ID, want.Time = "INC-1", at("2026-11-23T03:04:05Z")
		if want.Expires == 0 {
			want.Expires = authz.Forever
		}
		if want.Entities == nil {
			want.Entities = []authz.Ref{{Kind: authz.KindAgent, ID: "a"}}
		}
		batch, err := Decode([]byte(c.body))
		if err != nil {
			t.Errorf("%s: %v", c.body, err)
			continue
		}
		if !reflect.DeepEqual(batch.Signals, []Signal{want}) {
			t.Errorf("%s\n got %+v\nwant %+v", c.body, batch.Signals, want)
		}
		if got := string(batch.Bodies[0]); got != strings.TrimSpace(c.body) {
			t.Errorf("the body of the signal is %q, want %q", got, c.body)
		}
		again, err := DecodeOne(want.AppendJSON(nil))
		if err != nil || !reflect.DeepEqual(again, want) {
			t.Errorf("%s\nafter a round trip %+v, %v\nwant %+v", want.AppendJSON(nil), again, err, want)
		}
	}
}

func TestDecodeSplitsABatch(t *testing.T) {
	one, two := signalJSON("taint"), signalJSON("risk", `"id":"INC-2"`, `"risk":7`)
	batch, err := Decode([]byte(" [ " + one + " ,\n" + two + " ] "))
	if err != nil {
		t.Fatal(err)
	}
	if !batch.IsList || len(batch.Signals) != 2 || string(batch.Bodies[0]) != one || string(batch.Bodies[1]) != two {
		t.Fatalf("got %+v, %q", batch.Signals, batch.Bodies)
	}
	if got := batch.Pointer(1, "/risk"); got != "/1/risk" {
		t.Errorf("pointer %q", got)
	}
	if single, _ := Decode([]byte(one)); single.Pointer(0, "/risk") != "/risk" {
		t.Errorf("pointer %q", single.Pointer(0, "/risk"))
	}
}

// FuzzDecode: no input panics; what is read writes back to the same; the envelope of
// what is read can be read too.
func FuzzDecode(f *testing.F) {
	for _, c := range goodSignals {
		f.Add([]byte(c.body))
	}
	for _, c := range badSignals {
		if len(c.body) < 4096 {
			f.Add([]byte(c.body))
		}
	}
	f.Add([]byte(`[` + signalJSON("taint") + `,` + signalJSON("risk", `"id":"INC-2"`, `"risk":7`) + `]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		batch, err := Decode(body)
		if err != nil {
			var e *DecodeError
			if !errors.As(err, &e) || e.Code == "" || e.Detail == "" {
				t.Fatalf("error %#v", err)
			}
			return
		}
		for i := range batch.Signals {
			s := &batch.Signals[i]
			again, err := DecodeOne(s.AppendJSON(nil))
			if err != nil || !reflect.DeepEqual(&again, s) {
				t.Fatalf("%+v, %v\nwant %+v", again, err, *s)
			}
			alone, err := DecodeOne(batch.Bodies[i])
			if err != nil || !reflect.DeepEqual(&alone, s) {
				t.Fatalf("body %q: %+v, %v", batch.Bodies[i], alone, err)
			}
			env, err := ReadEnvelope(batch.Bodies[i])
			if err != nil || env.ID != s.ID || env.Type != string(s.Type) || env.Time != s.Time ||
				env.Tenant != s.Tenant || len(env.Entities) != len(s.Entities) {
				t.Fatalf("envelope %+v, %v", env, err)
			}
		}
	})
}
