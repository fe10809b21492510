package ssf

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"vigil/authz"
	"vigil/signals"
)

// Config says what is to be known of one transmitter.
type Config struct {
	// Name is that of the source of its signals, issuer:NAME. Required, and it must not
	// change: what a source said is its own to undo.
	Name string
	// Issuer is the "iss" of its SETs, exactly. Required.
	Issuer string
	// Audience are the values of "aud" that mean us. At least one.
	Audience []string
	// Algorithms are those that it may sign with: RS256, RS384, RS512, PS256, PS384,
	// PS512, ES256, ES384, ES512, EdDSA. At least one; RS256 is what the CAEP
	// interoperability profile demands.
	Algorithms []string
	// Keys says where its keys come from. Required.
	Keys KeysConfig
	// Unsigned: nobody looks at signatures, for all of its SETs come by an authentic Channel.
	// There are no Algorithms and no Keys then, and what comes by another channel is refused.
	Unsigned bool
	// Web is how its keys are fetched; the zero Web will do.
	Web Web

	// Interop holds it to the CAEP interoperability profile 1.0: one event in a SET,
	// RS256, and reasons for administrators.
	Interop bool
	// MaxEvents is how many events a SET may have, up to 8; 0 for one. SSF 1.0 permits
	// several only as other names of the same event.
	MaxEvents int
	// Legacy takes what transmitters did before SSF 1.0: "subject" within the event where
	// there is no "sub_id", and "subject_type" for "format".
	Legacy bool

	// Authority is what its events may say, like that of a client.
	Authority signals.Authority
	// Subjects finds entities; nil for DefaultSubjects.
	Subjects Subjects
	// SubjectIssuers are other issuers whose identifiers mean the same as its own.
	SubjectIssuers []string
	// Simple says which member a simple subject of a format stands for, where that is not
	// the one that the event implies: {"iss_sub": "agent"} of one that only has agents.
	Simple map[string]string
	// Critical are the members of complex subjects that must be understood: an event with
	// one that no template fits is discarded (SSF 1.0 section 3.6).
	Critical []string
	// Table are rows in the place of the default ones of their events.
	Table []Rule
	// Scores are the risks that LOW, MEDIUM and HIGH stand for; nil for 20, 55 and 90.
	Scores map[string]int

	// StateSecret makes the states of verifications that are asked for known again: whoever
	// asks and every replica that the events may come to have the same. nil: no state is
	// sent with a verification, and one that comes with a state is refused.
	StateSecret []byte

	// MaxSilence says for how long the rules in use let the issuer be silent; 0 where they do
	// not require it. Only where they do is it passed on that the issuer is there while it has
	// nothing to say. It is called for every SET, by many at once. nil: they never do.
	MaxSilence func() time.Duration

	// Now reads the clock. It never goes back. Required.
	Now func() authz.Instant
}

// DefaultScores are what the levels of risk-level-change stand for.
func DefaultScores() map[string]int { return map[string]int{"LOW": 20, "MEDIUM": 55, "HIGH": 90} }

