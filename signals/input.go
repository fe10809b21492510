package signals

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"vigil/authz"
)

// maxGrants bounds the grants of an input; maxUnder the names of types and kinds in one,
// in bytes, so that a record which keeps them fits MaxRecord.
const (
	maxGrants = 1024
	maxUnder  = 4 << 10
)

// Check says what is wrong with the configuration of an input, or nil. An input that it
// finds nothing wrong with is judged alike by every replica that has it.
func (in *Input) Check() error {
	if s, ok := ParseSource(in.Source.String()); !ok || s != in.Source || s.Kind != "topic" {
		return fmt.Errorf("input %q: the source of an input is topic:NAME", clip(in.Source.String()))
	}
	if len(in.Grants) > maxGrants {
		return fmt.Errorf("input %s: %d grants, more than %d", in.Source, len(in.Grants), maxGrants)
	}
	for i := range in.Grants {
		if err := in.Grants[i].check(); err != nil {
			return fmt.Errorf("input %s: grant %d: %w", in.Source, i+1, err)
		}
		for j := range i {
			if in.Grants[i].meets(&in.Grants[j]) {
				return fmt.Errorf("input %s: grants %d and %d overlap: a record would be under both", in.Source, j+1, i+1)
			}
		}
	}
	return nil
}

func (g *Grant) check() error {
	may := &g.Authority
	switch {
	case g.From < 0 || g.Until < 0:
		return errors.New("it begins or ends before 1970")
	case g.Until != 0 && g.Until <= g.From:
		return fmt.Errorf("it ends at %s, which is not after its beginning", g.Until)
	case len(may.Tenants) == 0:
		return errors.New("it names no tenant")
	case len(may.Types) == 0 || len(may.Kinds) == 0:
		return errors.New("it permits nothing: name types and kinds")
	case len(may.Classes) > 0:
		return errors.New("it is limited to classes: an input cannot be, for the class of an agent is not the same on every replica when a record is applied")
	case may.Overrule:
		return errors.New("it permits overruling: an input cannot, for what there is to overrule is not the same on every replica when a record is applied")
	}
	for _, tenant := range may.Tenants {
		if tenant == "" || len(tenant) > MaxName {
			return fmt.Errorf("%q is no tenant", clip(tenant))
		}
	}
	if !fitUnder(may.Types) || !fitUnder(may.Kinds) || len(appendUnder(nil, may)) > maxUnder {
		return errors.New("its types or kinds are not fit to be written down")
	}
	return nil
}

// meets reports whether an instant is in both.
func (g *Grant) meets(other *Grant) bool {
	return (other.Until == 0 || g.From < other.Until) && (g.Until == 0 || other.From < g.Until)
}

// grantAt gives the grant that covers an append time, or nil.
func (in *Input) grantAt(appended authz.Instant) *Grant {
	for i := range in.Grants {
		if g := &in.Grants[i]; g.From <= appended && (g.Until == 0 || appended < g.Until) {
			return g
		}
	}
	return nil
}

// record makes the record of an entry of the input, which nobody has judged yet. Its
// tenant is found with the signal. The body shares the entry's memory.
func (in *Input) record(e *Entry) (Record, error) {
	r := Record{Source: in.Source, Body: e.Record}
	g := in.grantAt(e.Appended)
	if g == nil {
		return r, fmt.Errorf("no grant covers what %s took at %s", clip(in.Source.String()), e.Appended)
	}
	r.Under = &g.Authority
	return r, nil
}

// sender is whose signal an unjudged record holds. Whatever the configuration says, it is
// one whose authority needs no posture to be judged.
func (r *Record) sender() Sender {
	may := *r.Under
	may.Classes, may.Overrule = nil, false
	if r.Tenant != "" { // one that was kept: the tenant was found then
		may.Tenants = []string{r.Tenant}
	}
	return Sender{Source: r.Source, Authority: may}
}

