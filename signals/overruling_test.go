package signals

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"vigil/authz"
)

// C5 for overruling: sent again, a release in another source's line releases nothing that
// this source held since. Its fact may be gone by then: a newer quarantine that lasts as
// long has made it redundant.
func TestAnOverrulingThatIsSentAgainOverrulesNothingAnew(t *testing.T) {
	quarantine := func(id string, at authz.Instant) string {
		return `{"v":1,"id":"` + id + `","type":"quarantine","entities":["agent:a"],` + when(at) + `}`
	}
	for _, tc := range []struct {
		name    string
		again   time.Duration // when the source holds the agent again
		forgets bool          // the process was started again in between
		refused bool
	}{
		{"by the same process, at once", time.Second, false, false},
		{"by the same process, later", time.Minute, false, false},
		{"by another process, later", time.Minute, true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, worldOptions{})
			w.push(t, as("edr"), quarantine("Q-1", start))
			w.clock.advance(2 * time.Minute)
			release := signalJSON("release", id("R-1"), `"source":"client:edr"`, when(start.Add(time.Millisecond)))
			if w.push(t, boss, release); w.of("agent:a").Status != authz.Active {
				t.Fatal("not overruled")
			}
			w.push(t, as("edr"), quarantine("Q-2", start.Add(tc.again)))
			if tc.forgets {
				w.intake.recent = newRecentIDs()
			}
			if tc.refused {
				var bad *DecodeError
				if err := w.refused(t, boss, release); !errors.As(err, &bad) || bad.Pointer != "/time" {
					t.Error(err)
				}
			} else {
				w.push(t, boss, release)
			}
			if w.of("agent:a").Status != authz.Quarantined {
				t.Error("the same release, sent again, released what was held since")
			}
		})
	}
}

// Of two pushes of one overruling signal at once, each finds a date; both get the first's.
func TestOneOverrulingHasOneDate(t *testing.T) {
	r := newRecentIDs()
	if _, was, fresh, ok := r.claim("client:boss", "R", []byte("x"), 7); !fresh || !ok || was != 7 || r.dated("client:boss", "R") != 7 {
		t.Errorf("the first: %v, %v, %v", was, fresh, ok)
	}
	key, was, fresh, ok := r.claim("client:boss", "R", []byte("x"), 9)
	if fresh || !ok || was != 7 {
		t.Errorf("the second: %v, %v, %v", was, fresh, ok)
	}
	if r.release(key); r.dated("client:boss", "R") != 0 {
		t.Error("one that was never written keeps its date")
	}
}

// Several words in another source's line count in the order of their own times, wherever
// they stand in a batch, and whichever says the worse.
func TestOverrulingsOfOneBatchAreDatedInTheOrderOfTheirTimes(t *testing.T) {
	risk := func(id string, score, minutes int, at authz.Instant) string {
		return fmt.Sprintf(`{"v":1,"id":%q,"type":"risk","source":"client:edr","risk":%d,"entities":["agent:a"],%s,"expires":%q}`,
			id, score, when(at), start.Add(time.Duration(minutes)*time.Minute))
	}
	for _, newerFirst := range []bool{false, true} {
		w := newWorld(t, worldOptions{})
		w.push(t, as("edr"), `{"v":1,"id":"E-1","type":"risk","risk":90,"entities":["agent:a"],`+when(start)+`}`)
		w.clock.advance(time.Second)
		batch := []string{risk("B-1", 50, 20, start.Add(time.Millisecond)), risk("B-2", 20, 10, start.Add(2*time.Millisecond))}
		if newerFirst {
			slices.Reverse(batch)
		}
		w.push(t, boss, "["+strings.Join(batch, ",")+"]")
		w.push(t, boss, "["+strings.Join(batch, ",")+"]") // and sent again they keep their dates
		for _, c := range []struct {
			after time.Duration
			want  int
		}{{time.Minute, 20}, {11 * time.Minute, 50}, {21 * time.Minute, 90}} {
			if got := w.store.Get(authz.Ref{Kind: authz.KindAgent, ID: "a"}.In("default")).At(start.Add(c.after)).Risk; got != c.want {
				t.Errorf("newer first %v: after %s the risk is %d, not %d", newerFirst, c.after, got, c.want)
			}
		}
	}
}

// A signal that was dated back is of the time at which the log took it: sent again after it
// was taken back, it is of a later time, and holds again. It only restricts.
func TestWhatIsDatedBackAndTakenBackHoldsAgainWhenItIsSentAgain(t *testing.T) {
	w := newWorld(t, worldOptions{})
	ahead := `{"v":1,"id":"Q-1","type":"quarantine","entities":["agent:a"],` + when(start.Add(time.Hour)) + `}`
	w.push(t, as("edr"), ahead)
	w.clock.advance(10 * time.Second)
	w.push(t, boss, signalJSON("release", id("R-1"), `"source":"client:edr"`, when(start.Add(6*time.Second))))
	if got := w.of("agent:a").Status; got != authz.Active {
		t.Fatalf("taken back: %v", got)
	}
	w.push(t, as("edr"), ahead)
	if got := w.of("agent:a").Status; got != authz.Quarantined {
		t.Errorf("sent again: %v", got)
	}
}
