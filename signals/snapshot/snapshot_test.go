package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"vigil/authz"
	"vigil/posture"
	"vigil/signals"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	ours   = signals.LogID{1, 2, 3}
	theirs = signals.LogID{9, 9, 9}
)

const now = authz.Instant(1_700_000_000_000_000_000)

// storeOf makes a posture of n agents, each with a registration and a risk.
func storeOf(t testing.TB, n int) *posture.Store {
	t.Helper()
	s := posture.NewStore()
	for i := range n {
		id := fmt.Sprintf("agent-%d", i)
		s.Apply(now, []posture.Change{{
			Key: authz.Key{Tenant: "default", Kind: authz.KindAgent, ID: id},
			Facts: []posture.Fact{
				{Facet: posture.Registration, Source: "client:ops", ID: "r" + id, Time: now - 2, Until: authz.Forever,
					Registration: &posture.Registered{Class: "standard", Scopes: []string{"pay"}}},
				{Facet: posture.Risk, Source: "client:soar", ID: "k" + id, Time: now - 1, Until: authz.Forever, Risk: i % 101},
			},
		}})
	}
	return s
}

func metaAt(offset int64) Meta {
	return Meta{Log: ours, Positions: signals.Positions{0: offset}, Now: now}
}

func encoded(t testing.TB, meta Meta, store *posture.Store) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, meta, store); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReadGivesThePostureThatWasWritten(t *testing.T) {
	for _, n := range []int{0, 1, 1500} {
		store := storeOf(t, n)
		meta := metaAt(42)
		meta.Positions[7] = 1 << 40
		meta.Digest = store.Digest(now)
		got, read, err := Read(bytes.NewReader(encoded(t, meta, store)), now)
		if err != nil {
			t.Fatal(err)
		}
		if read.Digest(now) != meta.Digest || got.Digest != meta.Digest {
			t.Errorf("%d agents: another posture came back", n)
		}
		if got.Log != ours || got.Now != now || got.Entities != uint64(n) ||
			len(got.Positions) != 2 || got.Positions[0] != 42 || got.Positions[7] != 1<<40 {
			t.Errorf("%d agents: meta %+v", n, got)
		}
	}
}

func TestWriteIsReproducible(t *testing.T) {
	store := storeOf(t, 300)
	if !bytes.Equal(encoded(t, metaAt(1), store), encoded(t, metaAt(1), store)) {
		t.Error("the same posture gave two different files")
	}
}

// Every byte counts: whatever is changed, cut off or added, Read and Check refuse.
func TestDamageAtEveryByteIsRefused(t *testing.T) {
	damageEveryByte(t, encoded(t, metaAt(42), storeOf(t, 10)))
	marked := metaAt(42)
	marked.Marks = []byte("marks of a log")
	damageEveryByte(t, encoded(t, marked, storeOf(t, 1)))
}

func damageEveryByte(t *testing.T, whole []byte) {
	t.Helper()
	tries := 0
	try := func(what string, file []byte) {
		t.Helper()
		if tries++; tries%11 == 0 { // a store is expensive to make
			if _, _, err := Read(bytes.NewReader(file), now); err == nil {
				t.Fatalf("Read accepts %s", what)
			}
		}
		if _, err := Check(bytes.NewReader(file)); err == nil {
			t.Fatalf("Check accepts %s", what)
		}
	}
	for i := range whole {
		for _, mask := range []byte{1, 3, 0x80, 0xff} {
			flipped := bytes.Clone(whole)
			flipped[i] ^= mask
			try(fmt.Sprintf("byte %d changed by %#x", i, mask), flipped)
		}
		try(fmt.Sprintf("a file cut at %d", i), whole[:i])
		try(fmt.Sprintf("byte %d missing", i), append(bytes.Clone(whole[:i]), whole[i+1:]...))
	}
	try("a byte too many", append(bytes.Clone(whole), 0))
	try("two files in one", append(bytes.Clone(whole), whole...))
	if _, _, err := Read(bytes.NewReader(whole), now); err != nil {
		t.Fatal(err)
	}
}

// forge builds a file with right checksums around parts of any kind.
func forge(parts func(p *partWriter)) []byte {
	var b bytes.Buffer
	p, err := newPartWriter(&b)
	if err != nil {
		panic(err)
	}
	meta := metaAt(1)
	head, _ := meta.encode()
	_ = p.put(head)
	parts(p)
	_ = p.finish()
	return b.Bytes()
}

func part(kind byte, raw uint32, data []byte) []byte {
	b := le.AppendUint32([]byte{kind}, uint32(len(data)))
	return append(le.AppendUint32(b, raw), data...)
}

// A file may say anything about its sizes: the memory that it takes to find out is a few
// MiB, and what it decodes to is bounded by its length.
func TestZstdBombIsRefusedWithinBoundedMemory(t *testing.T) {
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer encoder.Close()
	bomb := encoder.EncodeAll(make([]byte, 64<<20), nil)
	honest := encoder.EncodeAll(make([]byte, maxRaw), nil)
	for name, p := range map[string][]byte{
		"says how large it gets":            part(partZstd, 64<<20, bomb),
		"says that it is small":             part(partZstd, maxRaw, bomb),
		"fits, but grows too much":          part(partZstd, maxRaw, honest),
		"grows more than it says":           part(partZstd, uint32(len(honest)), honest),
		"stored, and says to be huge":       part(partStored, 1<<32-1, []byte("x")),
		"compressed, and says to be huge":   append(le.AppendUint32(le.AppendUint32([]byte{partZstd}, 1<<32-1), 1<<32-1), 'x'),
		"an empty part, which never ends":   bytes.Repeat(part(partStored, 0, nil), 1000),
		"many frames in one part":           part(partZstd, maxRaw, bytes.Repeat(honest, 200)),
		"an unknown kind":                   part(3, 1, []byte("x")),
		"a window larger than is allowed":   part(partZstd, maxRaw, []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 0x01, 0x00, 0x00}),
		"not zstd, though it says so":       part(partZstd, 8, []byte("nonsense")[:7]),
		"less than it says when compressed": part(partZstd, 2000, encoder.EncodeAll(make([]byte, 1000), nil)),
	} {
		t.Run(name, func(t *testing.T) {
			file := forge(func(w *partWriter) { _ = w.put(p) })
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Check(bytes.NewReader(file))
			runtime.ReadMemStats(&after)
			if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20 {
				t.Errorf("%d MiB were allocated", used>>20)
			}
			var damage *DamagedError
			if !errors.As(err, &damage) {
				t.Errorf("Check: %v", err)
			}
		})
	}
}

