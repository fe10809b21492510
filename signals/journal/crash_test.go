package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"vigil/disk/disktest"
	"vigil/signals"
)

func newRandom(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// history is what a caller knows of a log.
type history struct {
	acknowledged map[int64]string
	unknown      map[string]bool // may be in the log
	trimmed      int64           // at most; a crash may bring back what was trimmed
	next         int
}

// check opens what is left of a journal and compares. What it sees becomes something that
// must be seen from then on: readers have acted on it.
func (h *history) check(t *rapid.T, m *disktest.Memory, opt Options) *Journal {
	j, err := Open(dir, opt)
	if err != nil {
		t.Fatalf("does not open: %v", err)
	}
	first := j.FirstOffset()
	got, err := follow(j, first)
	if err != nil {
		t.Fatalf("does not read: %v", err)
	}
	for i, record := range got {
		offset := first + int64(i)
		want, known := h.acknowledged[offset]
		switch {
		case known && want != record:
			t.Fatalf("record %d is %q, acknowledged was %q", offset, record, want)
		case !known && !h.unknown[record]:
			t.Fatalf("record %d is %q, which was refused or never sent", offset, record)
		}
		h.acknowledged[offset] = record
		delete(h.unknown, record)
	}
	head := first + int64(len(got))
	for offset, record := range h.acknowledged {
		if offset >= head {
			t.Fatalf("acknowledged record %d, %q, is lost: the log ends at %d", offset, record, head)
		}
	}
	if first > h.trimmed {
		t.Fatalf("the log begins at %d and was trimmed at %d at most", first, h.trimmed)
	}
	return j
}

// Whatever fails, and wherever the machine stops, with any part of what was not synced
// forgotten: every acknowledged record is found, in its place, and none that was refused.
func TestNoAcknowledgedRecordIsLostByACrash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := disktest.New()
		h := &history{acknowledged: map[int64]string{}, unknown: map[string]bool{}}
		opt := Options{FS: m, RetryAfter: time.Nanosecond, RetryAtMost: time.Microsecond,
			SegmentBytes: rapid.Int64Range(1, 900).Draw(t, "segment"),
			MarkAfter:    rapid.SampledFrom([]time.Duration{1, time.Hour}).Draw(t, "mark after")}
		j := h.check(t, m, opt)
		defer func() { _ = j.Close() }()
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 11).Draw(t, "step") {
			default:
				h.append(t, j)
			case 7:
				m.StopAfter(rapid.IntRange(0, 12).Draw(t, "stop after"))
			case 8:
				m.SetFault(rareFault(rapid.Uint64().Draw(t, "faults")))
			case 9:
				m.SetFault(nil)
			case 10:
				if head := j.Head(); head > 0 {
					before := rapid.Int64Range(0, head).Draw(t, "trim")
					h.trimmed = max(h.trimmed, before)
					_, _ = j.Trim(before)
				}
			case 11:
				switch rapid.IntRange(0, 2).Draw(t, "end") {
				case 0:
					_ = j.Close()
					m.Kill()
				case 1: // kill -9
					m.StopAfter(0)
					_ = j.Close()
					m.Kill()
				case 2: // the power is gone
					m.StopAfter(0)
					_ = j.Close()
					m.Crash(newRandom(rapid.Uint64().Draw(t, "crash")))
				}
				j = h.check(t, m, opt)
			}
		}
	})
}

func (h *history) append(t *rapid.T, j *Journal) {
	var batch [][]byte
	for range rapid.IntRange(1, 4).Draw(t, "records") {
		record := fmt.Sprintf("record %d %s", h.next, strings.Repeat("x", rapid.IntRange(0, 80).Draw(t, "size")))
		h.next++
		batch = append(batch, []byte(record))
	}
	at, err := j.Append(context.Background(), batch)
	for i, record := range batch {
		switch {
		case err == nil:
			h.acknowledged[at[i].Offset] = string(record)
		case !errors.Is(err, signals.ErrUnavailable):
			h.unknown[string(record)] = true
		}
	}
}

