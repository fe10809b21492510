package identity

import (
	"strings"
	"testing"
	"time"

	"vigil/authz"
)

func str(s string) authz.Value           { return authz.Value{Kind: authz.String, Str: s} }
func num(n float64) authz.Value          { return authz.Value{Kind: authz.Number, Num: n} }
func list(vs ...authz.Value) authz.Value { return authz.Value{Kind: authz.List, Members: unnamed(vs)} }
func object(pairs ...any) authz.Value {
	return authz.Value{Kind: authz.Map, Members: members(pairs...)}
}

func unnamed(vs []authz.Value) (m []authz.Member) {
	for _, v := range vs {
		m = append(m, authz.Member{Value: v})
	}
	return m
}

func members(pairs ...any) (m authz.Object) {
	for i := 0; i < len(pairs); i += 2 {
		m = append(m, authz.Member{Name: pairs[i].(string), Value: pairs[i+1].(authz.Value)})
	}
	return m
}

func request(subject authz.Party, context authz.Object) *authz.Request {
	return &authz.Request{
		Subject: subject, Action: authz.Action{Name: "pay"},
		Resource: authz.Party{Type: "payment", ID: "inv-88"}, Context: context,
	}
}

// Who is asking is said in one of three places; the table is the one of docs/api.md.
func TestTheAgentIsNamedOnceOrTheRequestIsRefused(t *testing.T) {
	kim := func(props ...any) authz.Party {
		return authz.Party{Type: "user", ID: "kim", Properties: members(props...)}
	}
	for _, c := range []struct {
		name    string
		subject authz.Party
		context authz.Object
		agent   string
		user    string
		actors  []string
		problem authz.Code
		input   string
	}{
		{name: "the subject is the agent", subject: authz.Party{Type: "agent", ID: "a1"}, agent: "a1"},
		{name: "the user's act claim names it", subject: kim("act", object("sub", str("a1"))), agent: "a1", user: "kim"},
		{name: "the outermost actor is the current one, the others are prior",
			subject: kim("act", object("sub", str("a1"), "act", object("sub", str("a0"), "act", object("sub", str("a00"))))),
			agent:   "a1", user: "kim", actors: []string{"a0", "a00"}},
		{name: "the context names it as an object", subject: kim(), context: members("agent", object("id", str("a1"))), agent: "a1", user: "kim"},
		{name: "the context names it as a string", subject: kim(), context: members("agent", str("a1")), agent: "a1", user: "kim"},
		{name: "named twice alike", subject: kim("act", object("sub", str("a1"))), context: members("agent", str("a1")), agent: "a1", user: "kim"},
		{name: "named twice and different", subject: kim("act", object("sub", str("a1"))), context: members("agent", str("a2")),
			agent: "a1", user: "kim", problem: authz.AmbiguousAgent, input: "context.agent"},
		{name: "an agent that acts for another agent's subject is two agents",
			subject: authz.Party{Type: "agent", ID: "a1", Properties: members("act", object("sub", str("a2")))},
			agent:   "a1", problem: authz.AmbiguousAgent, input: "subject.properties.act"},
		{name: "a null is no claim", subject: kim(), context: members("agent", authz.Value{}), user: "kim"},
		{name: "none", subject: kim(), user: "kim"},
		{name: "a number is no name", subject: kim(), context: members("agent", num(7)), user: "kim",
			problem: authz.CouldNotEvaluate, input: "context.agent"},
		{name: "an act without a sub", subject: kim("act", object("iss", str("x"))), user: "kim",
			problem: authz.CouldNotEvaluate, input: "subject.properties.act.sub"},
		{name: "an act that is a string", subject: kim("act", str("a1")), user: "kim",
			problem: authz.CouldNotEvaluate, input: "subject.properties.act"},
		{name: "an id that no signal could name", subject: kim(), context: members("agent", str("a\x00")), user: "kim",
			problem: authz.CouldNotEvaluate, input: "context.agent"},
		{name: "an id that is too long", subject: kim(), context: members("agent", str(strings.Repeat("a", authz.MaxID+1))), user: "kim",
			problem: authz.CouldNotEvaluate, input: "context.agent"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := DefaultMapping()
			var p authz.Principal
			m.Principal(&authz.Caller{Tenants: []string{"default"}}, request(c.subject, c.context), &p)
			if p.Agent != c.agent || p.User != c.user || p.Problem != c.problem || p.Input != c.input ||
				strings.Join(p.Actors, " ") != strings.Join(c.actors, " ") {
				t.Errorf("got agent %q user %q actors %q problem %q input %q", p.Agent, p.User, p.Actors, p.Problem, p.Input)
			}
		})
	}
}

