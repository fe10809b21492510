package ssf

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"vigil/signals"
)

// Rule is a row of the table from events to signals. The first row of an event speaks whose
// When holds and one of whose About is an entity.
type Rule struct {
	// Event is its type: a URI, or the last part of one of CAEP or RISC; our own begin
	// with "vigil:".
	Event string
	// When is "member=value|value …": members of the event, all of which must have one of
	// the values; "" always holds.
	When string
	// About is the members of the subject that the row can be about, in order of
	// preference. "principal" is the one that the event names. "" for a row that says
	// nothing.
	About string
	// Say is what it says, as signals separated by ";":
	//
	//	nothing
	//	revoke                      for good
	//	revoke issued               what was issued until the event (issued_before)
	//	quarantine, release, taint, decommission
	//	risk N, risk LEVEL          LOW, MEDIUM and HIGH are Config.Scores
	//	attest pass, attest fail
	//	narrow SCOPE …              no scope leaves none
	//	require_approval ACTION …   no action is all
	//	lift TYPE JTI               what the SET with that jti said of that type
	//
	// {name} stands for the member of that name of the event. "for 24h" after it ends it
	// then.
	Say string
}

// DefaultTable is what events say unless an issuer's Config.Table says otherwise. A row in
// Config.Table replaces all rows of its event here.
//
// Three rules are behind it. What was issued before the event is void where the event says
// that it rests on something which is no longer so. Within one source the newest risk, hold
// and attestation speak, so only the event that is the opposite of another may end what it
// said: an account is released by account-enabled alone, and nothing but risk-level-change
// lowers a risk. And an event that only informs says nothing.
var DefaultTable = []Rule{
	{"session-revoked", "", "session token", "revoke"},
	{"session-revoked", "", "instance agent user device application group org_unit tenant", "revoke issued"},
	{"token-claims-change", "", "token", "revoke"},
	{"token-claims-change", "", "session instance agent user device application tenant", "revoke issued"},
	{"credential-change", "change_type=revoke|delete|update", "instance agent user device application", "revoke issued"},
	{"credential-change", "change_type=create", "", "nothing"},
	{"assurance-level-change", "change_direction=decrease", "session instance agent user device", "attest fail"},
	{"assurance-level-change", "change_direction=increase", "session instance agent user device", "attest pass"},
	{"assurance-level-change", "", "", "nothing"},
	{"device-compliance-change", "current_status=not-compliant", "device instance", "attest fail"},
	{"device-compliance-change", "current_status=compliant", "device instance", "attest pass"},
	{"session-established", "", "", "nothing"},
	{"session-presented", "", "", "nothing"},
	{"risk-level-change", "", "principal", "risk {current_level}"},

	{"account-credential-change-required", "", "agent user", "revoke issued"},
	{"account-purged", "", "agent user", "decommission"},
	{"account-disabled", "reason=hijacking", "agent user", "quarantine; revoke issued"},
	{"account-disabled", "", "agent user", "quarantine"},
	{"account-enabled", "", "agent user", "release"},
	{"identifier-changed", "", "agent user", "revoke issued"},
	{"identifier-recycled", "", "agent user", "revoke issued"},
	{"credential-compromise", "", "instance agent user device application", "revoke issued; risk HIGH"},
	{"opt-in", "", "", "nothing"},
	{"opt-out-initiated", "", "", "nothing"},
	{"opt-out-cancelled", "", "", "nothing"},
	{"opt-out-effective", "", "", "nothing"},
	{"recovery-activated", "", "", "nothing"},
	{"recovery-information-changed", "", "", "nothing"},
	{"sessions-revoked", "", "agent user", "revoke issued"},

	{"vigil:risk", "", anything, "risk {risk}"},
	{"vigil:quarantine", "", anything, "quarantine"},
	{"vigil:release", "", anything, "release"},
	{"vigil:narrow", "", anything, "narrow {scopes}"},
	{"vigil:require-approval", "", anything, "require_approval {actions}"},
	{"vigil:taint", "", anything, "taint"},
	{"vigil:attest", "", anything, "attest {result}"},
	{"vigil:revoke", "", anything, "revoke"},
	{"vigil:revoke-issued", "", anything, "revoke issued"},
	{"vigil:decommission", "", anything, "decommission"},
	{"vigil:lift", "", anything, "lift {statement} {jti}"},
}

// anything is every member, the most particular first.
const anything = "token session grant instance agent tool code model user device application group org_unit tenant"

// row is a compiled Rule.
type row struct {
	when  []condition
	about []string
	say   []saying
}

type condition struct {
	member string
	values []string
}

// saying is one signal of a row.
type saying struct {
	typ    signals.Type // "" says nothing
	issued bool         // revoke: issued_before
	words  []string     // what follows; "{name}" is a member of the event
	lasts  time.Duration
}

