package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"vigil/server/control"
	"vigil/signals"
)

const acknowledged = "v1.acknowledged"

// replica answers GET /v1/position with one status after the other, the last for good.
func replica(t *testing.T, asked *atomic.Int32, answers ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/position" || r.Header.Get("Vigil-At-Least") != acknowledged {
			t.Errorf("asked %s for %q", r.URL.Path, r.Header.Get("Vigil-At-Least"))
		}
		code := answers[min(int(asked.Add(1)), len(answers))-1]
		switch code {
		case "ok":
			_, _ = w.Write([]byte(`{"as_of":"v1.later"}`))
			return
		case control.CodeNotReached, control.CodeStarting:
			w.WriteHeader(503)
		case control.CodeBusy:
			w.WriteHeader(429)
		case control.CodeOtherLog:
			w.WriteHeader(409)
		case control.CodeUnauthenticated:
			w.WriteHeader(401)
		default:
			w.WriteHeader(404)
		}
		_, _ = w.Write([]byte(`{"code":"` + code + `","detail":"` + code + `"}`))
	})
}

func replicasAt(t *testing.T, c connection, timeout string, urls ...string) *replicaCalls {
	t.Helper()
	c.Timeout = "10s"
	calls, err := (&app{stderr: &bytes.Buffer{}}).replicas(&c, &waitFlags{WaitAll: urls, WaitTimeout: timeout})
	must(t, err)
	return calls
}

// TestWaitAllCountsOnlyWhatSaysThatItIsInForce: everything else is asked again, or is no.
func TestWaitAllCountsOnlyWhatSaysThatItIsInForce(t *testing.T) {
	for _, c := range []struct {
		answers []string
		reached bool
		asked   int32 // at most; 0 for any number
	}{
		{[]string{"ok"}, true, 1},
		{[]string{control.CodeStarting, control.CodeBusy, control.CodeNotReached, "ok"}, true, 4},
		{[]string{control.CodeNotReached}, false, 0},
		{[]string{control.CodeOtherLog}, false, 1},
		{[]string{control.CodeUnauthenticated}, false, 1},
		{[]string{control.CodeNotFound}, false, 1},
	} {
		var asked atomic.Int32
		ctx, over := context.WithCancel(t.Context()) // as when the time is over
		answers := replica(t, &asked, c.answers...)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if c.asked == 0 && asked.Load() == 3 {
				over()
			}
			answers.ServeHTTP(w, r)
		}))
		all := replicasAt(t, connection{}, "1m", server.URL).wait(ctx, acknowledged)
		over()
		server.Close()
		if len(all) != 1 || all[0].Reached != c.reached || c.asked > 0 && asked.Load() != c.asked {
			t.Errorf("%v: asked %d times: %+v", c.answers, asked.Load(), all)
		}
		if want := c.answers[len(c.answers)-1]; !c.reached && !strings.Contains(all[0].Error, want) {
			t.Errorf("%v: the reason is %q", c.answers, all[0].Error)
		}
	}
}

// TestWaitAllAsksEveryAddressOfAName, under that name.
func TestWaitAllAsksEveryAddressOfAName(t *testing.T) {
	first, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	_, port, _ := net.SplitHostPort(first.Addr().String())
	second, err := net.Listen("tcp", "127.0.0.2:"+port)
	if err != nil {
		first.Close()
		t.Skip("this machine has one loopback address:", err)
	}
	var asked [2]atomic.Int32
	for i, l := range []net.Listener{first, second} {
		answers := replica(t, &asked[i], []string{control.CodeNotReached, "ok"}[i:]...)
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Host != "replicas.test:"+port {
				t.Errorf("asked as %q", r.Host)
			}
			answers.ServeHTTP(w, r)
		}))
		server.Listener.Close()
		server.Listener = l
		server.Start()
		defer server.Close()
	}
	calls := replicasAt(t, connection{}, "1m", "http://replicas.test:"+port)
	calls.lookup = func(_ context.Context, _, host string) ([]netip.Addr, error) {
		if host != "replicas.test" {
			t.Errorf("looked up %q", host)
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("::ffff:127.0.0.1"), netip.MustParseAddr("127.0.0.1")}, nil
	}
	all := calls.wait(t.Context(), acknowledged)
	if len(all) != 2 || !all[0].Reached || !all[1].Reached || all[0].Address != "127.0.0.1:"+port || all[1].Address != "127.0.0.2:"+port {
		t.Errorf("%+v", all)
	}
	if asked[0].Load() != 2 || asked[1].Load() != 1 {
		t.Errorf("asked %d and %d times", asked[0].Load(), asked[1].Load())
	}

	calls.lookup = func(context.Context, string, string) ([]netip.Addr, error) { return nil, errors.New("no such host") }
	if all := calls.wait(t.Context(), acknowledged); len(all) != 1 || all[0].Reached {
		t.Errorf("a name that cannot be resolved: %+v", all)
	}
}

// TestWaitAllChecksTheNameAtEveryAddress: whoever has an address of ours must not be
// believed for that.
func TestWaitAllChecksTheNameAtEveryAddress(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewTLSServer(replica(t, &asked, "ok")) // its certificate is for example.com
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	at, err := url.Parse(server.URL)
	must(t, err)
	for host, want := range map[string]bool{"example.com": true, "replicas.test": false} {
		calls := replicasAt(t, connection{CAFile: ca}, "1m", "https://"+host+":"+at.Port())
		calls.lookup = func(context.Context, string, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}
		if all := calls.wait(t.Context(), acknowledged); len(all) != 1 || all[0].Reached != want {
			t.Errorf("%s: %+v", host, all)
		}
	}
	if asked.Load() != 1 {
		t.Errorf("asked %d times", asked.Load())
	}
}

// TestWaitAllDoesNotCallASpooledSignalInForce: it has no position that others could come to.
func TestWaitAllDoesNotCallASpooledSignalInForce(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(replica(t, &asked, "ok"))
	defer server.Close()
	for spooled, want := range map[bool]int{true: exitUnreachable, false: exitOK} {
		var out, said bytes.Buffer
		a := &app{stdout: &out, stderr: &said}
		r := &control.SignalsResponse{AsOf: acknowledged, Spooled: spooled, Results: []control.SignalResult{entityResult("applied", nil)}}
		calls := replicasAt(t, connection{}, "1m", server.URL)
		err := a.awaitOthers(t.Context(), &signalFlags{}, calls, []draft{{kind: signals.TypeRevoke}}, r, "--id S")
		if code := a.report(err); code != want || (want == exitOK) != strings.Contains(out.String(), "  after ") {
			t.Errorf("spooled %v: exit %d\n%s%s", spooled, code, &out, &said)
		}
	}
	if asked.Load() != 1 {
		t.Errorf("asked %d times", asked.Load())
	}
}
