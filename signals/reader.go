package signals

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"vigil/authz"
)

// reader reads JSON values of the wanted type and says what is wrong with others. Its
// errors are always *DecodeError. Duplicate members, invalid UTF-8, lone surrogates and
// anything that is not JSON are refused by jsontext itself.
type reader struct {
	dec jsontext.Decoder
	buf bytes.Buffer
}

var readers = sync.Pool{New: func() any { return new(reader) }}

// newReader gives a reader of body, to be freed. What it reads does not share body's
// memory.
func newReader(body []byte) *reader {
	r := readers.Get().(*reader)
	r.buf = *bytes.NewBuffer(body) // which the decoder reads in place
	r.dec.Reset(&r.buf)
	return r
}

func (r *reader) free() {
	r.buf = bytes.Buffer{}
	readers.Put(r)
}

// at makes an error about the value read last.
func (r *reader) at(code, format string, args ...any) *DecodeError {
	return &DecodeError{Code: code, Detail: fmt.Sprintf(format, args...), Pointer: clipPointer(string(r.dec.StackPointer()))}
}

// token reads the next token.
func (r *reader) token() (jsontext.Token, error) {
	t, err := r.dec.ReadToken()
	if err != nil {
		return t, r.syntax(err)
	}
	return t, nil
}

func (r *reader) syntax(err error) *DecodeError {
	if err == io.EOF {
		return &DecodeError{Code: CodeSyntax, Detail: "the body is empty"}
	}
	var s *jsontext.SyntacticError
	if !errors.As(err, &s) {
		return &DecodeError{Code: CodeSyntax, Detail: clip(err.Error())}
	}
	ptr := string(s.JSONPointer)
	e := &DecodeError{Pointer: clipPointer(ptr)}
	text := s.Err.Error()
	switch {
	case errors.Is(s.Err, jsontext.ErrDuplicateName):
		e.Code = CodeDuplicateMember
		e.Detail = fmt.Sprintf("%q appears twice", clip(lastToken(ptr)))
	case errors.Is(s.Err, io.ErrUnexpectedEOF):
		e.Code, e.Detail = CodeSyntax, fmt.Sprintf("the body ends in the middle (byte %d)", s.ByteOffset)
	case strings.Contains(text, "UTF-8"), strings.Contains(text, "surrogate"):
		e.Code, e.Detail = CodeInvalidUTF8, fmt.Sprintf("%s (byte %d)", clip(text), s.ByteOffset)
	default:
		e.Code, e.Detail = CodeSyntax, fmt.Sprintf("%s (byte %d)", clip(text), s.ByteOffset)
	}
	return e
}

// lastToken is the last reference token of an RFC 6901 pointer, unescaped.
func lastToken(ptr string) string {
	ptr = ptr[strings.LastIndexByte(ptr, '/')+1:]
	return strings.ReplaceAll(strings.ReplaceAll(ptr, "~1", "/"), "~0", "~")
}

// clipPointer bounds a pointer: the names in it come from outside and may be long.
func clipPointer(ptr string) string {
	if len(ptr) > 4*MaxName {
		return ptr[:strings.LastIndexByte(ptr, '/')]
	}
	return ptr
}

var kindWords = map[jsontext.Kind]string{
	'n': "null", 'f': "a boolean", 't': "a boolean", '"': "a string", '0': "a number",
	'{': "an object", '[': "an array", '}': "nothing", ']': "nothing",
}

// want reads the opening token of a value of the given kind.
func (r *reader) want(kind jsontext.Kind) (jsontext.Token, error) {
	t, err := r.token()
	if err != nil {
		return t, err
	}
	if t.Kind() != kind {
		return t, r.at(CodeWrongType, "want %s, got %s", kindWords[kind], kindWords[t.Kind()])
	}
	return t, nil
}

// string reads a string of at most most bytes.
func (r *reader) string(most int) (string, error) {
	t, err := r.want('"')
	if err != nil {
		return "", err
	}
	s := t.String()
	if len(s) > most {
		return "", r.at(CodeTooLarge, "%d bytes, more than %d", len(s), most)
	}
	return s, nil
}

