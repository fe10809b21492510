package ssf

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Identifier is one subject identifier (RFC 9493, SSF 1.0 section 3.5): a format and the
// text members that the format has.
type Identifier struct {
	Format string
	// Values are its text members by name, the format left out. Those of a format that
	// this package does not know are kept as they are.
	Values map[string]string
	// Addresses are those of ip-addresses, in canonical form; nil for others.
	Addresses []string
}

// Subject is what a SET is about: a simple subject, which is one principal without a name
// for what sort of thing it is, or a complex one, whose members are named.
type Subject struct {
	// Simple is the identifiers of a simple subject, which all mean the same: one, or
	// several of the format aliases. nil for a complex one.
	Simple []Identifier
	// Members are those of a complex subject, sorted by name; nil for a simple one.
	Members []Member
}

// Member is a named member of a complex subject.
type Member struct {
	Name        string // user, device, session, application, tenant, org_unit, group, agent, …
	Identifiers []Identifier
}

// Limits of a subject.
const (
	maxMembers  = 16
	maxAliases  = 16
	maxSubjects = 2048 // bytes of one text member
	maxIPs      = 16
)

// formats are the members that each format has, by name. They are texts and required.
var formats = map[string][]string{
	"account":           {"uri"},
	"email":             {"email"},
	"iss_sub":           {"iss", "sub"},
	"opaque":            {"id"},
	"phone_number":      {"phone_number"},
	"did":               {"url"},
	"uri":               {"uri"},
	"jwt_id":            {"iss", "jti"},
	"saml_assertion_id": {"issuer", "assertion_id"},
	"ip-addresses":      {}, // a list
}

// The formats that hold others.
const (
	formatAliases = "aliases"
	formatComplex = "complex"
	formatIPs     = "ip-addresses"
)

// parseSubject reads a subject. legacy takes "subject_type" for "format", as transmitters
// of RISC before SSF 1.0 have it.
func parseSubject(raw jsontext.Value, legacy bool) (s Subject, err error) {
	members, format, err := subjectMembers(raw, legacy)
	if err != nil {
		return s, err
	}
	if format != formatComplex {
		s.Simple, err = identifiers(members, format, legacy)
		return s, err
	}
	if len(members) == 0 {
		return s, fmt.Errorf("a complex subject has no member")
	}
	for name, value := range members {
		switch {
		case value.Kind() != '{':
			return s, fmt.Errorf("%q of a complex subject is no subject identifier", clip(name))
		case len(s.Members) == maxMembers:
			return s, fmt.Errorf("a complex subject has more than %d members", maxMembers)
		}
		within, format, err := subjectMembers(value, legacy)
		if err != nil {
			return s, fmt.Errorf("%s: %w", clip(name), err)
		}
		if format == formatComplex {
			return s, fmt.Errorf("%s: a complex subject within one", clip(name))
		}
		m := Member{Name: name}
		if m.Identifiers, err = identifiers(within, format, legacy); err != nil {
			return s, fmt.Errorf("%s: %w", clip(name), err)
		}
		s.Members = append(s.Members, m)
	}
	slices.SortFunc(s.Members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return s, nil
}

// subjectMembers reads an object and takes its format out.
func subjectMembers(raw jsontext.Value, legacy bool) (members map[string]jsontext.Value, format string, err error) {
	if raw.Kind() != '{' {
		return nil, "", fmt.Errorf("a subject identifier is an object")
	}
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, "", err
	}
	value, there := members["format"]
	if there {
		delete(members, "format")
	} else if value, there = members["subject_type"]; there && legacy {
		delete(members, "subject_type")
	}
	if format, err = text(value); err != nil || format == "" {
		return nil, "", fmt.Errorf(`a subject identifier without "format"`)
	}
	if legacy {
		format = strings.ReplaceAll(format, "iss-sub", "iss_sub")
	}
	return members, format, nil
}

