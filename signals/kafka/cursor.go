package kafka

import (
	"encoding/binary"
	"math"
)

// cursor reads the parts of an answer, in order. It believes no length and no count that
// what is left could not hold. From the first part that is not there on, everything is
// zero, and bad is set: it is looked at once, at the end, and in loops.
type cursor struct {
	rest []byte
	bad  bool
}

// take returns the next n bytes, nil if there are fewer. They are not copied.
func (c *cursor) take(n int) []byte {
	if c.bad || n < 0 || n > len(c.rest) {
		c.bad, c.rest = true, nil
		return nil
	}
	b := c.rest[:n:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) int8() int8 {
	if b := c.take(1); b != nil {
		return int8(b[0])
	}
	return 0
}

func (c *cursor) int16() int16 {
	if b := c.take(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (c *cursor) int32() int32 {
	if b := c.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (c *cursor) int64() int64 {
	if b := c.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

// varint is a signed number as records have it: zigzag, in at most 10 bytes.
func (c *cursor) varint() int64 {
	v, n := binary.Varint(c.rest)
	if n <= 0 {
		c.bad, c.rest = true, nil
		return 0
	}
	c.rest = c.rest[n:]
	return v
}

// varint32 is a varint that must be within 32 bits.
func (c *cursor) varint32() int32 {
	v := c.varint()
	if v < math.MinInt32 || v > math.MaxInt32 {
		c.bad, c.rest = true, nil
		return 0
	}
	return int32(v)
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.rest)
	if n <= 0 {
		c.bad, c.rest = true, nil
		return 0
	}
	c.rest = c.rest[n:]
	return v
}

// count is the number of elements of an array, in either of the protocol's forms; none for
// the null array. One of more elements than there are bytes is bad.
func (c *cursor) count(compact bool) int {
	var n int64
	if compact {
		n = int64(min(c.uvarint(), math.MaxInt32+1)) - 1
	} else {
		n = int64(c.int32())
	}
	if n > int64(len(c.rest)) {
		c.bad, c.rest = true, nil
		return 0
	}
	return int(max(n, 0))
}

// bytes is a string of bytes, nil for null: with a length of 32 bits, or compact.
func (c *cursor) bytes(compact bool) []byte { return c.take(c.length(compact, 4)) }

// string is as bytes, but with a length of 16 bits where it is not compact.
func (c *cursor) string(compact bool) string { return string(c.take(c.length(compact, 2))) }

// length is that of bytes or of a string, 0 for null.
func (c *cursor) length(compact bool, width int) int {
	var n int64
	switch {
	case compact:
		n = int64(min(c.uvarint(), math.MaxInt32+1)) - 1
	case width == 2:
		n = int64(c.int16())
	default:
		n = int64(c.int32())
	}
	if n < -1 {
		c.bad, c.rest = true, nil
	}
	return int(max(n, 0))
}

// tags passes over the tagged fields at the end of a structure (KIP-482).
func (c *cursor) tags() {
	for n := c.uvarint(); n > 0 && !c.bad; n-- {
		c.uvarint()
		c.take(int(min(c.uvarint(), math.MaxInt32)))
	}
}

// appendString appends a compact string.
func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))+1), s...)
}

// appendInt32 appends a number of 32 bits; appendInt64 one of 64.
func appendInt32(b []byte, v int32) []byte { return binary.BigEndian.AppendUint32(b, uint32(v)) }
func appendInt64(b []byte, v int64) []byte { return binary.BigEndian.AppendUint64(b, uint64(v)) }
