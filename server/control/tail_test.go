package control

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"vigil/posture"
	"vigil/signals"
)

// following is a client of GET /v1/tail.
type following struct {
	t     testing.TB
	lines *bufio.Scanner
	stop  func()
}

// listening serves the port on a real socket, for a recorder hides what a stream does.
func listening(t *testing.T, w *world) (base string, shutdown func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.server.Serve(l) }()
	once := false
	shutdown = func() {
		if once {
			return
		}
		once = true
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := w.server.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(shutdown)
	return "http://" + l.Addr().String(), shutdown
}

func follow(t *testing.T, base, token string) *following {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, _ := http.NewRequestWithContext(ctx, "GET", base+"/v1/tail", nil)
	req.Header.Set("Authorization", "Bearer "+token)
	transport := &http.Transport{}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	f := &following{t: t, lines: bufio.NewScanner(resp.Body)}
	f.stop = func() {
		cancel()
		resp.Body.Close()
		transport.CloseIdleConnections()
	}
	t.Cleanup(f.stop)
	if resp.StatusCode != 200 {
		t.Fatalf("status %d", resp.StatusCode)
	}
	if line := f.next(); line.Kind != "begin" || line.AsOf == "" {
		t.Fatalf("it begins with %+v", line)
	}
	return f
}

// next gives the next line that is no sign of life, as documented.
func (f *following) next() (line TailLine) {
	f.t.Helper()
	for f.lines.Scan() {
		var body any
		if err := json.Unmarshal(f.lines.Bytes(), &body); err != nil {
			f.t.Fatal(err)
		}
		if err := conforms(document()["components"].(object)["schemas"].(object)["TailLine"], body, ""); err != nil {
			f.t.Errorf("not as documented: %v in %s", err, f.lines.Text())
		}
		line = TailLine{}
		if err := json.Unmarshal(f.lines.Bytes(), &line, json.RejectUnknownMembers(true)); err != nil {
			f.t.Fatal(err)
		}
		if line.Kind != "alive" {
			return line
		}
	}
	f.t.Fatalf("the stream ended: %v", f.lines.Err())
	return line
}

func longTail(c *Config, _ *Parts) {
	c.Limits.TailTime, c.Limits.TailBeat = time.Hour, time.Millisecond
}

// TestTailTellsEachTenantWhatIsAppliedForIt: in order, with what it did; of another tenant
// only what stands above tenants.
func TestTailTellsEachTenantWhatIsAppliedForIt(t *testing.T) {
	w := newWorld(t, longTail)
	base, _ := listening(t, w)
	mine, hers := follow(t, base, kimToken), follow(t, base, umaToken)
	w.push(soarToken, `{"v":1,"id":"q1","type":"quarantine","entities":["agent:a"],"time":"2026-11-23T08:03:00Z","actor":"kim@acme","reason":"beaconing","ticket":"INC-7"}`)
	w.push(soarToken, `{"v":1,"id":"q1","type":"quarantine","entities":["agent:a"],"time":"2026-11-23T08:03:00Z","actor":"kim@acme","reason":"beaconing","ticket":"INC-7"}`)
	w.push(soarToken, `{"v":1,"id":"e1","type":"quarantine","entities":["agent:b","everything"],"time":"2026-11-23T08:04:00Z"}`)
	w.push(umaToken, `{"v":1,"id":"u1","type":"risk","entities":["agent:a"],"time":"2026-11-23T08:05:00Z","risk":7}`)

	first := mine.next().Signal
	if first.ID != "q1" || first.Source != "client:soar" || first.Tenant != "default" || first.Outcome != "applied" || first.Fact.Ticket != "INC-7" ||
		first.Fact.Actor != "kim@acme" || len(first.Entities) != 1 || first.Entities[0].Status != "quarantined" || first.Entities[0].Known {
		t.Errorf("first %+v", first)
	}
	if second := mine.next().Signal; second.Outcome != "duplicate" || second.Offset <= first.Offset {
		t.Errorf("second %+v", second)
	}
	if third := mine.next().Signal; third.ID != "e1" || len(third.Entities) != 2 {
		t.Errorf("third %+v", third)
	}
	if shared := hers.next().Signal; shared.ID != "e1" || shared.Tenant != "" || len(shared.Entities) != 1 || shared.Entities[0].Ref != "everything" {
		t.Errorf("what is above tenants: %+v", shared)
	}
	if own := hers.next().Signal; own.ID != "u1" || *own.Fact.Risk != 7 {
		t.Errorf("her own: %+v", own)
	}
}

