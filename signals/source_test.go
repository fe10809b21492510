package signals

import (
	"errors"
	"testing"

	"vigil/authz"
)

var soar = Source{Kind: "client", Name: "soar"}

func noClass(authz.Key) string { return "" }

// TestAuthority says what each grant lets through, and what is said of the rest.
func TestAuthority(t *testing.T) {
	all := Authority{Types: []string{"*"}, Kinds: []string{"*"}, Tenants: []string{"default", "acme"}}
	with := func(change func(*Authority)) Authority {
		a := all
		change(&a)
		return a
	}
	classes := map[authz.Key]string{
		{Tenant: "default", Kind: authz.KindAgent, ID: "high"}: "high",
		{Tenant: "default", Kind: authz.KindAgent, ID: "low"}:  "low",
		{Tenant: "acme", Kind: authz.KindAgent, ID: "low"}:     "high",
	}
	low := with(func(a *Authority) { a.Classes = []string{"low"} })
	overruler := with(func(a *Authority) { a.Overrule = true })
	cases := []struct {
		name    string
		may     Authority
		signal  string
		refused string // "" where it may
		pointer string
	}{
		{"everything granted", all, signalJSON("quarantine"), "", ""},
		{"nothing granted", Authority{Tenants: []string{"default"}}, signalJSON("quarantine"), "client:soar may not send quarantine", "/type"},
		{"no tenant", with(func(a *Authority) { a.Tenants = nil }), signalJSON("quarantine"), "client:soar speaks for no tenant", ""},
		{"its own tenant repeated", all, signalJSON("quarantine", `"tenant":"acme"`), "", ""},
		{"another tenant", all, signalJSON("quarantine", `"tenant":"evil"`), `client:soar does not speak for tenant "evil"`, "/tenant"},
		{"a star is no tenant", with(func(a *Authority) { a.Tenants = []string{"*"} }), signalJSON("quarantine", `"tenant":"acme"`), `client:soar does not speak for tenant "acme"`, "/tenant"},
		{"type listed", with(func(a *Authority) { a.Types = []string{"risk", "quarantine"} }), signalJSON("quarantine"), "", ""},
		{"type not listed", with(func(a *Authority) { a.Types = []string{"risk", "quarantine"} }), signalJSON("release"), "client:soar may not send release", "/type"},
		{"kind listed", with(func(a *Authority) { a.Kinds = []string{"agent"} }), signalJSON("quarantine"), "", ""},
		{"second kind not listed", with(func(a *Authority) { a.Kinds = []string{"agent"} }), signalJSON("quarantine", `"entities":["agent:a","session:s"]`), "client:soar may not speak about a session", "/entities/1"},
		{"everything is not in a star", all, signalJSON("quarantine", `"entities":["everything"]`), "client:soar may not speak about everything", "/entities/0"},
		{"everything by name", with(func(a *Authority) { a.Kinds = []string{"everything"} }), signalJSON("quarantine", `"entities":["everything"]`), "", ""},
		{"its own tenant as an entity", all, signalJSON("quarantine", `"entities":["tenant:default"]`), "", ""},
		{"another tenant as an entity", all, signalJSON("quarantine", `"entities":["tenant:acme"]`), `client:soar speaks for tenant "default" here, not for "acme"`, "/entities/0"},

		{"entity of its class", low, signalJSON("risk", `"risk":5`, `"entities":["agent:low"]`), "", ""},
		{"entity of another class", low, signalJSON("risk", `"risk":5`, `"entities":["agent:high"]`), `client:soar may not speak about class "high", which agent:high has`, "/entities/0"},
		{"entity whose class in this tenant is another", low, signalJSON("risk", `"risk":5`, `"entities":["agent:low"]`, `"tenant":"acme"`), `client:soar may not speak about class "high", which agent:low has`, "/entities/0"},
		{"entity without a class", low, signalJSON("risk", `"risk":5`, `"entities":["user:u"]`), "", ""},
		{"register its class", low, signalJSON("register", `"class":"low"`), "", ""},
		{"register another class", low, signalJSON("register", `"class":"high"`), `client:soar may not register class "high"`, "/class"},
		{"take over by registering", low, signalJSON("register", `"class":"low"`, `"entities":["agent:high"]`), `client:soar may not speak about class "high", which agent:high has`, "/entities/0"},
		{"any class by a star", with(func(a *Authority) { a.Classes = []string{"*"} }), signalJSON("risk", `"risk":5`, `"entities":["agent:high"]`), "", ""},

		{"own line by name", all, signalJSON("release", `"source":"client:soar"`), "", ""},
		{"another line", all, signalJSON("release", `"source":"client:edr"`), "client:soar may not overrule client:edr", "/source"},
		{"another line, overruling", overruler, signalJSON("release", `"source":"client:edr"`), "", ""},
		{"overruling still needs the type", with(func(a *Authority) { a.Overrule, a.Types = true, []string{"risk"} }), signalJSON("release", `"source":"client:edr"`), "client:soar may not send release", "/type"},
		{"lift its own", all, signalJSON("lift", `"lifts":{"type":"taint","id":"x"}`), "", ""},
		{"lift its own by name", all, signalJSON("lift", `"lifts":{"type":"taint","id":"x","source":"client:soar"}`), "", ""},
		{"lift another's", all, signalJSON("lift", `"lifts":{"type":"taint","id":"x","source":"client:edr"}`), "client:soar may not lift what client:edr stated", "/lifts/source"},
		{"lift another's, overruling", overruler, signalJSON("lift", `"lifts":{"type":"taint","id":"x","source":"client:edr"}`), "", ""},
		{"lift its own unreadable signal", all, signalJSON("lift", `"lifts":{"type":"unreadable","id":"x"}`), "client:soar may not lift an unreadable signal", "/lifts/type"},
		{"lift an unreadable signal, overruling", overruler, signalJSON("lift", `"lifts":{"type":"unreadable","id":"x","source":"client:edr"}`), "", ""},
	}
	for _, c := range cases {
		batch, err := Decode([]byte("[" + signalJSON("quarantine", `"id":"first"`) + "," + c.signal + "]"))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		err = Judge(Sender{soar, c.may}, batch.Signals[1:], func(k authz.Key) string { return classes[k] })
		var refused *RefusedError
		switch {
		case c.refused == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.refused != "" && (!errors.As(err, &refused) || refused.Detail != c.refused || refused.Pointer != c.pointer):
			t.Errorf("%s: got %#v", c.name, err)
		}
	}
}

