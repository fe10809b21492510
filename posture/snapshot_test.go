package posture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"vigil/authz"
)

// sampleStore has every kind, several tenants and every facet.
func sampleStore() *Store {
	s := newStore(4, &defaultCaps)
	for i, k := range authz.Kinds() {
		for _, tenant := range []string{"default", "other"} {
			s.Apply(1, []Change{{authz.Ref{Kind: k, ID: fmt.Sprint("id-", i)}.In(tenant), sampleFacts()}})
		}
	}
	return s
}

func snapshotOf(t testing.TB, s *Store, now authz.Instant) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.WriteSnapshot(&b, now); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func restored(b io.Reader) (*Store, error) {
	s := newStore(4, &defaultCaps)
	return s, s.restore(b, 1)
}

func TestASnapshotHoldsEverything(t *testing.T) {
	s := sampleStore()
	back, err := ReadSnapshot(iotest.OneByteReader(bytes.NewReader(snapshotOf(t, s, 1))), 1)
	if err != nil {
		t.Fatal(err)
	}
	if back.Digest(1) != s.Digest(1) || back.Len() != s.Len() || back.Held() != s.Held() {
		t.Errorf("%v %v; want %v %v", back.Len(), back.Held(), s.Len(), s.Held())
	}
	s.Walk(func(key authz.Key, r *Record) bool {
		if d := difference(said(back.Get(key).At(1)), said(r.At(1))); d != "" {
			t.Errorf("%v:\n%s", key, d)
		}
		return true
	})
	// It is a store like any other.
	v := viewOf(back, agent("id-0"), agent("later"))
	stamp := stampOf(v)
	if back.Apply(1, []Change{{agent("later"), []Fact{risk(1, 1)}}}); stamp.Current() || v.Confirm() {
		t.Error("a birth after the restart went unnoticed")
	}
}

func TestAnEmptySnapshot(t *testing.T) {
	s, err := restored(bytes.NewReader(snapshotOf(t, newStore(4, &defaultCaps), 1)))
	if err != nil || s.Digest(1) != ([32]byte{}) {
		t.Error(err)
	}
}

// TestEveryDamagedByteIsRefused flips bits, cuts, repeats and leaves out.
func TestEveryDamagedByteIsRefused(t *testing.T) {
	small := newStore(4, &defaultCaps)
	small.Apply(1, []Change{{agent("a"), sampleFacts()[:8]}, {agent("b"), sampleFacts()[8:]}})
	whole := snapshotOf(t, small, 1)
	if _, err := restored(bytes.NewReader(whole)); err != nil {
		t.Fatal(err)
	}
	refused := func(what string, b []byte) {
		t.Helper()
		s, err := restored(bytes.NewReader(b))
		var at *SnapshotError
		if err == nil || !errors.As(err, &at) {
			t.Errorf("%s: %v, %v", what, s.Len(), err)
		}
	}
	for i := range whole {
		for _, mask := range []byte{1, 0x80} {
			b := bytes.Clone(whole)
			b[i] ^= mask
			refused(fmt.Sprintf("byte %d, mask %x", i, mask), b)
		}
		refused(fmt.Sprintf("the first %d bytes", i), whole[:i])
		refused(fmt.Sprintf("without byte %d", i), append(bytes.Clone(whole[:i]), whole[i+1:]...))
	}
	refused("a byte too many", append(bytes.Clone(whole), 0))
	refused("twice", append(bytes.Clone(whole), whole...))
}

// TestABlockOutOfPlaceIsRefused moves whole blocks, each of which is sound in itself.
func TestABlockOutOfPlaceIsRefused(t *testing.T) {
	s := newStore(4, &defaultCaps)
	for i := range 4000 {
		s.Apply(1, []Change{{agent(fmt.Sprintf("%06d", i)), []Fact{{Facet: Taint, Source: "client:a", ID: "t", Time: 1, Reason: strings.Repeat("x", 40)}}}})
	}
	whole := snapshotOf(t, s, 1)
	head := len(snapshotMagic) + 10
	var blocks [][]byte
	for at := head; ; {
		n := int(binary.BigEndian.Uint32(whole[at:]))
		if n == 0 {
			blocks = append(blocks, whole[at:])
			break
		}
		blocks = append(blocks, whole[at:at+4+n+4])
		at += 4 + n + 4
	}
	if len(blocks) < 4 {
		t.Fatal("too few blocks: ", len(blocks))
	}
	join := func(order ...int) []byte {
		b := bytes.Clone(whole[:head])
		for _, i := range order {
			b = append(b, blocks[i]...)
		}
		for i := len(order); i < len(blocks); i++ {
			b = append(b, blocks[i]...)
		}
		return b
	}
	if _, err := restored(bytes.NewReader(join(0))); err != nil {
		t.Fatal(err)
	}
	for _, order := range [][]int{{1, 0}, {0, 0}, {0, 2, 1}, {0, len(blocks) - 1}} {
		if _, err := restored(bytes.NewReader(join(order...))); err == nil {
			t.Error(order)
		}
	}
}

