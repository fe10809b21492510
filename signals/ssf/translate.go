package ssf

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"vigil/authz"
	"vigil/signals"
)

// Outcome is what became of an event.
type Outcome string

// The outcomes. The first is of events that say something; the outcome of each of its
// signals is in the Receipt.
const (
	Said          Outcome = "said"
	Informational Outcome = "informational" // a row says that it says nothing
	Unmatched     Outcome = "unmatched"     // no template makes an entity of its subject
	Unknown       Outcome = "unknown_event" // no row is about its type
	Discarded     Outcome = "discarded"     // a critical member of its subject is not understood
	Control       Outcome = "control"       // it is about the stream
)

// Reading is what was made of one event of a SET.
type Reading struct {
	Event   string // its type
	Outcome Outcome
	// Detail says more, for operators: which member was not matched, which time counts.
	Detail string
}

// Translation is what a SET says in our own vocabulary. It depends on the SET and on the
// issuer's Config alone, so a SET that comes twice says the same.
type Translation struct {
	Signals  []signals.Signal
	Readings []Reading // one for each event of the SET
}

// Translate finds the entities and what the SET says of them. The error is an *Error.
func (i *Issuer) Translate(set *SET) (*Translation, error) {
	t := &Translation{}
	tenant, problem := i.tenantOf(&set.Subject)
	for j := range set.Events {
		e := &set.Events[j]
		reading := Reading{Event: e.Type}
		rows := i.table[e.Type]
		switch {
		case e.Type == verification || e.Type == streamUpdated:
			reading.Outcome = Control
		case len(rows) == 0:
			reading.Outcome = Unknown
		default:
			members := i.members(set, e)
			if reading.Detail = i.critical(members); reading.Detail != "" {
				reading.Outcome = Discarded
				break
			}
			if problem != "" {
				reading.Outcome, reading.Detail = Unmatched, problem
				break
			}
			if err := i.sayAll(t, set, e, rows, members, tenant, &reading); err != nil {
				return nil, err
			}
		}
		t.Readings = append(t.Readings, reading)
	}
	return t, nil
}

// members gives the subject's members. A simple subject is the one that its event implies.
func (i *Issuer) members(set *SET, e *Event) []Member {
	if set.Subject.Members != nil {
		return set.Subject.Members
	}
	return []Member{{Name: i.simpleName(set.Subject.Simple, e), Identifiers: set.Subject.Simple}}
}

// simpleName says which member a simple subject stands for.
func (i *Issuer) simpleName(ids []Identifier, e *Event) string {
	format := ids[0].Format
	if name := i.cfg.Simple[format]; name != "" {
		return name
	}
	name := "user"
	spec := e.known()
	switch format {
	case "jwt_id", "saml_assertion_id":
		return "token"
	case formatIPs:
		return "device"
	case "email", "phone_number", "account", "iss_sub":
		if spec != nil {
			name = spec.person
		}
	default:
		if spec != nil {
			name = spec.thing
		}
	}
	if name == "principal" {
		name = principal(e)
	}
	return name
}

// principal is the member that risk-level-change says that it is about.
func principal(e *Event) string { return strings.ToLower(e.texts["principal"]) }

// critical names a critical member that no template makes anything of; "" where all are
// understood.
func (i *Issuer) critical(members []Member) string {
	for j := range members {
		if m := &members[j]; slices.Contains(i.cfg.Critical, m.Name) && len(i.entities(m)) == 0 {
			return fmt.Sprintf("no template fits the critical member %q (%s)", clip(m.Name), formatOf(m))
		}
	}
	return ""
}

// tenantOf finds the tenant that a subject is in: "" for the issuer's own. An issuer of
// several tenants must be understood where it names one.
func (i *Issuer) tenantOf(s *Subject) (tenant, problem string) {
	for j := range s.Members {
		m := &s.Members[j]
		if m.Name != "tenant" {
			continue
		}
		for _, ref := range i.entities(m) {
			if ref.Kind == authz.KindTenant {
				return ref.ID, ""
			}
		}
		if len(i.cfg.Authority.Tenants) > 1 {
			return "", fmt.Sprintf("no template fits the tenant (%s), and the issuer speaks for several", formatOf(m))
		}
	}
	return "", ""
}

