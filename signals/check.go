package signals

import (
	"fmt"
	"slices"
	"strings"

	"vigil/authz"
)

// members is which members an object had, in its own order. Duplicates never get here,
// so there is room for all.
type members struct {
	set   memberSet
	order [memberEnd]memberID
	n     int
}

func (m *members) add(id memberID) {
	m.set |= 1 << id
	m.order[m.n] = id
	m.n++
}

// check tells what is wrong with a signal as a whole: each member was read and is sound
// by itself. Pointers are within the signal.
func (s *Signal) check(seen *members) *DecodeError {
	for id := memberID(0); id < memberEnd; id++ {
		if envelopeRequired.has(id) && !seen.set.has(id) {
			return missing(id, "")
		}
	}
	spec := s.Type.spec()
	for _, id := range seen.order[:seen.n] {
		if !(common | spec.members).has(id) {
			return &DecodeError{Code: CodeUnknownMember, Detail: foreign(id, spec), Pointer: "/" + memberNames[id]}
		}
	}
	for id := memberID(0); id < memberEnd; id++ {
		if spec.required.has(id) && !seen.set.has(id) {
			return missing(id, " in "+s.Type.withArticle())
		}
	}
	if s.Expires <= s.Time {
		return &DecodeError{Code: CodeBadValue, Detail: "is not after \"time\"", Pointer: "/expires"}
	}
	if s.Type == TypeAttest && !s.Passed && seen.set.has(mExpires) {
		return &DecodeError{Code: CodeBadValue, Detail: "a failed attestation ends with a newer one, not by itself", Pointer: "/expires"}
	}
	switch {
	case s.Type == TypeWaive && s.Expires > s.Time.Add(MaxWaiver):
		return &DecodeError{Code: CodeBadValue, Pointer: "/expires",
			Detail: fmt.Sprintf("is more than %v after \"time\": what is to be waived for longer is for the rules to say", MaxWaiver)}
	case s.Type == TypeWaive && strings.TrimSpace(s.Reason) == "":
		return &DecodeError{Code: CodeBadValue, Pointer: "/reason", Detail: "is blank: a waive says why"}
	case s.Type == TypeHeartbeat && len(s.Entities) > 1:
		return &DecodeError{Code: CodeBadValue, Pointer: "/entities", Detail: "a heartbeat is about one source, the sender's own"}
	}
	if s.Type == TypeRequireApproval && (len(s.Actions) == 0 || slices.Contains(s.Actions, "*")) {
		s.Actions = []string{"*"}
	}
	// Empty and absent mean the same here, so that equal signals are equal values.
	if len(s.Labels) == 0 {
		s.Labels = nil
	}
	if s.Type == TypeRegister && len(s.Scopes) == 0 {
		s.Scopes = nil
	}
	return s.checkKinds(spec)
}

func missing(id memberID, where string) *DecodeError {
	return &DecodeError{Code: CodeMissingMember, Detail: fmt.Sprintf("%q is missing%s", memberNames[id], where)}
}

// foreign says why a member has no place in a signal of this type.
func foreign(id memberID, spec *typeSpec) string {
	if id == mExpires {
		return spec.name.withArticle() + ` never ends: it has no "expires"`
	}
	if id == mSource && spec.name == TypeLift {
		return `a lift names the other source in "lifts"`
	}
	var of []string
	for i := range vocabulary {
		if vocabulary[i].members.has(id) {
			of = append(of, string(vocabulary[i].name))
		}
	}
	return fmt.Sprintf("%s has no %q; that belongs to %s", spec.name.withArticle(), memberNames[id], strings.Join(of, ", "))
}

// checkKinds tells which entities a signal of this type cannot be about.
func (s *Signal) checkKinds(spec *typeSpec) *DecodeError {
	at := func(i int) string { return fmt.Sprintf("/entities/%d", i) }
	for i, ref := range s.Entities {
		if !spec.kinds.has(ref.Kind) {
			return &DecodeError{Code: CodeBadValue, Pointer: at(i),
				Detail: fmt.Sprintf("%s is never about %s", spec.name.withArticle(), aKind(ref.Kind))}
		}
		if s.Type == TypeLift && !s.Lifts.Type.liftedOf(ref.Kind) {
			return &DecodeError{Code: CodeBadValue, Pointer: at(i),
				Detail: fmt.Sprintf("a lift of %s is never about %s", s.Lifts.Type.withArticle(), aKind(ref.Kind))}
		}
		if s.Type == TypeLift && (ref.Kind == authz.KindSource) != (s.Entities[0].Kind == authz.KindSource) {
			return &DecodeError{Code: CodeBadValue, Pointer: at(i), Detail: "a lift is about sources or about other entities, not about both"}
		}
		if s.Type == TypeRevoke && s.IssuedBefore == 0 && !revocable.has(ref.Kind) {
			return &DecodeError{Code: CodeBadValue, Pointer: at(i),
				Detail: fmt.Sprintf("a plain revoke is for good, and %s lives on: send a quarantine, or add \"issued_before\" to revoke what was issued until then", ref)}
		}
	}
	return nil
}

// liftedOf reports whether what a signal of type t states can stand about a kind. A newer
// version may have said of a source what this one cannot read.
func (t Type) liftedOf(kind authz.Kind) bool {
	switch t {
	case TypeUnreadable:
		return true
	case TypeWaive:
		return kind == authz.KindSource
	}
	return kind != authz.KindSource
}

func (t Type) withArticle() string {
	if t == TypeAttest || t == TypeUnreadable {
		return "an " + string(t)
	}
	return "a " + string(t)
}

func aKind(k authz.Kind) string {
	switch k {
	case authz.KindEverything:
		return "everything"
	case authz.KindAgent, authz.KindInstance:
		return "an " + k.String()
	}
	return "a " + k.String()
}
