package ssf

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stream is a transmitter's poll endpoint without a network (RFC 8936): SETs stay until
// they are acknowledged.
type stream struct {
	t    testing.TB
	hold time.Duration // how long an answer without SETs is held back

	mu       sync.Mutex
	sets     map[string]string
	more     chan struct{} // closed and replaced when sets grow
	requests []pollRequest
	at       []time.Time // of each request
	acked    []string
	errs     map[string]errorBody
	status   int    // answered instead, where it is not 0
	retry    string // Retry-After with it
	deaf     bool   // acknowledgements are passed over
	onAck    func(jti string)
}

func newStream(t testing.TB) *stream {
	return &stream{t: t, sets: map[string]string{}, more: make(chan struct{}), errs: map[string]errorBody{}}
}

func (s *stream) add(jti, set string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sets[jti] = set
	close(s.more)
	s.more = make(chan struct{})
}

func (s *stream) answerWith(status int, retry string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.retry = status, retry
}

func (s *stream) RoundTrip(r *http.Request) (*http.Response, error) {
	var q pollRequest
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		s.t.Error(err)
	}
	if r.Header.Get("Authorization") != "Bearer secret" || r.Header.Get("Content-Type") != "application/json" || r.Method != http.MethodPost {
		s.t.Errorf("%s %v", r.Method, r.Header)
	}
	s.mu.Lock()
	s.requests, s.at = append(s.requests, q), append(s.at, time.Now())
	if s.status != 0 {
		defer s.mu.Unlock()
		h := http.Header{}
		h.Set("Retry-After", s.retry)
		return &http.Response{StatusCode: s.status, Header: h, Body: http.NoBody}, nil
	}
	if !s.deaf {
		for _, jti := range q.Ack {
			if s.onAck != nil {
				s.onAck(jti)
			}
			s.acked = append(s.acked, jti)
			delete(s.sets, jti)
		}
		for jti, e := range q.SetErrs {
			s.errs[jti] = e
			delete(s.sets, jti)
		}
	}
	if len(s.sets) == 0 && !q.ReturnImmediately && s.hold > 0 {
		more := s.more
		s.mu.Unlock()
		select {
		case <-more:
		case <-time.After(s.hold):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
		s.mu.Lock()
	}
	defer s.mu.Unlock()
	sent := map[string]string{}
	for _, jti := range slices.Sorted(maps.Keys(s.sets)) {
		if len(sent) < q.MaxEvents {
			sent[jti] = s.sets[jti]
		}
	}
	body, err := json.Marshal(object{"sets": sent, "moreAvailable": len(sent) < len(s.sets)})
	if err != nil {
		s.t.Error(err)
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(body))}, nil
}

