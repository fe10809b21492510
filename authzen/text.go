package authzen

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// special marks, in the lowest set bit, the first of eight bytes that does not stand
// for itself in a string: a quote, a backslash, a control, or part of a rune beyond
// ASCII. Bits above the lowest one may be wrong.
func special(w uint64) uint64 {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	quote := w ^ '"'*ones
	slash := w ^ '\\'*ones
	return (w | (w-' '*ones)&^w | (quote-ones)&^quote | (slash-ones)&^slash) & highs
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
