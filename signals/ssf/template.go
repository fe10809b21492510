package ssf

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"vigil/authz"
)

// Subjects says which entity a member of a subject is, by templates. The first template
// that fits an identifier is taken; a member without a fitting one is not matched.
//
// A template is "kind:text" or, where the member's name is a kind of entity, "text". In the
// text, {name} is the member of that name of the identifier: {email}; {iss} and {sub};
// {id} of opaque; {jti} of jwt_id; {assertion_id} of saml_assertion_id; {url} of did;
// {uri}; {phone_number}; {ip-addresses}, each. {name|filter} is what a filter leaves of it:
// lower, in lower case; local, what is before the last "@"; acct, what is after "acct:".
// A template fits if the identifier has all that it names.
//
// A template that does not name {iss} (or {issuer}) fits only identifiers of the issuer
// itself and of Config.SubjectIssuers: "jane" of one issuer is not "jane" of another.
type Subjects map[string][]string

// DefaultSubjects is what an issuer has that configures none. Members that are not in it
// (device, application, org_unit, group, tenant) are nothing that Vigil can know by itself.
func DefaultSubjects() Subjects {
	return Subjects{
		"user":     {"{email}", "{sub}", "{uri|acct}"},
		"session":  {"{id}"},
		"token":    {"{jti}", "{assertion_id}"},
		"agent":    {"{id}", "{sub}", "{url}", "{uri}"},
		"instance": {"{id}", "{sub}", "{url}", "{uri}"},
		"grant":    {"{id}"},
		"code":     {"{id}"},
		"model":    {"{id}"},
		"tool":     {"{id}", "{uri}"},
	}
}

// template is a compiled one. texts and fields alternate, beginning with a text.
type template struct {
	kind      authz.Kind
	texts     []string
	fields    []field
	nameSpace bool // it names the issuer of the identifier
}

type field struct {
	name   string
	filter func(string) (string, bool) // nil for none
}

var filters = map[string]func(string) (string, bool){
	"lower": func(s string) (string, bool) { return strings.ToLower(s), true },
	"local": func(s string) (string, bool) {
		local, _, ok := cutLast(s, "@")
		return local, ok && local != ""
	},
	"acct": func(s string) (string, bool) { return strings.CutPrefix(s, "acct:") },
}

func compileTemplate(member, text string) (t template, err error) {
	if prefix, rest, ok := strings.Cut(text, ":"); ok && !strings.ContainsAny(prefix, "{}") {
		if kind, known := authz.ParseKind(prefix); known {
			t.kind, text = kind, rest
		}
	}
	if t.kind == authz.NoKind {
		kind, known := authz.ParseKind(member)
		if !known {
			return t, fmt.Errorf("%q says no kind of entity, and %q is none: write kind:text", clip(text), clip(member))
		}
		t.kind = kind
	}
	if t.kind == authz.KindEverything {
		return t, errors.New("a subject is never everything")
	}
	for {
		before, rest, opened := strings.Cut(text, "{")
		if strings.Contains(before, "}") {
			return t, fmt.Errorf("%q has a } without its {", clip(text))
		}
		t.texts = append(t.texts, before)
		if !opened {
			break
		}
		name, after, closed := strings.Cut(rest, "}")
		name, filter, filtered := strings.Cut(name, "|")
		if !closed || name == "" || strings.Contains(name, "{") {
			return t, fmt.Errorf("%q has a { without its name and }", clip(text))
		}
		f := field{name: name}
		if filtered {
			if f.filter = filters[filter]; f.filter == nil {
				return t, fmt.Errorf("there is no filter %q; there are %s", clip(filter), strings.Join(slices.Sorted(maps.Keys(filters)), ", "))
			}
		}
		t.fields = append(t.fields, f)
		t.nameSpace = t.nameSpace || name == "iss" || name == "issuer"
		text = after
	}
	if len(t.fields) == 0 && t.kind != authz.KindTenant {
		return t, errors.New("it names nothing of the identifier, so every subject would be the same entity")
	}
	return t, nil
}

// entities gives what t makes of an identifier: nothing where it does not fit. It is one
// entity, or one for each address.
func (t *template) entities(id *Identifier, own func(iss string) bool) []authz.Ref {
	if !t.nameSpace {
		for _, name := range []string{"iss", "issuer"} {
			if iss, there := id.Values[name]; there && !own(iss) {
				return nil
			}
		}
	}
	each := []string{""}
	if slices.ContainsFunc(t.fields, func(f field) bool { return f.name == formatIPs }) {
		each = id.Addresses
	}
	var refs []authz.Ref
	for _, address := range each {
		if text, ok := t.fill(id, address); ok && authz.CheckID(text) == nil {
			refs = append(refs, authz.Ref{Kind: t.kind, ID: text})
		}
	}
	return refs
}

func (t *template) fill(id *Identifier, address string) (string, bool) {
	var b strings.Builder
	for i := range t.fields {
		f := &t.fields[i]
		value := id.Values[f.name]
		if f.name == formatIPs {
			value = address
		}
		ok := value != ""
		if ok && f.filter != nil {
			value, ok = f.filter(value)
		}
		if !ok || value == "" {
			return "", false
		}
		b.WriteString(t.texts[i])
		b.WriteString(value)
	}
	b.WriteString(t.texts[len(t.texts)-1])
	return b.String(), true
}

// compileSubjects compiles all templates, and says what is wrong with any.
func compileSubjects(subjects Subjects) (map[string][]template, error) {
	compiled := make(map[string][]template, len(subjects))
	var problems []error
	for _, member := range slices.Sorted(maps.Keys(subjects)) {
		for _, text := range subjects[member] {
			t, err := compileTemplate(member, text)
			if err != nil {
				problems = append(problems, fmt.Errorf("subjects: %s: %w", clip(member), err))
				continue
			}
			compiled[member] = append(compiled[member], t)
		}
	}
	return compiled, errors.Join(problems...)
}
