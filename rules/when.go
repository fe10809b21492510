package rules

import (
	"strings"
	"unicode/utf8"
)

// scalarStyle is how a scalar is written in its file, which says how a place in its value
// maps to a place in the file.
type scalarStyle uint8

const (
	stylePlain scalarStyle = iota
	styleLiteral
	styleFolded
	styleSingle // quoted
	styleDouble
)

// whenError makes an Error at a place within the rule's When. line and column count from 1;
// column counts characters (CEL's column plus one). Where the exact place in the file cannot
// be known it is where the text of When begins.
func (b *Bundle) whenError(r *Rule, line, column int, msg string) Error {
	return b.errorAt(b.whenPos(r, line, column), r.ID, msg)
}

func (b *Bundle) whenPos(r *Rule, line, column int) Pos {
	offset, inLine := textOffset(r.When, line, column)
	if r.WhenBlock {
		pos := r.WhenPos
		pos.Line += max(line, 1) - 1
		pos.Column += inLine
		return pos
	}
	text := b.text(r.WhenPos.File)
	start, ok := text.offset(r.WhenPos)
	if !ok {
		return r.WhenPos
	}
	at, ok := alignScalar(text.data[start:], r.When, offset, r.whenStyle)
	if !ok {
		return r.WhenPos
	}
	return text.pos(start + at)
}

// textOffset gives the byte offset of a line and a column of characters within text, and
// the byte offset within that line. What lies outside of the text is moved to its nearest
// end.
func textOffset(text string, line, column int) (offset, inLine int) {
	for ; line > 1; line-- {
		i := strings.IndexByte(text[offset:], '\n')
		if i < 0 {
			break
		}
		offset += i + 1
	}
	for ; column > 1 && offset+inLine < len(text) && text[offset+inLine] != '\n'; column-- {
		_, size := utf8.DecodeRuneInString(text[offset+inLine:])
		inLine += size
	}
	return offset + inLine, inLine
}

// alignScalar finds where in source, which begins with the scalar, the byte at offset of
// its value stands. YAML folds white space in these styles, and nothing else, but for
// quotes and escapes: so the value and the source agree in their other bytes, one by one.
func alignScalar(source []byte, value string, offset int, style scalarStyle) (int, bool) {
	at := 0
	next := func() (byte, bool) { // the next byte of the scalar that is not white space
		for at < len(source) {
			c := source[at]
			switch {
			case isBlank(c):
				at++
				continue
			case style == styleSingle && c == '\'':
				if at+1 >= len(source) || source[at+1] != '\'' {
					return 0, false
				}
				at++
			case style == styleDouble && c == '\\':
				if at+1 >= len(source) {
					return 0, false
				}
				switch source[at+1] {
				case '\n', '\r', 'n', 't', 'r', ' ':
					at += 2
					continue
				case '"', '\\', '/':
					at++
				default:
					return 0, false
				}
			}
			return source[at], true
		}
		return 0, false
	}
	for i := 0; ; i++ {
		if i < len(value) && isBlank(value[i]) && i < offset {
			continue
		}
		c, ok := next()
		if i >= len(value) || i >= offset {
			// The place itself; behind the end of the value it is just after its last byte.
			if ok || i > 0 {
				return at, true
			}
			return 0, false
		}
		if !ok || c != value[i] {
			return 0, false
		}
		at++
	}
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }
