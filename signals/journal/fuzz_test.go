package journal

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"vigil/disk/disktest"
	"vigil/signals"
)

// segmentOf builds the bytes of a segment with some groups.
func segmentOf(groups ...[]string) []byte {
	h := header{id: signals.LogID{1}, ordinal: 1, salt: salt{1, 2, 3, 4, 5, 6, 7, 8}, before: genesis(signals.LogID{1})}
	b := h.encode()
	to := mark{0, h.before}
	chain := newChainer()
	for _, g := range groups {
		b = appendMark(b, h.salt, to.next, to.running)
		payloads := make([][]byte, len(g))
		for i := range g {
			payloads[i] = []byte(g[i])
		}
		r := layOut(payloads)
		to.running = r.complete(to.next, 5, saltSum(h.salt), to.running, chain)
		to.next += int64(len(g))
		b = append(b, r.frames...)
	}
	return b
}

func FuzzSegmentReader(f *testing.F) {
	whole := segmentOf([]string{"a", "bb"}, []string{""}, []string{"ccc", "d"})
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add(append(bytes.Clone(whole), make([]byte, 40)...))
	f.Add(segmentOf())
	f.Add([]byte(headerMagic))
	for _, at := range []int{60, headerSize + 1, headerSize + 4, headerSize + markFrame + 4, len(whole) - 1} {
		bad := bytes.Clone(whole)
		bad[at] ^= 0x81
		f.Add(bad)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := disktest.New()
		m.Put("/s", data)
		file, err := m.Open("/s", os.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		var bad *frameError
		r, err := readSegment(file, int64(len(data)))
		if err != nil {
			if !errors.As(err, &bad) {
				t.Fatal(err)
			}
			return
		}
		// What is read is in the file, byte for byte: written again it is the same up
		// to where reading stopped.
		chain, running := newChainer(), r.header.before
		for {
			from := r.at
			appended, payload, err := r.record()
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.As(err, &bad) {
					t.Fatal(err)
				}
				break
			}
			again := layOut([][]byte{payload})
			again.dated = true
			again.entries[0].Appended = appended
			running = again.complete(r.next-1, 0, r.saltSum, running, chain)
			if running != r.running || !bytes.HasSuffix(data[from:r.at], again.frames) {
				t.Fatalf("record %d reads as something else than what is there", r.next-1)
			}
		}
		if r.at > int64(len(data)) || r.at < headerSize {
			t.Fatalf("stopped at %d of %d", r.at, len(data))
		}
		if _, err := r.marksBehind(r.at, int64(len(data))); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzIdentity(f *testing.F) {
	id := newIdentity(3)
	id.ancestors = []ancestor{{signals.LogID{1}, 2}}
	f.Add(id.encode())
	f.Add([]byte(identityHeading))
	f.Fuzz(func(t *testing.T, data []byte) {
		id, err := decodeIdentity(data)
		if err == nil && !bytes.Equal(id.encode(), data) {
			t.Fatal("two spellings")
		}
	})
}

func TestMarksAreFoundBehindDamageAcrossReads(t *testing.T) {
	whole := segmentOf([]string{"a"}, []string{"b"})
	h, err := decodeHeader(whole)
	if err != nil {
		t.Fatal(err)
	}
	frame := appendMark(nil, h.salt, 77, digest{})
	for _, gap := range []int{0, 1, 1<<20 - 70, 1<<20 - 64, 1<<20 - 30, 1<<20 - 1, 1 << 20, 3 << 20} {
		data := append(bytes.Clone(whole), bytes.Repeat([]byte{0xee}, gap)...)
		data = append(append(data, frame...), 0xee)
		m := disktest.New()
		m.Put("/s", data)
		file, _ := m.Open("/s", os.O_RDONLY, 0)
		r, err := readSegment(file, int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.marksBehind(int64(len(whole)), int64(len(data))); err != nil || got != 77 {
			t.Errorf("gap %d: %d, %v", gap, got, err)
		}
	}
}

// A payload that looks like a mark is none: whoever sends signals does not know the salt.
func TestPayloadDoesNotPassForAMark(t *testing.T) {
	m := disktest.New()
	j := mustOpen(t, m)
	fake := appendMark(nil, salt{}, 1<<40, digest{})
	appendAll(t, j, string(fake))
	path := j.mu.segments[0].path
	_ = j.Close()
	data := m.Contents(path)
	m.Put(path, append(data, fake...)) // and a torn tail that ends with one
	j = mustOpen(t, m)
	if j.Head() != 1 {
		t.Errorf("head %d", j.Head())
	}
}

func TestWatermarkSlots(t *testing.T) {
	file := make([]byte, watermarkSize)
	if _, ok := decodeWatermark(file); ok {
		t.Error("zeros are a watermark")
	}
	older, newer := watermark{1, signals.LogID{1}, 10}, watermark{2, signals.LogID{1}, 20}
	copy(file, newer.encode())
	copy(file[slotDistance:], older.encode())
	if w, ok := decodeWatermark(file); !ok || w != newer {
		t.Errorf("%+v", w)
	}
	for i := range slotSize {
		torn := bytes.Clone(file)
		torn[i] ^= 4
		if w, ok := decodeWatermark(torn); !ok || w != older {
			t.Errorf("byte %d of the newer slot torn: %+v, %v", i, w, ok)
		}
	}
}
