package decision

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"vigil/authz"
	"vigil/server/credential"
)

func (p *port) dial() (net.Conn, *bufio.Reader) {
	p.t.Helper()
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	return conn, bufio.NewReader(conn)
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	p := newPort(t, nil).listen()
	conn, r := p.dial()
	calls := []call{{body: goodBody}, {body: actionBody("deny")}, {body: `{"subject":{}}`}, {body: actionBody("panic")}, {method: "GET", path: pathReady}, {body: goodBody}}
	var all strings.Builder
	for i, c := range calls {
		c.header = []string{"X-Request-ID: " + itoa(i)}
		all.WriteString(p.text(c))
	}
	if _, err := io.WriteString(conn, all.String()); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{`{"decision":true`, `{"decision":false`, "missing_member: /subject/type", `{"decision":false`, "ready", `{"decision":true`} {
		got := p.read(conn, r, "POST")
		if !strings.HasPrefix(got.body, want) || got.header.Get("X-Request-ID") != itoa(i) {
			t.Errorf("answer %d: %+v, want %s", i, got, want)
		}
	}
}

func TestASlowCallerStallsNobody(t *testing.T) {
	p := newPort(t, func(c *Config) { c.Limits.ReadTime = 200 * time.Millisecond }).listen()
	slow, r := p.dial()
	text := p.text(call{body: goodBody})
	if _, err := io.WriteString(slow, text[:len(text)-20]); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if got := p.call(call{body: goodBody}); got.status != 200 {
			t.Fatal(got)
		}
	}
	if got := p.read(slow, r, "POST"); got.status != 408 || got.body != "timeout: the request did not come to its end\n" {
		t.Fatal(got)
	}
}

func TestOneTooManyAtWorkIsRefusedAtOnce(t *testing.T) {
	for mode, want := range map[Unavailable]string{UnavailableError: "503 unavailable: too many requests are at work", UnavailableDeny: `200 {"decision":false,"context":{"effect":"deny","class":"error","code":"unavailable"`} {
		p := newPort(t, func(c *Config) { c.Limits.InFlight, c.Unavailable = 1, mode }).listen()
		conn, r := p.dial()
		if _, err := io.WriteString(conn, p.text(call{body: actionBody("hang")})); err != nil {
			t.Fatal(err)
		}
		<-p.engine.entered
		got := p.call(call{body: goodBody})
		if s := itoa(got.status) + " " + got.body; !strings.HasPrefix(s, want) {
			t.Errorf("%s, want %s", s, want)
		}
		if got.status == 503 && got.header.Get("Retry-After") != "1" {
			t.Error("no Retry-After")
		}
		if mode == UnavailableDeny {
			if got := short(p.call(call{path: pathEvaluations, body: batchBody("", "pay", "pay")}).body); got != "UU" {
				t.Error(got)
			}
		}
		if p.engine.calls.Load() != 1 {
			t.Error("the engine was asked")
		}
		p.engine.release <- struct{}{}
		if got := p.read(conn, r, "POST"); got.status != 200 {
			t.Error(got)
		}
		if got := p.call(call{body: goodBody}); got.status != 200 || !strings.Contains(got.body, "true") {
			t.Error("the place was not given back:", got)
		}
		if s := p.Stats(); s.Overloaded == 0 || s.Unavailable != s.Overloaded || s.InFlight != 0 {
			t.Errorf("%+v", s)
		}
	}
}

func TestNoDecisionBeforeReady(t *testing.T) {
	p := newPort(t, func(c *Config) { c.Strict = func() error { return errors.New("the feed is broken") } }).listen()
	p.setUnready("catching up")
	for _, c := range []call{{body: goodBody}, {path: pathEvaluations, body: batchBody("", "pay")}} {
		if got := p.call(c); got.status != 503 || got.body != "unavailable: catching up\n" || got.header.Get("Retry-After") != "1" {
			t.Error(got)
		}
	}
	if got := p.call(call{method: "GET", path: pathReady}); got.status != 503 || got.body != "not ready: catching up\n" {
		t.Error(got)
	}
	p.setUnready("")
	if got := p.call(call{method: "GET", path: pathReady}); got.status != 200 {
		t.Error(got)
	}
	if got := p.call(call{method: "GET", path: pathReady + "?strict"}); got.status != 503 || got.body != "not ready: the feed is broken\n" {
		t.Error(got)
	}
	if p.engine.calls.Load() != 0 {
		t.Error("the engine was asked")
	}
	q := newPort(t, func(c *Config) { c.Unavailable = UnavailableDeny }).listen()
	q.setUnready("catching up")
	if got := q.call(call{body: goodBody}); got.status != 200 || !strings.HasPrefix(got.body, `{"decision":false,`) {
		t.Error(got)
	}
	if got := q.call(call{path: pathEvaluations, body: batchBody("", "pay", "pay")}); short(got.body) != "UU" {
		t.Error(got)
	}
	if got := q.call(call{method: "GET", path: pathReady}); got.status != 503 {
		t.Error("denying in place of a decision made /readyz lie:", got)
	}
}

