package ssf

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// keyServer is an issuer's jwks_uri without a network.
type keyServer struct {
	asked  atomic.Int64
	mu     sync.Mutex
	body   []byte // guarded by mu
	away   error  // guarded by mu
	header http.Header
	status int
	hold   chan struct{} // answers wait for it; nil for none
	panics atomic.Bool
}

func (s *keyServer) set(body []byte, away error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.body, s.away = body, away
}

func (s *keyServer) RoundTrip(r *http.Request) (*http.Response, error) {
	s.asked.Add(1)
	if s.hold != nil {
		<-s.hold
	}
	if s.panics.Load() {
		panic("a defect")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away != nil {
		return nil, s.away
	}
	status := s.status
	if status == 0 {
		status = http.StatusOK
	}
	return &http.Response{StatusCode: status, Header: s.header, Body: io.NopCloser(bytes.NewReader(s.body)), Request: r}, nil
}

const keysURI = "https://idp.example.com/keys"

// keyed is an issuer whose keys come from a server.
func keyed(t testing.TB) (*Issuer, *keyServer, *handClock) {
	clock, server := newClock(), &keyServer{}
	server.set(jwks(jwk(rsaKey().Public(), object{"kid": "k1"})), nil)
	return newIssuer(t, func(cfg *Config) {
		cfg.Keys = KeysConfig{URI: keysURI}
		cfg.Web.Transport, cfg.Now = server, clock.Now
	}), server, clock
}

func TestKeysAreFetchedOnceAndThenAnew(t *testing.T) {
	i, server, clock := keyed(t)
	verify := func(wantAsked int64) {
		t.Helper()
		if _, err := i.Verify(t.Context(), []byte(signed(t, nil))); err != nil {
			t.Error(err)
		}
		if n := server.asked.Load(); n != wantAsked {
			t.Errorf("asked %d times, want %d", n, wantAsked)
		}
	}
	verify(1)
	clock.advance(59 * time.Minute)
	verify(1)
	clock.advance(2 * time.Minute)
	verify(2)
}

// TestAnUnknownKidRefreshesOnce: a key that was just added works at once, and tokens with
// made-up kids do not make us hammer the issuer.
func TestAnUnknownKidRefreshesOnce(t *testing.T) {
	i, server, clock := keyed(t)
	verify := func(kid string) error {
		_, err := i.Verify(t.Context(), []byte(sign(t, jwt.SigningMethodRS256, rsaKey(), claims(nil), object{"kid": kid})))
		return err
	}
	if err := verify("k1"); err != nil {
		t.Fatal(err)
	}
	clock.advance(time.Minute)
	server.set(jwks(jwk(rsaKey().Public(), object{"kid": "k2"})), nil)
	if err := verify("k2"); err != nil || server.asked.Load() != 2 {
		t.Errorf("a rotated key: %v after %d fetches", err, server.asked.Load())
	}
	// The old key went with the old set; whether it comes back is not known so soon.
	if err := verify("k1"); !errors.Is(err, ErrTemporary) {
		t.Errorf("a key that was withdrawn: %v", err)
	}
	clock.advance(time.Minute)
	refusedWith(t, i, signed(t, nil), InvalidKey, "k1")
}

func TestMadeUpKidsDoNotHammerTheIssuer(t *testing.T) {
	i, server, clock := keyed(t)
	if _, err := i.Verify(t.Context(), []byte(signed(t, nil))); err != nil {
		t.Fatal(err)
	}
	clock.advance(time.Minute)
	permanent := 0
	for range 100 {
		clock.advance(time.Second)
		_, err := i.Verify(t.Context(), []byte(sign(t, jwt.SigningMethodRS256, rsaKey(), claims(nil), object{"kid": "made-up"})))
		var e *Error
		switch {
		case errors.As(err, &e) && e.Code == InvalidKey:
			permanent++
		case !errors.Is(err, ErrTemporary):
			t.Fatal(err)
		}
	}
	// 100 s, at most one fetch in 30 s.
	if n := server.asked.Load() - 1; n < 3 || n > 4 || permanent != int(n) {
		t.Errorf("%d fetches in 100 s, %d refusals for good", n, permanent)
	}
}

func TestKeysSurviveTheIssuerBeingAwayForADay(t *testing.T) {
	i, server, clock := keyed(t)
	if _, err := i.Verify(t.Context(), []byte(signed(t, nil))); err != nil {
		t.Fatal(err)
	}
	server.set(nil, errors.New("no route to host"))
	clock.advance(23 * time.Hour)
	for range 10 {
		if _, err := i.Verify(t.Context(), []byte(signed(t, nil))); err != nil {
			t.Fatal(err)
		}
	}
	if n := server.asked.Load(); n != 2 {
		t.Errorf("an issuer that is away was asked %d times at one instant", n-1)
	}
	clock.advance(61 * time.Minute)
	_, err := i.Verify(t.Context(), []byte(signed(t, nil)))
	if !errors.Is(err, ErrTemporary) || !strings.Contains(err.Error(), "no route") {
		t.Errorf("after 24 h: %v", err)
	}
	server.set(jwks(jwk(rsaKey().Public(), object{"kid": "k1"})), nil)
	clock.advance(time.Minute)
	if _, err := i.Verify(t.Context(), []byte(signed(t, nil))); err != nil {
		t.Errorf("when it is back: %v", err)
	}
}

// TestABadKeySetDoesNotReplaceAGoodOne: an error page, an empty set, a flood.
func TestABadKeySetDoesNotReplaceAGoodOne(t *testing.T) {
	i, server, clock := keyed(t)
	if _, err := i.Verify(t.Context(), []byte(signed(t, nil))); err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string][]byte{
		"a page": []byte("<html>"), "empty": jwks(), "a flood": bytes.Repeat([]byte(" "), maxJWKS+2),
		"secrets": jwks(object{"kty": "oct", "k": "c2VjcmV0"}),
	} {
		clock.advance(2 * time.Hour)
		server.set(body, nil)
		if _, err := i.Verify(t.Context(), []byte(signed(t, nil))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	clock.advance(2 * time.Hour)
	server.status, server.header = http.StatusFound, http.Header{"Location": {"https://evil.example.com/keys"}}
	asked := server.asked.Load()
	if _, err := i.Verify(t.Context(), []byte(signed(t, nil))); err != nil || server.asked.Load() != asked+1 {
		t.Errorf("a redirect was followed, or ended the keys: %v", err)
	}
}

// TestOneFetchAtATime: many tokens that need the keys at once make one request, and all
// have its answer.
func TestOneFetchAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, server, _ := keyed(t)
		server.hold = make(chan struct{})
		token := []byte(signed(t, nil))
		var verified atomic.Int64
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if _, err := i.Verify(t.Context(), token); err == nil {
					verified.Add(1)
				}
			})
		}
		synctest.Wait()
		if n := server.asked.Load(); n != 1 {
			t.Errorf("%d requests at once", n)
		}
		close(server.hold)
		all.Wait()
		if verified.Load() != 50 || server.asked.Load() != 1 {
			t.Errorf("%d of 50 verified, %d requests", verified.Load(), server.asked.Load())
		}
	})
}

