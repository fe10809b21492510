package signals

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"

	"vigil/authz"
)

// Record is one signal in a log: what was accepted, from whom, under whose authority.
// Body is the signal's JSON as sent, alone (a batch is split).
type Record struct {
	Origin uint64 // the process that appended it, a random number per start
	Seq    uint64 // counts within Origin; with it, how an appender knows its own records again
	Source Source
	Tenant string
	Target string // "" or the source in whose line it speaks (see Authority.Overrule)
	Body   []byte

	// Dated is the event time of a signal with a Target: just after the newest fact that
	// it overrules. 0 without a Target.
	Dated   authz.Instant
	Verdict Verdict
	// Under is set where the signal came by an input and could not be read: what it is to
	// be judged by when it can be. Its Types and Kinds count, and Tenant. nil where the
	// signal was judged when it was accepted.
	Under *Authority
	// Foreign: a newer version wrote something about the signal that this one does not
	// know and must not ignore. The signal then counts as unreadable.
	Foreign bool
}

// MaxRecord is the longest encoded record, in bytes.
const MaxRecord = MaxSignal + 8<<10

// The form of an encoded record is
//
//	0xF1 version=1 { tag:uvarint length:uvarint value }*
//
// with tags in ascending order and fields of zero value left out, so that a record has
// one encoding. A reader skips even tags that it does not know; an odd tag must be
// understood, or the signal counts as unreadable. So the form need not change when
// members are added, and records of a newer version never become unreadable envelopes.
const (
	recordMagic   = 0xF1
	recordVersion = 1
)

const (
	tagOrigin        = 1 // 8 bytes, big endian
	tagSeq           = 2 // uvarint
	tagSourceKind    = 3
	tagSourceName    = 5
	tagTenant        = 7
	tagTarget        = 9
	tagDated         = 11 // uvarint of nanoseconds
	tagMayQuarantine = 12 // 8 bytes, big endian
	tagBody          = 13
	tagUnder         = 15 // see appendUnder
)

var errNoRecord = errors.New("not a record of a signal")

// EncodeRecord appends the bytes of r to dst.
func EncodeRecord(dst []byte, r *Record) []byte {
	dst = append(dst, recordMagic, recordVersion)
	if r.Origin != 0 {
		dst = append(dst, tagOrigin, 8)
		dst = binary.BigEndian.AppendUint64(dst, r.Origin)
	}
	dst = appendUint(dst, tagSeq, r.Seq)
	dst = appendField(dst, tagSourceKind, r.Source.Kind)
	dst = appendField(dst, tagSourceName, r.Source.Name)
	dst = appendField(dst, tagTenant, r.Tenant)
	dst = appendField(dst, tagTarget, r.Target)
	dst = appendUint(dst, tagDated, uint64(r.Dated))
	if r.Verdict.MayQuarantine != 0 {
		dst = append(dst, tagMayQuarantine, 8)
		dst = binary.BigEndian.AppendUint64(dst, r.Verdict.MayQuarantine)
	}
	dst = appendField(dst, tagBody, r.Body)
	if r.Under != nil {
		var buf [256]byte
		dst = appendField(dst, tagUnder, appendUnder(buf[:0], r.Under))
	}
	return dst
}

func appendField[T string | []byte](dst []byte, tag byte, v T) []byte {
	if len(v) == 0 {
		return dst
	}
	dst = binary.AppendUvarint(append(dst, tag), uint64(len(v)))
	return append(dst, v...)
}

func appendUint(dst []byte, tag byte, v uint64) []byte {
	if v == 0 {
		return dst
	}
	var buf [binary.MaxVarintLen64]byte
	return appendField(dst, tag, binary.AppendUvarint(buf[:0], v))
}

// DecodeRecord reads what EncodeRecord wrote. Body shares the memory of data. An error
// means that not even the source and the tenant could be read.
func DecodeRecord(data []byte) (Record, error) {
	var r Record
	if len(data) > MaxRecord {
		return r, fmt.Errorf("%w: %d bytes, more than %d", errNoRecord, len(data), MaxRecord)
	}
	if len(data) < 2 || data[0] != recordMagic {
		return r, errNoRecord
	}
	if data[1] != recordVersion {
		return r, fmt.Errorf("%w of version %d, but %d", errNoRecord, recordVersion, data[1])
	}
	rest, last := data[2:], uint64(0)
	for len(rest) > 0 {
		tag, value, after, ok := field(rest)
		if !ok || tag <= last || len(value) == 0 {
			return Record{}, fmt.Errorf("%w: damaged at byte %d", errNoRecord, len(data)-len(rest))
		}
		if !r.setField(tag, value) {
			return Record{}, fmt.Errorf("%w: bad field %d at byte %d", errNoRecord, tag, len(data)-len(rest))
		}
		rest, last = after, tag
	}
	switch {
	case r.Source.Kind == "" || r.Source.Name == "":
		return Record{}, fmt.Errorf("%w: without a source", errNoRecord)
	case r.Tenant == "":
		return Record{}, fmt.Errorf("%w: without a tenant", errNoRecord)
	case len(r.Body) == 0:
		return Record{}, fmt.Errorf("%w: without a signal", errNoRecord)
	}
	return r, nil
}

func field(data []byte) (tag uint64, value, rest []byte, ok bool) {
	tag, n := uvarint(data)
	if n <= 0 {
		return 0, nil, nil, false
	}
	data = data[n:]
	length, n := uvarint(data)
	if n <= 0 || length > uint64(len(data)-n) {
		return 0, nil, nil, false
	}
	data = data[n:]
	return tag, data[:length], data[length:], true
}

// uvarint is binary.Uvarint for the shortest form only.
func uvarint(data []byte) (uint64, int) {
	v, n := binary.Uvarint(data)
	if n > 1 && data[n-1] == 0 {
		return 0, 0
	}
	return v, n
}

// setField takes one field in. It reports whether the value was fit.
func (r *Record) setField(tag uint64, value []byte) bool {
	text := func(to *string, most int) bool {
		*to = string(value)
		return len(value) <= most && utf8.Valid(value)
	}
	number := func(to *uint64) bool {
		v, n := uvarint(value)
		*to = v
		return n == len(value) && v != 0
	}
	word := func(to *uint64) bool {
		if len(value) != 8 {
			return false
		}
		*to = binary.BigEndian.Uint64(value)
		return *to != 0
	}
	switch tag {
	case tagOrigin:
		return word(&r.Origin)
	case tagSeq:
		return number(&r.Seq)
	case tagSourceKind:
		return text(&r.Source.Kind, MaxName)
	case tagSourceName:
		return text(&r.Source.Name, MaxText)
	case tagTenant:
		return text(&r.Tenant, MaxName)
	case tagTarget:
		return text(&r.Target, MaxText)
	case tagDated:
		var v uint64
		ok := number(&v)
		r.Dated = authz.Instant(v)
		return ok && r.Dated > 0
	case tagMayQuarantine:
		return word(&r.Verdict.MayQuarantine)
	case tagBody:
		r.Body = value
		return true
	case tagUnder:
		may, ok := readUnder(string(value))
		r.Under = may
		return ok
	}
	if tag%2 == 1 {
		r.Foreign = true
	}
	return true
}