func TestCompressiblePostureDecodesWithinTheRatio(t *testing.T) {
	var b bytes.Buffer
	want := make([]byte, 5*maxRaw+17) // zeros compress better than the ratio: stored as they are
	err := write(&b, metaAt(1), func(w io.Writer) error {
		_, err := w.Write(want)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if _, err := read(&b, func(r io.Reader) error { _, err := io.Copy(&got, r); return err }); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Error("other bytes came back")
	}
}

// broken fails after n bytes.
type broken struct {
	n   int
	err error
}

func (b *broken) Write(p []byte) (int, error) {
	if b.n -= len(p); b.n < 0 {
		return 0, b.err
	}
	return len(p), nil
}

func TestErrorsOfTheDiskAreReported(t *testing.T) {
	store := storeOf(t, 5)
	whole := encoded(t, metaAt(1), store)
	odd := errors.New("odd")
	for n := 0; n < len(whole); n += 3 {
		if err := Write(&broken{n, odd}, metaAt(1), store); !errors.Is(err, odd) {
			t.Fatalf("a write that failed after %d bytes: %v", n, err)
		}
		r := io.MultiReader(bytes.NewReader(whole[:n]), iotest.ErrReader(odd))
		if _, _, err := Read(r, now); !errors.Is(err, odd) {
			t.Fatalf("a read that failed after %d bytes: %v", n, err)
		}
	}
}

func TestNewerVersionIsNamed(t *testing.T) {
	whole := encoded(t, metaAt(1), storeOf(t, 1))
	whole[8] = 3
	end := headerFixed + positionSize
	le.PutUint32(whole[end:], crc32.Checksum(whole[:end], castagnoli))
	_, _, err := Read(bytes.NewReader(whole), now)
	if err == nil || !strings.Contains(err.Error(), "version 3") {
		t.Errorf("version 3: %v", err)
	}
}

// What follows the version is another version's to lay out: sizes that this one does not
// know must not make it damage, which is removed.
func TestNewerVersionIsNeverDamage(t *testing.T) {
	d, m, _ := folder()
	for _, n := range []int{1, 2, 3} {
		save(t, d, n)
	}
	newer := "/s/" + fileNameOf(t, m, 0)
	m.Put(newer, append(le.AppendUint32([]byte(magic), 3), "short"...))
	save(t, d, 4)
	kept, err := d.Retain(2, Of(ours))
	if err != nil || len(kept.Good) != 2 || kept.TrimBefore[0] != 2 || m.Contents(newer) == nil {
		t.Errorf("%+v, %v, left: %v", kept, err, m.Names())
	}
	_, err = d.peek(newer)
	if !errors.Is(err, ErrNewer) || errors.As(err, new(*DamagedError)) {
		t.Errorf("read: %v", err)
	}
}

// The checksums hold, and the posture inside cannot be read: such a file must not let the
// log be trimmed.
func TestCheckDecodesThePosture(t *testing.T) {
	whole := forge(func(p *partWriter) { _, _ = p.Write([]byte("no posture at all")) })
	if _, err := Check(bytes.NewReader(whole)); !errors.As(err, new(*DamagedError)) {
		t.Errorf("Check: %v", err)
	}
	d, m, _ := folder()
	save(t, d, 1)
	m.Put("/s/"+fileName(metaAt(2)), whole)
	if kept, err := d.Retain(2, Of(ours)); err != nil || kept.TrimBefore != nil {
		t.Errorf("%+v, %v", kept, err)
	}
}

func TestSetAsideLeavesWhatIsAccepted(t *testing.T) {
	d, m, _ := folder()
	save(t, d, 1)
	other := metaAt(9)
	other.Log = theirs
	path, err := d.Save(other, storeOf(t, 9))
	if err != nil {
		t.Fatal(err)
	}
	m.Put("/s/snapshot-z.vigil", []byte("?"))
	aside, err := d.SetAside(Of(ours))
	if err != nil || len(aside) != 2 || m.Contents(path+".void") == nil {
		t.Fatalf("%v, %v", aside, err)
	}
	wantNewest(t, d, 1)
}

func TestTooManyPartitionsAreRefused(t *testing.T) {
	meta := metaAt(1)
	for i := range int32(maxPositions + 1) {
		meta.Positions[i] = 1
	}
	if err := Write(io.Discard, meta, posture.NewStore()); err == nil {
		t.Error("written, and never to be read")
	}
}

func BenchmarkWrite(b *testing.B) {
	store := storeOf(b, 100_000)
	size := len(encoded(b, metaAt(1), store))
	b.ReportMetric(float64(size)/100_000, "bytes/entity")
	for b.Loop() {
		if err := Write(io.Discard, metaAt(1), store); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	whole := encoded(b, metaAt(1), storeOf(b, 100_000))
	b.Run("check", func(b *testing.B) {
		b.SetBytes(int64(len(whole)))
		for b.Loop() {
			if _, err := Check(bytes.NewReader(whole)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("store", func(b *testing.B) {
		b.SetBytes(int64(len(whole)))
		for b.Loop() {
			if _, _, err := Read(bytes.NewReader(whole), now); err != nil {
				b.Fatal(err)
			}
		}
	})
}
