package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"maps"
	"math"
	"testing"

	"vigil/posture"
	"vigil/signals"
)

// manyPartitions stands at places of a log whose partitions have numbers of all sizes, as
// those of several topics have.
func manyPartitions() Meta {
	meta := metaAt(42)
	for _, p := range []int32{1, 4095, 1<<12 | 3, 391_245<<12 | 7, math.MaxInt32} {
		meta.Positions[p] = int64(p) * 1000
	}
	return meta
}

func TestMarksAndLargePartitionsComeBack(t *testing.T) {
	store := storeOf(t, 3)
	for _, size := range []int{0, 1, 1000, MaxMarks} {
		meta := manyPartitions()
		meta.Marks = bytes.Repeat([]byte{0, 7, 255, 1}, size/4+1)[:size]
		file := encoded(t, meta, store)
		for name, read := range map[string]func() (Meta, error){
			"Read":  func() (Meta, error) { m, _, err := Read(bytes.NewReader(file), now); return m, err },
			"Check": func() (Meta, error) { return Check(bytes.NewReader(file)) },
			"peek":  func() (Meta, error) { return readMeta(bytes.NewReader(file)) },
		} {
			got, err := read()
			if err != nil {
				t.Fatalf("%s, %d bytes of marks: %v", name, size, err)
			}
			if !bytes.Equal(got.Marks, meta.Marks) || !maps.Equal(got.Positions, meta.Positions) || got.Log != ours {
				t.Errorf("%s, %d bytes of marks: %d came back, positions %v", name, size, len(got.Marks), got.Positions)
			}
		}
	}
}

// Older programs read version 1 alone. Without marks the bytes are those that they wrote;
// the sum is of what the program before marks made of the same.
func TestWithoutMarksTheFileIsWhatItWasBeforeThereWereAny(t *testing.T) {
	const before = "0adf13fdcc0e6ad078fed0ee4d9957541b2c8050c2f9311307af369e84513ddd"
	meta := metaAt(42)
	meta.Positions[7], meta.Entities, meta.Digest = 1<<40, 9, [32]byte{1, 2}
	head, err := meta.encode()
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(head); hex.EncodeToString(sum[:]) != before {
		t.Errorf("other bytes: %x", sum)
	}
	if v := le.Uint32(encoded(t, meta, storeOf(t, 1))[8:]); v != 1 {
		t.Errorf("version %d", v)
	}
	meta.Marks = []byte("m")
	if v := le.Uint32(encoded(t, meta, storeOf(t, 1))[8:]); v != 2 {
		t.Errorf("with marks: version %d", v)
	}
}

func TestMarksThatAreTooLongAreRefused(t *testing.T) {
	meta := metaAt(1)
	meta.Marks = make([]byte, MaxMarks+1)
	if err := Write(io.Discard, meta, posture.NewStore()); err == nil {
		t.Error("written, and never to be read")
	}
}

// A header whose checksum holds may still lie about sizes. It is refused before memory is
// made for what it claims.
func TestHeadersThatLieAboutMarksAreDamage(t *testing.T) {
	honest := metaAt(1)
	honest.Marks = []byte("abc")
	head, _ := honest.encode()
	at := headerFixed + positionSize
	for name, lie := range map[string]func(b []byte) []byte{
		"more marks than there is room":  func(b []byte) []byte { le.PutUint32(b[at:], 4); return b },
		"fewer marks than there is room": func(b []byte) []byte { le.PutUint32(b[at:], 2); return b },
		"no marks at all": func(b []byte) []byte {
			b = append(b[:at:at], 0, 0, 0, 0, 0, 0, 0, 0)
			le.PutUint32(b[12:], uint32(len(b)))
			return b
		},
		"an old version with marks":       func(b []byte) []byte { le.PutUint32(b[8:], 1); return b },
		"a header of four gigabytes":      func(b []byte) []byte { le.PutUint32(b[12:], math.MaxUint32); return b },
		"a header shorter than its parts": func(b []byte) []byte { le.PutUint32(b[12:], headerFixed); return b },
		"positions without end":           func(b []byte) []byte { le.PutUint32(b[80:], math.MaxUint32); return b },
	} {
		b := lie(bytes.Clone(head))
		body := b[:len(b)-headerSum]
		le.PutUint32(b[len(body):], crc32.Checksum(body, castagnoli))
		if _, err := readMeta(bytes.NewReader(b)); !errors.As(err, new(*DamagedError)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if m, err := readMeta(bytes.NewReader(head)); err != nil || string(m.Marks) != "abc" {
		t.Errorf("the honest one: %v, %q", err, m.Marks)
	}
}

// What a log's mark says decides whether the snapshot can be used.
func TestAcceptSeesTheMarks(t *testing.T) {
	d, _, _ := folder()
	for n := range 3 {
		meta := metaAt(int64(n + 1))
		meta.Marks = []byte{byte(n)}
		if _, err := d.Save(meta, storeOf(t, n+1)); err != nil {
			t.Fatal(err)
		}
	}
	meta, _, err := d.Newest(func(m Meta) error {
		if m.Marks[0] > 1 {
			return errors.New("the log has another record there")
		}
		return Of(ours)(m)
	}, now)
	if err != nil || meta.Positions[0] != 2 || meta.Log != (signals.LogID{1, 2, 3}) {
		t.Errorf("%+v, %v", meta, err)
	}
}

// FuzzRead feeds Read anything: it must not fail but by an error, nor need much memory.
// What it accepts it must accept again after being written.
func FuzzRead(f *testing.F) {
	for _, n := range []int{0, 3} {
		whole := encoded(f, metaAt(1), storeOf(f, n))
		f.Add(whole)
		f.Add(whole[:len(whole)/2])
	}
	marked := manyPartitions()
	marked.Marks = []byte("marks of a log")
	f.Add(encoded(f, marked, storeOf(f, 3)))
	f.Add(forge(func(w *partWriter) { _ = w.put(part(partStored, 3, []byte("abc"))) }))
	f.Fuzz(func(t *testing.T, file []byte) {
		meta, store, err := Read(bytes.NewReader(file), now)
		if err != nil {
			return
		}
		again, copied, err := Read(bytes.NewReader(encoded(t, meta, store)), now)
		if err != nil || again.Log != meta.Log || !maps.Equal(again.Positions, meta.Positions) || !bytes.Equal(again.Marks, meta.Marks) || copied.Digest(now) != store.Digest(now) {
			t.Fatalf("does not come back: %v", err)
		}
	})
}
