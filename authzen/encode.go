package authzen

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"strconv"
	"sync/atomic"
	"unicode/utf8"

	"vigil/authz"
)

// AppendDecision appends the JSON of an answer: "decision", and a "context" that says
// why. Callers that are not to learn more than they need (full is false) get effect,
// class, code, obligations, reason_user and as_of; the others get everything.
// valid_until is absent where the decision has no end, and so are the members that
// would be empty, but for obligations and rules. An answer without a decision is a no.
//
// It is on the hot path: it allocates only where dst must grow, and once for a cached
// decision, whose Memo it fills.
func AppendDecision(dst []byte, answer authz.Answer, full bool) []byte {
	d := answer.Decision
	if d == nil {
		return append(dst, `{"decision":false,"context":{"effect":"deny","class":"error","code":"could_not_evaluate","obligations":[]}}`...)
	}
	if answer.Memo == nil {
		dst = appendConstant(dst, d, full)
	} else {
		dst = appendRemembered(dst, answer, full)
	}
	// The rest differs from call to call.
	if until := answer.GoodUntil(); full && until != authz.Forever && until != 0 {
		dst = append(dst, `,"valid_until":"`...)
		dst = authz.AppendInstant(dst, until)
		dst = append(dst, '"')
	}
	dst = appendMember(dst, `,"as_of":`, answer.AsOf)
	if full && answer.At != 0 {
		dst = append(dst, `,"decided_at":"`...)
		dst = authz.AppendInstant(dst, answer.At)
		dst = append(dst, '"')
	}
	return append(dst, "}}"...)
}

// maxMemo bounds what is remembered of one decision, in bytes.
const maxMemo = 1 << 10

// appendRemembered is appendConstant for a cached decision.
func appendRemembered(dst []byte, answer authz.Answer, full bool) []byte {
	memo := &answer.Memo.Brief
	if full {
		memo = &answer.Memo.Full
	}
	if made := memo.Load(); made != nil {
		return append(dst, *made...)
	}
	from := len(dst)
	dst = appendConstant(dst, answer.Decision, full)
	if made := dst[from:]; len(made) <= maxMemo {
		memo.Store(shared(made))
	}
	return dst
}

// texts holds some of the texts that were remembered, by their hash. Most decisions read
// alike, so that they share one text, which processors then keep near.
var (
	texts    [256]atomic.Pointer[[]byte]
	textSeed = maphash.MakeSeed()
)

// shared gives a copy of text, an older one where there is one.
func shared(text []byte) *[]byte {
	place := &texts[maphash.Bytes(textSeed, text)%uint64(len(texts))]
	if old := place.Load(); old != nil && bytes.Equal(*old, text) {
		return old
	}
	copied := bytes.Clone(text)
	place.Store(&copied)
	return &copied
}

// appendConstant appends what every answer by this decision has in common.
func appendConstant(dst []byte, d *authz.Decision, full bool) []byte {
	if d.Effect == authz.Allow {
		dst = append(dst, `{"decision":true,"context":{"effect":"`...)
	} else {
		dst = append(dst, `{"decision":false,"context":{"effect":"`...)
	}
	dst = append(dst, d.Effect.String()...)
	dst = append(dst, `","class":"`...)
	dst = append(dst, d.Class.String()...)
	dst = append(dst, `","code":`...)
	dst = AppendString(dst, string(d.Code))
	dst = append(dst, `,"obligations":[`...)
	for i := range d.Obligations {
		dst = separate(dst, i)
		dst = appendObligation(dst, &d.Obligations[i])
	}
	dst = append(dst, ']')
	dst = appendMember(dst, `,"reason_user":`, d.ReasonUser)
	if full {
		dst = appendDetail(dst, d)
	}
	return dst
}

