package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"vigil/authz"
	"vigil/posture"
	"vigil/signals"
)

// listen serves w on a loopback port until the test ends.
func (w *world) listen() (address string) {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- w.server.Serve(l) }()
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = w.server.Shutdown(ctx)
		if err := <-served; err != nil {
			w.t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String()
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	return conn
}

func readStatus(t *testing.T, conn net.Conn) (int, string) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

// blockingIntake holds pushes until it is let go.
type blockingIntake struct {
	noRehearsal
	entered chan struct{}
	free    chan struct{}
}

func (b blockingIntake) Push(ctx context.Context, _ signals.Sender, _ []byte) (signals.Receipt, error) {
	b.entered <- struct{}{}
	select {
	case <-b.free:
		return signals.Receipt{AsOf: "v1.x"}, nil
	case <-ctx.Done():
		return signals.Receipt{}, signals.ErrUnknownOutcome
	}
}

// noRehearsal is for intakes that tests only push to.
type noRehearsal struct{}

func (noRehearsal) Rehearse(signals.Sender, []byte, func([]authz.Key) []authz.Key) (signals.Rehearsal, error) {
	return signals.Rehearsal{}, signals.ErrOverloaded
}

// blockingPosture holds walks until it is let go.
type blockingPosture struct {
	Posture
	entered chan struct{}
	free    chan struct{}
}

func (b blockingPosture) Walk(f func(authz.Key, *posture.Record) bool) {
	b.entered <- struct{}{}
	<-b.free
	b.Posture.Walk(f)
}

// TestSlowWorkStarvesNobody: while a list is being made, another is refused at once and
// everything else is answered, unknown names included.
func TestSlowWorkStarvesNobody(t *testing.T) {
	stuck := blockingPosture{entered: make(chan struct{}), free: make(chan struct{})}
	w := newWorld(t, func(_ *Config, p *Parts) {
		stuck.Posture = p.Posture
		p.Posture = stuck
	})
	w.snapshot = nothingToSave
	first := make(chan *reply)
	go func() { first <- w.get("/v1/entities", kimToken) }()
	<-stuck.entered

	if got := w.get("/v1/entities", kimToken); got.wantProblem(429, CodeBusy).Detail == "" || got.header.Get("Retry-After") != "1" {
		t.Errorf("got %s", got.body)
	}
	w.get("/v1/status?digest=1", kimToken).wantProblem(429, CodeBusy)
	w.get("/v1/entities/agent:nobody", kimToken).wantProblem(404, CodeUnknownEntity)
	w.push(soarToken, signal("quarantine", "agent:nobody", ""))
	w.get("/v1/status", kimToken).want(200)
	w.do("POST", "/v1/explain", kimToken, payRequest).want(200)
	w.get("/v1/snapshot", adminToken).want(200)
	w.get("/metrics", kimToken).want(200)
	w.get("/readyz", "").want(200)
	close(stuck.free)
	(<-first).want(200)
}

func TestPushesBeyondTheBoundAreRefused(t *testing.T) {
	intake := blockingIntake{noRehearsal{}, make(chan struct{}), make(chan struct{})}
	w := newWorld(t, func(_ *Config, p *Parts) { p.Intake = intake })
	var held sync.WaitGroup
	for range cap(w.server.pushes.places) {
		held.Go(func() { w.do("POST", "/v1/signals", soarToken, "{}").want(200) })
		<-intake.entered
	}
	w.do("POST", "/v1/signals", soarToken, "{}").wantProblem(429, CodeBusy)
	w.get("/v1/entities", kimToken).want(200)
	close(intake.free)
	held.Wait()
	if n := w.server.bodies.used.Load(); n != 0 {
		t.Errorf("%d bytes of bodies are still counted", n)
	}
}

func TestBodiesBeyondTheBudgetAreRefused(t *testing.T) {
	intake := blockingIntake{noRehearsal{}, make(chan struct{}), make(chan struct{})}
	w := newWorld(t, func(c *Config, p *Parts) { p.Intake, c.Limits.BodyBytes = intake, 1000 })
	var held sync.WaitGroup
	held.Go(func() { w.do("POST", "/v1/signals", soarToken, strings.Repeat(" ", 900)).want(200) })
	<-intake.entered
	w.do("POST", "/v1/signals", soarToken, strings.Repeat(" ", 200)).wantProblem(429, CodeBusy)
	w.do("POST", "/v1/explain", kimToken, payRequest).wantProblem(429, CodeBusy)
	close(intake.free)
	held.Wait()
}