func TestAChainDeeperThanTheBoundIsRefusedAndNotCutShort(t *testing.T) {
	act := object("sub", str("a"))
	for range MaxActors + 1 {
		act = object("sub", str("a"), "act", act)
	}
	m := DefaultMapping()
	var p authz.Principal
	m.Principal(&authz.Caller{}, request(authz.Party{Type: "user", ID: "kim", Properties: members("act", act)}, nil), &p)
	if p.Problem != authz.CouldNotEvaluate {
		t.Errorf("problem %q, want %q", p.Problem, authz.CouldNotEvaluate)
	}
}

func TestATenantMayOnlyRepeatWhatTheCallerHas(t *testing.T) {
	caller := &authz.Caller{Tenants: []string{"acme", "globex"}}
	for _, c := range []struct {
		named   authz.Value
		tenant  string
		problem authz.Code
	}{
		{authz.Value{}, "acme", ""},
		{str("acme"), "acme", ""},
		{str("globex"), "globex", ""},
		{str("initech"), "acme", authz.TenantMismatch},
		{num(1), "acme", authz.CouldNotEvaluate},
	} {
		m := DefaultMapping()
		var p authz.Principal
		m.Principal(caller, request(authz.Party{Type: "agent", ID: "a"}, members("tenant", c.named)), &p)
		if p.Tenant != c.tenant || p.Problem != c.problem {
			t.Errorf("%+v: tenant %q problem %q, want %q %q", c.named, p.Tenant, p.Problem, c.tenant, c.problem)
		}
	}
}

func TestCredentialsGrantsAndTimes(t *testing.T) {
	second := func(s int64) authz.Instant { return authz.Instant(s * int64(time.Second)) }
	m := DefaultMapping()
	var p authz.Principal
	read := func(props, context authz.Object) {
		m.Principal(&authz.Caller{}, request(authz.Party{Type: "user", ID: "kim", Properties: props}, context), &p)
	}

	read(members("iat", num(2000), "exp", num(9000), "scope", str("a:b  c:d")),
		members("session", str("s-1"), "token", object("id", str("jti-1"), "iat", num(1500.5), "exp", str("1970-01-01T02:00:00Z")),
			"grants", list(str("g1"), object("id", str("g2"), "scope", list(str("x")), "exp", num(5)))))
	if p.Problem != "" {
		t.Fatalf("problem %q at %q", p.Problem, p.Input)
	}
	if p.Session != "s-1" || p.Token != "jti-1" {
		t.Errorf("session %q token %q", p.Session, p.Token)
	}
	if p.IssuedAt != second(1500)+5e8 || p.Expires != second(7200) {
		t.Errorf("issued %v expires %v: the oldest issue and the earliest end count", p.IssuedAt, p.Expires)
	}
	if !p.HasScopes || strings.Join(p.Scopes, ",") != "a:b,c:d" {
		t.Errorf("scopes %q", p.Scopes)
	}
	if len(p.Grants) != 2 || p.Grants[0].ID != "g1" || p.Grants[0].HasScopes ||
		!p.Grants[1].HasScopes || p.Grants[1].Scopes[0] != "x" || p.Grants[1].Expires != second(5) {
		t.Errorf("grants %+v", p.Grants)
	}

	// A reused principal keeps nothing of the request before.
	read(nil, members("grants", list(str("g3"))))
	if p.Session != "" || p.Token != "" || p.IssuedAt != 0 || p.Expires != 0 || p.HasScopes || len(p.Scopes) != 0 ||
		len(p.Grants) != 1 || p.Grants[0].HasScopes || len(p.Grants[0].Scopes) != 0 || p.Grants[0].Expires != 0 {
		t.Errorf("left over: %+v", p)
	}

	for name, context := range map[string]authz.Object{
		"a grant without an id":     members("grants", list(object("scope", str("x")))),
		"grants that are no list":   members("grants", str("g1")),
		"a session of a wrong type": members("session", num(1)),
		"a time that is no time":    members("token", object("id", str("t"), "exp", str("soon"))),
		"a time before the epoch":   members("token", object("id", str("t"), "exp", num(-1))),
		"too many grants":           members("grants", list(make([]authz.Value, MaxGrants+1)...)),
	} {
		if read(nil, context); p.Problem != authz.CouldNotEvaluate {
			t.Errorf("%s: problem %q, want %q", name, p.Problem, authz.CouldNotEvaluate)
		}
	}
}