func TestWaitingForAPositionIsBounded(t *testing.T) {
	w := &waiter{asked: make(chan string, 10)}
	p := newPort(t, func(c *Config) {
		c.AtLeast, c.Limits.Waiting, c.Limits.AtLeastTime = w, 1, 300*time.Millisecond
	}).listen()
	conn, r := p.dial()
	if _, err := io.WriteString(conn, p.text(call{body: goodBody, header: []string{"Vigil-At-Least: v1.later", "Authorization: Bearer " + p.full}})); err != nil {
		t.Fatal(err)
	}
	if got := <-w.asked; got != "v1.later" {
		t.Fatal(got)
	}
	for _, c := range []call{{body: goodBody}, {path: pathEvaluations, body: batchBody("", "pay", "pay")}} {
		c.header = []string{"Vigil-At-Least: v1.here"}
		if got := p.call(c); got.status != 503 || got.body != "unavailable: too many requests are waiting for Vigil-At-Least\n" || got.header.Get("Retry-After") != "1" {
			t.Error("a wait that there was no place for was taken for a decision:", got)
		}
	}
	if got := p.read(conn, r, "POST"); !strings.Contains(got.body, "the view is not there yet") {
		t.Error(got)
	}
	if p.engine.calls.Load() != 0 || p.Stats().Waiting != 0 {
		t.Error("the engine was asked, or a place kept")
	}
	if got := p.call(call{body: goodBody, header: []string{"Vigil-At-Least: v1.here"}}); !strings.Contains(got.body, `"decision":true`) {
		t.Error(got)
	}
	n := newPort(t, nil).listen()
	if got := n.call(call{body: goodBody, header: []string{"Vigil-At-Least: v1.here"}}); !strings.Contains(got.body, `"code":"stale"`) {
		t.Error("a demand that nobody can check was ignored:", got)
	}
}

func TestLoopbackMayBeAnonymous(t *testing.T) {
	anonymous := func(c *Config) {
		registry, err := credential.New([]credential.Client{{Name: "loopback", Scopes: credential.Decide, Anonymous: true, Caller: authz.Caller{Tenants: []string{"default"}}}})
		if err != nil {
			t.Fatal(err)
		}
		c.Credentials = registry
	}
	p := newPort(t, anonymous).listen()
	if got := p.call(call{body: goodBody, header: []string{"Authorization: -"}}); got.status != 200 {
		t.Error(got)
	}
	if got := p.call(call{body: goodBody}); got.status != 401 {
		t.Error("a wrong token became anonymous:", got)
	}
	for _, proxied := range []string{"Forwarded: for=192.0.2.7", "X-Forwarded-For: 192.0.2.7", "X-Forwarded-For: "} {
		if got := p.call(call{body: goodBody, header: []string{"Authorization: -", proxied}}); got.status != 401 {
			t.Error("who is behind a proxy became anonymous:", proxied, got)
		}
	}
	// From elsewhere nobody is anonymous.
	q := newPort(t, anonymous)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	q.addr = ln.Addr().String()
	q.serve(farListener{ln})
	if got := q.call(call{body: goodBody, header: []string{"Authorization: -"}}); got.status != 401 {
		t.Error(got)
	}
}

// farListener makes its callers seem to come from another machine.
type farListener struct{ net.Listener }

type farConn struct{ net.Conn }

func (l farListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return farConn{c}, err
}

func (farConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 1} }

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "decision.sock")
	ln, err := Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Fatal(info.Mode(), err)
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Fatal(info.Mode(), err)
	}
	if _, err := Listen("unix:" + path); err == nil || !strings.Contains(err.Error(), "another process listens there") {
		t.Fatal("took a socket that is in use:", err)
	}
	p := newPort(t, nil)
	p.addr = "whatever.socket"
	p.serve(ln)
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := p.exchange(conn, bufio.NewReader(conn), call{body: goodBody}); got.status != 200 {
		t.Fatal(got)
	}

	other := filepath.Join(t.TempDir(), "stale.sock")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: other, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	again, err := Listen("unix:" + other)
	if err != nil {
		t.Fatal("a stale socket was not replaced:", err)
	}
	again.Close()
	if err := os.WriteFile(other, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix:" + other); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Fatal("a file was replaced:", err)
	}
	if _, err := Listen("unix:relative.sock"); err == nil {
		t.Fatal("a relative path was taken")
	}
}