// check fills in defaults and gives all that is wrong.
func (c *Config) check() error {
	var problems []error
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if _, ok := signals.ParseSource("issuer:" + c.Name); !ok || c.Name == "" {
		wrong("a name is needed, for the source of its signals")
	}
	if c.Issuer == "" || len(c.Issuer) > maxClaim {
		wrong(`an issuer is needed: the "iss" of its tokens`)
	}
	if len(c.Audience) == 0 || slices.Contains(c.Audience, "") {
		wrong(`an audience is needed: the "aud" that means us`)
	}
	switch {
	case c.Unsigned && (len(c.Algorithms) > 0 || c.Keys.URI != "" || c.Keys.Static != nil):
		wrong("algorithms and keys have no meaning where no signature is looked at")
	case !c.Unsigned && len(c.Algorithms) == 0:
		wrong("algorithms are needed: those that it may sign with")
	}
	for _, alg := range c.Algorithms {
		if algorithms[alg] == nil {
			wrong("no algorithm %q that it may sign with", clip(alg))
		}
	}
	if c.Interop && !slices.Equal(c.Algorithms, []string{"RS256"}) {
		wrong("the interoperability profile is RS256 alone")
	}
	if c.MaxEvents == 0 {
		c.MaxEvents = 1
	}
	if c.MaxEvents < 0 || c.MaxEvents > maxEvents || c.Interop && c.MaxEvents != 1 {
		wrong("a SET may have 1 to %d events, and one where the interoperability profile is followed", maxEvents)
	}
	if len(c.Authority.Tenants) == 0 {
		wrong("it speaks for no tenant")
	}
	if c.Subjects == nil {
		c.Subjects = DefaultSubjects()
	}
	if c.Scores == nil {
		c.Scores = DefaultScores()
	}
	for _, level := range levels {
		if score, there := c.Scores[level]; !there || score < 0 || score > 100 {
			wrong("scores: %s: want 0 to 100", level)
		}
	}
	if c.Now == nil {
		wrong("a clock is needed")
	}
	c.Keys.ensureDefaults()
	if err := c.Keys.check(&c.Web); err != nil && !c.Unsigned {
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// Issuer verifies and reads the SETs of one transmitter. It is safe for concurrent use.
type Issuer struct {
	cfg      Config
	keys     *keyCache // nil where Config.Unsigned
	states   stateKey
	allowed  []jose.SignatureAlgorithm
	subjects map[string][]template
	table    map[string][]row
}

// New makes an issuer, or says all that is wrong with cfg. It asks nobody: keys are fetched
// when they are first needed.
func New(cfg Config) (*Issuer, error) {
	i := &Issuer{}
	err := cfg.check()
	i.cfg = cfg
	var problems [4]error
	i.subjects, problems[0] = compileSubjects(cfg.Subjects)
	i.table, problems[1] = compileTable(cfg.Table, cfg.Subjects)
	if err == nil && !cfg.Unsigned {
		i.keys, problems[2] = newKeyCache(cfg.Keys, &i.cfg.Web, cfg.Now)
	}
	i.states, problems[3] = newStateKey(cfg.StateSecret, cfg.Issuer)
	i.cfg.StateSecret = nil
	if err := errors.Join(append(problems[:], err)...); err != nil {
		return nil, fmt.Errorf("issuer %q: %w", clip(cfg.Name), err)
	}
	for _, alg := range cfg.Algorithms {
		i.allowed = append(i.allowed, jose.SignatureAlgorithm(alg))
	}
	return i, nil
}

// Source is that of the issuer's signals.
func (i *Issuer) Source() signals.Source { return signals.Source{Kind: "issuer", Name: i.cfg.Name} }

// Requested are the events that a stream of this issuer should be asked for, sorted: those of
// which a row of the table says something that the issuer may say (SSF 1.0 section 8.1.1,
// events_requested). Events of our own are not among them unless the issuer's own table has
// them: few transmitters know them.
func (i *Issuer) Requested() []string {
	may := func(s saying) bool {
		types := i.cfg.Authority.Types
		return slices.Contains(types, "*") || slices.Contains(types, string(s.typ))
	}
	own := func(uri string) bool {
		return slices.ContainsFunc(i.cfg.Table, func(r Rule) bool {
			known, _ := longURI(r.Event)
			return r.Event == uri || known == uri
		})
	}
	var all []string
	for uri, rows := range i.table {
		says := slices.ContainsFunc(rows, func(r row) bool {
			return len(r.say) > 0 && !slices.ContainsFunc(r.say, func(s saying) bool { return !may(s) })
		})
		if says && (!strings.HasPrefix(uri, Vigil) || own(uri)) {
			all = append(all, uri)
		}
	}
	slices.Sort(all)
	return all
}

// EventURI gives the URI of an event type that is a URI, or the last part of one of CAEP or
// RISC; our own begin with "vigil:".
func EventURI(name string) (uri string, ok bool) {
	if uri, known := longURI(name); known {
		return uri, true
	}
	return name, strings.Contains(name, ":") && !strings.HasPrefix(name, "vigil:")
}

// EventName is the inverse of EventURI for the events of CAEP, RISC and ours; another URI is
// its own name.
func EventName(uri string) string {
	if specByURI[uri] == nil {
		return uri
	}
	return short(uri)
}

// Verify reads a SET and proves that it is of this issuer and for us. The error is an
// *Error, or an ErrTemporary where the issuer's keys cannot be had now. A token that is
// refused has cost no more than its size, and one signature for each key of its kid.
func (i *Issuer) Verify(ctx context.Context, token []byte) (*SET, error) {
	return i.verifyFrom(ctx, token, Channel{})
}

// verifyFrom is Verify for a SET that came by a channel.
func (i *Issuer) verifyFrom(ctx context.Context, token []byte, ch Channel) (*SET, error) {
	payload, err := i.verify(ctx, token, ch)
	if err != nil {
		return nil, err
	}
	set, refused := i.parseClaims(payload)
	if refused != nil {
		return nil, refused
	}
	return set, nil
}

// verify gives the payload of a JWS that says it is a SET, and whose signature is good or
// is not needed.
func (i *Issuer) verify(ctx context.Context, token []byte, ch Channel) ([]byte, error) {
	head, refused := splitToken(token, ch.Authentic)
	if refused != nil {
		return nil, refused
	}
	h, refused := parseHeader(head)
	if refused != nil {
		return nil, refused
	}
	if !isSET(h.Typ) {
		return nil, refuse(InvalidRequest, `"typ" is %q, not "secevent+jwt": it may be another token`, clip(h.Typ))
	}
	switch {
	case ch.Authentic:
		return payloadOf(token, h)
	case i.keys == nil:
		return nil, refuse(AuthenticationFailed, "nothing is known here that its signature could be verified with")
	}
	return i.signed(ctx, token, h, ch.Since)
}

// signed gives the payload of a JWS whose signature is good. The key is one of the issuer's
// and of the type that the algorithm takes; the token chooses among what is allowed.
func (i *Issuer) signed(ctx context.Context, token []byte, h header, since authz.Instant) ([]byte, error) {
	if !slices.Contains(i.cfg.Algorithms, h.Alg) {
		return nil, refuse(InvalidKey, "the algorithm %q is not one that the issuer may sign with", clip(h.Alg))
	}
	jws, err := jose.ParseSignedCompact(string(token), i.allowed)
	if err != nil {
		return nil, refuse(InvalidRequest, "the token is no JWS").because(err)
	}
	keys, err := i.keys.lookup(ctx, h.Kid, h.Alg, since)
	if errors.Is(err, errUnknownKey) {
		return nil, refuse(InvalidKey, "no key with the kid %q for %s: %v", clip(h.Kid), h.Alg, err).because(err)
	}
	if err != nil {
		return nil, err
	}
	for j := range keys {
		if payload, err := jws.Verify(keys[j].public); err == nil {
			return payload, nil
		}
	}
	return nil, refuse(AuthenticationFailed, "the signature is not the issuer's")
}