func TestSlowBodyIsCutOff(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *Parts) { c.Limits.BodyTime = 50 * time.Millisecond })
	conn := dial(t, w.listen())
	fmt.Fprintf(conn, "POST /v1/signals HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", soarToken)
	status, body := readStatus(t, conn)
	if status != 408 || !strings.Contains(body, CodeTimeout) {
		t.Errorf("%d %s", status, body)
	}
}

func TestChunkedBodyIsBounded(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *Parts) { c.Limits.RequestBytes = 100 })
	conn := dial(t, w.listen())
	fmt.Fprintf(conn, "POST /v1/signals HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n100\r\n%s\r\n", soarToken, strings.Repeat(" ", 256))
	if status, body := readStatus(t, conn); status != 413 {
		t.Errorf("%d %s", status, body)
	}
}

func TestSlowAndLargeHeadersAreCutOff(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *Parts) { c.Limits.HeaderTime, c.Limits.HeaderBytes = 50*time.Millisecond, 1024 })
	address := w.listen()
	slow := dial(t, address)
	fmt.Fprint(slow, "GET /livez HTTP/1.1\r\nHost: loc")
	if _, err := io.ReadAll(slow); err != nil {
		t.Errorf("a slow header is not cut off: %v", err)
	}
	large := dial(t, address)
	go fmt.Fprintf(large, "GET /livez HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n", strings.Repeat("x", 8192))
	if status, _ := readStatus(t, large); status != 431 {
		t.Errorf("a large header: %d", status)
	}
}

// patientIntake takes a while, and says whether it was cut short.
type patientIntake struct {
	noRehearsal
	while time.Duration
}

func (p patientIntake) Push(ctx context.Context, _ signals.Sender, _ []byte) (signals.Receipt, error) {
	select {
	case <-ctx.Done():
		return signals.Receipt{}, signals.ErrUnknownOutcome
	case <-time.After(p.while):
		return signals.Receipt{AsOf: "v1.x"}, nil
	}
}

// TestTimeForTheRequestIsNotTimeForTheWork: the limits on sending and taking must not end
// work that is slow for its own reasons.
func TestTimeForTheRequestIsNotTimeForTheWork(t *testing.T) {
	const limit = 30 * time.Millisecond
	w := newWorld(t, func(c *Config, p *Parts) {
		c.Limits.HeaderTime, c.Limits.BodyTime, c.Limits.WriteTime = limit, limit, 2*limit
		p.Intake = patientIntake{while: 6 * limit}
	})
	w.snapshot = func(ctx context.Context, out io.Writer) error {
		for range 8 {
			time.Sleep(limit)
			if _, err := io.WriteString(out, strings.Repeat("x", 64<<10)); err != nil || ctx.Err() != nil {
				return errors.Join(err, ctx.Err())
			}
		}
		return nil
	}
	address := w.listen()
	push := dial(t, address)
	fmt.Fprintf(push, "POST /v1/signals HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", soarToken)
	if status, body := readStatus(t, push); status != 200 {
		t.Errorf("slow push: %d %s", status, body)
	}
	snapshot := dial(t, address)
	fmt.Fprintf(snapshot, "GET /v1/snapshot HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n", adminToken)
	if status, body := readStatus(t, snapshot); status != 200 || len(body) != 8*64<<10 {
		t.Errorf("slow snapshot: %d with %d bytes", status, len(body))
	}
}

// TestIdleConnectionsMakeRoom: neither leaked nor silent connections keep anyone out, and
// ones at work are left alone.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	intake := blockingIntake{noRehearsal{}, make(chan struct{}), make(chan struct{})}
	w := newWorld(t, func(c *Config, p *Parts) { c.Limits.Connections, p.Intake = 3, intake })
	address := w.listen()
	working := dial(t, address)
	fmt.Fprintf(working, "POST /v1/signals HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", soarToken)
	<-intake.entered
	for range 20 {
		conn := dial(t, address) // and never closed by us
		fmt.Fprint(conn, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if status, _ := readStatus(t, conn); status != 200 {
			t.Fatalf("status %d", status)
		}
		waitFor(t, func() bool {
			w.server.conns.mu.Lock()
			defer w.server.conns.mu.Unlock()
			return w.server.conns.victim(time.Now()) != nil && len(w.server.conns.open) <= 3
		})
	}
	close(intake.free)
	if status, _ := readStatus(t, working); status != 200 {
		t.Errorf("the connection at work: %d", status)
	}
}