func TestASocketIsNeverOpenToOthers(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere the folder has to keep others out")
	}
	defer syscall.Umask(syscall.Umask(0))
	path := filepath.Join(t.TempDir(), "s")
	ln, err := bind(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != socketMode {
		t.Fatalf("between bind and chmod the mode is %v, %v", info.Mode(), err)
	}
}

func TestShutdownDrains(t *testing.T) {
	p := newPort(t, func(c *Config) { c.Drain = time.Hour }).listen()
	idle, _ := p.dial() // never says anything
	ready, readyReader := p.dial()
	if got := p.exchange(ready, readyReader, call{method: "GET", path: pathReady}); got.status != 200 {
		t.Fatal(got)
	}
	running, _ := p.dial()
	if _, err := io.WriteString(running, p.text(call{body: actionBody("hang")})); err != nil {
		t.Fatal(err)
	}
	<-p.engine.entered

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- p.Shutdown(ctx) }()
	for !p.draining.Load() {
		time.Sleep(time.Millisecond)
	}
	// Not ready any more, but still deciding, and turning connections away.
	if got := p.exchange(ready, readyReader, call{method: "GET", path: pathReady}); got.status != 503 || !got.last {
		t.Error(got)
	}
	if got := p.call(call{body: goodBody}); got.status != 200 || !got.last {
		t.Error(got)
	}
	cancel() // the end of patience: no more waiting, and what is still at work is cut off
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	p.engine.release <- struct{}{}
	for name, conn := range map[string]net.Conn{"idle": idle, "running": running} {
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := conn.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: read %d, %v", name, n, err)
		}
	}
	if _, err := net.Dial("tcp", p.addr); err == nil {
		t.Error("still listening")
	}
}

func TestShutdownWaitsForWhatIsAtWork(t *testing.T) {
	p := newPort(t, nil).listen()
	running, r := p.dial()
	if _, err := io.WriteString(running, p.text(call{body: actionBody("hang")})); err != nil {
		t.Fatal(err)
	}
	<-p.engine.entered
	ended := make(chan error, 1)
	go func() { ended <- p.Shutdown(context.Background()) }()
	for !p.stopping.Load() {
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-ended:
		t.Fatal("ended while a request was at work:", err)
	case p.engine.release <- struct{}{}:
	}
	if got := p.read(running, r, "POST"); got.status != 200 || !got.last {
		t.Error(got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestConnectionsPerAddressAreBounded(t *testing.T) {
	p := newPort(t, func(c *Config) { c.Limits.PerAddress = 2 }).listen()
	one, oneReader := p.dial()
	two, twoReader := p.dial()
	p.exchange(one, oneReader, call{body: goodBody})
	p.exchange(two, twoReader, call{body: goodBody})
	three, _ := p.dial()
	three.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := three.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("a third connection was kept:", n, err)
	}
	one.Close()
	for p.Stats().Connections > 1 {
		time.Sleep(time.Millisecond)
	}
	if got := p.call(call{body: goodBody}); got.status != 200 {
		t.Fatal(got)
	}
}

func TestManyCallersAtOnce(t *testing.T) {
	p := newPort(t, nil).listen()
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for i := range 100 {
				action, want := "pay", `{"decision":true`
				if (i+w)%2 == 0 {
					action, want = "deny", `{"decision":false`
				}
				req, _ := http.NewRequest("POST", p.url+pathEvaluation, strings.NewReader(actionBody(action)))
				req.Header.Set("Authorization", "Bearer "+p.token)
				req.Header.Set("Content-Type", "application/json")
				req.Header.Set("X-Request-ID", itoa(w*1000+i))
				res, err := client.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				body, _ := io.ReadAll(res.Body)
				res.Body.Close()
				if !strings.HasPrefix(string(body), want) || res.Header.Get("X-Request-ID") != itoa(w*1000+i) {
					t.Errorf("%s for %s", body, action)
				}
			}
		})
	}
	all.Wait()
	s := p.Stats()
	if s.Decisions[authz.Allow][authz.ClassAllow] != 400 || s.Decisions[authz.Deny][authz.ClassDefault] != 400 || s.Responses[200] != 800 {
		t.Errorf("%+v", s)
	}
	var timed uint64
	for _, n := range s.Durations {
		timed += n
	}
	if timed != 800 || s.Duration <= 0 {
		t.Errorf("%d durations", timed)
	}
}
