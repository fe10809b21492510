package authzen

import (
	"strconv"
	"unicode/utf8"
	"unsafe"
)

// The codes of an Error. They are part of the API.
const (
	CodeSyntax          = "syntax"            // not JSON
	CodeTrailingData    = "trailing_data"     // something follows the JSON value
	CodeUnexpectedEnd   = "unexpected_end"    // the body ends inside the JSON value
	CodeInvalidUTF8     = "invalid_utf8"      // RFC 3629
	CodeLoneSurrogate   = "lone_surrogate"    // RFC 7493 section 2.1
	CodeControl         = "control_character" // unescaped, below U+0020
	CodeBadEscape       = "bad_escape"
	CodeBadNumber       = "bad_number"
	CodeNumberRange     = "number_out_of_range" // too large for an IEEE 754 double
	CodeDuplicateMember = "duplicate_member"    // RFC 7493 section 2.3
	CodeTooDeep         = "too_deep"
	CodeTooMany         = "too_many"
	CodeTooLarge        = "too_large"
	CodeWrongType       = "wrong_type"
	CodeMissingMember   = "missing_member"
	CodeEmptyMember     = "empty_member"
	CodeUnknownSemantic = "unknown_semantic"
)

// Error is what is wrong with a body, and where. It prints as
// "duplicate_member: /resource/properties/amount (byte 211)". It repeats names of
// members from the body, shortened, and never a value.
type Error struct {
	Code    string
	Pointer string // RFC 6901; "" is the whole body
	Offset  int    // bytes from the start of the body; -1 where no byte is to blame
	Detail  string // what was wanted; may be empty
}

func (e *Error) Error() string {
	b := make([]byte, 0, 64+len(e.Pointer)+len(e.Detail))
	b = append(b, e.Code...)
	if e.Pointer != "" {
		b = append(b, ": "...)
		b = append(b, e.Pointer...)
	}
	if e.Detail != "" {
		b = append(b, ": "...)
		b = append(b, e.Detail...)
	}
	if e.Offset >= 0 {
		b = append(b, " (byte "...)
		b = strconv.AppendInt(b, int64(e.Offset), 10)
		b = append(b, ')')
	}
	return string(b)
}

// maxShownName bounds what an error repeats of a member's name, in bytes.
const maxShownName = 64

// appendPointerName appends one reference token of RFC 6901. What would not print
// on one line is replaced.
func appendPointerName(dst []byte, name string) []byte {
	dst = append(dst, '/')
	shown := 0
	for _, r := range name {
		if shown >= maxShownName {
			return append(dst, "..."...)
		}
		switch {
		case r == '~':
			dst = append(dst, "~0"...)
		case r == '/':
			dst = append(dst, "~1"...)
		case r < 0x20 || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029':
			dst = utf8.AppendRune(dst, utf8.RuneError)
		default:
			dst = utf8.AppendRune(dst, r)
		}
		shown += utf8.RuneLen(r)
	}
	return dst
}

// place is one open container on the way to a byte of the body.
type place struct {
	object bool
	named  bool // an object whose current member has a value to come or coming
	name   string
	index  int
}

// walk reads the tokens of b, of which everything before end is known to be valid,
// and calls visit with the offset of each value that starts before or at end and
// with the open containers around it. It stops when visit returns false. It returns
// the containers that are open at end. It serves errors only, so that the scanner
// has nothing to remember.
func walk(b []byte, end int, visit func(offset int, open []place) bool) []place {
	var open []place
	wantName := false
	for i := 0; i < end && i < len(b); {
		c := b[i]
		switch c {
		case ' ', '\t', '\r', '\n', ':':
			i++
			continue
		case ',':
			if n := len(open); n > 0 {
				if open[n-1].object {
					open[n-1].named, wantName = false, true
				} else {
					open[n-1].index++
				}
			}
			i++
			continue
		case '}', ']':
			if n := len(open); n > 0 {
				open = open[:n-1]
			}
			wantName = false
			i++
			continue
		}
		if wantName && c == '"' {
			name, next, ok := plainName(b, i, end)
			if !ok {
				return open
			}
			open[len(open)-1].name, open[len(open)-1].named = name, true
			wantName = false
			i = next
			continue
		}
		if visit != nil && !visit(i, open) {
			return open
		}
		switch c {
		case '{':
			open = append(open, place{object: true})
			wantName = true
			i++
		case '[':
			open = append(open, place{})
			wantName = false
			i++
		case '"':
			_, next, ok := plainName(b, i, end)
			if !ok {
				return open
			}
			i = next
		default:
			for i < end && i < len(b) && !isDelimiter(b[i]) {
				i++
			}
		}
	}
	return open
}

func isDelimiter(c byte) bool {
	return c == ',' || c == '}' || c == ']' || c == ' ' || c == '\t' || c == '\r' || c == '\n'
}

// plainName reads the string token at b[i], if it ends before end.
func plainName(b []byte, i, end int) (name string, next int, ok bool) {
	for j := i + 1; j < end && j < len(b); j++ {
		switch b[j] {
		case '\\':
			j++
		case '"':
			var d Decoder
			name, next = d.string(b, i)
			return name, next, next >= 0
		}
	}
	return "", 0, false
}

func appendPlaces(dst []byte, open []place) []byte {
	for i := range open {
		switch p := &open[i]; {
		case p.object && p.named:
			dst = appendPointerName(dst, p.name)
		case !p.object:
			dst = append(dst, '/')
			dst = strconv.AppendInt(dst, int64(p.index), 10)
		}
	}
	return dst
}

// pointerAt names the value that byte offset of b is in.
func pointerAt(b []byte, offset int) string {
	return string(appendPlaces(nil, walk(b, offset, nil)))
}

// offsetOf finds where the value that pointer names starts in b, or -1. b is valid.
func offsetOf(b []byte, pointer string) int {
	found := -1
	buf := make([]byte, 0, 64)
	walk(b, len(b), func(offset int, open []place) bool {
		buf = appendPlaces(buf[:0], open)
		if string(buf) == pointer {
			found = offset
		}
		return found < 0
	})
	return found
}

// alias makes a string of b without copying.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// bytesOf is the bytes of s, which nobody may change.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
