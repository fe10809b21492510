package rules

import (
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"

	"vigil/authz"
)

// The slots. Every value that some rule of a set can read has one; an evaluation fills
// those that its candidates ask for, each at most once.
const (
	slotSubjectID = iota
	slotSubjectType
	slotActionName
	slotResourceID
	slotResourceType
	slotNow
	firstEntitySlot
)

const firstAttributeSlot = firstEntitySlot + len(entityKinds)*len(entityMembers)

// The places of members in entityMembers.
const (
	memberID = iota
	memberRegistered
	memberStatus
	memberRisk
	memberClass
	memberLabels
	memberScopes
	memberTainted
	memberAttested
)

func entitySlot(kind, member int) int { return firstEntitySlot + kind*len(entityMembers) + member }

// slotRef is what a CEL variable stands for.
type slotRef struct {
	slot     int
	presence bool          // whether the slot has a value
	list     *constantList // or this list
}

// slotTable numbers the slots of a set. It is immutable once the set is made; while rules
// compile, only entrySlot changes it.
type slotTable struct {
	byName map[string]slotRef // by CEL variable
	names  []string           // by slot: "resource.amount"
	roots  []byte             // by slot: the first letter of its name

	mu      sync.Mutex // guards entries and slotOf while rules compile
	entries []mapEntry // the slots behind those that have names
	slotOf  map[mapEntry]int
}

// mapEntry is an entry of a map that rules read by a literal key. It has a slot of its own, so
// that it is looked up once for all rules.
type mapEntry struct {
	slot int // of the map
	key  string
}

// entrySlot gives the slot of an entry of the map in slot. Its number depends on which rule
// asks first, and nothing that anyone sees depends on it.
func (t *slotTable) entrySlot(slot int, key string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := mapEntry{slot, key}
	if i, ok := t.slotOf[e]; ok {
		return i
	}
	i := len(t.names) + len(t.entries)
	t.entries = append(t.entries, e)
	t.slotOf[e] = i
	return i
}

// size is how many slots there are.
func (t *slotTable) size() int { return len(t.names) + len(t.entries) }

func newSlotTable(b *Bundle, lists map[string]*constantList) *slotTable {
	t := &slotTable{byName: map[string]slotRef{}, slotOf: map[mapEntry]int{}, names: make([]string, firstAttributeSlot)}
	put := func(name string, slot int) {
		t.names[slot] = name
		t.byName[name] = slotRef{slot: slot}
	}
	put("subject.id", slotSubjectID)
	put("subject.type", slotSubjectType)
	put("action.name", slotActionName)
	put("resource.id", slotResourceID)
	put("resource.type", slotResourceType)
	put(rootNow, slotNow)
	for i, kind := range entityKinds {
		for j, member := range entityMembers {
			put(kind.String()+"."+member, entitySlot(i, j))
		}
		t.byName[presencePrefix+kind.String()] = slotRef{slot: entitySlot(i, memberID), presence: true}
	}
	var attributes []string
	for scope, declared := range b.Attributes {
		root, _, _ := strings.Cut(scope, ".")
		for name := range declared {
			attributes = append(attributes, root+"."+name)
		}
	}
	slices.Sort(attributes)
	for _, name := range slices.Compact(attributes) {
		t.names = append(t.names, name)
		slot := len(t.names) - 1
		t.byName[name] = slotRef{slot: slot}
		t.byName[presencePrefix+name] = slotRef{slot: slot, presence: true}
	}
	for _, name := range t.names {
		t.roots = append(t.roots, name[0])
	}
	for name, list := range lists {
		t.byName[rootLists+"."+name] = slotRef{list: list}
	}
	return t
}

// slotState says what is in a slot.
type slotState uint8

const (
	slotUnset slotState = iota
	slotOK
	slotAbsent // not in the request, not declared for it, or of an entity that it does not name
	slotBad    // of the wrong type, out of bounds, or required and missing
)

// slot is one value, in the form in which it came: what compares it as a number or a
// string need not have it boxed for CEL.
type slot struct {
	epoch uint32 // of the evaluation that filled it
	bound uint32 // of the evaluation that attr is for
	state slotState
	typ   AttributeType
	num   float64         // a number, or an int
	whole int64           // an int, a bool (1 or 0), or a duration in nanoseconds
	text  string          // a string; may alias the request's buffer
	boxed ref.Val         // the value for CEL, once something asked for it
	attr  *Attribute      // the declaration that this request's types have; nil for none
	raw   *authz.Value    // of an attribute: what came, or the default
	of    *authz.Standing // of labels and scopes: the entity
}

// scratch is the working memory of one evaluation at a time. A Frame keeps it between
// evaluations, so that nothing but what CEL boxes is allocated.
type scratch struct {
	set   *Set
	frame *Frame
	epoch uint32 // slots of other epochs are unset
	slots []slot
	now   authz.Instant // as the rule that is running sees it
	nowAs ref.Val       // now, boxed; nil until asked for

	denies, requires, allows, observed []*rule
	failures                           []failure
	together                           []*rule  // the last that decided together
	names                              []string // their ids; shared by verdicts and never changed
	until                              authz.Instant
}

var _ interpreter.Activation = (*scratch)(nil)