func TestATokenIsNotVouchedForByItsSession(t *testing.T) {
	m := DefaultMapping()
	for _, c := range []struct {
		name    string
		props   authz.Object
		context authz.Object
		issued  int64 // seconds; 0 for not stated
	}{
		{"a session alone", nil, members("session", object("id", str("s"), "iat", num(1300))), 1300},
		{"a silent token in a session that speaks", nil, members("token", str("t"), "session", object("id", str("s"), "iat", num(1300))), 0},
		{"a token that speaks, in a younger session", nil, members("token", object("id", str("t"), "iat", num(800)), "session", object("id", str("s"), "iat", num(1300))), 800},
		{"a token that speaks, in an older session", nil, members("token", object("id", str("t"), "iat", num(1300)), "session", object("id", str("s"), "iat", num(800))), 800},
		{"the claims of the token speak for it", members("iat", num(900)), members("token", str("t"), "session", object("id", str("s"), "iat", num(1300))), 900},
	} {
		var p authz.Principal
		m.Principal(&authz.Caller{}, request(authz.Party{Type: "user", ID: "kim", Properties: c.props}, c.context), &p)
		if p.IssuedAt != authz.Instant(c.issued*int64(time.Second)) {
			t.Errorf("%s: issued %v, want %d s", c.name, p.IssuedAt, c.issued)
		}
	}
}

func TestAPathThroughWhatIsNoObjectIsAProblem(t *testing.T) {
	m := DefaultMapping()
	m.Session = []string{"context", "auth", "session"}
	req := request(authz.Party{Type: "agent", ID: "a"}, members("auth", str("garbage")))
	var p authz.Principal
	m.Principal(&authz.Caller{}, req, &p)
	if p.Problem != authz.CouldNotEvaluate || p.Input != "context.auth.session" {
		t.Errorf("problem %q, input %q, session %q", p.Problem, p.Input, p.Session)
	}
}

func TestReadingClaimsDoesNotAllocate(t *testing.T) {
	m := DefaultMapping()
	caller := &authz.Caller{Tenants: []string{"default"}}
	req := request(authz.Party{Type: "user", ID: "kim", Properties: members(
		"scope", str("a b c"), "act", object("sub", str("a1"), "act", object("sub", str("a0"))))},
		members("session", str("s"), "token", object("id", str("t"), "exp", num(1)), "grants", list(object("id", str("g"), "scope", str("a")))))
	var p authz.Principal
	m.Principal(caller, req, &p)
	if n := testing.AllocsPerRun(100, func() { m.Principal(caller, req, &p) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestAMappingIsCheckedWhole(t *testing.T) {
	m := DefaultMapping()
	if err := m.Validate(); err != nil {
		t.Fatal(err)
	}
	m = Mapping{Actor: []string{"subject", "act"}, Token: []string{"header", "x"}, Session: []string{"context"}, Grants: []string{"context", ""}}
	err := m.Validate()
	for _, want := range []string{
		"agent_type: is empty",
		`actor: "subject.act": want subject.properties.NAME`,
		`token: "header.x": want a path that begins with subject, action, resource or context`,
		`session: "context" is no claim: name a member`,
		`grants: "context." has an empty name`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %q", err, want)
		}
	}
}