func TestAllConnectionsAtWorkRefuseOneMore(t *testing.T) {
	intake := blockingIntake{noRehearsal{}, make(chan struct{}), make(chan struct{})}
	w := newWorld(t, func(c *Config, p *Parts) { c.Limits.Connections, p.Intake = 1, intake })
	address := w.listen()
	working := dial(t, address)
	fmt.Fprintf(working, "POST /v1/signals HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", soarToken)
	<-intake.entered
	more := dial(t, address)
	if _, err := more.Read(make([]byte, 1)); err == nil {
		t.Error("a connection beyond the bound was served")
	}
	close(intake.free)
	readStatus(t, working)
}

// TestStrangersGoBeforeClientsAndWorkNever: who makes room, in which order.
func TestStrangersGoBeforeClientsAndWorkNever(t *testing.T) {
	s := newConnections(4)
	add := func() (c, victim *boundConn) {
		t.Helper()
		conn, other := net.Pipe()
		t.Cleanup(func() { _, _ = conn.Close(), other.Close() })
		c = &boundConn{Conn: conn, conns: s, waiting: true}
		victim, ok := s.add(c)
		if !ok {
			return nil, nil
		}
		return c, victim
	}
	working, _ := add()
	working.recognized()
	answering, _ := add() // its client has not taken the answer yet
	answering.recognized()
	s.changed(answering, http.StateActive)
	answering.finished()
	idle, _ := add()
	idle.recognized()
	idle.finished()
	stranger, _ := add()
	s.changed(stranger, http.StateActive)
	for _, want := range []*boundConn{stranger, idle} {
		c, victim := add()
		if victim != want {
			t.Fatalf("%+v made room, not %+v", victim, want)
		}
		c.recognized()
		_ = victim.Close() // gives back no second place
	}
	if c, _ := add(); c != nil {
		t.Fatal("a place where all work")
	}
	s.mu.Lock()
	answering.worked = answering.worked.Add(-patience)
	s.mu.Unlock()
	if _, victim := add(); victim != answering {
		t.Errorf("%+v made room, not who takes no answer", victim)
	}
	if n := len(s.open); n != 4 {
		t.Errorf("%d are open", n)
	}
}

// waitFor waits for a condition that another goroutine brings about.
func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never came about")
		}
	}
}

func TestShutdownFinishesWhatRuns(t *testing.T) {
	intake := blockingIntake{noRehearsal{}, make(chan struct{}), make(chan struct{})}
	w := newWorld(t, func(_ *Config, p *Parts) { p.Intake = intake })
	address := w.listen()
	conn := dial(t, address)
	fmt.Fprintf(conn, "POST /v1/signals HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", soarToken)
	<-intake.entered
	done := make(chan error)
	go func() { done <- w.server.Shutdown(context.Background()) }()
	waitFor(t, func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	close(intake.free)
	if status, _ := readStatus(t, conn); status != 200 {
		t.Errorf("what ran was answered %d", status)
	}
	if err := <-done; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func TestShutdownEndsWhatDoesNotEnd(t *testing.T) {
	intake := blockingIntake{noRehearsal{}, make(chan struct{}), make(chan struct{})}
	w := newWorld(t, func(_ *Config, p *Parts) { p.Intake = intake })
	conn := dial(t, w.listen())
	fmt.Fprintf(conn, "POST /v1/signals HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", soarToken)
	<-intake.entered
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := w.server.Shutdown(ctx); err == nil {
		t.Error("Shutdown says that all is well")
	}
	// The connection is closed, and with it the request's context.
	if _, err := io.ReadAll(conn); err != nil {
		t.Logf("read: %v", err)
	}
}

func TestTurnstile(t *testing.T) {
	gate := newTurnstile(1, 1, time.Hour)
	if !gate.enter(t.Context()) {
		t.Fatal("no place in an empty one")
	}
	if gate.tryEnter() {
		t.Fatal("two in one place")
	}
	waited := make(chan bool)
	go func() { waited <- gate.enter(context.Background()) }()
	waitFor(t, func() bool { return gate.waiting.Load() == 1 })
	if gate.enter(t.Context()) {
		t.Error("the queue is longer than its bound")
	}
	gate.leave()
	if !<-waited {
		t.Error("who waited did not get the place")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if gate.enter(ended) {
		t.Error("entered with a context that has ended")
	}
	if n := gate.waiting.Load(); n != 0 {
		t.Errorf("%d are still counted as waiting", n)
	}
}

func TestSparedWorkTakesATenthOfTheTime(t *testing.T) {
	var s spared
	slow := func() { time.Sleep(2 * time.Millisecond) }
	if !s.spare(slow) {
		t.Fatal("it was not done at all")
	}
	if s.spare(slow) {
		t.Error("dear work was done again at once")
	}
	var cheap spared
	if !cheap.spare(func() {}) || !cheap.spare(func() {}) {
		t.Error("cheap work was left out")
	}
}
