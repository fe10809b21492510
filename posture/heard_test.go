package posture

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"vigil/authz"
)

// later is when what is told below is learned.
const later = authz.Instant(100)

// TestHearingIsAJoin: the same words in any order, some of them twice, with snapshots
// between, leave the same behind, also beyond the cap.
func TestHearingIsAJoin(t *testing.T) {
	type word struct {
		Source string
		At     authz.Instant
	}
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) word {
			return word{rapid.SampledFrom([]string{"client:a", "client:b", "issuer:c", "topic:d"}).Draw(t, "source"),
				authz.Instant(rapid.IntRange(1, 9).Draw(t, "at"))}
		}), 1, 20).Draw(t, "words")
		few := smallCaps
		few.heard = rapid.IntRange(1, 5).Draw(t, "cap")
		hear := func(words []word) *Store {
			s := newStore(4, &few)
			for _, w := range words {
				s.Hear(w.Source, w.At, later)
				if rapid.IntRange(0, 9).Draw(t, "reload") == 0 {
					s = reload(t, s, later)
				}
			}
			return s
		}
		straight := hear(words)
		other := hear(rapid.Permutation(append(words, words...)).Draw(t, "order"))
		if straight.Digest(1) != other.Digest(1) {
			t.Fatalf("%v and %v", straight.heard.all(), other.heard.all())
		}
		newest := map[string]authz.Instant{}
		for _, w := range words {
			newest[w.Source] = max(newest[w.Source], w.At)
		}
		if got := straight.heard.all(); len(got) != min(len(newest), few.heard) {
			t.Fatalf("%d sources kept of %d, at most %d", len(got), len(newest), few.heard)
		}
		for source, at := range newest {
			if got := straight.Heard(source); got != at && (got != 0 || len(newest) <= few.heard) {
				t.Fatalf("%s was heard at %d, not at %d", source, at, got)
			}
		}
	})
}

// TestNoSourceCountsAsHeardLaterThanThatWasLearned: whatever the log has dated ahead, in any
// order, with snapshots between. What replicas agree on is what the log says.
func TestNoSourceCountsAsHeardLaterThanThatWasLearned(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		few := smallCaps
		few.heard = 3
		s, prompt := newStore(4, &few), newStore(4, &few)
		counts, dated := map[string]authz.Instant{}, map[string]authz.Instant{}
		now := authz.Instant(100)
		for range rapid.IntRange(1, 20).Draw(t, "words") {
			now += authz.Instant(rapid.IntRange(0, 5).Draw(t, "passes"))
			source := rapid.SampledFrom([]string{"client:a", "client:b", "issuer:c"}).Draw(t, "source")
			at := now + authz.Instant(rapid.IntRange(-9, 9).Draw(t, "ahead"))
			s.Hear(source, at, now)
			prompt.Hear(source, at, at) // its clock is the log's
			counts[source], dated[source] = max(counts[source], min(at, now)), max(dated[source], at)
			switch rapid.IntRange(0, 9).Draw(t, "copy") {
			case 0:
				s = s.Scratch(now, nil)
			case 1:
				now += 3
				s = reload(t, s, now)
				for source, at := range dated { // what was ahead is learned now
					counts[source] = min(at, now)
				}
			}
			for source := range dated {
				if s.Heard(source) != counts[source] || s.HeardByLog(source) != dated[source] {
					t.Fatalf("%s counts as heard at %d and not %d; by the log at %d and not %d",
						source, s.Heard(source), counts[source], s.HeardByLog(source), dated[source])
				}
			}
			if s.Digest(now) != prompt.Digest(now) {
				t.Fatal("when a replica learned of it is in its digest")
			}
		}
	})
}

func TestASourceThatWasNeverHeardSaysSo(t *testing.T) {
	s := NewStore()
	s.Hear("client:a", 0, later)
	s.Hear("", 5, later)
	if at := s.Heard("client:a"); at != 0 || len(s.heard.all()) != 0 {
		t.Error(at, s.heard.all())
	}
	name := []byte("client:b")
	s.Hear(string(name), 7, later)
	s.Hear("client:b", 3, later)
	if at := s.Heard("client:b"); at != 7 {
		t.Error("it went back to", at)
	}
	digest := s.Digest(1)
	if s.Hear("client:b", 8, later); s.Digest(1) == digest || digest == NewStore().Digest(1) {
		t.Error("the digest does not say when a source was heard")
	}
}

func TestASnapshotOfBeforeSourcesWereHeardIsRead(t *testing.T) {
	s := NewStore()
	s.Apply(1, []Change{{agent("a"), []Fact{risk(50, 1)}}})
	old := snapshotOf(t, s, 1)
	if old[len(snapshotMagic)] != 1 {
		t.Fatalf("version %d where nothing was heard", old[len(snapshotMagic)])
	}
	s.Hear("client:a", 5, later)
	whole := snapshotOf(t, s, 1)
	if whole[len(snapshotMagic)] != 2 {
		t.Fatalf("version %d where something was heard", whole[len(snapshotMagic)])
	}
	for want, b := range map[authz.Instant][]byte{0: old, 5: whole} {
		back, err := ReadSnapshot(bytes.NewReader(b), later)
		if err != nil || back.Heard("client:a") != want || back.Len() != s.Len() {
			t.Errorf("%v, %v; heard at %d, not %d", err, back.Len(), back.Heard("client:a"), want)
		}
	}
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 1
		if _, err := ReadSnapshot(bytes.NewReader(b), 1); err == nil {
			t.Errorf("byte %d is another and nobody says so", i)
		}
	}
}