// rareFault fails one call in eight with one error or another.
func rareFault(seed uint64) disktest.Fault {
	random := newRandom(seed)
	return func(_ disktest.Op, _ string, asked int) (int, error) {
		if random.IntN(8) > 0 {
			return asked, nil
		}
		return random.IntN(asked + 1), errors.New("a fault")
	}
}

// A tail may be cut off anywhere: what stands before is found whole, and a cut below the
// watermark is refused.
func TestTornTailsOfEveryLength(t *testing.T) {
	m := disktest.New()
	slow := func(o *Options) { o.MarkAfter = time.Hour }
	j := mustOpen(t, m, slow)
	appendSome(t, j, 0, 5)
	if err := j.Close(); err != nil { // the watermark is 5
		t.Fatal(err)
	}
	j = mustOpen(t, m, slow)
	path := j.mu.segments[0].path
	ends := []int64{j.mu.segments[0].size}
	for i := range 4 {
		_, err := j.Append(t.Context(), [][]byte{[]byte(text(5 + 2*i)), []byte(text(6 + 2*i))})
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, j.mu.segments[0].size)
	}
	m.StopAfter(0)
	_ = j.Close()
	m.Kill()
	whole := m.Contents(path)
	for size := range whole {
		// A file may also have grown without its bytes.
		for _, junk := range [][]int{{0, 1}, {0}, {0, 300}, {0}}[size%4] {
			torn := m.Clone()
			content := append(bytes.Clone(whole[:size]), make([]byte, junk)...)
			torn.Put(path, content)
			kept := commonPrefix(whole, content) // what was cut off may have been zeros
			var log logged
			j, err := openIn(t, torn, log.to)
			if int64(kept) < ends[0] {
				var damage *DamageError
				if !errors.As(err, &damage) || !strings.Contains(err.Error(), filepath.Base(path)) || !strings.Contains(err.Error(), "journal adopt") {
					t.Fatalf("cut at %d, below the watermark: %v", size, err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("cut at %d: %v", size, err)
			}
			if torn := !wholeFrames(whole, kept) || len(content) > kept; torn != strings.Contains(log.String(), "torn tail") {
				t.Fatalf("cut at %d and %d bytes of junk: logged %s", size, junk, &log)
			}
			got := contents(t, j)
			want := 5
			for i, end := range ends[1:] {
				if int64(kept) >= end {
					want = 5 + 2*(i+1)
				}
			}
			if len(got) < want || len(got) > want+1 { // one whole record of a torn group may be there
				t.Fatalf("cut at %d: %d records, want %d", size, len(got), want)
			}
			wantRecords(t, got, 0, len(got))
			appendSome(t, j, len(got), len(got)+2)
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			wantRecords(t, contents(t, mustOpen(t, torn)), 0, len(got)+2)
		}
	}
}

// wholeFrames reports whether a segment that is cut at size ends with a whole frame.
func wholeFrames(whole []byte, size int) bool {
	at := headerSize
	for at < size {
		at += frameHead + int(le.Uint32(whole[at+4:]))
	}
	return at == size
}

func commonPrefix(a, b []byte) (n int) {
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// Any one byte of a closed journal may rot: all that was acknowledged is found, or Open
// says which file to look at. Never fewer records, silently.
func TestFlippedByteIsHarmlessOrRefused(t *testing.T) {
	m := disktest.New()
	j := mustOpen(t, m, segmentsOf(300))
	appendSome(t, j, 0, 4)
	_, err := j.Append(t.Context(), [][]byte{[]byte(text(4)), []byte(text(5)), []byte(text(6))})
	if err != nil {
		t.Fatal(err)
	}
	m.SetFault(failing(disktest.OpSync, segmentSuffix, 0, errors.New("once"))) // a void tail
	failToAppend(t, j, "void", signals.ErrUnknownOutcome)
	m.SetFault(nil)
	waitHealthy(t, j)
	appendSome(t, j, 7, 12)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	refused, harmless := 0, 0
	for _, name := range m.Names() {
		data := m.Contents(name)
		for i := range data {
			rotten := m.Clone()
			flipped := bytes.Clone(data)
			flipped[i] ^= []byte{1, 0x10, 0xff}[i%3]
			rotten.Put(name, flipped)
			j, err := openIn(t, rotten)
			if err != nil {
				var damage *DamageError
				if !errors.As(err, &damage) || damage.Path != name && !strings.HasSuffix(name, segmentSuffix) {
					t.Fatalf("%s byte %d: %v", name, i, err)
				}
				refused++
				continue
			}
			harmless++
			wantRecords(t, contents(t, j), 0, 12)
			_ = j.Close()
		}
	}
	t.Logf("%d flips refused, %d harmless", refused, harmless)
	if refused < 500 || harmless < 100 {
		t.Error("hardly anything was tried")
	}
}

// The same for a journal whose process was killed before it wrote the watermark: all but
// the last group is known to have been acknowledged, for a later group says so.
func TestFlippedByteBelowTheLastGroupIsHarmlessOrRefused(t *testing.T) {
	m := disktest.New()
	j := mustOpen(t, m, segmentsOf(300), func(o *Options) { o.MarkAfter = time.Hour })
	appendSome(t, j, 0, 9)
	m.StopAfter(0)
	_ = j.Close()
	m.Kill()
	for _, name := range m.Names() {
		data := m.Contents(name)
		for i := range data {
			rotten := m.Clone()
			flipped := bytes.Clone(data)
			flipped[i] ^= 0x20
			rotten.Put(name, flipped)
			j, err := openIn(t, rotten)
			if err != nil {
				continue
			}
			if got := contents(t, j); len(got) < 8 {
				t.Fatalf("%s byte %d: only %d records are left, and nothing is said", name, i, len(got))
			} else {
				wantRecords(t, got, 0, len(got))
			}
			_ = j.Close()
		}
	}
}

// Any file may be gone.
func TestMissingFileIsRefused(t *testing.T) {
	m := disktest.New()
	j := mustOpen(t, m, segmentsOf(200))
	appendSome(t, j, 0, 12)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	names := m.Names()
	for i, name := range names {
		if filepath.Base(name) == lockFile {
			continue
		}
		gone := m.Clone()
		gone.Delete(name)
		j, err := openIn(t, gone)
		if i == 0 && err == nil {
			// The oldest segments may have been trimmed. What is missing is a hole, which
			// the follower meets.
			if _, err := follow(j, 0); !errors.As(err, new(*HoleError)) {
				t.Errorf("%s gone: %v", name, err)
			}
			continue
		}
		if !errors.As(err, new(*DamageError)) {
			t.Errorf("%s gone: %v", name, err)
		}
	}
	all := m.Clone()
	for _, name := range names {
		if strings.HasSuffix(name, segmentSuffix) {
			all.Delete(name)
		}
	}
	if _, err := openIn(t, all); !errors.As(err, new(*DamageError)) {
		t.Errorf("all segments gone: %v", err)
	}
	stray := m.Clone()
	stray.Put(dir+"/copy of 1"+segmentSuffix, nil)
	if _, err := openIn(t, stray); err == nil || !strings.Contains(err.Error(), "copy of 1") {
		t.Errorf("a stray file: %v", err)
	}
}

// A segment of another journal, or of another place, is not taken for one's own.
func TestForeignSegmentsAreRefused(t *testing.T) {
	make := func() *disktest.Memory {
		m := disktest.New()
		j := mustOpen(t, m, segmentsOf(200))
		appendSome(t, j, 0, 12)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		return m
	}
	a, b := make(), make()
	for _, name := range a.Names() {
		mixed := a.Clone()
		mixed.Put(name, b.Contents(name))
		j, err := openIn(t, mixed)
		if !errors.As(err, new(*DamageError)) {
			t.Errorf("%s of another journal: %v", name, err)
		}
		if err == nil {
			_ = j.Close()
		}
	}
}
