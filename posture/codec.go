package posture

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"vigil/authz"
)

// The binary form of a fact:
//
//	facet, flags                 a byte each
//	source                       reference
//	id                           string
//	time                         8 bytes, big endian
//	until                        8 bytes, with flagUntil; else it is Forever
//	actor, reason, ticket        strings, each with its flag
//	record                       string, with flagRecord
//	value                        by facet, see appendValue
//
// A string is its length as a uvarint and its bytes. A reference is a uvarint: 0 and
// then the content, or n for the nth entry of a table that the surroundings give (a
// store's dict, or what a snapshot has defined so far). The canonical form has no
// references. There is one encoding of each fact: decoding refuses every other.
const factVersion = 1

const (
	flagUntil = 1 << iota
	flagActor
	flagReason
	flagTicket
	flagTrue // Held, Passed
	flagRecord
	flagsEnd
)

// ErrNewer is in the chain of errors about bytes that a newer version wrote.
var ErrNewer = errors.New("written by a newer version")

// AppendFact appends the canonical form of f, behind a version byte. f is as Record.Facts
// yields it.
func AppendFact(dst []byte, f *Fact) []byte {
	return appendFact(append(dst, factVersion), f, 0, 0)
}

// DecodeFact is the inverse of AppendFact. It accepts only what AppendFact writes.
func DecodeFact(b []byte) (Fact, error) {
	d := decoder{s: string(b)}
	if v := d.byte(); d.err == nil && v != factVersion {
		return Fact{}, fmt.Errorf("fact version %d: %w", v, ErrNewer)
	}
	var f Fact
	d.fact(&f, nil, nil)
	if d.err == nil && d.at < len(d.s) {
		d.fail("%d bytes too many", len(d.s)-d.at)
	}
	return f, d.err
}

// contentHash identifies what f says; with source and id, it identifies f.
func contentHash(f *Fact) [sha256.Size]byte {
	var room [256]byte
	return sha256.Sum256(AppendFact(room[:0], f))
}

func appendFact(dst []byte, f *Fact, source, registration uint32) []byte {
	var flags byte
	if f.Until != authz.Forever {
		flags |= flagUntil
	}
	if f.Actor != "" {
		flags |= flagActor
	}
	if f.Reason != "" {
		flags |= flagReason
	}
	if f.Ticket != "" {
		flags |= flagTicket
	}
	if f.Held || f.Passed {
		flags |= flagTrue
	}
	if f.Record != "" {
		flags |= flagRecord
	}
	dst = append(dst, byte(f.Facet), flags)
	dst = binary.AppendUvarint(dst, uint64(source))
	if source == 0 {
		dst = appendString(dst, f.Source)
	}
	dst = appendString(dst, f.ID)
	dst = binary.BigEndian.AppendUint64(dst, uint64(f.Time))
	if flags&flagUntil != 0 {
		dst = binary.BigEndian.AppendUint64(dst, uint64(f.Until))
	}
	for _, s := range [...]string{f.Actor, f.Reason, f.Ticket, f.Record} {
		if s != "" {
			dst = appendString(dst, s)
		}
	}
	return appendValue(dst, f, registration)
}

func appendValue(dst []byte, f *Fact, registration uint32) []byte {
	switch f.Facet {
	case Risk:
		dst = append(dst, byte(f.Risk))
	case ApprovalRequired:
		dst = appendStrings(dst, f.Actions)
	case Narrow:
		dst = appendStrings(dst, f.Scopes)
	case IssuedBefore:
		dst = binary.BigEndian.AppendUint64(dst, uint64(f.Cutoff))
	case Registration:
		dst = binary.AppendUvarint(dst, uint64(registration))
		if registration == 0 {
			dst = appendRegistered(dst, f.Registration)
		}
	case Lift:
		dst = append(dst, byte(f.Lifts.Facet))
		dst = appendString(dst, f.Lifts.Source)
		dst = appendString(dst, f.Lifts.ID)
	}
	return dst
}

func appendRegistered(dst []byte, r *Registered) []byte {
	dst = appendString(dst, r.Class)
	dst = appendString(dst, r.Code)
	dst = appendString(dst, r.Model)
	dst = appendStrings(dst, r.Scopes)
	dst = binary.AppendUvarint(dst, uint64(len(r.Labels)))
	var room [16]string
	names := room[:0]
	for name := range r.Labels {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		dst = appendString(appendString(dst, name), r.Labels[name])
	}
	return dst
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendStrings(dst []byte, list []string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	for _, s := range list {
		dst = appendString(dst, s)
	}
	return dst
}

// decoder reads a string; the strings that it gives are parts of it. After the first
// error it reads nothing more. What it allocates is bounded by the length of s.
type decoder struct {
	s   string
	at  int
	err error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("byte %d: %w", d.at, fmt.Errorf(format, args...))
		d.at = len(d.s)
	}
}

func (d *decoder) byte() byte {
	if d.at >= len(d.s) {
		d.fail("ends too early")
		return 0
	}
	d.at++
	return d.s[d.at-1]
}

func (d *decoder) uvarint() uint64 {
	var x uint64
	for shift := uint(0); ; shift += 7 {
		b := d.byte()
		switch {
		case d.err != nil:
			return 0
		case shift == 63 && b > 1 || b == 0 && shift > 0:
			d.fail("a number that is too large or too long")
			return 0
		}
		x |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return x
		}
	}
}

