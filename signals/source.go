package signals

import "vigil/authz"

// Source is who sent a signal, authenticated and typed: it never comes from the
// payload. Its string form is "client:soar", "issuer:https://idp", "topic:risk".
type Source struct {
	Kind string // client, issuer, topic
	Name string
}

func (s Source) String() string { return s.Kind + ":" + s.Name }

// Authority is what a source may say. Empty Types, Kinds or Classes mean none; "*" in
// one means any. Tenants are listed by name.
type Authority struct {
	Types   []string
	Kinds   []string
	Tenants []string // the first is meant when a signal names none
	Classes []string // classes that the source may register; empty means any
	// Overrule lets the source speak in another source's line (release what another
	// quarantined, lift what another tainted).
	Overrule bool
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
	Pointer string
}

func (e *RefusedError) Error() string { return e.Detail }

// Judge checks every signal of a batch against what sender may say, sets the tenant of
// each, and returns a *RefusedError for the first that it may not send.
func Judge(sender Sender, batch []Signal, classOf func(authz.Key) string) error {
	panic("unwritten")
}
