package rules

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"vigil/authz"
)

// digestVersion begins what is hashed. It changes whenever the same bundle comes to mean
// something else, or is encoded otherwise.
const digestVersion = "vigil rules 1"

// digest hashes what b means: every declaration and rule in one canonical order, each
// field typed and length-prefixed, so that no two bundles encode alike. Positions,
// comments, the way that YAML was written, seals and tests are not in it.
func digest(b *Bundle) string {
	e := encoder{}
	e.text(digestVersion)
	e.count(len(b.Profiles))
	for _, name := range sortedKeys(b.Profiles) {
		p := b.Profiles[name]
		e.text(name)
		e.number(uint64(p.MaxFeedAge))
		e.number(uint64(p.OnStale))
		kinds := make([]string, len(p.Requires))
		for i, k := range p.Requires {
			kinds[i] = k.String()
		}
		e.set(kinds)
		e.number(uint64(p.MaxAttestationAge))
	}
	e.set(b.Agentless.Types)
	e.text(b.Agentless.Profile)
	e.count(len(b.Attributes))
	for _, scope := range sortedKeys(b.Attributes) {
		e.text(scope)
		e.count(len(b.Attributes[scope]))
		for _, name := range sortedKeys(b.Attributes[scope]) {
			e.text(name)
			e.attribute(b.Attributes[scope][name])
		}
	}
	e.count(len(b.Actions))
	for _, name := range sortedKeys(b.Actions) {
		e.text(name)
		e.text(b.Actions[name].Scope)
		e.bool(b.Actions[name].Low)
	}
	e.count(len(b.Lists))
	for _, name := range sortedKeys(b.Lists) {
		e.text(name)
		values := sortedValues(b.Lists[name].Values)
		e.count(len(values))
		for i := range values {
			e.value(&values[i])
		}
	}
	e.count(len(b.Rules))
	for _, r := range slices.SortedFunc(slices.Values(b.Rules), compareRules) {
		e.rule(r)
	}
	e.needs(b)
	sum := sha256.Sum256(e.bytes)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// needs encodes what profiles need of sources, and nothing where none of them needs any: it
// came after bundles that have their digests.
func (e *encoder) needs(b *Bundle) {
	for _, name := range sortedKeys(b.Profiles) {
		p := b.Profiles[name]
		if len(p.Needs) == 0 {
			continue
		}
		e.text(name)
		e.count(len(p.Needs))
		for _, n := range p.Needs {
			e.text(n.Source)
			e.number(uint64(n.MaxSilence))
		}
		e.number(uint64(p.OnSilence))
	}
}

// encoder appends fields that each say where they end.
type encoder struct{ bytes []byte }

func (e *encoder) number(n uint64) { e.bytes = binary.BigEndian.AppendUint64(e.bytes, n) }
func (e *encoder) count(n int)     { e.number(uint64(n)) }
func (e *encoder) text(s string)   { e.bytes = authz.AppendKeyString(e.bytes, s) }

func (e *encoder) bool(b bool) {
	if b {
		e.bytes = append(e.bytes, 1)
		return
	}
	e.bytes = append(e.bytes, 0)
}

// set encodes names whose order and repetition mean nothing.
func (e *encoder) set(names []string) {
	sorted := slices.Compact(slices.Sorted(slices.Values(names)))
	e.count(len(sorted))
	for _, n := range sorted {
		e.text(n)
	}
}

// value encodes a constant; the members of a map in the order of their names.
func (e *encoder) value(v *authz.Value) {
	if v != nil && v.Kind == authz.Map {
		sorted := v.Clone()
		slices.SortFunc(sorted.Members, func(a, b authz.Member) int { return strings.Compare(a.Name, b.Name) })
		v = &sorted
	}
	e.bytes = v.AppendKey(e.bytes)
}

func (e *encoder) bound(f *float64) {
	e.bool(f != nil)
	if f != nil {
		e.number(math.Float64bits(*f + 0)) // one zero
	}
}

func (e *encoder) attribute(a *Attribute) {
	e.number(uint64(a.Type))
	if a.Type == TypeList || a.Type == TypeMap {
		e.number(uint64(a.Elem))
	}
	e.bool(a.Required)
	e.value(a.Default)
	e.bound(a.Min)
	e.bound(a.Max)
}

func (e *encoder) rule(r *Rule) {
	e.text(r.ID)
	e.text(r.Effect.String())
	e.bool(r.Observe)
	e.set(r.Actions)
	e.set(r.Resources)
	e.set(r.Subjects)
	e.set(r.Classes)
	e.text(strings.TrimSpace(r.When))
	e.number(uint64(r.Granularity))
	e.count(len(r.Obligations))
	for _, o := range r.Obligations {
		e.text(o.ID)
		e.text(o.Type)
		e.text(canonicalJSON(o.Properties))
	}
	e.text(r.ReasonUser)
	e.text(r.ReasonAdmin)
}

// canonicalJSON is the RFC 8785 form of a JSON object.
func canonicalJSON(object []byte) string {
	v := jsontext.Value(slices.Clone(object))
	if err := v.Canonicalize(); err != nil {
		return string(object) // no JSON, which is then its own form
	}
	return string(v)
}
