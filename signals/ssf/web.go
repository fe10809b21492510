package ssf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Web is how a transmitter is asked: its keys, its configuration, its streams. It is safe
// for concurrent use.
type Web struct {
	// Transport makes the requests; nil for the default, which verifies TLS.
	Transport http.RoundTripper
	// AllowPlain permits http beyond loopback. Keys that come over plain http can be
	// anybody's.
	AllowPlain bool
	// Authorize gives the Authorization header of a request to a transmitter's own
	// endpoints, and is called for each; nil for none. It is not used for keys and
	// discovery, which are public.
	Authorize func(context.Context) (string, error)
	// Refused is told that what Authorize gave was answered with 401; nil for nobody.
	Refused func()
}

// CheckURL says what is wrong with a URL that is to be asked, or nil: it is https, or
// http to a loopback address, and holds no credentials and no fragment.
func (w *Web) CheckURL(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return fmt.Errorf("%q is not a URL such as https://idp.example.com/keys", clip(raw))
	case u.User != nil:
		return fmt.Errorf("a URL of %s holds credentials", clip(u.Host))
	case u.Fragment != "":
		return fmt.Errorf("%q has a fragment", clip(raw))
	case u.Scheme == "https":
		return nil
	case u.Scheme != "http":
		return fmt.Errorf("%q is neither https nor http", clip(raw))
	case w.AllowPlain || loopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("%q is plain http, which only loopback may be unless it is allowed", clip(raw))
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// StatusError is an answer with a status that was not wanted.
type StatusError struct {
	Status int
	Retry  time.Duration // Retry-After in seconds, where it was stated; 0 else
	Detail string
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("answered %d %s", e.Status, http.StatusText(e.Status))
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}

// ask is one request and the answer that is wanted.
type ask struct {
	method, url string
	body        []byte // JSON or, with user, a form; or nil
	user, pass  string // HTTP Basic of a client (RFC 6749 section 2.3.1); "" for none
	authorized  bool
	most        int64 // bytes of the answer
	want        []int // statuses
}

// do makes a request and reads the answer; a status that was not wanted is a *StatusError. Its type is not looked at: what it is read as is
// strict, and key sets come as many types. Redirects are
// not followed: where keys and credentials go is what the configuration says.
func (w *Web) do(ctx context.Context, a ask) (status int, answer []byte, err error) {
	if err := w.CheckURL(a.url); err != nil {
		return 0, nil, err
	}
	r, err := http.NewRequestWithContext(ctx, a.method, a.url, bytes.NewReader(a.body))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "vigil")
	switch {
	case a.user != "":
		r.SetBasicAuth(url.QueryEscape(a.user), url.QueryEscape(a.pass))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	case a.body != nil:
		r.Header.Set("Content-Type", "application/json")
	default:
		r.Body, r.ContentLength = http.NoBody, 0
	}
	if a.authorized && w.Authorize != nil {
		header, err := w.Authorize(ctx)
		if err != nil {
			return 0, nil, fmt.Errorf("no authorization: %w", err)
		}
		r.Header.Set("Authorization", header)
	}
	client := http.Client{Transport: w.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(r)
	if err != nil {
		// A *url.Error repeats the URL, which may hold a stream's secret.
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return 0, nil, fmt.Errorf("%s %s: %w", a.method, r.URL.Host, err)
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(response.Body, a.most+1))
	if err != nil {
		return 0, nil, fmt.Errorf("%s %s: %w", a.method, r.URL.Host, err)
	}
	if int64(len(answer)) > a.most {
		return 0, nil, fmt.Errorf("%s %s: the answer has more than %d bytes", a.method, r.URL.Host, a.most)
	}
	for _, status := range a.want {
		if response.StatusCode == status {
			return status, answer, nil
		}
	}
	if response.StatusCode == http.StatusUnauthorized && a.authorized && w.Refused != nil {
		w.Refused()
	}
	e := &StatusError{Status: response.StatusCode, Retry: retryAfter(response.Header.Get("Retry-After"))}
	if response.StatusCode/100 == 3 {
		e.Detail = "redirects are not followed"
	}
	return 0, nil, fmt.Errorf("%s %s: %w", a.method, r.URL.Host, e)
}

// retryAfter reads the seconds of a Retry-After; a date counts as none.
func retryAfter(header string) time.Duration {
	seconds, err := strconv.Atoi(header)
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(min(seconds, 24*3600)) * time.Second
}