// TestAFetchThatPanicsEndsForAll: who waited for it is told, and the next one fetches.
func TestAFetchThatPanicsEndsForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, server, clock := keyed(t)
		server.hold = make(chan struct{})
		server.panics.Store(true)
		token := []byte(signed(t, nil))
		var (
			panicked any
			waited   error
			all      sync.WaitGroup
		)
		all.Go(func() {
			defer func() { panicked = recover() }()
			_, _ = i.Verify(t.Context(), token)
		})
		synctest.Wait()
		all.Go(func() { _, waited = i.Verify(t.Context(), token) })
		synctest.Wait()
		close(server.hold)
		all.Wait()
		if panicked == nil || !errors.Is(waited, ErrTemporary) {
			t.Errorf("the fetch: %v; who waited: %v", panicked, waited)
		}
		server.panics.Store(false)
		clock.advance(time.Minute)
		if _, err := i.Verify(t.Context(), token); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// TestOldKeysServeWhileNewOnesAreFetched: an issuer that is slow to answer holds up one
// token, not all.
func TestOldKeysServeWhileNewOnesAreFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, server, clock := keyed(t)
		token := []byte(signed(t, nil))
		if _, err := i.Verify(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		clock.advance(2 * time.Hour)
		server.hold = make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() { _, _ = i.Verify(t.Context(), token) })
		synctest.Wait()
		for range 10 {
			if _, err := i.Verify(t.Context(), token); err != nil {
				t.Error(err)
			}
		}
		close(server.hold)
		all.Wait()
		if n := server.asked.Load(); n != 2 {
			t.Errorf("%d fetches", n)
		}
	})
}

func TestKeysComeOverTLSOrFromLoopback(t *testing.T) {
	for uri, want := range map[string]string{
		"https://idp.example.com/keys":   "",
		"http://127.0.0.1:8080/keys":     "",
		"http://[::1]/keys":              "",
		"http://localhost/keys":          "",
		"http://idp.example.com/keys":    "plain http",
		"http://127.0.0.1.evil.com/keys": "plain http",
		"ftp://idp.example.com/keys":     "neither",
		"file:///etc/passwd":             "not a URL",
		"https://u:p@idp.example.com/":   "credentials",
		"https://idp.example.com/#k":     "fragment",
		"idp.example.com":                "not a URL",
		"https://":                       "not a URL",
	} {
		err := (&Web{}).CheckURL(uri)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", uri, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "u:p") {
			t.Error("an error repeats a password")
		}
	}
	if err := (&Web{AllowPlain: true}).CheckURL("http://idp.example.com/keys"); err != nil {
		t.Error(err)
	}
	if _, err := New(testConfig(func(cfg *Config) { cfg.Keys = KeysConfig{URI: "http://idp.example.com/keys"} })); err == nil {
		t.Error("keys over plain http")
	}
}

func TestKeysAreFetchedOverARealConnection(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/jwk-set+json")
		w.Write(jwks(jwk(rsaKey().Public(), object{"kid": "k1"})))
	}))
	defer server.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	i := newIssuer(t, func(cfg *Config) {
		cfg.Keys, cfg.Web.Transport = KeysConfig{URI: server.URL}, transport
	})
	if _, err := i.Verify(t.Context(), []byte(signed(t, nil))); err != nil {
		t.Error(err)
	}
}
