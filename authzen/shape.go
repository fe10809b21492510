package authzen

import (
	"strings"

	"vigil/authz"
)

// A caller's requests differ in their values and hardly in their form. A shape is the form
// of a body that was accepted: the bytes around its values, and the tree that was built
// from it. Another body with the same bytes in the same places has the same tree but for
// the values, so only these are scanned. It is well-formed and free of duplicates because
// the first one was. Whatever does not match goes to the scanner, which alone says what
// is wrong with a body.
type shape struct {
	text    []byte // the body that it was learned from
	leaves  []leaf
	tail    int            // where in text the last value ends
	members []authz.Member // the tree; values in it point to members behind their own
	root    authz.Value
}

// leaf is a string, a number or a bool. Nulls and what is empty belong to the form.
type leaf struct {
	from, to int // the bytes in front of it, in text
	value    *authz.Value
}

// span is where a leaf stands in a body.
type span struct{ from, to int }

// The bounds of what a Decoder learns. What is beyond goes to the scanner each time.
const (
	maxShapes       = 4
	maxShapeBytes   = 4 << 10
	maxShapeLeaves  = 64
	maxShapeMembers = 128
	// learnEvery spares callers whose bodies never match most of the learning.
	learnEvery = 8
)

// recall reads body by one of the shapes, the latest first, or gives nil. It is on the hot
// path: it does not allocate but where a string is unescaped.
func (d *Decoder) recall(body []byte) *authz.Value {
	for n, s := range d.shapes {
		d.scratch = d.scratch[:0]
		if s.match(d, body) {
			copy(d.shapes[1:n+1], d.shapes[:n])
			d.shapes[0] = s
			return &s.root
		}
	}
	return nil
}

// match puts the values of b into the tree and reports whether b has the shape. Where it
// has not, some values of the tree are of b and some are not.
func (s *shape) match(d *Decoder, b []byte) bool {
	i := 0
	for n := range s.leaves {
		l := &s.leaves[n]
		end := i + l.to - l.from
		// A value takes a byte at least, so that b[end] is there.
		if end >= len(b) || string(b[i:end]) != string(s.text[l.from:l.to]) {
			return false
		}
		switch c, v := b[end], l.value; {
		case c == '"' && v.Kind == authz.String:
			v.Str, i = d.string(b, end)
		case (c == '-' || '0' <= c && c <= '9') && v.Kind == authz.Number:
			i = d.number(b, end, v)
		case c == 't' && v.Kind == authz.Bool:
			v.Num, i = 1, d.literal(b, end, "true")
		case c == 'f' && v.Kind == authz.Bool:
			v.Num, i = 0, d.literal(b, end, "false")
		default:
			return false
		}
		if i < 0 {
			return false
		}
	}
	return string(b[i:]) == string(s.text[s.tail:])
}

// learn makes a shape of body, which was just scanned into d.root with its leaves in
// d.spans. It takes the place of the one that matched longest ago.
func (d *Decoder) learn(body []byte) {
	members, leaves := extent(&d.root)
	if len(body) > maxShapeBytes || leaves > maxShapeLeaves || members > maxShapeMembers || leaves != len(d.spans) {
		return
	}
	s := new(shape)
	if len(d.shapes) == maxShapes {
		s = d.shapes[maxShapes-1]
	} else {
		d.shapes = append(d.shapes, s)
	}
	s.text = append(s.text[:0], body...)
	clear(s.members)
	if s.members = s.members[:0]; cap(s.members) < members {
		s.members = make([]authz.Member, 0, members)
	}
	s.leaves, s.tail = s.leaves[:0], 0
	s.root = d.root
	s.own(&s.root, d.spans)
	copy(d.shapes[1:], d.shapes[:len(d.shapes)-1])
	d.shapes[0] = s
}

// own copies the members of v, which may not move, to s, and notes the leaves among them
// in their order. It gives the spans of those that follow.
func (s *shape) own(v *authz.Value, spans []span) []span {
	switch v.Kind {
	case authz.String, authz.Number, authz.Bool:
		s.leaves = append(s.leaves, leaf{from: s.tail, to: spans[0].from, value: v})
		s.tail = spans[0].to
		return spans[1:]
	}
	if len(v.Members) == 0 {
		return spans
	}
	from := len(s.members)
	s.members = append(s.members, v.Members...)
	v.Members = s.members[from:len(s.members):len(s.members)]
	for i := range v.Members {
		m := &v.Members[i]
		m.Name = strings.Clone(m.Name)
		spans = s.own(&m.Value, spans)
	}
	return spans
}

// extent counts the members and the leaves of a tree.
func extent(v *authz.Value) (members, leaves int) {
	switch v.Kind {
	case authz.String, authz.Number, authz.Bool:
		return 0, 1
	}
	members = len(v.Members)
	for i := range v.Members {
		m, l := extent(&v.Members[i].Value)
		members, leaves = members+m, leaves+l
	}
	return members, leaves
}
