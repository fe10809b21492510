package kafka

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"vigil/signals"
	"vigil/signals/snapshot"
)

func someMarks(n int) []mark {
	var marks []mark
	for i := range n {
		marks = append(marks, mark{
			partition: int32(n - i), topic: [16]byte{1, byte(i)}, offset: int64(i) << 33, epoch: int32(i) - 1, hash: [16]byte{15: byte(i)},
		})
	}
	return marks
}

func TestMarksComeBackAndFitInASnapshot(t *testing.T) {
	for _, n := range []int{0, 1, signals.MaxPartitions} {
		want := someMarks(n)
		encoded := encodeMarks(want)
		got, err := decodeMarks(encoded)
		slices.Reverse(want) // sorted by partition
		if err != nil || !slices.Equal(got, want) || len(encoded) > snapshot.MaxMarks {
			t.Errorf("%d: %v, %v", n, got, err)
		}
	}
}

func TestMarksThatWereNotEncodedAreRefused(t *testing.T) {
	good := encodeMarks(someMarks(2))
	change := func(at int, to byte) []byte {
		b := slices.Clone(good)
		b[at] = to
		return b
	}
	for name, b := range map[string][]byte{
		"nothing":               {},
		"another version":       change(0, 2),
		"cut short":             good[:len(good)-1],
		"too long":              append(slices.Clone(good), 0),
		"a negative partition":  change(1, 0x80),
		"a negative offset":     change(1+20, 0x80),
		"an epoch less than -1": change(1+28, 0x80),
		"not sorted":            change(1+markSize+3, 0),
		"a partition twice":     change(1+markSize+3, 1),
		"more than partitions":  encodeMarks(someMarks(signals.MaxPartitions + 1)),
	} {
		if marks, err := decodeMarks(b); !errors.Is(err, errMarks) {
			t.Errorf("%s: %v, %v", name, marks, err)
		}
	}
}

// Two records that differ in anything that was read have different marks, also where one
// member's end is another's beginning.
func TestAMarkTellsRecordsApart(t *testing.T) {
	seen := map[[16]byte]string{}
	note := func(name string, hash [16]byte) {
		if other, twice := seen[hash]; twice {
			t.Errorf("%s and %s have one hash", name, other)
		}
		seen[hash] = name
	}
	for i, r := range []record{
		{value: []byte("v")},
		{value: []byte("w")},
		{value: []byte{}},
		{noValue: true},
		{value: []byte("v"), appended: 1_000_000},
		{value: []byte("v"), appended: math.MaxInt64},
		{key: []byte("v"), value: []byte{}},
		{key: []byte("k"), value: []byte("ey")},
		{key: []byte("ke"), value: []byte("y")},
	} {
		note(fmt.Sprint("record ", i), r.hash(nil))
	}
	one, other := batch{sealed: []byte("a")}, batch{sealed: []byte("b")}
	note("a batch", one.hash())
	note("another", other.hash())
	r := record{offset: 1, key: []byte("k"), value: []byte("v")}
	s := record{offset: 2, key: bytes.Clone(r.key), value: bytes.Clone(r.value)}
	if r.hash(nil) != s.hash(nil) {
		t.Error("the same content has two hashes")
	}
}