// begin readies s for an evaluation of p.
func (s *scratch) begin(p *Plan, f *Frame) {
	s.frame = f
	s.epoch++
	if s.epoch == 0 { // all epochs are used up: no slot may look fresh
		clear(s.slots)
		s.epoch = 1
	}
	s.until = authz.Forever
	s.denies, s.requires, s.allows, s.observed = s.denies[:0], s.requires[:0], s.allows[:0], s.observed[:0]
	s.failures = s.failures[:0]
	s.bind(p.bound)
	s.bind(p.boundFor(f.Request.Subject.Type))
}

func (s *scratch) bind(bound []binding) {
	for i := range bound {
		b := &bound[i]
		sl := &s.slots[b.slot]
		sl.attr, sl.bound = b.attr, s.epoch
	}
}

// at gives the slot i, filled. It is small enough to be inlined.
func (s *scratch) at(i int) *slot {
	if sl := &s.slots[i]; sl.epoch == s.epoch {
		return sl
	}
	return s.fill(i)
}

// fill fills the slot i for this evaluation. What it held before is left where nothing
// reads it.
func (s *scratch) fill(i int) *slot {
	sl := &s.slots[i]
	sl.epoch, sl.raw, sl.of, sl.boxed = s.epoch, nil, nil, nil
	if i >= len(s.set.table.names) {
		e := &s.set.table.entries[i-len(s.set.table.names)]
		sl.setEntry(s.at(e.slot), e.key)
		return sl
	}
	switch i {
	case slotSubjectID:
		sl.setText(s.frame.Request.Subject.ID)
	case slotSubjectType:
		sl.setText(s.frame.Request.Subject.Type)
	case slotActionName:
		sl.setText(s.frame.Request.Action.Name)
	case slotResourceID:
		sl.setText(s.frame.Request.Resource.ID)
	case slotResourceType:
		sl.setText(s.frame.Request.Resource.Type)
	default:
		if i < firstAttributeSlot {
			i -= firstEntitySlot
			kind := entityKinds[i/len(entityMembers)]
			sl.setMember(s.frame.Standings[kind], i%len(entityMembers))
			return sl
		}
		if sl.bound != s.epoch {
			sl.state, sl.attr = slotAbsent, nil
			return sl
		}
		sl.fill(sl.attr, property(s.frame.Request, s.set.table.roots[i], sl.attr.Name))
	}
	return sl
}

// setEntry sets sl to an entry of the map in from. It is absent where the map is absent or
// wrong: that is told of the map.
func (sl *slot) setEntry(from *slot, key string) {
	sl.state = slotAbsent
	switch {
	case from.state != slotOK:
	case from.of != nil:
		if t, ok := from.of.Labels[key]; ok {
			sl.setText(t)
		}
	default:
		v := authz.Object(from.raw.Members).Get(key)
		if v == nil {
			return
		}
		switch from.attr.Elem {
		case TypeString:
			sl.setText(v.Str)
		case TypeBool:
			sl.setBool(v.Num != 0)
		default:
			sl.state, sl.typ, sl.num, sl.whole = slotOK, from.attr.Elem, v.Num, int64(v.Num)
		}
	}
}

// setMember sets sl to a member of an entity; st is nil where the request names none.
func (sl *slot) setMember(st *authz.Standing, member int) {
	if st == nil {
		sl.state = slotAbsent
		return
	}
	switch member {
	case memberID:
		sl.setText(st.ID)
	case memberRegistered:
		sl.setBool(st.Registered)
	case memberStatus:
		sl.setText(st.Status.String())
	case memberRisk:
		sl.setInt(int64(st.Risk))
	case memberClass:
		sl.setText(st.Class)
	case memberTainted:
		sl.setBool(st.Tainted)
	case memberAttested:
		sl.setBool(st.Attested == authz.AttestPassed)
	case memberLabels:
		sl.state, sl.typ, sl.of = slotOK, TypeMap, st
		if len(st.Labels) > maxLabels {
			sl.state = slotBad
		}
	case memberScopes:
		sl.state, sl.typ, sl.of = slotOK, TypeList, st
		if len(st.Scopes) > maxScopes {
			sl.state = slotBad
		}
	}
}

func (sl *slot) setText(text string) { sl.state, sl.typ, sl.text = slotOK, TypeString, text }

func (sl *slot) setInt(n int64) {
	sl.state, sl.typ, sl.whole, sl.num = slotOK, TypeInt, n, float64(n)
}

func (sl *slot) setBool(b bool) {
	sl.state, sl.typ, sl.whole = slotOK, TypeBool, 0
	if b {
		sl.whole = 1
	}
}

// value gives the value for CEL, boxed once.
func (sl *slot) value() ref.Val {
	if sl.boxed == nil {
		sl.boxed = sl.box()
	}
	return sl.boxed
}

// ResolveName implements interpreter.Activation.
func (s *scratch) ResolveName(name string) (any, bool) {
	r, ok := s.set.table.byName[name]
	switch {
	case !ok:
		return nil, false
	case r.list != nil:
		return r.list, true
	case r.slot == slotNow:
		if s.nowAs == nil {
			s.nowAs = types.Timestamp{Time: s.now.Time()}
		}
		return s.nowAs, true
	}
	sl := s.at(r.slot)
	if r.presence {
		return types.Bool(sl.state == slotOK), true
	}
	if sl.state != slotOK {
		return nil, false
	}
	return sl.value(), true
}

// Parent implements interpreter.Activation.
func (s *scratch) Parent() interpreter.Activation { return nil }