// text reads a string for people and logs.
func (r *reader) text(most int) (string, error) {
	s, err := r.string(most)
	if err != nil {
		return "", err
	}
	if c, bad := control(s); bad {
		return "", r.at(CodeBadValue, "holds a control character (%U)", c)
	}
	return s, nil
}

// name reads a text that is not empty.
func (r *reader) name(most int) (string, error) {
	s, err := r.text(most)
	if err == nil && s == "" {
		return "", r.at(CodeBadValue, "is empty")
	}
	return s, err
}

// control finds a C0 or C1 control character: none has a place in a line of a log or on
// a terminal.
func control(s string) (rune, bool) {
	for _, c := range s {
		if c < 0x20 || c >= 0x7f && c < 0xa0 {
			return c, true
		}
	}
	return 0, false
}

// integer reads a number without a fraction.
func (r *reader) integer() (int64, error) {
	t, err := r.want('0')
	if err != nil {
		return 0, err
	}
	f, err := t.Float()
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, r.at(CodeBadValue, "want an integer, got %s", clip(t.String()))
	}
	return int64(f), nil
}

// The years that an event can be of: those that an authz.Instant can hold, less the
// ones around its zero, which means "not stated".
const firstYear, lastYear = 1971, 2261

// instant reads an RFC 3339 date and time.
func (r *reader) instant() (authz.Instant, error) {
	s, err := r.string(MaxText)
	if err != nil {
		return 0, err
	}
	i, problem := parseInstant(s)
	if problem != "" {
		return 0, r.at(CodeBadValue, "%s", problem)
	}
	return i, nil
}

func parseInstant(s string) (authz.Instant, string) {
	t, err := time.Parse(time.RFC3339Nano, s)
	// Parse takes a comma for the point, hours of one digit, and any offset.
	if err != nil || s[13] != ':' || strings.Contains(s, ",") || !strings.HasSuffix(s, "Z") && (s[len(s)-5:len(s)-3] > "23" || s[len(s)-2:] > "59") {
		return 0, fmt.Sprintf("%q is not an RFC 3339 time such as 2026-11-23T03:04:05Z", clip(s))
	}
	if y := t.UTC().Year(); y < firstYear || y > lastYear {
		return 0, fmt.Sprintf("the year %d is outside %d to %d", y, firstYear, lastYear)
	}
	return authz.InstantOf(t), ""
}

// list reads an array of at most most elements.
func (r *reader) list(most int, element func() error) error {
	if _, err := r.want('['); err != nil {
		return err
	}
	for n := 0; r.dec.PeekKind() != ']'; n++ {
		if n == most {
			// Read on, so that the error points at the element too many.
			if _, err := r.token(); err != nil {
				return err
			}
			return r.at(CodeTooLarge, "more than %d elements", most)
		}
		if err := element(); err != nil {
			return err
		}
	}
	_, err := r.token()
	return err
}

// object reads the members of an object. member reads the value of each.
func (r *reader) object(member func(name string) error) error {
	if _, err := r.want('{'); err != nil {
		return err
	}
	return r.members(member)
}

// members reads the rest of an object whose brace was read.
func (r *reader) members(member func(name string) error) error {
	for r.dec.PeekKind() != '}' {
		t, err := r.token()
		if err != nil {
			return err
		}
		if err := member(t.String()); err != nil {
			return err
		}
	}
	_, err := r.token()
	return err
}

// end makes sure that nothing follows the value read last.
func (r *reader) end() error {
	t, err := r.dec.ReadToken()
	switch {
	case err == io.EOF:
		return nil
	case err == nil:
		return &DecodeError{Code: CodeTrailingData, Detail: fmt.Sprintf("%s follows (byte %d)", kindWords[t.Kind()], r.dec.InputOffset())}
	}
	var s *jsontext.SyntacticError
	at := r.dec.InputOffset()
	if errors.As(err, &s) {
		at = s.ByteOffset
	}
	return &DecodeError{Code: CodeTrailingData, Detail: fmt.Sprintf("something follows (byte %d)", at)}
}