// compileTable compiles the default rows, and an issuer's own in the place of those of the
// same event. Members that a row is about are those that a subject can have, or that there
// are templates for.
func compileTable(own []Rule, subjects Subjects) (map[string][]row, error) {
	members := strings.Fields(anything)
	for name := range subjects {
		if !slices.Contains(members, name) {
			members = append(members, name)
		}
	}
	slices.Sort(members)
	table := make(map[string][]row)
	var problems []error
	add := func(into map[string][]row, r *Rule) {
		uri, known := longURI(r.Event)
		if !known && !strings.Contains(r.Event, ":") {
			problems = append(problems, fmt.Errorf("table: no event %q", clip(r.Event)))
			return
		}
		if !known {
			uri = r.Event // an event that this package has no specification of
		}
		compiled, err := r.compile(members)
		if err != nil {
			problems = append(problems, fmt.Errorf("table: %s: %w", clip(r.Event), err))
			return
		}
		into[uri] = append(into[uri], compiled)
	}
	for i := range DefaultTable {
		add(table, &DefaultTable[i])
	}
	replaced := make(map[string][]row)
	for i := range own {
		add(replaced, &own[i])
	}
	for uri, rows := range replaced {
		table[uri] = rows
	}
	return table, errors.Join(problems...)
}

func (r *Rule) compile(members []string) (c row, err error) {
	for _, text := range strings.Fields(r.When) {
		member, values, ok := strings.Cut(text, "=")
		if !ok || member == "" || values == "" {
			return c, fmt.Errorf("when: %q is not member=value", clip(text))
		}
		c.when = append(c.when, condition{member, strings.Split(values, "|")})
	}
	c.about = strings.Fields(r.About)
	for _, member := range c.about {
		if member != "principal" && !slices.Contains(members, member) {
			return c, fmt.Errorf("about: no member %q; there are principal, %s", clip(member), strings.Join(members, ", "))
		}
	}
	for _, text := range strings.Split(r.Say, ";") {
		s, err := compileSaying(text)
		if err != nil {
			return c, fmt.Errorf("say: %w", err)
		}
		if s.typ != "" {
			c.say = append(c.say, s)
		}
	}
	if len(c.say) > 0 && len(c.about) == 0 {
		return c, errors.New("it says something, and about nothing")
	}
	if len(c.say) > maxSayings {
		return c, fmt.Errorf("it says more than %d things", maxSayings)
	}
	return c, nil
}

const maxSayings = 8

// takes are how many words may follow a type: at least and at most. -1 is any number.
var takes = map[signals.Type][2]int{
	signals.TypeRevoke: {0, 0}, signals.TypeQuarantine: {0, 0}, signals.TypeRelease: {0, 0}, signals.TypeTaint: {0, 0},
	signals.TypeDecommission: {0, 0}, signals.TypeRisk: {1, 1}, signals.TypeAttest: {1, 1}, signals.TypeNarrow: {0, -1},
	signals.TypeRequireApproval: {0, -1}, signals.TypeLift: {2, 2},
}

func compileSaying(text string) (s saying, err error) {
	words := strings.Fields(text)
	if n := len(words); n > 2 && words[n-2] == "for" {
		if s.lasts, err = time.ParseDuration(words[n-1]); err != nil || s.lasts <= 0 {
			return s, fmt.Errorf("%q is no time such as 24h", clip(words[n-1]))
		}
		words = words[:n-2]
	}
	switch {
	case len(words) == 1 && words[0] == "nothing":
		return saying{}, nil
	case len(words) == 2 && words[0] == "revoke" && words[1] == "issued":
		s.issued, words = true, words[:1]
	case len(words) == 0:
		return s, errors.New(`it is empty: write "nothing"`)
	}
	s.typ, s.words = signals.Type(words[0]), words[1:]
	n, known := takes[s.typ]
	switch {
	case !known:
		return s, fmt.Errorf("nothing can say %q", clip(words[0]))
	case len(s.words) < n[0] || n[1] >= 0 && len(s.words) > n[1]:
		return s, fmt.Errorf("%s: %d words follow", s.typ, len(s.words))
	case s.lasts != 0 && !mayEnd(s.typ):
		return s, fmt.Errorf("a %s never ends", s.typ)
	}
	for _, word := range s.words {
		if strings.HasPrefix(word, "{") != strings.HasSuffix(word, "}") {
			return s, fmt.Errorf("%q is neither a word nor {name}", clip(word))
		}
	}
	if literal := s.words; len(literal) == 1 && literal[0][0] != '{' {
		if s.typ == signals.TypeAttest && literal[0] != "pass" && literal[0] != "fail" {
			return s, fmt.Errorf("attest %s: want pass or fail", clip(literal[0]))
		}
		if _, err := strconv.Atoi(literal[0]); s.typ == signals.TypeRisk && err != nil && !slices.Contains(levels, literal[0]) {
			return s, fmt.Errorf("risk %s: want a number or one of %s", clip(literal[0]), strings.Join(levels, ", "))
		}
	}
	return s, nil
}

// mayEnd reports whether a signal of type t can have an end.
func mayEnd(t signals.Type) bool {
	return t != signals.TypeRevoke && t != signals.TypeDecommission && t != signals.TypeLift
}