// entities gives all that the templates make of a member, in order and without repeats.
func (i *Issuer) entities(m *Member) (refs []authz.Ref) {
	for j := range m.Identifiers {
		for k := range i.subjects[m.Name] {
			found := i.subjects[m.Name][k].entities(&m.Identifiers[j], i.own)
			for _, ref := range found {
				if !slices.Contains(refs, ref) {
					refs = append(refs, ref)
				}
			}
			if len(found) > 0 {
				break
			}
		}
	}
	return refs
}

func (i *Issuer) own(iss string) bool {
	return iss == i.cfg.Issuer || slices.Contains(i.cfg.SubjectIssuers, iss)
}

func formatOf(m *Member) string {
	if len(m.Identifiers) == 0 {
		return "empty"
	}
	return clip(m.Identifiers[0].Format)
}

// sayAll finds the row that speaks and adds its signals.
func (i *Issuer) sayAll(t *Translation, set *SET, e *Event, rows []row, members []Member, tenant string, reading *Reading) error {
	held := false
	for j := range rows {
		r := &rows[j]
		if !r.holds(e) {
			continue
		}
		if len(r.say) == 0 {
			reading.Outcome = Informational
			return nil
		}
		held = true
		entities := i.about(r, e, members)
		if len(entities) == 0 {
			continue
		}
		if len(entities) > signals.MaxEntities {
			return refuse(InvalidRequest, "the subject is %d entities, more than %d", len(entities), signals.MaxEntities)
		}
		at, detail := set.when(e)
		reading.Outcome, reading.Detail = Said, detail
		for k := range r.say {
			s := signals.Signal{
				ID: signalID(set.ID, len(t.Signals)+1), Entities: entities, Tenant: tenant,
				Time: at, Expires: authz.Forever,
				Actor: e.texts["initiating_entity"], Reason: reasonOf(e), Ticket: printable(set.Transaction),
			}
			if err := i.say(&s, &r.say[k], e); err != nil {
				return err
			}
			t.Signals = append(t.Signals, s)
		}
		return nil
	}
	reading.Outcome = Unmatched
	if held {
		reading.Detail = "no template fits its subject: " + describe(members)
	} else {
		reading.Detail = "no row is about an event that says this"
	}
	return nil
}

func (r *row) holds(e *Event) bool {
	for i := range r.when {
		if !slices.Contains(r.when[i].values, e.texts[r.when[i].member]) {
			return false
		}
	}
	return true
}

// about gives the entities of the first of the row's members that is any.
func (i *Issuer) about(r *row, e *Event, members []Member) []authz.Ref {
	for _, name := range r.about {
		if name == "principal" {
			name = principal(e)
		}
		for j := range members {
			if members[j].Name != name {
				continue
			}
			if refs := i.entities(&members[j]); len(refs) > 0 {
				return refs
			}
		}
	}
	return nil
}

// describe names the members and formats of a subject, and nobody in it.
func describe(members []Member) string {
	var parts []string
	for i := range members {
		parts = append(parts, clip(members[i].Name)+" ("+formatOf(&members[i])+")")
	}
	return strings.Join(parts, ", ")
}

// when says from when an event counts: event_timestamp, else toe, else iat. What was
// reported cannot have happened after the report, so nothing is later than iat: a time that
// is counts as iat.
func (s *SET) when(e *Event) (at authz.Instant, detail string) {
	at, name := s.IssuedAt, "iat"
	if seconds, there := e.numbers["event_timestamp"]; there {
		at, name = instantOf(seconds), "event_timestamp"
	} else if s.Occurred != 0 {
		at, name = s.Occurred, "toe"
	}
	if at > s.IssuedAt {
		return s.IssuedAt, fmt.Sprintf("%s is after iat, which counts", name)
	}
	return at, ""
}

// signalID makes the id of the nth signal of a SET. It never reads as the id of an
// overruling, whatever the jti is.
func signalID(jti string, n int) string {
	if len(jti) > signals.MaxText-32 || printable(jti) != jti {
		jti = fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(jti)))
	}
	return "set:" + strconv.Itoa(n) + ":" + jti
}