func (d *decoder) bytes(n uint64) string {
	if n > uint64(len(d.s)-d.at) {
		d.fail("%d bytes wanted, %d left", n, len(d.s)-d.at)
		return ""
	}
	d.at += int(n)
	return d.s[d.at-int(n) : d.at]
}

func (d *decoder) string() string { return d.bytes(d.uvarint()) }

func (d *decoder) instant() authz.Instant {
	s := d.bytes(8)
	if d.err != nil {
		return 0
	}
	var x uint64
	for i := range 8 {
		x = x<<8 | uint64(s[i])
	}
	return authz.Instant(x)
}

// strings reads a sorted set.
func (d *decoder) strings() []string {
	n := d.count(1)
	if n == 0 {
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i] = d.string()
		if i > 0 && d.err == nil && list[i-1] >= list[i] {
			d.fail("a list that is not a sorted set")
		}
	}
	if d.err != nil {
		return nil
	}
	return list
}

// count reads how many items of at least size bytes follow.
func (d *decoder) count(size uint64) int {
	n := d.uvarint()
	if n > uint64(len(d.s)-d.at)/size {
		d.fail("%d items wanted, %d bytes left", n, len(d.s)-d.at)
		return 0
	}
	return int(n)
}

// refs says which table entries a decoded fact referred to; 0 where it held the content.
type refs struct{ source, registration uint32 }

func reference[T any](d *decoder, table []T) (uint32, T) {
	var none T
	n := d.uvarint()
	switch {
	case n > uint64(len(table)):
		d.fail("reference %d into a table of %d", n, len(table))
	case n > 0:
		return uint32(n), table[n-1]
	}
	return 0, none
}

func (d *decoder) fact(f *Fact, sources []string, registrations []*Registered) (r refs) {
	*f = Fact{Facet: Facet(d.byte())}
	if d.err == nil && (f.Facet < Registration || f.Facet > Waive) {
		d.at--
		d.fail("facet %d: %w", f.Facet, ErrNewer)
		return r
	}
	flags := d.byte()
	if flags >= flagsEnd {
		d.fail("flags %#x: %w", flags, ErrNewer)
		return r
	}
	if r.source, f.Source = reference(d, sources); r.source == 0 {
		f.Source = d.string()
	}
	f.ID = d.string()
	f.Time = d.instant()
	f.Until = authz.Forever
	if flags&flagUntil != 0 {
		f.Until = d.instant()
		if f.Until == authz.Forever || f.Until == 0 || neverEnds(f.Facet) {
			d.fail("an end that is none")
		}
	}
	if flags&flagActor != 0 {
		f.Actor = d.text()
	}
	if flags&flagReason != 0 {
		f.Reason = d.text()
	}
	if flags&flagTicket != 0 {
		f.Ticket = d.text()
	}
	if flags&flagRecord != 0 {
		f.Record = d.text()
		if f.Facet != UnreadableSignal || len(f.Record) > MaxRecord {
			d.fail("a record that the facet has not")
		}
	}
	d.value(f, flags&flagTrue != 0, registrations, &r)
	return r
}

// text reads a string whose flag says that it is not empty.
func (d *decoder) text() string {
	s := d.string()
	if s == "" {
		d.fail("an empty text")
	}
	return s
}

func (d *decoder) value(f *Fact, is bool, registrations []*Registered, r *refs) {
	switch f.Facet {
	case Hold:
		f.Held = is
	case Attest:
		f.Passed = is
	default:
		if is {
			d.fail("a value that the facet has not")
		}
	}
	switch f.Facet {
	case Risk:
		if f.Risk = int(d.byte()); f.Risk > 100 {
			d.fail("risk %d", f.Risk)
		}
	case ApprovalRequired:
		f.Actions = d.strings()
		if len(f.Actions) == 0 || len(f.Actions) > 1 && slices.Contains(f.Actions, "*") {
			d.fail("a list of actions that is not in normal form")
		}
	case Narrow:
		f.Scopes = d.strings()
	case IssuedBefore:
		if f.Cutoff = d.instant(); f.Cutoff <= 0 {
			d.fail("a cut-off that is none")
		}
	case Registration:
		if r.registration, f.Registration = reference(d, registrations); r.registration == 0 {
			f.Registration = d.registered()
		}
	case Lift:
		f.Lifts = &Target{Facet: Facet(d.byte()), Source: d.string(), ID: d.string()}
		if !liftable(f.Lifts.Facet) || f.Lifts.Source == overflow {
			d.fail("a lift of what cannot be lifted")
		}
	}
}

func (d *decoder) registered() *Registered {
	r := &Registered{Class: d.string(), Code: d.string(), Model: d.string(), Scopes: d.strings()}
	n := d.count(2)
	if n == 0 {
		return r
	}
	r.Labels = make(map[string]string, n)
	last := ""
	for i := range n {
		name := d.string()
		if i > 0 && name <= last {
			d.fail("labels that are not a sorted set")
		}
		last = name
		r.Labels[name] = d.string()
		if d.err != nil {
			return r
		}
	}
	return r
}
