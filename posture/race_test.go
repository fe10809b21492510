package posture

import (
	"bytes"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"testing"

	"vigil/authz"
)

// beside runs write while readers run read over and over, until write is done.
func beside(t *testing.T, readers int, read func() error, write func()) {
	t.Helper()
	var done atomic.Bool
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			for !done.Load() {
				if err := read(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	write()
	done.Store(true)
	wg.Wait()
}

// TestNoViewSeesHalfASignal changes two entities at a time, always alike, through
// changes, births, deaths and snapshots of two tables' growth, while readers look for a
// confirmed view in which they differ.
func TestNoViewSeesHalfASignal(t *testing.T) {
	s := newStore(6, &defaultCaps)
	var now, confirmed, exclusive atomic.Int64
	pair := func(i int) (authz.Key, authz.Key) {
		return agent(fmt.Sprintf("left-%d", i)), authz.Ref{Kind: authz.KindSession, ID: fmt.Sprintf("right-%d", i)}.In("default")
	}
	const pairs = 8
	beside(t, 3, func() error {
		var v View
		for i := range pairs {
			left, right := pair(i)
			var l, r *Record
			look := func() {
				v.Reset(s)
				l, r = v.Read(left), v.Read(right)
			}
			ok := false
			for try := 0; try < 3 && !ok; try++ {
				look()
				ok = v.Confirm()
			}
			if !ok {
				exclusive.Add(1)
				s.Exclusive(func() {
					look()
					ok = v.Confirm()
				})
			}
			if !ok {
				return fmt.Errorf("a view that nothing can move was not confirmed")
			}
			confirmed.Add(1)
			at := authz.Instant(now.Load())
			if a, b := l.At(at), r.At(at); a.Status != b.Status || a.Risk != b.Risk || a.Cutoff != b.Cutoff {
				return fmt.Errorf("half a signal: %v %d %d beside %v %d %d", a.Status, a.Risk, a.Cutoff, b.Status, b.Risk, b.Cutoff)
			}
		}
		return nil
	}, func() {
		for i := 1; i <= 4000; i++ {
			at := authz.Instant(i)
			facts := []Fact{
				{Facet: Risk, Source: "client:soar", ID: fmt.Sprint(i), Time: at, Until: at + 16, Risk: i % 100},
				{Facet: Hold, Source: "client:soar", ID: fmt.Sprint(i), Time: at, Until: at + 8, Held: i%3 > 0},
			}
			left, right := pair(i % pairs)
			if i%5 == 0 {
				left, right = right, left
			}
			s.Apply(at, []Change{{left, facts}, {right, facts}})
			if i%64 == 0 {
				// Long enough for everything to expire and be forgotten.
				now.Store(int64(i + 20))
				s.Prune(at + 20)
			}
			now.Store(int64(i))
		}
	})
	if confirmed.Load() < 100 {
		t.Errorf("only %d views", confirmed.Load())
	}
	t.Logf("%d views, %d of them exclusive", confirmed.Load(), exclusive.Load())
}

// TestNoStampIsCurrentAfterASignalInForce races stamps with signals about entities that
// are there, that are being born, and that come and go.
func TestNoStampIsCurrentAfterASignalInForce(t *testing.T) {
	s := newStore(12, &defaultCaps)
	there, transient := agent("there"), agent("transient")
	newborn := func(i int64) authz.Key { return agent(fmt.Sprintf("newborn-%d", i)) }
	var acknowledged atomic.Int64 // signals 1 to this have been applied
	var current, stale atomic.Int64
	beside(t, 3, func() error {
		var v View
		p := acknowledged.Load()
		v.Reset(s)
		seen := int64(v.Read(there).At(1).Cutoff)
		// Of the next newborns, which are not there and which are?
		var born [4]bool
		for i := range born {
			born[i] = v.Read(newborn(p+int64(i))) != nil
		}
		v.Read(transient)
		if !v.Confirm() {
			return nil
		}
		stamp := stampOf(&v)
		after := acknowledged.Load()
		for range 50 {
			ack := acknowledged.Load()
			if !stamp.Current() {
				stale.Add(1)
				return nil
			}
			current.Add(1)
			if seen < ack {
				return fmt.Errorf("signal %d was in force and a stamp of %d was current", ack, seen)
			}
			for i, b := range born {
				if !b && p+int64(i) <= ack && p+int64(i) > 0 {
					return fmt.Errorf("entity %d was born and a stamp of its absence was current", p+int64(i))
				}
			}
			if ack >= after+2 {
				return fmt.Errorf("an entity changed %d times and its stamp was current", ack-after)
			}
		}
		return nil
	}, func() {
		for i := int64(1); i <= 4000; i++ {
			at := authz.Instant(i)
			s.Apply(at, []Change{{newborn(i), []Fact{{Facet: Taint, Source: "client:a", ID: "t", Time: at}}}})
			s.Apply(at, []Change{{transient, []Fact{{Facet: Taint, Source: "client:a", ID: "t", Time: at, Until: at + 1}}}})
			s.Apply(at, []Change{{there, []Fact{{Facet: IssuedBefore, Source: "client:a", ID: "t", Time: at, Cutoff: at}}}})
			acknowledged.Store(i)
			if i%16 == 0 {
				s.Prune(at + 1)
			}
		}
	})
	if current.Load() == 0 || stale.Load() == 0 {
		t.Errorf("%d stamps were current, %d stale: nothing was tried", current.Load(), stale.Load())
	}
	t.Logf("%d current, %d stale", current.Load(), stale.Load())
}

// TestEverythingMayRunBesideEverything is for the race detector.
func TestEverythingMayRunBesideEverything(t *testing.T) {
	s := newStore(6, &defaultCaps)
	read := func() error {
		for key, r := range everyRecord(s) {
			for f := range r.Facts() {
				if f.Source == "" {
					return fmt.Errorf("a fact without a source in %v", key)
				}
			}
		}
		back := newStore(4, &defaultCaps)
		var b bytes.Buffer
		if err := s.WriteSnapshot(&b, 5); err != nil {
			return err
		}
		if err := back.restore(&b, 5); err != nil {
			return err
		}
		s.Digest(5)
		s.Len()
		s.Held()
		s.AsOf()
		s.Nearest(agent("a-17"), 3)
		s.Get(agent("a-17")).At(5).Holds()
		s.Get(agent("a-17")).Registered()
		return nil
	}
	beside(t, 2, read, func() {
		for i := range 3000 {
			key, facts := fleet(i % 300)
			facts[0].Time += authz.Instant(i)
			facts[0].Source = fmt.Sprint("client:", i%40)
			s.Apply(5, []Change{
				{key, facts},
				{agent(fmt.Sprint("a-", i%30)), []Fact{{Facet: Hold, Source: "client:x", ID: "q", Time: authz.Instant(i), Held: true, Until: 6 + authz.Instant(i%2)}}},
			})
			s.PublishAsOf(fmt.Sprint(i))
			if i%500 == 0 {
				s.Prune(6)
			}
		}
	})
}

func everyRecord(s *Store) iter.Seq2[authz.Key, *Record] {
	return func(yield func(authz.Key, *Record) bool) { s.Walk(yield) }
}