// judge finds whether a record that came by an input may say what s says, by the rules of
// an intake: a pure function of the record. It gives the record its tenant.
func (r *Record) judge(s *Signal) error {
	sender := r.sender()
	if e := sender.judge(s, withoutClass); e != nil {
		return e
	}
	r.Tenant = s.Tenant
	if source, borrowed := borrowedID(s.ID); borrowed {
		return fmt.Errorf("its id begins with %q: such ids are those of what %s says in other sources' lines",
			clip(source+"/"), clip(source))
	}
	return nil
}

func withoutClass(authz.Key) string { return "" }

// judgeEnvelope is judge for a signal that this version cannot read: what no version would
// let pass is refused. A type or a kind that this version does not know is not refused, for
// a version that knows it may be permitted it; the entities that the source may quarantine
// are held until then. It gives the record its tenant and its verdict.
func (r *Record) judgeEnvelope(env *Envelope) error {
	sender := r.sender()
	may := &sender.Authority
	says := func(format string, args ...any) error {
		return fmt.Errorf(sender.Source.String()+" "+format, args...)
	}
	if len(may.Tenants) == 0 {
		return says("speaks for no tenant")
	}
	tenant := env.Tenant
	if tenant == "" {
		tenant = may.Tenants[0]
	}
	if !slices.Contains(may.Tenants, tenant) {
		return says("does not speak for tenant %q", clip(tenant))
	}
	if t := Type(env.Type); t.spec() != nil && !may.mayType(t) {
		return says("may not send %s", t)
	}
	r.Tenant, r.Verdict = tenant, Verdict{}
	for i, text := range env.Entities {
		ref, err := authz.ParseRef(text)
		switch {
		case err != nil || i >= MaxEntities:
			continue
		case !may.mayKind(ref.Kind):
			return says("may not speak about %s", aKind(ref.Kind))
		case ref.Kind == authz.KindTenant && ref.ID != tenant:
			return says("speaks for tenant %q here, not for %q", clip(tenant), clip(ref.ID))
		case ref.Kind != authz.KindSource && may.mayType(TypeQuarantine):
			r.Verdict.MayQuarantine |= 1 << i
		}
	}
	if source, borrowed := borrowedID(env.ID); borrowed {
		return fmt.Errorf("its id begins with %q", clip(source+"/"))
	}
	return nil
}

// borrowedID reports whether an id is like an OverrulingID, and of which source. Only what
// overrules has such ids.
func borrowedID(id string) (source string, borrowed bool) {
	i := strings.LastIndexByte(id, '/')
	if i < 0 {
		return "", false
	}
	_, borrowed = ParseSource(id[:i])
	return id[:i], borrowed
}

// The authority that an unjudged record is under is written as the types that it permits,
// each ended by a line feed, a zero, and the kinds likewise; both sorted, so that replicas
// whose configurations differ in order only write the same.

func appendUnder(dst []byte, may *Authority) []byte {
	for i, names := range [][]string{may.Types, may.Kinds} {
		if i > 0 {
			dst = append(dst, 0)
		}
		names = slices.Clone(names)
		slices.Sort(names)
		for _, name := range slices.Compact(names) {
			dst = append(append(dst, name...), '\n')
		}
	}
	return dst
}

// fitUnder reports whether appendUnder can write names so that they are read again.
func fitUnder(names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool {
		_, bad := control(name)
		return bad || name == "" || strings.ToValidUTF8(name, "") != name
	})
}

// readUnder is the inverse of appendUnder, and takes nothing else. There are always types:
// who may say nothing leaves nothing to be judged later.
func readUnder(value string) (*Authority, bool) {
	types, kinds, ok := strings.Cut(value, "\x00")
	if !ok || len(value) > maxUnder || types == "" {
		return nil, false
	}
	lines := func(text string) []string {
		var names []string
		for name := range strings.Lines(text) {
			names = append(names, strings.TrimSuffix(name, "\n"))
		}
		return names
	}
	may := &Authority{Types: lines(types), Kinds: lines(kinds)}
	if !fitUnder(may.Types) || !fitUnder(may.Kinds) || string(appendUnder(nil, may)) != value {
		return nil, false
	}
	return may, true
}