func TestTailEndsWithTheClientAndWithThePort(t *testing.T) {
	w := newWorld(t, longTail)
	base, shutdown := listening(t, w)
	gone, stays := follow(t, base, kimToken), follow(t, base, kimToken)
	watched := func(want int64) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); int64(w.tail.watched.Load()) != want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d are told, want %d", w.tail.watched.Load(), want)
			}
		}
	}
	gone.stop()
	watched(1)
	go shutdown()
	if line := stays.next(); line.Kind != "end" || line.Detail != "the replica is stopping" {
		t.Errorf("got %+v", line)
	}
	shutdown()
	watched(0)
}

func TestTailIsBounded(t *testing.T) {
	w := newWorld(t, longTail)
	base, _ := listening(t, w)
	for range maxTails {
		follow(t, base, kimToken)
	}
	w.get("/v1/tail", kimToken).wantProblem(429, CodeBusy)
	w.get("/v1/tail", gateToken).wantProblem(403, CodeForbiddenScope)
	w.get("/v1/tail?tenant=other", kimToken).wantProblem(403, CodeForbiddenTenant)
	w.get("/v1/tail?count=1", kimToken).wantProblem(400, CodeBadParameter)
}

// TestTailNeverWaitsForASlowClient: what has no place in its queue is left out and counted,
// and another client misses nothing.
func TestTailNeverWaitsForASlowClient(t *testing.T) {
	w := newWorld(t)
	slow, quick := w.tail.listen([]string{"default"}, false), w.tail.listen([]string{"default"}, false)
	const n = tailQueue + 50
	for i := range n {
		w.tail.Signal(&signals.Observation{Tenant: "default", ID: "x", Outcome: posture.Applied.String(), Position: signals.Position{Offset: int64(i)}})
		<-quick.lines
	}
	if len(slow.lines) != tailQueue || slow.dropped.Load() != 50 || quick.dropped.Load() != 0 {
		t.Errorf("%d lines wait, %d were left out; of the quick one %d", len(slow.lines), slow.dropped.Load(), quick.dropped.Load())
	}
	for _, line := range []string{"vigil_tail_clients 2", "vigil_tail_dropped_total 50"} {
		if got := w.get("/metrics", kimToken).want(200); !strings.Contains(got.body, line+"\n") {
			t.Errorf("the metrics have no %s", line)
		}
	}
	w.tail.leave(slow)
	w.tail.leave(quick)
	w.tail.Signal(&signals.Observation{Tenant: "default"})
}

// TestTailSaysHowManyWereLeftOut.
func TestTailSaysHowManyWereLeftOut(t *testing.T) {
	w := newWorld(t, longTail)
	base, _ := listening(t, w)
	f := follow(t, base, kimToken)
	w.tail.mu.Lock()
	for l := range w.tail.listeners {
		l.dropped.Add(3)
	}
	w.tail.mu.Unlock()
	if line := f.next(); line.Kind != "dropped" || line.Dropped != 3 {
		t.Errorf("got %+v", line)
	}
}

// TestTailIsOverAfterItsTime, so that nobody follows for long after losing the credential.
func TestTailIsOverAfterItsTime(t *testing.T) {
	w := newWorld(t) // a millisecond
	base, _ := listening(t, w)
	if line := follow(t, base, kimToken).next(); line.Kind != "end" || line.Detail != TailTimeOver {
		t.Errorf("got %+v", line)
	}
}
