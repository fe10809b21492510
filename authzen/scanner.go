package authzen

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"

	"vigil/authz"
)

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
	switch c := b[i]; c {
	case '"':
		v.Kind = authz.String
		v.Str, i = d.string(b, i)
		return i
	case '{':
		v.Kind = authz.Map
		return d.object(b, i, depth, v)
	case '[':
		v.Kind = authz.List
		return d.list(b, i, depth, v)
	case 't':
		v.Kind, v.Num = authz.Bool, 1
		return d.literal(b, i, "true")
	case 'f':
		v.Kind = authz.Bool
		return d.literal(b, i, "false")
	case 'n':
		return d.literal(b, i, "null")
	default:
		if c == '-' || '0' <= c && c <= '9' {
			v.Kind = authz.Number
			return d.number(b, i, v)
		}
		return d.failed(i, CodeSyntax)
	}
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

// name is string for what is mostly short and plain: up to seven bytes are looked at
// as one word.
func (d *Decoder) name(b []byte, i int) (string, int) {
	if i+9 <= len(b) {
		if m := special(binary.LittleEndian.Uint64(b[i+1:])); m != 0 {
			if end := i + 1 + bits.TrailingZeros64(m)>>3; b[end] == '"' {
				return alias(b[i+1 : end]), end + 1
			}
		}
	}
	return d.string(b, i)
}

// special marks, in the lowest set bit, the first of eight bytes that does not stand
// for itself in a string: a quote, a backslash, a control, or part of a rune beyond
// ASCII. Bits above the lowest one may be wrong.
func special(w uint64) uint64 {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	quote := w ^ '"'*ones
	slash := w ^ '\\'*ones
	return (w | (w-' '*ones)&^w | (quote-ones)&^quote | (slash-ones)&^slash) & highs
}

// string reads the string at b[i] and returns where it ends, or -1. The result aliases
// b, or the scratch arena where it was escaped.
func (d *Decoder) string(b []byte, i int) (string, int) {
	start := i + 1
	i = start
	for {
		for i+8 <= len(b) {
			if m := special(binary.LittleEndian.Uint64(b[i:])); m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				goto found
			}
			i += 8
		}
		for i < len(b) && b[i] >= ' ' && b[i] != '"' && b[i] != '\\' && b[i] < utf8.RuneSelf {
			i++
		}
		if i >= len(b) {
			return "", d.failed(i, CodeUnexpectedEnd)
		}
	found:
		switch c := b[i]; {
		case c == '"':
			return alias(b[start:i]), i + 1
		case c == '\\':
			return d.escaped(b, start, i)
		case c < ' ':
			return "", d.failed(i, CodeControl)
		default:
			r, size := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && size == 1 {
				return "", d.failed(i, CodeInvalidUTF8)
			}
			i += size
		}
	}
}

// escaped is string from the first backslash on, which is b[i].
func (d *Decoder) escaped(b []byte, start, i int) (string, int) {
	from := len(d.scratch)
	// What was unescaped before must not move, for strings alias it: append may
	// leave it behind in an old block, which stays as it is.
	d.scratch = append(d.scratch, b[start:i]...)
	for i < len(b) {
		switch c := b[i]; {
		case c == '"':
			end := len(d.scratch)
			return alias(d.scratch[from:end:end]), i + 1
		case c < ' ':
			return "", d.failed(i, CodeControl)
		case c == '\\':
			if i = d.escape(b, i); i < 0 {
				return "", i
			}
		case c < utf8.RuneSelf:
			d.scratch = append(d.scratch, c)
			i++
		default:
			r, size := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && size == 1 {
				return "", d.failed(i, CodeInvalidUTF8)
			}
			d.scratch = append(d.scratch, b[i:i+size]...)
			i += size
		}
	}
	return "", d.failed(i, CodeUnexpectedEnd)
}

// escape reads the escape at b[i] into scratch and returns where it ends, or -1.
func (d *Decoder) escape(b []byte, i int) int {
	if i+1 >= len(b) {
		return d.failed(len(b), CodeUnexpectedEnd)
	}
	switch c := b[i+1]; c {
	case '"', '\\', '/':
		d.scratch = append(d.scratch, c)
	case 'b':
		d.scratch = append(d.scratch, '\b')
	case 'f':
		d.scratch = append(d.scratch, '\f')
	case 'n':
		d.scratch = append(d.scratch, '\n')
	case 'r':
		d.scratch = append(d.scratch, '\r')
	case 't':
		d.scratch = append(d.scratch, '\t')
	case 'u':
		r, ok := hex4(b, i+2)
		if !ok {
			return d.ended(b, i, CodeBadEscape)
		}
		switch {
		case 0xdc00 <= r && r <= 0xdfff:
			return d.failed(i, CodeLoneSurrogate)
		case 0xd800 <= r && r <= 0xdbff:
			low, ok := rune(0), false
			if i+7 < len(b) && b[i+6] == '\\' && b[i+7] == 'u' {
				low, ok = hex4(b, i+8)
			}
			if !ok || low < 0xdc00 || low > 0xdfff {
				return d.failed(i, CodeLoneSurrogate)
			}
			d.scratch = utf8.AppendRune(d.scratch, 0x10000+(r-0xd800)<<10+(low-0xdc00))
			return i + 12
		}
		d.scratch = utf8.AppendRune(d.scratch, r)
		return i + 6
	default:
		return d.failed(i, CodeBadEscape)
	}
	return i + 2
}

func hex4(b []byte, i int) (r rune, ok bool) {
	if i+4 > len(b) {
		return 0, false
	}
	for _, c := range b[i : i+4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
