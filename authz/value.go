package authz

import (
	"encoding/binary"
	"math"
	"strings"
)

// ValueKind is the JSON type of a Value. The zero ValueKind is Absent, which is
// also what a JSON null means.
type ValueKind uint8

// The types of a Value.
const (
	Absent ValueKind = iota
	Bool
	Number
	String
	List
	Map
)

func (k ValueKind) String() string {
	return [...]string{"absent", "bool", "number", "string", "list", "map"}[k]
}

// Value is one JSON value. Strings may alias the buffer that the value was decoded
// from: whoever keeps a Value beyond that buffer's life must Clone it.
type Value struct {
	Kind    ValueKind
	Num     float64  // Number; for Bool 1 or 0. Never NaN or infinite.
	Str     string   // String
	Members []Member // Map, in order of appearance with distinct names; List, with empty names
}

// Member is a named value of an object.
type Member struct {
	Name  string
	Value Value
}

// Object is the members of a JSON object, their names distinct.
type Object []Member

// Get returns the value of the member name, or nil where there is none or it is null.
// It scans: requests carry a handful of members.
func (o Object) Get(name string) *Value {
	for i := range o {
		if o[i].Name == name {
			if o[i].Value.Kind == Absent {
				return nil
			}
			return &o[i].Value
		}
	}
	return nil
}

// Clone copies v and everything it refers to.
func (v Value) Clone() Value {
	v.Str = strings.Clone(v.Str)
	v.Members = Object(v.Members).Clone()
	return v
}

// Clone copies o and everything it refers to.
func (o Object) Clone() Object {
	if o == nil {
		return nil
	}
	c := make(Object, len(o))
	for i, m := range o {
		c[i] = Member{Name: strings.Clone(m.Name), Value: m.Value.Clone()}
	}
	return c
}

// AppendKey appends an encoding of v that no other value shares and that is a
// prefix of no other value's: a type byte, then fixed-width or length-prefixed
// content. A nil v is absent. Objects that differ only in member order differ here,
// which costs a cache hit and never an answer.
//
// It is on the hot path: it allocates only where dst must grow.
func (v *Value) AppendKey(dst []byte) []byte {
	if v == nil || v.Kind == Absent {
		return append(dst, byte(Absent))
	}
	dst = append(dst, byte(v.Kind))
	switch v.Kind {
	case Bool:
		return append(dst, byte(v.Num))
	case Number:
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(v.Num))
	case String:
		return AppendKeyString(dst, v.Str)
	case List, Map:
		dst = binary.AppendUvarint(dst, uint64(len(v.Members)))
		for i := range v.Members {
			if v.Kind == Map {
				dst = AppendKeyString(dst, v.Members[i].Name)
			}
			dst = v.Members[i].Value.AppendKey(dst)
		}
	}
	return dst
}

// AppendKeyString appends s with its length in front. It is on the hot path.
func AppendKeyString(dst []byte, s string) []byte {
	n := len(dst)
	if len(s) < 0x80 && len(s) < cap(dst)-n { // the length is one byte, as AppendUvarint has it
		dst = dst[:n+1+len(s)]
		dst[n] = byte(len(s))
		copy(dst[n+1:], s)
		return dst
	}
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}