func TestJudgeNamesTheRefusedOne(t *testing.T) {
	batch, err := Decode([]byte("[" + signalJSON("risk", `"risk":5`) + "," + signalJSON("taint", `"id":"2"`) + "]"))
	if err != nil {
		t.Fatal(err)
	}
	sender := Sender{soar, Authority{Types: []string{"risk"}, Kinds: []string{"*"}, Tenants: []string{"default"}}}
	var refused *RefusedError
	if err := Judge(sender, batch.Signals, noClass); !errors.As(err, &refused) || refused.Index != 1 {
		t.Errorf("got %#v", err)
	}
}

func TestJudgeFillsInWhatTheCredentialSays(t *testing.T) {
	sender := Sender{soar, Authority{Types: []string{"*"}, Kinds: []string{"*"}, Tenants: []string{"acme", "default"}}}
	batch, err := Decode([]byte("[" + signalJSON("release", `"source":"client:soar"`) + "," +
		signalJSON("lift", `"id":"2"`, `"lifts":{"type":"taint","id":"x"}`) + "]"))
	if err != nil {
		t.Fatal(err)
	}
	if err := Judge(sender, batch.Signals, noClass); err != nil {
		t.Fatal(err)
	}
	if s := batch.Signals[0]; s.Tenant != "acme" || s.Line != "" {
		t.Errorf("tenant %q, line %q", s.Tenant, s.Line)
	}
	if s := batch.Signals[1]; s.Lifts.Source != "client:soar" {
		t.Errorf("lifts a statement of %q", s.Lifts.Source)
	}
}

func TestVerdictIsPerEntity(t *testing.T) {
	s := Signal{Tenant: "default", Entities: []authz.Ref{
		{Kind: authz.KindAgent, ID: "a"}, {Kind: authz.KindUser, ID: "u"}, {Kind: authz.KindSession, ID: "s"}, {Kind: authz.KindAgent, ID: "high"}}}
	classOf := func(k authz.Key) string {
		if k.ID == "high" {
			return "high"
		}
		return ""
	}
	may := Authority{Types: []string{"risk", "quarantine"}, Kinds: []string{"agent", "session"}, Classes: []string{"low"}}
	sender := Sender{soar, may}
	if got := sender.verdict(&s, classOf); got.MayQuarantine != 0b0101 {
		t.Errorf("got %b", got.MayQuarantine)
	}
	sender.Authority.Types = []string{"risk"}
	if got := sender.verdict(&s, classOf); got.MayQuarantine != 0 {
		t.Errorf("without quarantine: %b", got.MayQuarantine)
	}
}

func TestParseSource(t *testing.T) {
	for _, text := range []string{"client:soar", "issuer:https://idp.acme:8443", "topic:risk"} {
		if s, ok := ParseSource(text); !ok || s.String() != text {
			t.Errorf("%q: %v, %v", text, s, ok)
		}
	}
	for _, text := range []string{"", "soar", "client", "client:", "Client:soar", "overflow", "agent:a", ":x"} {
		if s, ok := ParseSource(text); ok {
			t.Errorf("%q: %v", text, s)
		}
	}
}
