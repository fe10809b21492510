package kafka

import (
	"fmt"
	"iter"

	"vigil/signals"
)

// What a record may have where its headers are read. An event has a few dozen attributes, and
// may have as much around its signal again.
const (
	maxHeaders     = 128
	maxHeaderBytes = 64 << 10
	maxEncoded     = 2 * signals.MaxSignal
)

// header gives the record's headers in their order. batch.next has found them good.
func (r *record) header() iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		c := &cursor{rest: r.headers}
		for n := c.varint32(); n > 0 && !c.bad; n-- {
			name, _ := c.varBytes()
			value, _ := c.varBytes()
			if !yield(string(name), string(value)) {
				return
			}
		}
	}
}

// decoded makes what is delivered of a record, or says why there is nothing. Whatever the
// bytes, it returns: every replica meets them.
func (t *topic) decoded(r *record) (out []byte, refused string) {
	defer func() {
		if p := recover(); p != nil {
			out, refused = nil, fmt.Sprintf("panic while reading it: %v", p)
		}
	}()
	count := cursor{rest: r.headers}
	switch n := count.varint32(); {
	case n > maxHeaders:
		return nil, fmt.Sprintf("it has %d headers, more than %d", n, maxHeaders)
	case len(r.headers) > maxHeaderBytes:
		return nil, fmt.Sprintf("its headers have %d bytes, more than %d", len(r.headers), maxHeaderBytes)
	case len(r.value) > maxEncoded:
		return nil, fmt.Sprintf("it has %d bytes, more than %d", len(r.value), maxEncoded)
	}
	out, err := t.decode(r.header(), r.value)
	switch {
	case err != nil:
		return nil, err.Error()
	case len(out) > signals.MaxSignal:
		return nil, fmt.Sprintf("what is in it has %d bytes, more than %d", len(out), signals.MaxSignal)
	}
	return out, ""
}
