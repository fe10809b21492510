package signals

import (
	"fmt"
	"slices"
	"strings"

	"vigil/authz"
)

// Source is who sent a signal, authenticated and typed: it never comes from the
// payload. Its string form is "client:soar", "issuer:https://idp", "topic:risk".
type Source struct {
	Kind string // client, issuer, topic
	Name string
}

func (s Source) String() string { return s.Kind + ":" + s.Name }

// ParseSource is the inverse of String. It splits at the first colon.
func ParseSource(text string) (Source, bool) {
	kind, name, ok := strings.Cut(text, ":")
	if !ok || name == "" || len(name) > MaxText || !slices.Contains(authz.SourceKinds(), kind) {
		return Source{}, false
	}
	return Source{Kind: kind, Name: name}, true
}

// Authority is what a source may say. Empty Types or Kinds mean none. The zero
// Authority may say nothing.
type Authority struct {
	// Types of signal; "*" means any.
	Types []string
	// Kinds of entity; "*" means any but two that must be named: everything, which reaches
	// past every tenant, and source, of which nothing is said but that its silence is waived.
	Kinds []string
	// Tenants by name. The first is meant when a signal names none.
	Tenants []string
	// Classes limit the source to entities of these classes and to registering these;
	// empty or "*" means any. An entity without a class is not limited: most kinds have none.
	Classes []string
	// Overrule lets the source speak in another source's line (release what another
	// quarantined), lift what another stated, and lift unreadable signals.
	Overrule bool
}

func (a *Authority) mayType(t Type) bool {
	return slices.Contains(a.Types, "*") || slices.Contains(a.Types, string(t))
}

func (a *Authority) mayKind(k authz.Kind) bool {
	return k != authz.KindEverything && k != authz.KindSource && slices.Contains(a.Kinds, "*") || slices.Contains(a.Kinds, k.String())
}

func (a *Authority) mayClass(class string) bool {
	return class == "" || len(a.Classes) == 0 || slices.Contains(a.Classes, "*") || slices.Contains(a.Classes, class)
}

// Sender is an authenticated source with its authority.
type Sender struct {
	Source    Source
	Authority Authority
}

// RefusedError is a signal that its source may not send.
type RefusedError struct {
	Index   int // in the batch
	Detail  string
	Pointer string // RFC 6901; from Judge within the signal, from Push into the body
}

func (e *RefusedError) Error() string { return e.Detail }

// Judge checks every signal of a batch against what sender may say, and returns a
// *RefusedError for the first that it may not send. It sets the tenant of each, clears a
// Line that is the sender's own, and fills in the source of a lift. classOf gives the
// class that an entity has now, "" for none.
func Judge(sender Sender, batch []Signal, classOf func(authz.Key) string) error {
	for i := range batch {
		if e := sender.judge(&batch[i], classOf); e != nil {
			e.Index = i
			return e
		}
	}
	return nil
}

func (sender *Sender) judge(s *Signal, classOf func(authz.Key) string) *RefusedError {
	may := &sender.Authority
	refuse := func(ptr, format string, args ...any) *RefusedError {
		return &RefusedError{Pointer: ptr, Detail: sender.Source.String() + " " + fmt.Sprintf(format, args...)}
	}
	if len(may.Tenants) == 0 {
		return refuse("", "speaks for no tenant")
	}
	if s.Tenant == "" {
		s.Tenant = may.Tenants[0]
	} else if !slices.Contains(may.Tenants, s.Tenant) {
		return refuse("/tenant", "does not speak for tenant %q", clip(s.Tenant))
	}
	if s.Type == TypeHeartbeat {
		// It says nothing, so it takes no authority but to be who it is.
		if s.Entities[0].ID != sender.Source.String() {
			return refuse("/entities/0", "may not send the heartbeat of %s", clip(s.Entities[0].ID))
		}
		return nil
	}
	if !may.mayType(s.Type) {
		return refuse("/type", "may not send %s", s.Type)
	}
	at := func(i int) string { return fmt.Sprintf("/entities/%d", i) }
	for i, ref := range s.Entities {
		if !may.mayKind(ref.Kind) {
			return refuse(at(i), "may not speak about %s", aKind(ref.Kind))
		}
		if ref.Kind == authz.KindTenant && ref.ID != s.Tenant {
			return refuse(at(i), "speaks for tenant %q here, not for %q", clip(s.Tenant), clip(ref.ID))
		}
		if class := classOf(ref.In(s.Tenant)); !may.mayClass(class) {
			return refuse(at(i), "may not speak about class %q, which %s has", clip(class), clip(ref.String()))
		}
	}
	if s.Type == TypeRegister && !may.mayClass(s.Class) {
		return refuse("/class", "may not register class %q", clip(s.Class))
	}
	return sender.judgeOthers(s, refuse)
}

// judgeOthers judges what a signal says in or about another source's name.
func (sender *Sender) judgeOthers(s *Signal, refuse func(ptr, format string, args ...any) *RefusedError) *RefusedError {
	own := sender.Source.String()
	if s.Line == own {
		s.Line = ""
	}
	if s.Line != "" && !sender.Authority.Overrule {
		return refuse("/source", "may not overrule %s", clip(s.Line))
	}
	if s.Lifts == nil {
		return nil
	}
	if s.Lifts.Source == "" {
		s.Lifts.Source = own
	}
	switch {
	case sender.Authority.Overrule:
		return nil
	case s.Lifts.Source != own:
		return refuse("/lifts/source", "may not lift what %s stated", clip(s.Lifts.Source))
	case s.Lifts.Type == TypeUnreadable:
		return refuse("/lifts/type", "may not lift an unreadable signal")
	}
	return nil
}

// Verdict is what was found of a sender's authority when a signal was accepted. It is
// kept with the signal: replaying an old log under another configuration asks no more.
type Verdict struct {
	// MayQuarantine has bit i set where the sender could have quarantined entity i of the
	// signal. A version that cannot read the signal holds those.
	MayQuarantine uint64
}

// verdict finds it for a signal that Judge let pass.
func (sender *Sender) verdict(s *Signal, classOf func(authz.Key) string) Verdict {
	var v Verdict
	if !sender.Authority.mayType(TypeQuarantine) {
		return v
	}
	for i, ref := range s.Entities {
		if ref.Kind != authz.KindSource && sender.Authority.mayKind(ref.Kind) && sender.Authority.mayClass(classOf(ref.In(s.Tenant))) {
			v.MayQuarantine |= 1 << i
		}
	}
	return v
}
