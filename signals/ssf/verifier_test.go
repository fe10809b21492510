package ssf

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// answering is a handler without a network.
type answering struct{ http.Handler }

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	served := r.Clone(r.Context())
	served.URL.Scheme, served.URL.Host = "", "" // as a server sees it
	a.ServeHTTP(w, served)
	return w.Result(), r.Context().Err()
}

// verifying runs a verifier of a stream in a bubble of its own time.
func verifying(t *testing.T, every time.Duration, test func(t *testing.T, w *world, tr *transmitter, v *Verifier)) {
	synctest.Test(t, func(t *testing.T) {
		tr := &transmitter{t: t, base: "https://idp.example.com"}
		tr.stream = Stream{ID: "st 1", Issuer: tr.base + "/one", Audience: Audience{testAudience}, Delivery: &Delivery{Method: MethodPush}}
		tr.status = streamStatus{ID: "st 1", Status: "enabled"}
		w := newWorld(t, func(cfg *Config) { cfg.Issuer = tr.base + "/one"; cfg.StateSecret = []byte("of all replicas") })
		v, err := NewVerifier(w.receiver, VerifierConfig{
			Web:       &Web{Transport: answering{tr}, Authorize: func(context.Context) (string, error) { return "Bearer secret", nil }},
			Discovery: SSFConfiguration, Every: every,
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- v.Run(ctx) }()
		test(t, w, tr, v)
		cancel()
		if err := <-done; err != context.Canceled {
			t.Errorf("it ended with %v", err)
		}
	})
}

// set changes the transmitter.
func (tr *transmitter) set(change func()) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	change()
}

// askedIn counts the verifications that were asked for in d.
func (tr *transmitter) askedIn(d time.Duration) int {
	var before, n int
	tr.set(func() { before = len(tr.seen) })
	time.Sleep(d)
	synctest.Wait()
	tr.set(func() { n = strings.Count(strings.Join(tr.seen[before:], "\n"), "POST /verify") })
	return n
}

func TestAStreamIsVerifiedAgainAndAgain(t *testing.T) {
	verifying(t, time.Hour, func(t *testing.T, w *world, tr *transmitter, v *Verifier) {
		if n := tr.askedIn(time.Minute); n != 1 {
			t.Errorf("asked %d times in the first minute", n)
		}
		if n := tr.askedIn(12 * time.Hour); n < 10 || n > 12 { // each is up to a tenth late
			t.Errorf("asked %d times in 12 h", n)
		}
		if s := v.Status(); s.Err != nil || s.Asked < 11 || s.Failed != 0 || s.At != w.clock.Now() {
			t.Errorf("%+v", s)
		}
		if s := w.receiver.Status().Stream; s.Status != "enabled" {
			t.Errorf("its status is not known: %+v", s)
		}
		set := signed(t, object{"iss": tr.base + "/one", "sub_id": opaque("st 1"), "events": event(verification, object{"state": *tr.state})})
		if _, err := w.receiver.Take(t.Context(), []byte(set)); err != nil || w.receiver.Status().Verified == 0 {
			t.Errorf("what was asked for is not known: %v", err)
		}
	})
}

func TestAVerifierAsksNoSoonerThanTheTransmitterWants(t *testing.T) {
	verifying(t, time.Minute, func(t *testing.T, w *world, tr *transmitter, v *Verifier) {
		tr.set(func() { tr.stream.MinVerification = 7200 })
		tr.askedIn(time.Minute)
		if n := tr.askedIn(24 * time.Hour); n < 10 || n > 12 {
			t.Errorf("asked %d times in a day", n)
		}
		// 429 is no failure: another replica was sooner. Its Retry-After counts.
		tr.set(func() {
			tr.fail, tr.header = map[string]int{"POST /verify": http.StatusTooManyRequests}, http.Header{"Retry-After": {"43200"}}
		})
		tr.askedIn(3 * time.Hour)
		if n := tr.askedIn(36 * time.Hour); n < 2 || n > 3 {
			t.Errorf("asked %d times in 36 h", n)
		}
		if s := v.Status(); s.Err != nil || s.Throttled < 3 || s.Failed != 0 {
			t.Errorf("%+v", s)
		}
		// Nor is a number that is beyond all reason believed.
		tr.set(func() { tr.stream.MinVerification, tr.fail = 1<<62, nil })
		tr.askedIn(24 * time.Hour)
		if n := tr.askedIn(8 * 24 * time.Hour); n != 1 {
			t.Errorf("asked %d times in 8 days", n)
		}
	})
}

func TestAVerifierThatFailsTriesAgainAndSaysWhy(t *testing.T) {
	verifying(t, 6*time.Hour, func(t *testing.T, w *world, tr *transmitter, v *Verifier) {
		for request, status := range map[string]int{"GET /stream": 500, "GET /status": 403, "POST /verify": 404} {
			tr.set(func() { tr.fail = map[string]int{request: status} })
			tr.askedIn(7 * time.Hour)
			if s := v.Status(); s.Err == nil || !strings.Contains(s.Err.Error(), fmt.Sprint(status)) {
				t.Errorf("%s: %v", request, s.Err)
			}
		}
		before := v.Status().Failed
		tr.askedIn(10 * time.Hour)
		if n := v.Status().Failed - before; n < 36 || n > 41 { // every 15 minutes or a little more
			t.Errorf("tried %d times in 10 h", n)
		}
		tr.set(func() { tr.fail = nil })
		if n := tr.askedIn(20 * time.Minute); n != 1 || v.Status().Err != nil {
			t.Errorf("it does not recover: asked %d times, %+v", n, v.Status())
		}
		// A stream that sends nothing cannot be verified, and that is said.
		tr.set(func() { tr.status = streamStatus{ID: "st 1", Status: "paused", Reason: "licence"} })
		if n := tr.askedIn(7 * time.Hour); n != 0 {
			t.Errorf("asked %d times while it is paused", n)
		}
		if s := v.Status(); s.Err == nil || !strings.Contains(s.Err.Error(), `paused: "licence"`) || w.receiver.Status().Stream.Status != "paused" {
			t.Errorf("%+v", s)
		}
	})
}

func TestAVerifierIsRefusedThatAsksTooOftenOrNobody(t *testing.T) {
	w := newWorld(t)
	for name, cfg := range map[string]VerifierConfig{
		"too often": {Discovery: SSFConfiguration, Every: time.Second}, "never": {Discovery: SSFConfiguration, Every: 8 * 24 * time.Hour},
		"no document": {Every: time.Hour}, "another": {Discovery: "jwks", Every: time.Hour},
	} {
		if _, err := NewVerifier(w.receiver, cfg); err == nil {
			t.Error(name)
		}
	}
}
