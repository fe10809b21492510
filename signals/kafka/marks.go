package kafka

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"vigil/signals"
)

// mark is what is remembered of a record, to know it again: that of the last record of a
// partition that was handed on. A broker that shows another record in its place, or none,
// has another past than the one that was read.
type mark struct {
	partition int32    // the number that positions have
	topic     [16]byte // the id of its topic
	offset    int64
	epoch     int32 // of the leader that took its batch; -1 where the batch does not say
	hash      [16]byte
}

// hash is what a mark remembers of a record as f reads it: its headers, too, where they say
// something.
func (f *follower) hash(r *record) [16]byte {
	if f.t.decode == nil {
		return r.hash(nil)
	}
	return r.hash(r.headers)
}

// hash is what a mark remembers of the record's content, with these of its headers. Without
// any it is what it was before headers were read.
func (r *record) hash(headers []byte) [16]byte {
	h := sha256.New()
	if len(headers) > 0 {
		h.Write(appendInt32([]byte{'h'}, int32(len(headers))))
		h.Write(headers)
	}
	head := appendInt64([]byte{'r'}, int64(r.appended))
	head = appendInt32(head, int32(len(r.key)))
	if r.noValue {
		head = append(head, 'n')
	} else {
		head = append(head, 'v')
	}
	h.Write(head)
	h.Write(r.key)
	h.Write(r.value)
	return [16]byte(h.Sum(nil))
}

// hash is what a mark remembers of a batch of which no record can be read. Its offset is
// the batch's last.
func (b *batch) hash() [16]byte {
	h := sha256.New()
	h.Write([]byte{'b'})
	h.Write(b.sealed)
	return [16]byte(h.Sum(nil))
}

// Encoded marks are a byte with the version and then each mark, sorted by partition, of
// markSize bytes: partition, topic, offset, epoch and hash, numbers big-endian.
const (
	marksVersion = 1
	markSize     = 4 + 16 + 8 + 4 + 16
)

var errMarks = errors.New("marks that cannot be read")

// encodeMarks is for a snapshot. The marks' partitions differ.
func encodeMarks(marks []mark) []byte {
	marks = slices.Clone(marks)
	slices.SortFunc(marks, func(a, b mark) int { return cmp.Compare(a.partition, b.partition) })
	b := make([]byte, 0, 1+len(marks)*markSize)
	b = append(b, marksVersion)
	for _, m := range marks {
		b = appendInt32(b, m.partition)
		b = append(b, m.topic[:]...)
		b = appendInt64(b, m.offset)
		b = appendInt32(b, m.epoch)
		b = append(b, m.hash[:]...)
	}
	return b
}

// decodeMarks reads what encodeMarks wrote. It takes nothing else.
func decodeMarks(b []byte) ([]mark, error) {
	if len(b) < 1 || b[0] != marksVersion {
		return nil, fmt.Errorf("%w: they are of another version", errMarks)
	}
	b = b[1:]
	if len(b)%markSize != 0 || len(b)/markSize > signals.MaxPartitions {
		return nil, fmt.Errorf("%w: %d bytes", errMarks, len(b))
	}
	marks := make([]mark, 0, len(b)/markSize)
	for ; len(b) > 0; b = b[markSize:] {
		m := mark{
			partition: int32(binary.BigEndian.Uint32(b)),
			topic:     [16]byte(b[4:20]),
			offset:    int64(binary.BigEndian.Uint64(b[20:])),
			epoch:     int32(binary.BigEndian.Uint32(b[28:])),
			hash:      [16]byte(b[32:48]),
		}
		if m.partition < 0 || m.offset < 0 || m.epoch < -1 {
			return nil, fmt.Errorf("%w: partition %d, offset %d, epoch %d", errMarks, m.partition, m.offset, m.epoch)
		}
		if n := len(marks); n > 0 && m.partition <= marks[n-1].partition {
			return nil, fmt.Errorf("%w: partition %d after %d", errMarks, m.partition, marks[n-1].partition)
		}
		marks = append(marks, m)
	}
	return marks, nil
}
