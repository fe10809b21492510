package signals

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// Positions is the next offset to read, by partition. It is how far a view has come.
type Positions map[int32]int64

// Covers reports whether a view at p has seen everything that one at q has. A partition
// that is absent stands at its beginning.
func (p Positions) Covers(q Positions) bool {
	for partition, offset := range q {
		if p[partition] < offset {
			return false
		}
	}
	return true
}

// Clone copies p.
func (p Positions) Clone() Positions {
	c := make(Positions, len(p))
	maps.Copy(c, p)
	return c
}

// String gives "0 at 23, 1 at 7", of the first eight partitions, for people.
func (p Positions) String() string {
	const most = 8
	var b strings.Builder
	for i, partition := range slices.Sorted(maps.Keys(p)) {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(p)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%d at %d", partition, p[partition])
	}
	return b.String()
}

// MaxAsOf is the longest as-of token, in bytes.
const MaxAsOf = 8 << 10

// MaxPartitions is how many partitions a log may have, those of inputs included: the token
// of so many fits MaxAsOf whatever their numbers and offsets.
const MaxPartitions = 400

const asOfPrefix = "v1."

// ErrBadAsOf is a token that FormatAsOf did not make.
var ErrBadAsOf = errors.New("not a position")

// FormatAsOf gives the opaque token for a position: "v1." and base64url of the log's
// identity, then (partition delta, offset) as uvarints in ascending order of partition.
// The whole identity is in it, so tokens of different logs never compare by accident.
// A partition at its beginning is left out: equal positions have equal tokens.
func FormatAsOf(log LogID, at Positions) string {
	buf := make([]byte, 0, 64)
	buf = append(buf, log[:]...)
	before := int32(0)
	for _, partition := range slices.Sorted(maps.Keys(at)) {
		if at[partition] <= 0 {
			continue
		}
		buf = binary.AppendUvarint(buf, uint64(partition-before))
		buf = binary.AppendUvarint(buf, uint64(at[partition]))
		before = partition
	}
	return asOfPrefix + base64.RawURLEncoding.EncodeToString(buf)
}

// ParseAsOf is the inverse of FormatAsOf. It accepts nothing else, so one position has
// one token. The error is ErrBadAsOf.
func ParseAsOf(token string) (LogID, Positions, error) {
	var log LogID
	encoded, ok := strings.CutPrefix(token, asOfPrefix)
	if !ok || len(token) > MaxAsOf {
		return log, nil, ErrBadAsOf
	}
	buf, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(buf) < len(log) {
		return log, nil, ErrBadAsOf
	}
	buf = buf[copy(log[:], buf):]
	at := make(Positions)
	partition := uint64(0)
	for first := true; len(buf) > 0; first = false {
		delta, n := uvarint(buf)
		if n <= 0 || delta == 0 && !first || delta > math.MaxInt32 {
			return log, nil, ErrBadAsOf
		}
		buf = buf[n:]
		offset, n := uvarint(buf)
		if n <= 0 || offset == 0 || offset > math.MaxInt64 {
			return log, nil, ErrBadAsOf
		}
		buf = buf[n:]
		if partition += delta; partition > math.MaxInt32 {
			return log, nil, ErrBadAsOf
		}
		at[int32(partition)] = int64(offset)
	}
	// The decoder of base64 skips line breaks.
	if FormatAsOf(log, at) != token {
		return log, nil, ErrBadAsOf
	}
	return log, at, nil
}
