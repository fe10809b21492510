package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vigil/posture"
	"vigil/signals"
	"vigil/signals/snapshot"
)

// peersAt prepares to ask control ports, as the given client.
func peersAt(t *testing.T, addresses ...string) *peers {
	t.Helper()
	dir := folderWith(t, map[string]string{"token": "vgl_secret\n"})
	n := &node{
		cfg: &config{Log: logConfig{Bootstrap: bootstrapConfig{From: addresses, TokenFile: filepath.Join(dir, "token")}}},
		app: &app{stderr: io.Discard}, log: slog.New(slog.DiscardHandler),
	}
	p, err := n.peers()
	must(t, err)
	p.patience = 0
	return p
}

// peer answers for its snapshot.
func peer(t *testing.T, f http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return s.URL
}

func snapshotOf(t *testing.T, log signals.LogID, at signals.Positions) []byte {
	t.Helper()
	var b bytes.Buffer
	must(t, snapshot.Write(&b, snapshot.Meta{Log: log, Positions: at, Now: 5, Marks: []byte("{}")}, posture.NewStore()))
	return b.Bytes()
}

// TestAReplicaTakesFromAPeerOnlyWhatItWouldTakeFromItself.
func TestAReplicaTakesFromAPeerOnlyWhatItWouldTakeFromItself(t *testing.T) {
	this := signals.LogID{1}
	good := snapshotOf(t, this, signals.Positions{0: 50})
	send := func(data []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v1/snapshot" || r.Header.Get("Authorization") != "Bearer vgl_secret" {
				w.WriteHeader(401)
				return
			}
			_, _ = w.Write(data)
		}
	}
	problem := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	for _, c := range []struct {
		name string
		from http.HandlerFunc
		want string
		code int // that the start ends with, where it is not that of a wrong input
	}{
		{"a good one", send(good), "", 0},
		{"half of one", send(good[:len(good)/2]), "damaged", 0},
		{"something else", send([]byte("hello")), "damaged", 0},
		{"one of another log", send(snapshotOf(t, signals.LogID{2}, signals.Positions{0: 50})), "it is of log", 0},
		{"one from before the log begins", send(snapshotOf(t, this, signals.Positions{0: 41})), "stands at offset 41 of log/0, which begins at 42", 0},
		{"a stranger", problem(401, `{"status":401,"title":"Unauthorized","code":"unauthorized", 0}`), "unauthorized", 0},
		{"one that is starting", problem(503, `{"status":503,"title":"Service Unavailable","code":"starting"}`), "starting", exitUnreachable},
		{"another place", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/v1/snapshot", http.StatusFound)
		}, "answered 302", 0},
		{"a connection that breaks", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100000")
			_, _ = w.Write(good)
		}, "unexpected EOF", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := sharedStorage(t, t.TempDir(), 42)
			err := s.restore(context.Background(), peersAt(t, peer(t, c.from)))
			var f *failure
			switch {
			case c.want != "" && (!errors.As((&node{}).refusal(context.Background(), err), &f) || f.code != max(c.code, exitInput)):
				t.Errorf("it ends with %+v, want code %d", f, c.code)
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want == "" && s.from[0] != 50:
				t.Errorf("begins at %v", s.from)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "the partition log/0 begins at offset 42")):
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// TestPeersAreAskedInTurnAndThoseThatStartAskedAgain, but those that refuse are not.
func TestPeersAreAskedInTurnAndThoseThatStartAskedAgain(t *testing.T) {
	var refused, starting atomic.Int64
	good := snapshotOf(t, signals.LogID{1}, signals.Positions{0: 50})
	never := peer(t, func(w http.ResponseWriter, _ *http.Request) {
		refused.Add(1)
		w.WriteHeader(401)
	})
	soon := peer(t, func(w http.ResponseWriter, _ *http.Request) {
		if starting.Add(1) == 1 {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(503)
			_, _ = io.WriteString(w, `{"status":503,"title":"t","code":"starting"}`)
			return
		}
		_, _ = w.Write(good)
	})
	s := sharedStorage(t, t.TempDir(), 42)
	p := peersAt(t, never, soon)
	p.patience = time.Minute
	must(t, s.restore(context.Background(), p))
	if refused.Load() != 2 || starting.Load() != 2 || s.from[0] != 50 {
		t.Errorf("asked %d and %d times; begins at %v", refused.Load(), starting.Load(), s.from)
	}
	refused.Store(0)
	s = sharedStorage(t, t.TempDir(), 42)
	p = peersAt(t, never)
	p.patience = time.Minute
	if err := s.restore(context.Background(), p); err == nil || refused.Load() != 1 {
		t.Errorf("%v; who refuses for good was asked %d times", err, refused.Load())
	}
}

// TestAPeerIsNotAskedWhereNothingIsMissing.
func TestAPeerIsNotAskedWhereNothingIsMissing(t *testing.T) {
	p := peersAt(t, peer(t, func(http.ResponseWriter, *http.Request) { t.Error("it was asked") }))
	s := sharedStorage(t, t.TempDir(), 0)
	must(t, s.restore(context.Background(), p))
	s = sharedStorage(t, t.TempDir(), 7)
	saveAt(t, s.dir, signals.LogID{1}, 1, signals.Positions{0: 8})
	must(t, s.restore(context.Background(), p))
}

// TestASilentPeerIsGivenUp: a start must not hang on one.
func TestASilentPeerIsGivenUp(t *testing.T) {
	released := make(chan struct{})
	defer close(released)
	p := peersAt(t, peer(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		select {
		case <-released:
		case <-r.Context().Done():
		}
	}))
	p.silence = 50 * time.Millisecond
	s := sharedStorage(t, t.TempDir(), 42)
	if err := s.restore(context.Background(), p); err == nil || !strings.Contains(err.Error(), "it sends nothing") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.silence = time.Hour
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := s.restore(ctx, p); err == nil {
		t.Error("a start that was told to end goes on")
	}
}

// TestAPeerIsTrustedOverTLSByTheCertificatesThatAreNamed, and by no others.
func TestAPeerIsTrustedOverTLSByTheCertificatesThatAreNamed(t *testing.T) {
	good := snapshotOf(t, signals.LogID{1}, signals.Positions{0: 50})
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(good) }))
	t.Cleanup(server.Close)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	other, _ := certificateFiles(t)
	dir := folderWith(t, map[string]string{
		"good.pem":  string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})),
		"other.pem": other,
	})
	for name, fits := range map[string]bool{"good.pem": true, "other.pem": false} {
		n := &node{
			cfg: &config{Log: logConfig{Bootstrap: bootstrapConfig{From: []string{server.URL}, CA: filepath.Join(dir, name)}}},
			app: &app{stderr: io.Discard}, log: slog.New(slog.DiscardHandler),
		}
		p, err := n.peers()
		must(t, err)
		p.patience = 0
		if err := sharedStorage(t, t.TempDir(), 42).restore(context.Background(), p); (err == nil) != fits {
			t.Errorf("%s: %v", name, err)
		}
	}
	n := &node{cfg: &config{Log: logConfig{Bootstrap: bootstrapConfig{From: []string{server.URL}, CA: "/nowhere.pem"}}}, app: &app{stderr: io.Discard}}
	if _, err := n.peers(); err == nil || !strings.Contains(err.Error(), "/nowhere.pem") {
		t.Errorf("a file that is not there: %v", err)
	}
}
