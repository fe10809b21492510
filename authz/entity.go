package authz

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Kind says what sort of thing an entity is. The zero Kind is no entity.
type Kind uint8

// The kinds of entity that a signal can be about.
const (
	NoKind Kind = iota
	KindAgent
	KindInstance
	KindUser
	KindSession
	KindToken
	KindGrant
	KindCode
	KindModel
	KindTool
	KindTenant
	KindEverything
	KindSource // a source of signals; see CheckSource
	kindEnd
)

// NumKinds is one more than the highest Kind, for arrays indexed by Kind.
const NumKinds = int(kindEnd)

var kindNames = [kindEnd]string{
	"none", "agent", "instance", "user", "session", "token", "grant",
	"code", "model", "tool", "tenant", "everything", "source",
}

// Kinds lists every kind in its fixed order, without NoKind.
func Kinds() []Kind {
	all := make([]Kind, 0, kindEnd-1)
	for k := KindAgent; k < kindEnd; k++ {
		all = append(all, k)
	}
	return all
}

func (k Kind) String() string {
	if k < kindEnd {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// ParseKind is the inverse of String for the kinds that name entities.
func ParseKind(s string) (Kind, bool) {
	for k := KindAgent; k < kindEnd; k++ {
		if kindNames[k] == s {
			return k, true
		}
	}
	return NoKind, false
}

// MaxID is the longest identifier of an entity, in bytes.
const MaxID = 512

// DefaultTenant is the tenant of everything that names none.
const DefaultTenant = "default"

// Ref names an entity within a tenant. It is written "kind:id", split at the first
// colon; the one entity that has no id is written "everything".
type Ref struct {
	Kind Kind
	ID   string
}

func (r Ref) String() string {
	if r.Kind == NoKind {
		return ""
	}
	if r.Kind == KindEverything {
		return kindNames[KindEverything]
	}
	return r.Kind.String() + ":" + r.ID
}

// ParseRef reads "kind:id" or "everything". An id is 1 to MaxID bytes of valid
// UTF-8 without control characters; that of a source is as CheckSource has it.
func ParseRef(s string) (Ref, error) {
	if s == kindNames[KindEverything] {
		return Ref{Kind: KindEverything}, nil
	}
	name, id, ok := strings.Cut(s, ":")
	if !ok {
		return Ref{}, fmt.Errorf("entity %q: want kind:id, such as agent:%s", s, s)
	}
	kind, ok := ParseKind(name)
	if !ok {
		return Ref{}, fmt.Errorf("entity %q: unknown kind %q; there are %s", s, name, strings.Join(kindNames[KindAgent:], ", "))
	}
	if kind == KindEverything {
		return Ref{}, fmt.Errorf("entity %q: %q takes no id", s, name)
	}
	if err := CheckID(id); err != nil {
		return Ref{}, fmt.Errorf("entity %q: %w", s, err)
	}
	if kind == KindSource {
		if err := CheckSource(id); err != nil {
			return Ref{}, fmt.Errorf("entity %q: %w", s, err)
		}
	}
	return Ref{Kind: kind, ID: id}, nil
}

// MaxSilence bounds for how long rules can let a source be silent: one that was heard longer
// ago is as one that was never heard.
const MaxSilence = 30 * 24 * time.Hour

// SourceKinds are what a source of signals can be: a client of the API, the issuer of
// security events, a topic.
func SourceKinds() []string { return []string{"client", "issuer", "topic"} }

// CheckSource reports what makes id unfit to name a source of signals, if anything: it is
// one of SourceKinds, a colon and a name, as "client:siem", and fit as an id.
func CheckSource(id string) error {
	if err := CheckID(id); err != nil {
		return err
	}
	kind, name, ok := strings.Cut(id, ":")
	if !ok || name == "" || !slices.Contains(SourceKinds(), kind) {
		return fmt.Errorf("a source is client:NAME, issuer:NAME or topic:NAME")
	}
	return nil
}

// CheckID reports what makes id unfit to identify an entity, if anything. A request's
// ids are held to the same rule as a signal's: an id that no signal can name could
// never be revoked. On the hot path it does not allocate for a fit id.
func CheckID(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("the id is empty")
	case len(id) > MaxID:
		return fmt.Errorf("the id has %d bytes, more than %d", len(id), MaxID)
	}
	if plain(id) {
		return nil
	}
	for i := range len(id) {
		if c := id[i]; c < 0x20 || c == 0x7f {
			return fmt.Errorf("the id holds a control character (%#02x)", c)
		}
	}
	if !utf8.ValidString(id) || strings.ContainsRune(id, utf8.RuneError) {
		return fmt.Errorf("the id is not valid UTF-8")
	}
	return nil
}

// plain reports whether id is all of printable ASCII, which most ids are. It looks at eight
// bytes at once; short ids are left to a closer look.
func plain(id string) bool {
	const word = 8
	if len(id) < word {
		return false
	}
	for i := 0; i+word < len(id); i += word {
		if !plainWord(id[i : i+word]) {
			return false
		}
	}
	return plainWord(id[len(id)-word:])
}

func plainWord(s string) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	_ = s[7]
	w := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
	// The highest bit of a byte is set in w beyond ASCII, in the second term below a space,
	// and in the third for DEL. A borrow reaches only the neighbours of such a byte.
	return (w|(w-' '*ones)|((w^0x7f*ones)-ones))&highs == 0
}

// Key identifies an entity everywhere. Everything stands above tenants: its Tenant
// is empty.
type Key struct {
	Tenant string
	Kind   Kind
	ID     string
}

// In gives the key of r within tenant.
func (r Ref) In(tenant string) Key {
	if r.Kind == KindEverything {
		tenant = ""
	}
	return Key{Tenant: tenant, Kind: r.Kind, ID: r.ID}
}

// Ref gives the entity's name within its tenant.
func (k Key) Ref() Ref { return Ref{Kind: k.Kind, ID: k.ID} }
