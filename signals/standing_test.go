package signals

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vigil/authz"
)

// TestARunThatCannotBeginSaysThatNobodyFollows: else the age of the view would be 0 while
// it stands still.
func TestARunThatCannotBeginSaysThatNobodyFollows(t *testing.T) {
	for name, begin := range map[string]func(*world) error{
		"another log": func(w *world) error {
			return w.applier.Run(context.Background(), NewMemoryLog(w.clock.Now), nil)
		},
		"positions it has not come to": func(w *world) error {
			return w.applier.Run(context.Background(), w.log, Positions{0: 7})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, worldOptions{})
			if err := begin(w); err == nil || w.applier.Err() != nil {
				t.Errorf("beside a run that goes on: %v; the feed says %v", err, w.applier.Err())
			}
			w.stop()
			w.clock.advance(time.Minute)
			broke := w.clock.Now()
			err := begin(w)
			w.clock.advance(time.Minute)
			begin(w)
			if err == nil || w.applier.Err() == nil || w.applier.BrokenSince() != broke {
				t.Errorf("%v; the feed says %v since %v, want %v", err, w.applier.Err(), w.applier.BrokenSince(), broke)
			}
		})
	}
}

// TestNobodyTakesAnIDThatNamesAnother: the facts of overruling signals have such ids, and
// views show them under the name that is in them.
func TestNobodyTakesAnIDThatNamesAnother(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.push(t, as("soar"), signalJSON("quarantine"))
	for _, forged := range []string{"client:ops/INC-9", "issuer:https://idp/INC-9", "topic:a/b/c", "client:soar/x"} {
		var refused *DecodeError
		err := w.refused(t, as("soar"), signalJSON("release", id(forged)))
		if !errors.As(err, &refused) || refused.Code != CodeBadValue || refused.Pointer != "/id" {
			t.Errorf("%s: %v", forged, err)
		}
	}
	for _, fine := range []string{"INC/9", "run:1/2", "client:ops", "https://case/9", "client:/9"} {
		w.push(t, as("soar"), signalJSON("taint", id(fine)))
	}
	w.push(t, Sender{Source{"client", "ops"}, boss.Authority}, signalJSON("release", id("INC-9"), `"source":"client:soar"`))
	if got := w.of("agent:a").Status; got != authz.Active {
		t.Errorf("overruled, and it is %v", got)
	}
}

// TestAnExpiredRegistrationStillSaysTheClass: its end must not open the entity to sources
// that may speak about other classes only.
func TestAnExpiredRegistrationStillSaysTheClass(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.push(t, boss, signalJSON("register", `"class":"high"`, `"expires":"2026-11-23T04:00:00Z"`))
	w.clock.advance(2 * time.Hour)
	if w.of("agent:a").Registered {
		t.Fatal("the registration has not expired")
	}
	low := as("low")
	low.Authority.Classes = []string{"low"}
	err := w.refused(t, low, signalJSON("register", id("2"), `"class":"low"`))
	if !strings.Contains(err.Error(), `may not speak about class "high"`) {
		t.Error(err)
	}
}

// soleLog is a memory log that says where it ends, as the journal does.
type soleLog struct{ *MemoryLog }

func (l soleLog) Heads() Positions {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Positions{0: int64(len(l.entries))}
}

// TestWhatIsPastTheEndOfTheLogIsNotWaitedFor: nothing can come there, and whoever asks for
// it must not take the room of those whose answer will come.
func TestWhatIsPastTheEndOfTheLogIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldOptions{log: func(w *world) Log { return soleLog{w.log} }})
		defer w.stop()
		w.push(t, boss, signalJSON("revoke"))
		began := time.Now()
		for _, at := range []Positions{{0: 2}, {0: 1, 7: 1}} {
			if err := w.applier.WaitApplied(context.Background(), FormatAsOf(w.log.ID(), at)); !errors.Is(err, ErrPastHead) {
				t.Errorf("%v: %v", at, err)
			}
		}
		if waited := time.Since(began); waited != 0 {
			t.Errorf("it took %v", waited)
		}
	})
}