// identifiers reads the members of one identifier, or of several of the format aliases.
func identifiers(members map[string]jsontext.Value, format string, legacy bool) ([]Identifier, error) {
	if format != formatAliases {
		id, err := identifier(members, format)
		return []Identifier{id}, err
	}
	var list []jsontext.Value
	if json.Unmarshal(members["identifiers"], &list) != nil || len(list) == 0 || len(list) > maxAliases {
		return nil, fmt.Errorf(`aliases: want 1 to %d "identifiers"`, maxAliases)
	}
	var ids []Identifier
	for i, raw := range list {
		within, format, err := subjectMembers(raw, legacy)
		if err != nil {
			return nil, fmt.Errorf("aliases: %d: %w", i, err)
		}
		if format == formatAliases || format == formatComplex {
			return nil, fmt.Errorf("aliases: %d: %s within aliases", i, format)
		}
		id, err := identifier(within, format)
		if err != nil {
			return nil, fmt.Errorf("aliases: %d: %w", i, err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func identifier(members map[string]jsontext.Value, format string) (id Identifier, err error) {
	id = Identifier{Format: format, Values: make(map[string]string, len(members))}
	required, known := formats[format]
	for name, value := range members {
		if known && !slices.Contains(required, name) || value.Kind() != '"' {
			continue // what is not understood is passed over
		}
		if id.Values[name], err = text(value); err != nil {
			return id, fmt.Errorf("%s: %q: %w", clip(format), clip(name), err)
		}
	}
	for _, name := range required {
		if id.Values[name] == "" {
			return id, fmt.Errorf("%s: %q is missing, empty or no text", format, name)
		}
	}
	if format == formatIPs {
		id.Addresses, err = addresses(members[formatIPs])
		return id, err
	}
	return id, id.canonical()
}

// canonical checks the values of a format and makes them comparable, where the format says
// how. It does not change the case of anything: whether two mailboxes differ by it is for
// the templates to say.
func (id *Identifier) canonical() error {
	bad := func(name, want string) error {
		return fmt.Errorf("%s: %q is not %s", id.Format, clip(id.Values[name]), want)
	}
	switch id.Format {
	case "email":
		if local, domain, ok := cutLast(id.Values["email"], "@"); !ok || local == "" || domain == "" {
			return bad("email", "an address such as user@example.com")
		}
	case "account":
		if !strings.HasPrefix(id.Values["uri"], "acct:") || len(id.Values["uri"]) == len("acct:") {
			return bad("uri", "an acct URI (RFC 7565)")
		}
	case "did":
		if !strings.HasPrefix(id.Values["url"], "did:") || len(id.Values["url"]) == len("did:") {
			return bad("url", "a DID URL")
		}
	case "uri":
		if u, err := url.Parse(id.Values["uri"]); err != nil || u.Scheme == "" {
			return bad("uri", "a URI")
		}
	case "phone_number":
		// E.164, which has no spaces; people write them all the same, as SSF 1.0 does.
		digits := strings.NewReplacer(" ", "", "-", "").Replace(id.Values["phone_number"])
		if len(digits) < 3 || len(digits) > 16 || digits[0] != '+' || strings.Trim(digits[1:], "0123456789") != "" {
			return bad("phone_number", "a number such as +12065550100")
		}
		id.Values["phone_number"] = digits
	}
	return nil
}

func addresses(raw jsontext.Value) (list []string, err error) {
	if json.Unmarshal(raw, &list) != nil || len(list) == 0 || len(list) > maxIPs {
		return nil, fmt.Errorf("ip-addresses: want a list of 1 to %d addresses", maxIPs)
	}
	for i, s := range list {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return nil, fmt.Errorf("ip-addresses: %q is no address", clip(s))
		}
		list[i] = a.Unmap().String()
	}
	return list, nil
}

// text reads a JSON string of bounded size.
func text(raw jsontext.Value) (string, error) {
	if raw.Kind() != '"' {
		return "", fmt.Errorf("want a text")
	}
	quoted, err := jsontext.AppendUnquote(nil, raw)
	switch {
	case err != nil:
		return "", err
	case len(quoted) > maxSubjects:
		return "", fmt.Errorf("%d bytes, more than %d", len(quoted), maxSubjects)
	}
	return string(quoted), nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