// reasonOf is what operators read: the event, and its reason for administrators.
func reasonOf(e *Event) string {
	reason := short(e.Type)
	for _, name := range []string{"reason", "risk_reason", "reason_admin"} {
		if text := e.texts[name]; text != "" {
			reason += ": " + text
		}
	}
	return printable(reason)
}

// printable cuts a text to what a signal can have, and leaves out control characters.
func printable(s string) string {
	s = strings.Map(func(c rune) rune {
		if c < 0x20 || c >= 0x7f && c < 0xa0 || c == utf8.RuneError {
			return -1
		}
		return c
	}, s)
	if len(s) <= signals.MaxText {
		return s
	}
	s = s[:signals.MaxText]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s
}

// say fills in what one saying says.
func (i *Issuer) say(s *signals.Signal, what *saying, e *Event) error {
	s.Type = what.typ
	if what.lasts != 0 {
		s.Expires = s.Time.Add(what.lasts)
	}
	if end, there := e.numbers["expires"]; there && mayEnd(s.Type) {
		if s.Expires = instantOf(end); s.Expires <= s.Time {
			return refuse(InvalidRequest, `%s: "expires" is not after the event`, short(e.Type))
		}
	}
	words := what.words
	var err error
	switch s.Type {
	case signals.TypeRevoke:
		if what.issued {
			s.IssuedBefore = s.Time
		}
	case signals.TypeRisk:
		s.Risk, err = i.score(words[0], e)
	case signals.TypeAttest:
		if words, err = e.fill(words); err == nil {
			s.Passed = words[0] == "pass"
			if !s.Passed {
				s.Expires = authz.Forever // a failure has no end of its own
			}
		}
	case signals.TypeNarrow:
		s.Scopes, err = e.fill(words)
	case signals.TypeRequireApproval:
		s.Actions, err = e.fill(words)
	case signals.TypeLift:
		if words, err = e.fill(words); err == nil {
			s.Lifts = &signals.LiftTarget{Type: signals.Type(strings.ReplaceAll(words[0], "-", "_")), ID: signalID(words[1], 1)}
		}
	}
	if err != nil {
		return refuse(InvalidRequest, "%s: %v", short(e.Type), err)
	}
	return nil
}

// fill puts the event's members in the place of {name}.
func (e *Event) fill(words []string) ([]string, error) {
	filled := []string{}
	for _, word := range words {
		name, ok := strings.CutPrefix(word, "{")
		if !ok {
			filled = append(filled, word)
			continue
		}
		name = strings.TrimSuffix(name, "}")
		if list, there := e.lists[name]; there {
			filled = append(filled, list...)
		} else if text, there := e.texts[name]; there {
			filled = append(filled, text)
		} else if spec := e.known(); spec == nil || !optionalList(spec, name) {
			return nil, fmt.Errorf("%q is missing", clip(name))
		}
	}
	return filled, nil
}

// optionalList reports whether name may be left out and then is an empty list.
func optionalList(spec *eventSpec, name string) bool {
	return slices.ContainsFunc(spec.members, func(m memberSpec) bool { return m.name == name && m.is == aList && !m.required })
}

// score is a risk as a number: a literal, a level, or a member that is either.
func (i *Issuer) score(word string, e *Event) (int, error) {
	if name, ok := strings.CutPrefix(word, "{"); ok {
		name = strings.TrimSuffix(name, "}")
		if n, there := e.numbers[name]; there {
			if n != float64(int(n)) || n > 100 {
				return 0, fmt.Errorf("%q: want an integer from 0 to 100", clip(name))
			}
			return int(n), nil
		}
		word = e.texts[name]
	}
	if score, there := i.cfg.Scores[word]; there {
		return score, nil
	}
	n, err := strconv.Atoi(word)
	if err != nil || n < 0 || n > 100 {
		return 0, fmt.Errorf("%q is no risk: want 0 to 100 or one of %s", clip(word), strings.Join(levels, ", "))
	}
	return n, nil
}
