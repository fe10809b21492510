package authzen

import "vigil/authz"

// The bounds of one body. What goes beyond is an error.
const (
	MaxDepth   = 16  // containers within one another, the outermost included
	MaxMembers = 256 // members of one object
	// MaxNodes bounds the values of one request, and with them the memory of a
	// Decoder: 72 bytes each.
	MaxNodes = 4096
	// MaxBatchNodes is MaxNodes for a batch.
	MaxBatchNodes = 16384
)

// scan reads one JSON value that fills b and puts it into d.root. It is on the hot
// path: no allocation once the arenas have grown, no reflection, and nothing is
// remembered for the sake of errors, which find their place by walking b anew.
func (d *Decoder) scan(b []byte, maxNodes int) *Error {
	for i := range d.levels {
		if level := d.levels[i]; len(level) > 0 {
			clear(level)
			d.levels[i] = level[:0]
		}
	}
	d.scratch = d.scratch[:0]
	d.left = maxNodes
	d.spans = d.spans[:0]
	d.fail = failure{}
	i := space(b, 0)
	d.root = authz.Value{}
	i = d.value(b, i, 0, &d.root)
	if i >= 0 {
		if i = space(b, i); i == len(b) {
			return nil
		}
		d.failed(i, CodeTrailingData)
	}
	// Containers that were not finished have left something in their arenas.
	for i := range d.levels {
		clear(d.levels[i][:cap(d.levels[i])])
	}
	return d.fail.error(b)
}

// failure is what scan found, before anybody asked for words.
type failure struct {
	code   string
	offset int
	leaf   string // the duplicated name
	detail string
}

func (f *failure) error(b []byte) *Error {
	pointer := pointerAt(b, f.offset)
	if f.code == CodeDuplicateMember {
		pointer = string(appendPointerName([]byte(pointer), f.leaf))
	}
	return &Error{Code: f.code, Pointer: pointer, Offset: f.offset, Detail: f.detail}
}

// failed remembers the first failure and returns the position that means one.
func (d *Decoder) failed(offset int, code string) int {
	if d.fail.code == "" {
		d.fail = failure{code: code, offset: offset}
	}
	return -1
}

// ended is failed for a body that may only be too short.
func (d *Decoder) ended(b []byte, i int, code string) int {
	if i >= len(b) {
		return d.failed(len(b), CodeUnexpectedEnd)
	}
	return d.failed(i, code)
}

// space skips white space. Compact bodies have none, so that the first look is inlined.
func space(b []byte, i int) int {
	if i < len(b) && b[i] <= ' ' {
		return spaces(b, i)
	}
	return i
}

func spaces(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// value reads the value at b[i] into v, which is zero, and returns where it ends, or -1. depth is the
// number of containers around it.
func (d *Decoder) value(b []byte, i, depth int, v *authz.Value) int {
	if d.left--; d.left < 0 {
		return d.failed(i, CodeTooMany)
	}
	if i >= len(b) {
		return d.failed(i, CodeUnexpectedEnd)
	}
	start := i
	switch c := b[i]; c {
	case '"':
		v.Kind = authz.String
		v.Str, i = d.string(b, i)
	case '{':
		v.Kind = authz.Map
		return d.object(b, i, depth, v)
	case '[':
		v.Kind = authz.List
		return d.list(b, i, depth, v)
	case 't':
		v.Kind, v.Num = authz.Bool, 1
		i = d.literal(b, i, "true")
	case 'f':
		v.Kind = authz.Bool
		i = d.literal(b, i, "false")
	case 'n':
		return d.literal(b, i, "null")
	default:
		if c != '-' && (c < '0' || '9' < c) {
			return d.failed(i, CodeSyntax)
		}
		v.Kind = authz.Number
		i = d.number(b, i, v)
	}
	if len(d.spans) < cap(d.spans) {
		d.spans = append(d.spans, span{start, i})
	}
	return i
}

func (d *Decoder) literal(b []byte, i int, word string) int {
	if len(b)-i >= len(word) && string(b[i:i+len(word)]) == word {
		return i + len(word)
	}
	if len(b)-i < len(word) && string(b[i:]) == word[:len(b)-i] {
		return d.failed(len(b), CodeUnexpectedEnd)
	}
	return d.failed(i, CodeSyntax)
}

// object reads the object at b[i]. Its members go to the arena of its depth, where no
// value within it is put, so that they lie side by side, and the arena cannot move while
// a value is read. An arena that grows leaves its old block to the objects that were
// finished in it.
func (d *Decoder) object(b []byte, i, depth int, v *authz.Value) int {
	if depth >= MaxDepth {
		return d.failed(i, CodeTooDeep)
	}
	i = space(b, i+1)
	if i < len(b) && b[i] == '}' {
		return i + 1
	}
	level := d.levels[depth]
	start := len(level)
	var seen uint64
	for {
		if i >= len(b) || b[i] != '"' {
			return d.ended(b, i, CodeSyntax)
		}
		at := i
		var name string
		if name, i = d.name(b, i); i < 0 {
			return i
		}
		n := len(level) - start
		if n >= MaxMembers {
			return d.failed(at, CodeTooMany)
		}
		// Most objects are told to be free of duplicates by one word.
		bit := mark(name)
		if seen&bit != 0 && d.repeated(depth, level[start:], name) {
			d.failed(at, CodeDuplicateMember)
			d.fail.leaf = name
			return -1
		}
		seen |= bit
		if i = space(b, i); i >= len(b) || b[i] != ':' {
			return d.ended(b, i, CodeSyntax)
		}
		if len(level) == cap(level) {
			level = grow(level)
		}
		level = level[:len(level)+1]
		m := &level[len(level)-1]
		m.Name = name
		if n >= smallObject {
			d.remember(depth, level[start:])
		}
		if i = d.value(b, space(b, i+1), depth+1, &m.Value); i < 0 {
			return i
		}
		if i = space(b, i); i >= len(b) {
			return d.failed(i, CodeUnexpectedEnd)
		}
		switch b[i] {
		case ',':
			i = space(b, i+1)
		case '}':
			d.levels[depth] = level
			v.Members = level[start:len(level):len(level)]
			return i + 1
		default:
			return d.failed(i, CodeSyntax)
		}
	}
}

func (d *Decoder) list(b []byte, i, depth int, v *authz.Value) int {
	if depth >= MaxDepth {
		return d.failed(i, CodeTooDeep)
	}
	i = space(b, i+1)
	if i < len(b) && b[i] == ']' {
		return i + 1
	}
	level := d.levels[depth]
	start := len(level)
	for {
		if len(level) == cap(level) {
			level = grow(level)
		}
		level = level[:len(level)+1]
		if i = d.value(b, i, depth+1, &level[len(level)-1].Value); i < 0 {
			return i
		}
		if i = space(b, i); i >= len(b) {
			return d.failed(i, CodeUnexpectedEnd)
		}
		switch b[i] {
		case ',':
			i = space(b, i+1)
		case ']':
			d.levels[depth] = level
			v.Members = level[start:len(level):len(level)]
			return i + 1
		default:
			return d.failed(i, CodeSyntax)
		}
	}
}

// grow gives level a larger block. What lies beyond its length is zero, as everywhere
// in an arena: members are put there without being written whole.
func grow(level []authz.Member) []authz.Member {
	larger := make([]authz.Member, len(level), 2*len(level)+8)
	copy(larger, level)
	return larger
}
