//go:build e2e && linux

package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// witness asks every replica all the time and holds the answers to what was acknowledged.
//
// It asks three things: about a session that nobody revokes; about a revoked one the replica
// that acknowledged it; and about a revoked one any other replica, half of the time from a
// view at least as new as the acknowledgement. An allow of the second or third kind breaks the contract,
// unless nothing was demanded: that is an anomaly, which is counted and told. Asked later after
// the acknowledgement than a view may be old, it breaks the contract, too.
type witness struct {
	c       *cluster
	stop    atomic.Bool
	workers sync.WaitGroup

	mu      sync.Mutex
	phases  []string                     // in their order; the last is now
	tallies map[[2]string]map[string]int // phase and replica, answer
	gone    []gone
	vouched int      // revocations looked at because a view was said to be complete
	stale   []string // allows that break the contract
	odd     []string // denials of the steady session that have no reason
}

// gone is a session that has been revoked.
type gone struct {
	session, by, asOf string
	since             time.Time // when that was known
}

// watch starts a witness; it ends, is told and judged when the test ends, or by judge.
func (c *cluster) watch(perReplica int) *witness {
	w := &witness{c: c, phases: []string{"to begin with"}, tallies: map[[2]string]map[string]int{}}
	for _, r := range c.replicas {
		for n := range perReplica {
			w.workers.Go(func() { w.look(r, rand.New(rand.NewPCG(uint64(n), 1))) })
		}
	}
	c.t.Cleanup(w.end)
	return w
}

// steady is the session that nobody revokes.
const steady = "steady"

func (w *witness) look(r *replica, random *rand.Rand) {
	for !w.stop.Load() {
		w.mu.Lock()
		asked, phase := gone{session: steady}, w.phases[len(w.phases)-1]
		if n := len(w.gone); n > 0 && random.IntN(3) > 0 {
			asked = w.gone[n-1-random.IntN(min(n, 32))] // the newest are in the most danger
			if random.IntN(8) == 0 {
				asked = w.gone[random.IntN(n)]
			}
		}
		w.mu.Unlock()
		demanded := asked.asOf
		if asked.by == r.name || random.IntN(2) == 0 {
			demanded = ""
		}
		late := !asked.since.IsZero() && time.Since(asked.since) > maxFeedAge
		a := r.decide(w.c.agent, asked.session, demanded)
		w.note(r.name, phase, asked, demanded, late, a)
		if a.err != nil {
			time.Sleep(5 * time.Millisecond) // whoever is refused at once must not spin
		}
		time.Sleep(time.Duration(random.IntN(1000)) * time.Microsecond)
	}
}

func (w *witness) note(name, phase string, asked gone, demanded string, late bool, a answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	about, word := "steady", a.String()
	switch {
	case asked.session == steady:
		if a.denied() && a.code != "stale" {
			w.odd = append(w.odd, fmt.Sprintf("%s, %s: %s", name, phase, a.body))
		}
	case asked.by == name:
		about = "revoked here"
		if a.allowed {
			w.stale = append(w.stale, fmt.Sprintf("%s, %s: allows %s, which it acknowledged as revoked", name, phase, asked.session))
		}
	case demanded != "":
		about = "revoked elsewhere, demanded"
		if a.allowed {
			w.stale = append(w.stale, fmt.Sprintf("%s, %s: allows %s from a view at least as new as its revocation", name, phase, asked.session))
		}
	case late:
		about = "revoked elsewhere, long ago"
		if a.allowed {
			w.stale = append(w.stale, fmt.Sprintf("%s, %s: allows %s, %s after its revocation and more", name, phase, asked.session, maxFeedAge))
		}
	default:
		about = "revoked elsewhere"
		if a.allowed {
			word = "allow (anomaly: nothing was demanded)"
		}
	}
	key := [2]string{phase, name}
	if w.tallies[key] == nil {
		w.tallies[key] = map[string]int{}
	}
	w.tallies[key][about+": "+word]++
}

// vouch holds, besides, what every replica says about the age of its view to what was
// acknowledged: whatever was, before the instant as of which a view is said to be complete,
// is in it. It is for tests in which no spooled revocation is told of.
func (w *witness) vouch() {
	for _, r := range w.c.replicas {
		w.workers.Go(func() {
			next := 0 // of gone, which are in the order of their since
			for ; !w.stop.Load(); time.Sleep(10 * time.Millisecond) {
				complete, ok := r.completeAt()
				if !ok {
					continue
				}
				w.mu.Lock()
				first := next
				for next < len(w.gone) && w.gone[next].since.Before(complete) {
					next++
				}
				due, phase := slices.Clone(w.gone[max(first, next-16):next]), w.phases[len(w.phases)-1]
				w.mu.Unlock()
				for _, g := range due {
					a := r.decide(w.c.agent, g.session, "")
					w.mu.Lock()
					w.vouched++
					if a.allowed {
						w.stale = append(w.stale, fmt.Sprintf("%s, %s: allows %s, and its view is said to be complete as of later than the revocation", r.name, phase, g.session))
					}
					w.mu.Unlock()
				}
			}
		})
	}
}

// completeAt is an instant as of which a replica says that its view is complete. The true
// one may be later, by the time of the answer.
func (r *replica) completeAt() (time.Time, bool) {
	asked := time.Now()
	s, err := r.status(false)
	if err != nil || s.Feed.Age > time.Hour.Seconds() {
		return asked, false
	}
	return asked.Add(-time.Duration(s.Feed.Age * float64(time.Second))), true
}

// now names what is going on from here on.
func (w *witness) now(phase string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.phases = append(w.phases, phase)
}

// revoked tells of a session that a replica has acknowledged as revoked.
func (w *witness) revoked(session, by, asOf string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone = append(w.gone, gone{session, by, asOf, time.Now()})
}

// asked gives how many answers of a kind there were from a replica in a phase; "" is any.
func (w *witness) asked(phase, replica, kind string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, tally := range w.tallies {
		if phase != "" && key[0] != phase || replica != "" && key[1] != replica {
			continue
		}
		for k, count := range tally {
			if strings.Contains(k, kind) {
				n += count
			}
		}
	}
	return n
}

// end stops asking, tells what every replica answered, and judges it. It may be called again.
func (w *witness) end() {
	if w.stop.Swap(true) {
		return
	}
	w.workers.Wait()
	t := w.c.t
	t.Helper()
	for _, phase := range w.phases {
		for _, r := range w.c.replicas {
			tally := w.tallies[[2]string{phase, r.name}]
			var words []string
			for _, k := range slices.Sorted(maps.Keys(tally)) {
				words = append(words, fmt.Sprintf("%s %d", k, tally[k]))
			}
			if len(words) == 0 {
				continue
			}
			t.Logf("%s, %s: %s", phase, r.name, strings.Join(words, "; "))
		}
	}
	if w.vouched > 0 {
		t.Logf("%d revocations were looked at once a view was said to be complete", w.vouched)
	}
	fewOf(t, "stale allow", w.stale)
	fewOf(t, "denial without a reason", w.odd)
}

func fewOf(t *testing.T, what string, all []string) {
	t.Helper()
	for _, s := range all[:min(len(all), 5)] {
		t.Errorf("%s: %s", what, s)
	}
	if len(all) > 5 {
		t.Errorf("%s: %d more", what, len(all)-5)
	}
}