// polling runs a poller of a stream in a bubble of its own time.
func polling(t *testing.T, cfg PollConfig, test func(t *testing.T, w *world, s *stream, p *Poller, stop func())) {
	synctest.Test(t, func(t *testing.T) {
		w, s := newWorld(t), newStream(t)
		cfg.Endpoint = "https://idp.example.com/poll"
		cfg.Web = &Web{Transport: s, Authorize: func(context.Context) (string, error) { return "Bearer secret", nil }}
		p, err := NewPoller(w.receiver, cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		stop := sync.OnceFunc(func() {
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		defer stop()
		go func() { done <- p.Run(ctx) }()
		test(t, w, s, p, stop)
	})
}

func TestAPolledSETIsAcknowledgedWhenItIsInForce(t *testing.T) {
	polling(t, PollConfig{}, func(t *testing.T, w *world, s *stream, p *Poller, _ func()) {
		s.mu.Lock()
		s.hold = time.Minute
		s.onAck = func(jti string) {
			if got := w.status(t, "session:"+jti); got != "revoked" {
				t.Errorf("%s is acknowledged and %s", jti, got)
			}
		}
		s.mu.Unlock()
		for i := range 250 { // more than one answer holds
			jti := fmt.Sprint("s-", i)
			s.add(jti, signed(t, object{"jti": jti, "sub_id": opaque(jti)}))
		}
		time.Sleep(10 * time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.acked) != 250 || len(s.sets) != 0 || len(s.errs) != 0 {
			t.Errorf("%d acknowledged, %d left, %d errors", len(s.acked), len(s.sets), len(s.errs))
		}
		if p.Status().Err != nil || p.Status().Polled == 0 {
			t.Errorf("%+v", p.Status())
		}
	})
}

// TestASETIsInForceAsSoonAsItIsThere: a long poll is answered at once.
func TestASETIsInForceAsSoonAsItIsThere(t *testing.T) {
	polling(t, PollConfig{}, func(t *testing.T, w *world, s *stream, _ *Poller, _ func()) {
		s.mu.Lock()
		s.hold = 30 * time.Second
		s.mu.Unlock()
		time.Sleep(45 * time.Second)
		s.mu.Lock()
		n := len(s.requests)
		s.mu.Unlock()
		s.add("jti-1", signed(t, nil))
		synctest.Wait() // no time passes
		if got := w.status(t, "session:s-1"); got != "revoked" {
			t.Errorf("it is %s", got)
		}
		if n > 3 {
			t.Errorf("%d requests in 45 s", n)
		}
	})
}

func TestWhatIsRefusedIsReported(t *testing.T) {
	polling(t, PollConfig{}, func(t *testing.T, w *world, s *stream, _ *Poller, _ func()) {
		s.add("good", signed(t, object{"jti": "good"}))
		s.add("other", signed(t, object{"jti": "other", "iss": "https://x/"}))
		s.add("forged", sign(t, rs256, otherRSA(), claims(object{"jti": "forged"}), nil))
		s.add("junk", "junk")
		time.Sleep(5 * time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		if fmt.Sprint(s.acked) != "[good]" || len(s.errs) != 3 {
			t.Errorf("acknowledged %v, reported %v", s.acked, s.errs)
		}
		for jti, code := range map[string]string{"other": InvalidIssuer, "forged": AuthenticationFailed, "junk": InvalidRequest} {
			if e := s.errs[jti]; e.Err != code || e.Description == "" {
				t.Errorf("%s: %+v, want %s", jti, e, code)
			}
		}
	})
}

// TestWhatCannotBeTakenNowComesAgain: neither acknowledged nor refused, and not asked for
// in a loop.
func TestWhatCannotBeTakenNowComesAgain(t *testing.T) {
	polling(t, PollConfig{}, func(t *testing.T, w *world, s *stream, p *Poller, _ func()) {
		w.log.SetHealth(errors.New("no broker answers"))
		s.add("jti-1", signed(t, nil))
		time.Sleep(2 * time.Minute)
		s.mu.Lock()
		if len(s.acked) != 0 || len(s.errs) != 0 || len(s.requests) > 10 {
			t.Errorf("acknowledged %v, reported %v, %d requests", s.acked, s.errs, len(s.requests))
		}
		s.mu.Unlock()
		if !errors.Is(p.Status().Err, errNotTaken) {
			t.Error(p.Status().Err)
		}
		w.log.SetHealth(nil)
		time.Sleep(2 * time.Minute)
		s.mu.Lock()
		defer s.mu.Unlock()
		if fmt.Sprint(s.acked) != "[jti-1]" || w.status(t, "session:s-1") != "revoked" {
			t.Errorf("acknowledged %v", s.acked)
		}
	})
}

// TestAPollerThatEndsAcknowledgesWhatItTook: also where the request that did so was cut
// off, so that it is not known whether the transmitter had it.
func TestAPollerThatEndsAcknowledgesWhatItTook(t *testing.T) {
	polling(t, PollConfig{}, func(t *testing.T, w *world, s *stream, _ *Poller, stop func()) {
		s.mu.Lock()
		s.hold = time.Minute
		s.mu.Unlock()
		s.add("jti-1", signed(t, nil))
		time.Sleep(5 * time.Second) // it was taken, and the next request is held back
		stop()
		s.mu.Lock()
		defer s.mu.Unlock()
		last := s.requests[len(s.requests)-1]
		if len(s.sets) != 0 || !last.ReturnImmediately || last.MaxEvents != 0 || fmt.Sprint(last.Ack) != "[jti-1]" {
			t.Errorf("%d are not acknowledged; the last request is %+v", len(s.sets), last)
		}
	})
}

// TestFailuresAreNotHammered: pauses double up to a minute, and are as long as the
// transmitter asks for.
func TestFailuresAreNotHammered(t *testing.T) {
	polling(t, PollConfig{}, func(t *testing.T, w *world, s *stream, p *Poller, _ func()) {
		s.answerWith(http.StatusInternalServerError, "")
		time.Sleep(10 * time.Minute)
		s.mu.Lock()
		n := len(s.requests)
		last := s.at[n-1].Sub(s.at[n-2])
		s.mu.Unlock()
		if n < 12 || n > 22 || last < 45*time.Second || last > time.Minute {
			t.Errorf("%d requests in 10 minutes, the last after %v", n, last)
		}
		var status *StatusError
		if !errors.As(p.Status().Err, &status) || status.Status != http.StatusInternalServerError {
			t.Error(p.Status().Err)
		}
		s.answerWith(http.StatusTooManyRequests, strconv.Itoa(200))
		time.Sleep(10 * time.Minute)
		s.mu.Lock()
		if m := len(s.requests) - n; m < 2 || m > 5 {
			t.Errorf("%d requests in 10 minutes with Retry-After: 200", m)
		}
		s.mu.Unlock()
		s.answerWith(0, "")
		s.add("jti-1", signed(t, nil))
		time.Sleep(4 * time.Minute)
		if w.status(t, "session:s-1") != "revoked" || p.Status().Err != nil {
			t.Errorf("when it works again: %v", p.Status().Err)
		}
	})
}

// TestATransmitterThatNeverHoldsBackIsNotHammered: nor one that is deaf to what is
// acknowledged.
func TestATransmitterThatNeverHoldsBackIsNotHammered(t *testing.T) {
	polling(t, PollConfig{}, func(t *testing.T, w *world, s *stream, _ *Poller, _ func()) {
		time.Sleep(time.Minute)
		s.mu.Lock()
		n := len(s.requests)
		s.deaf = true
		s.mu.Unlock()
		if n > 31 {
			t.Errorf("%d requests in a minute for nothing", n)
		}
		s.add("jti-1", signed(t, nil))
		time.Sleep(time.Minute)
		s.mu.Lock()
		defer s.mu.Unlock()
		if m := len(s.requests) - n; m > 35 {
			t.Errorf("%d requests in a minute for the same", m)
		}
	})
}

// TestATransmitterThatIsSilentIsNoSignOfLife: Status does not say that it was polled.
func TestATransmitterThatIsSilentIsNoSignOfLife(t *testing.T) {
	polling(t, PollConfig{Wait: 30 * time.Second}, func(t *testing.T, w *world, s *stream, p *Poller, _ func()) {
		synctest.Wait()
		before := p.Status().Polled
		s.mu.Lock()
		s.hold = time.Hour
		s.mu.Unlock()
		time.Sleep(10 * time.Second)
		w.clock.advance(time.Hour)
		time.Sleep(10 * time.Minute)
		if got := p.Status(); got.Polled != before || got.Err != nil {
			t.Errorf("%+v", got)
		}
		s.add("jti-1", signed(t, nil))
		time.Sleep(time.Second)
		if p.Status().Polled == before || w.status(t, "session:s-1") != "revoked" {
			t.Errorf("%+v", p.Status())
		}
	})
}

func TestAnAnswerToAPollIsBounded(t *testing.T) {
	polling(t, PollConfig{MaxAnswer: 4096}, func(t *testing.T, w *world, s *stream, p *Poller, _ func()) {
		s.add("jti-1", string(bytes.Repeat([]byte("x"), 5000)))
		time.Sleep(5 * time.Second)
		if err := p.Status().Err; err == nil {
			t.Error("an answer of any size is read")
		}
	})
}