func TestWhatWasHeardIsRefusedOutOfOrder(t *testing.T) {
	heard := func(words ...string) string {
		var b []byte
		for _, w := range words {
			source, at, _ := strings.Cut(w, "@")
			b = append(appendString(b, source), 0, 0, 0, 0, 0, 0, 0, at[0]-'0')
		}
		return string(b)
	}
	for _, c := range []struct{ name, block, want string }{
		{"nothing", "", "version 1"},
		{"twice", heard("client:a@1", "client:a@2"), "out of order"},
		{"disorder", heard("client:b@1", "client:a@2"), "out of order"},
		{"no name", heard("@1"), "out of order"},
		{"never", heard("client:a@0"), "heard at 0"},
		{"cut", heard("client:a@1")[:10], "bytes wanted"},
	} {
		in := snapshotReader{store: NewStore()}
		if err := in.heard(c.block); err == nil || !strings.Contains(err.Error(), c.want) || len(in.store.heard.all()) > 0 {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestHearingInvalidatesNothingAndReadingItAllocatesNothing(t *testing.T) {
	s := NewStore()
	s.Hear("client:a", 1, later)
	v := viewOf(s, agent("a"), authz.Ref{Kind: authz.KindSource, ID: "client:a"}.In("default"))
	stamp := stampOf(v)
	s.Hear("client:a", 2, later)
	s.Hear("client:b", 2, later)
	if !stamp.Current() || !v.Confirm() {
		t.Error("hearing a source made a record another one")
	}
	if n := testing.AllocsPerRun(100, func() { s.Heard("client:a") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestHearingNeverGoesBackUnderReaders is for the race detector, too.
func TestHearingNeverGoesBackUnderReaders(t *testing.T) {
	s := NewStore()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 2000 {
			s.Hear("client:a", authz.Instant(1+i), authz.Instant(1+i))
			s.Hear(fmt.Sprint("client:", i%50), 1, later)
		}
	}()
	var last authz.Instant
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		at := s.Heard("client:a")
		if at < last {
			t.Fatalf("%d after %d", at, last)
		}
		last = at
	}
	if last != 2000 {
		t.Error(last)
	}
}

func TestAScratchStoreHasHeardWhatItsStoreHas(t *testing.T) {
	s := NewStore()
	s.Hear("client:a", 5, later)
	scratch := s.Scratch(1, nil)
	scratch.Hear("client:a", 9, later)
	if s.Heard("client:a") != 5 || scratch.Heard("client:a") != 9 || s.Scratch(1, nil).Heard("client:a") != 5 {
		t.Error(s.Heard("client:a"), scratch.Heard("client:a"))
	}
}

// TestALiftedWaiverStaysLifted: also when more lifts came after than are kept.
func TestALiftedWaiverStaysLifted(t *testing.T) {
	s := newStore(4, &smallCaps)
	source := authz.Ref{Kind: authz.KindSource, ID: "client:a"}.In("default")
	waive := Fact{Facet: Waive, Source: "client:soc", ID: "w", Time: 1, Until: 30}
	say := func(f Fact) bool {
		s.Apply(5, []Change{{source, []Fact{f}}})
		return s.Get(source).At(5).Waived
	}
	if !say(waive) {
		t.Fatal("it is not waived")
	}
	for i, lifted := range []string{"w", "1", "2", "3", "4"} {
		if say(Fact{Facet: Lift, Source: "client:soc", ID: fmt.Sprint(i), Time: authz.Instant(2 + i), Lifts: &Target{Waive, "client:soc", lifted}}) {
			t.Fatal("it is waived after its lift")
		}
	}
	if say(waive) {
		t.Error("a waiver came again when its lift had been forgotten")
	}
	waive.ID, waive.Time = "later", 20
	if !say(waive) {
		t.Error("nothing can be waived any more")
	}
}

// TestWhatWasHeardTooLongAgoIsAsNeverHeard: a replica that goes on from a snapshot of before
// sources were heard comes to the digest of the others, though one never speaks again.
func TestWhatWasHeardTooLongAgoIsAsNeverHeard(t *testing.T) {
	one, other := NewStore(), NewStore()
	for _, s := range []*Store{one, other} {
		s.Apply(1, []Change{{agent("a"), []Fact{risk(50, 1)}}})
		s.Hear("client:b", 9, later)
	}
	one.Hear("client:gone", 5, later)
	end := authz.Instant(5).Add(authz.MaxSilence)
	if one.Digest(end-1) == other.Digest(end-1) {
		t.Error("who heard it still has the digest of who did not")
	}
	if one.Digest(end) != other.Digest(end) {
		t.Error("who heard it has another digest for good")
	}
}