// appendDetail appends what only callers with full detail see.
func appendDetail(dst []byte, d *authz.Decision) []byte {
	dst = appendMember(dst, `,"reason_admin":`, d.ReasonAdmin)
	if d.Entity.Kind != authz.NoKind {
		dst = append(dst, `,"entity":"`...)
		dst = append(dst, d.Entity.Kind.String()...)
		if d.Entity.Kind != authz.KindEverything {
			dst = append(dst, ':')
			dst = appendEscaped(dst, d.Entity.ID)
		}
		dst = append(dst, '"')
	}
	dst = appendMember(dst, `,"input":`, d.Input)
	dst = append(dst, `,"rules":[`...)
	for i := range d.Rules {
		dst = AppendString(separate(dst, i), d.Rules[i])
	}
	dst = append(dst, ']')
	if len(d.Errors) > 0 {
		dst = append(dst, `,"errors":[`...)
		for i := range d.Errors {
			dst = append(separate(dst, i), `{"rule":`...)
			dst = AppendString(dst, d.Errors[i].Rule)
			dst = appendMember(dst, `,"input":`, d.Errors[i].Input)
			dst = append(dst, `,"message":`...)
			dst = AppendString(dst, d.Errors[i].Message)
			dst = append(dst, '}')
		}
		dst = append(dst, ']')
	}
	if len(d.Observed) > 0 {
		dst = append(dst, `,"observed":[`...)
		for i := range d.Observed {
			dst = append(separate(dst, i), `{"rule":`...)
			dst = AppendString(dst, d.Observed[i].Rule)
			dst = append(dst, `,"effect":"`...)
			dst = append(dst, d.Observed[i].Effect.String()...)
			dst = append(dst, `"}`...)
		}
		dst = append(dst, ']')
	}
	if len(d.Waived) > 0 {
		dst = append(dst, `,"waived":[`...)
		for i := range d.Waived {
			dst = AppendString(separate(dst, i), d.Waived[i])
		}
		dst = append(dst, ']')
	}
	return appendMember(dst, `,"bundle":`, d.Bundle)
}

// appendObligation follows the AuthZEN obligations draft: id, type, properties.
func appendObligation(dst []byte, o *authz.Obligation) []byte {
	dst = append(dst, '{')
	if o.ID != "" {
		dst = append(dst, `"id":`...)
		dst = AppendString(dst, o.ID)
		dst = append(dst, ',')
	}
	dst = append(dst, `"type":`...)
	dst = AppendString(dst, o.Type)
	if len(o.Properties) > 0 {
		dst = append(dst, `,"properties":`...)
		dst = append(dst, o.Properties...)
	}
	return append(dst, '}')
}

// AppendItemError appends the answer to an item of a batch that could not be decided:
// a no, with an "error" that has an HTTP status and a message (section 7.2.1).
func AppendItemError(dst []byte, status int, message string) []byte {
	dst = append(dst, `{"decision":false,"context":{"effect":"deny","class":"error","code":"could_not_evaluate","obligations":[],"error":{"status":`...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, `,"message":`...)
	dst = AppendString(dst, message)
	return append(dst, "}}}"...)
}

// OpenBatch, then AppendDecision or AppendItemError for each item with Separate before
// it, then CloseBatch append the answer to a batch.
func OpenBatch(dst []byte) []byte { return append(dst, `{"evaluations":[`...) }

// Separate appends the comma in front of the item with that index.
func Separate(dst []byte, index int) []byte { return separate(dst, index) }

// CloseBatch ends what OpenBatch began.
func CloseBatch(dst []byte) []byte { return append(dst, "]}"...) }

func separate(dst []byte, index int) []byte {
	if index > 0 {
		dst = append(dst, ',')
	}
	return dst
}

// appendMember appends a string member with its name, unless it is empty.
func appendMember(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	return AppendString(append(dst, name...), value)
}

// AppendString appends s as a JSON string. What is not valid UTF-8 becomes U+FFFD.
func AppendString(dst []byte, s string) []byte {
	return append(appendEscaped(append(dst, '"'), s), '"')
}

const hexDigits = "0123456789abcdef"

func appendEscaped(dst []byte, s string) []byte {
	b := bytesOf(s)
	from, i := 0, 0
	for i < len(b) {
		if i+8 <= len(b) {
			m := special(binary.LittleEndian.Uint64(b[i:]))
			if m == 0 {
				i += 8
				continue
			}
			i += bits.TrailingZeros64(m) >> 3
		}
		c := b[i]
		switch {
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRune(b[i:])
			if r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
			dst = append(append(dst, b[from:i]...), "\ufffd"...)
		case c == '"' || c == '\\':
			dst = append(append(dst, b[from:i]...), '\\', c)
		case c == '\n':
			dst = append(append(dst, b[from:i]...), '\\', 'n')
		case c == '\t':
			dst = append(append(dst, b[from:i]...), '\\', 't')
		case c < ' ':
			dst = append(append(dst, b[from:i]...), '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			i++
			continue
		}
		i++
		from = i
	}
	return append(dst, b[from:]...)
}
