package ssf

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// tokenServer answers a token request.
type tokenServer struct {
	t      *testing.T
	asked  int
	answer func(n int) string
}

func (s *tokenServer) RoundTrip(r *http.Request) (*http.Response, error) {
	s.asked++
	id, secret, _ := r.BasicAuth()
	body, err := io.ReadAll(r.Body)
	if err != nil || id != "vigil%3A1" || secret != "s+ec%2Bret" || string(body) != "grant_type=client_credentials&scope=ssf.manage+ssf.read" ||
		r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
		s.t.Errorf("%s %s %s %v", id, secret, body, r.Header)
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(s.answer(s.asked)))}, nil
}

func TestAnAccessTokenIsKeptUntilShortlyBeforeItEnds(t *testing.T) {
	clock := newClock()
	server := &tokenServer{t: t, answer: func(n int) string {
		return fmt.Sprintf(`{"access_token":"token-%d","token_type":"bearer","expires_in":600,"more":1}`, n)
	}}
	c := &ClientCredentials{
		TokenURL: "https://idp.example.com/token", ID: "vigil:1", Secret: "s ec+ret", Scope: "ssf.manage ssf.read",
		Web: &Web{Transport: server}, Now: clock.Now,
	}
	want := func(header string) {
		t.Helper()
		if got, err := c.Authorize(t.Context()); got != header || err != nil {
			t.Errorf("%s, %v; want %s", got, err, header)
		}
	}
	want("Bearer token-1")
	clock.advance(569 * time.Second)
	want("Bearer token-1")
	clock.advance(time.Second)
	want("Bearer token-2")
	c.Forget()
	want("Bearer token-3")
	for _, answer := range []string{`{}`, `{"access_token":"secret-token","token_type":"mac"}`, `{"access_token":"secret\ntoken","token_type":"Bearer"}`,
		`{"access_token":"secret-token","access_token":"secret-token","token_type":"Bearer"}`, `secret-token`} {
		server.answer = func(int) string { return answer }
		c.Forget()
		if got, err := c.Authorize(t.Context()); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %q, %v", answer, got, err)
		}
	}
}