// seal makes a snapshot of a payload in which nothing was heard, with right checksums.
func seal(payload []byte, count uint64) []byte {
	b := append([]byte(snapshotMagic), 1, factVersion)
	b = binary.BigEndian.AppendUint64(b, count)
	sum := func() { b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)) }
	if len(payload) > 0 {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(payload))), payload...)
		sum()
	}
	b = binary.BigEndian.AppendUint64(append(b, 0, 0, 0, 0), count)
	sum()
	return b
}

func TestASoundSnapshotOfWrongContentIsRefused(t *testing.T) {
	fact := appendFact(nil, &Fact{Facet: Taint, Source: "s", ID: "i", Time: 1, Until: authz.Forever}, 0, 0)
	entity := func(kind byte, tenant, id string, facts []byte) []byte {
		b := appendString([]byte{kind, 0}, tenant)
		return appendString(appendString(b, id), string(facts))
	}
	two := append(bytes.Clone(fact), fact...)
	future := bytes.Clone(fact)
	future[0] = byte(Waive) + 1
	newer := seal(nil, 0)
	newer[len(snapshotMagic)] = snapshotVersion + 1
	for _, c := range []struct {
		name     string
		snapshot []byte
		want     string
		newer    bool
	}{
		{"sound", seal(entity(1, "t", "a", fact), 1), "", false},
		{"no magic", []byte("something else, long enough to be one"), "no snapshot", false},
		{"a newer version", newer, "versions 3 and 1", true},
		{"a newer facet", seal(entity(1, "t", "a", future), 1), "t agent:a: byte 0: facet 14", true},
		{"a newer kind", seal(entity(byte(authz.NumKinds), "t", "a", fact), 1), "kind", true},
		{"kind 0", seal(entity(0, "t", "a", fact), 1), "kind", true},
		{"the same entity twice", seal(append(entity(1, "t", "a", fact), entity(1, "t", "a", fact)...), 2), "out of order", false},
		{"tenants out of order", seal(append(entity(1, "t", "a", fact), entity(1, "s", "b", fact)...), 2), "out of order", false},
		{"the same fact twice, which is harmless", seal(entity(1, "t", "a", two), 1), "", false},
		{"no facts", seal(entity(1, "t", "a", nil), 1), "without facts", false},
		{"more entities announced", seal(entity(1, "t", "a", fact), 2), "1 entities instead of 2", false},
		{"an entity cut short", seal(entity(1, "t", "a", fact)[:10], 1), "byte ", false},
		{"a reference to nothing", seal(append([]byte{1, 5}, entity(1, "t", "a", fact)[2:]...), 1), "reference 5", false},
		{"a block that lies about its length", append(seal(nil, 0)[:len(snapshotMagic)+10], 0x0f, 0xff, 0xff, 0xff), "too early", false},
		{"a block beyond all bounds", append(seal(nil, 0)[:len(snapshotMagic)+10], 0xff, 0xff, 0xff, 0xff), "a block of", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := restored(bytes.NewReader(c.snapshot))
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, ErrNewer) != c.newer {
				t.Errorf("%v; want %q, newer %v", err, c.want, c.newer)
			}
		})
	}
}

func TestAnErrorOfReaderOrWriterIsPassedOn(t *testing.T) {
	broken := errors.New("broken pipe")
	whole := snapshotOf(t, sampleStore(), 1)
	if _, err := restored(io.MultiReader(bytes.NewReader(whole[:100]), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := restored(io.MultiReader(bytes.NewReader(whole), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Error(err)
	}
	if err := sampleStore().WriteSnapshot(failing{broken}, 1); !errors.Is(err, broken) {
		t.Error(err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// FuzzReadSnapshot: whatever is read without an error is a store whose own snapshot
// reads as the same; nothing that is read crashes, or takes more than it should.
func FuzzReadSnapshot(f *testing.F) {
	f.Add(snapshotOf(f, sampleStore(), 1)[len(snapshotMagic)+10:])
	small := newStore(4, &defaultCaps)
	small.Apply(1, []Change{{agent("a"), sampleFacts()[:3]}})
	b := snapshotOf(f, small, 1)
	b = b[len(snapshotMagic)+10+4:]
	f.Add(b[:len(b)-4-4-8-4])
	f.Add(binary.BigEndian.AppendUint64(appendString(nil, "client:a"), 5))
	f.Fuzz(func(t *testing.T, payload []byte) {
		in := snapshotReader{store: newStore(4, &smallCaps)}
		if in.heard(string(payload)) == nil && !bytes.Equal((&snapshotWriter{store: in.store}).heard(), payload) && len(in.store.heard.all()) < smallCaps.heard {
			t.Errorf("%q was heard and is written otherwise", payload)
		}
		for count := range uint64(4) {
			s, err := restored(bytes.NewReader(seal(payload, count)))
			if err != nil {
				continue
			}
			back, err := restored(bytes.NewReader(snapshotOf(t, s, 1)))
			if err != nil || back.Digest(1) != s.Digest(1) {
				t.Errorf("%v", err)
			}
		}
	})
}
