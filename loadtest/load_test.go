package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAQuantileIsWithinOnePercentOfTheExactOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Int64Range(0, int64(time.Hour)), 1, 200).Draw(t, "durations")
		var whole, a, b histogram
		for i, v := range values {
			whole.record(time.Duration(v))
			if i%2 == 0 {
				a.record(time.Duration(v))
			} else {
				b.record(time.Duration(v))
			}
		}
		a.merge(&b)
		if a != whole {
			t.Fatal("merged differs from whole")
		}
		q := rapid.Float64Range(0, 1).Draw(t, "quantile")
		got := whole.quantile(q)
		atMost := 0
		for _, v := range values {
			if float64(v) <= float64(got) {
				atMost++
			}
		}
		below := 0
		for _, v := range values {
			if float64(v) < float64(got)*0.99-1 {
				below++
			}
		}
		if rank := int(q * float64(len(values))); atMost < min(rank+1, len(values)) || below > rank {
			t.Fatalf("q %v of %d: %s has %d at most it and %d clearly below", q, len(values), got, atMost, below)
		}
	})
}

func TestEveryDurationFallsIntoABucketThatHoldsIt(t *testing.T) {
	for shift := range 63 {
		for _, v := range []time.Duration{1<<shift - 1, 1 << shift, 1<<shift + 1} {
			b := bucketOf(v)
			if upperEdge(b) < v || b > 0 && upperEdge(b-1) >= v {
				t.Errorf("%d is in bucket %d, up to %d", v, b, upperEdge(b))
			}
		}
	}
}

// stallingServer answers at once, but for one request, during which it answers nobody; none
// called, it answers nobody.
func stallingServer(t *testing.T, stallAt int64, stall time.Duration) target {
	var seen atomic.Int64
	gate := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch n := seen.Add(1); {
		case n == stallAt:
			time.Sleep(stall) // what is being tested is what time does to the numbers
			close(gate)
		case stallAt > 0 && n > stallAt:
			<-gate
		}
		fmt.Fprint(w, bareAnswer)
	}))
	t.Cleanup(server.Close)
	to, err := parseTarget(server.URL, false)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func testLoad(to target, connections int, rate float64, duration time.Duration) *load {
	request := to.request(http.MethodPost, evaluationPath, "", []byte("{}"))
	return &load{
		to: to, connections: connections, rate: rate, duration: duration, timeout: 10 * time.Second, slow: 20 * time.Millisecond,
		next: func(*rand.Rand, int, int64) ([]byte, int) { return request, 0 },
		check: func(_, _, _ int, body []byte) string {
			if effectOf(body) != allow {
				return string(body)
			}
			return ""
		},
	}
}

// One connection, a hundred requests in half a second, and a stall in the middle: the
// requests that would have come meanwhile are charged with what they would have waited.
func TestAnOpenLoopChargesAStallToAllWhoWouldHaveCome(t *testing.T) {
	const stall = 250 * time.Millisecond
	open := testLoad(stallingServer(t, 50, stall), 1, 200, 500*time.Millisecond).run(t.Context())
	if open.answered != 100 || open.failed+open.wrong+open.unsent != 0 || open.latency.total != 100 {
		t.Fatalf("%d answered, %d failed, %d wrong, %d unsent, %d measured; %s", open.answered, open.failed, open.wrong, open.unsent, open.latency.total, open.example)
	}
	// 50 requests of 5 ms each were due during the stall.
	if q := open.latency.quantile(.70); q < stall/10 {
		t.Errorf("p70 of the open loop is %s: the stall of %s is not in it", q, stall)
	}
	if len(open.stalls) == 0 || open.stalls[0].Requests < 20 || open.stalls[0].Length < stall/2 {
		t.Errorf("stalls: %+v", open.stalls)
	}

	// A closed loop of as many requests has met the stall once.
	closed := testLoad(stallingServer(t, 50, stall), 1, 0, 10*time.Second)
	closed.limit = 100
	result := closed.run(t.Context())
	if result.answered != 100 || result.latency.max < stall {
		t.Fatalf("%d answered, the slowest in %s", result.answered, result.latency.max)
	}
	slow := 0
	for bucket, n := range result.latency.counts {
		if upperEdge(bucket) >= stall/2 {
			slow += int(n)
		}
	}
	if slow != 1 {
		t.Errorf("%d slow requests in the closed loop, want the one: is the comparison what it is meant to be?", slow)
	}
}

func TestWhatIsNotAnsweredCounts(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := silent.Accept()
			if err != nil {
				return
			}
			_, _ = bufio.NewReader(c).Peek(1)
			c.Close()
		}
	}()
	to := target{network: "tcp", address: silent.Addr().String(), host: "localhost"}
	l := testLoad(to, 2, 100, 100*time.Millisecond)
	result := l.run(t.Context())
	silent.Close()
	<-ended
	if result.failed != 10 || result.answered != 0 || result.latency.total != 10 {
		t.Errorf("%d failed, %d answered, %d measured", result.failed, result.answered, result.latency.total)
	}
	r := newReport("run")
	r.load("run", result)
	if len(r.Missed) == 0 {
		t.Error("nothing is missed")
	}
}

func TestALoadEndsWhenItIsTold(t *testing.T) {
	to := stallingServer(t, -1, 0)
	for _, rate := range []float64{0, 100} {
		ctx, cancel := context.WithCancel(t.Context())
		l := testLoad(to, 2, rate, time.Hour)
		judge := l.check
		l.check = func(worker, what, status int, body []byte) string {
			cancel()
			return judge(worker, what, status, body)
		}
		if result := l.run(ctx); result.answered == 0 || result.failed != 0 {
			t.Errorf("rate %v: %d answered, %d failed: %s", rate, result.answered, result.failed, result.example)
		}
	}
}

func TestLoadsGoToThisMachineOnly(t *testing.T) {
	for text, fine := range map[string]bool{
		"http://127.0.0.1:7070": true, "http://localhost:1": true, "http://[::1]:7070": true, "http://127.9.9.9:1/prefix": true, "unix:/tmp/a.sock": true,
		"http://10.0.0.1:7070": false, "http://example.com": false, "http://localhost.example.com:1": false, "https://127.0.0.1:1": false,
		"http://127.0.0.1:1?x": false, "http://u@127.0.0.1:1": false, "127.0.0.1:1": false, "": false, "http://0.0.0.0:1": false,
	} {
		if _, err := parseTarget(text, false); (err == nil) != fine {
			t.Errorf("%q: %v", text, err)
		}
	}
	if to, err := parseTarget("http://10.0.0.1:7070", true); err != nil || to.address != "10.0.0.1:7070" {
		t.Errorf("with --allow-remote: %v %v", to, err)
	}
}

func TestEffectsAreRead(t *testing.T) {
	for body, want := range map[string]string{
		bareAnswer: allow, `{"decision":true}`: allow, `{"decision":false}`: deny,
		`{"decision":false,"context":{"effect":"require"}}`: require, `{"decision":false,"context":{"effect":"deny"}}`: deny,
		`{"decision":true,"context":{"effect":"deny"}}`: "", `{"decision":false,"context":{"effect":"allow"}}`: "", `no`: "", ``: "",
	} {
		if got := effectOf([]byte(body)); got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
}

func TestPopularityIsZipfs(t *testing.T) {
	w := &Workload{Requests: make([]Request, 100), Zipf: 1.5}
	count := func(w *Workload) []int {
		counts := make([]int, len(w.Requests))
		next := w.picker(rand.New(rand.NewPCG(1, 2)))
		for range 100_000 {
			counts[next()]++
		}
		return counts
	}
	// The first is asked for 2^1.5 times as often as the second.
	if c := count(w); c[0] < 25*c[1]/10 || c[0] > 32*c[1]/10 || c[50] == 0 {
		t.Errorf("%v", c[:5])
	}
	w.Zipf = 0
	if c := count(w); c[0] < 800 || c[0] > 1200 || c[99] < 800 {
		t.Errorf("%v", c)
	}
}

func TestMetricsAreRead(t *testing.T) {
	all := parseMetrics([]byte("# HELP x y\nx 1\nvigil_a{b=\"c d\"} 2.5e3\n\nbroken\ny NaN\n"))
	if all["x"] != 1 || all[`vigil_a{b="c d"}`] != 2500 || len(all) != 3 {
		t.Errorf("%v", all)
	}
}

func TestGrowthIsJudgedAfterTheWarmUp(t *testing.T) {
	sample := func(memory, goroutines float64) scrape {
		return scrape{"process_resident_memory_bytes": memory, "go_memstats_heap_inuse_bytes": 1e6, "go_goroutines": goroutines, "process_open_fds": 10}
	}
	for _, tc := range []struct {
		name   string
		at     func(i int) scrape
		missed string
	}{
		{"grows while it warms up", func(i int) scrape { return sample(1e9*float64(min(i, 10)), 40) }, ""},
		{"grows on", func(i int) scrape { return sample(1e9+1e8*float64(i), 40) }, "resident grew"},
		{"loses goroutines", func(i int) scrape { return sample(1e9, 40+float64(i)) }, "goroutines grew"},
		{"does not say", func(int) scrape { return scrape{} }, "does not say"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var w watch
			for i := range 30 {
				w.samples = append(w.samples, tc.at(i))
			}
			r := newReport("soak")
			w.judge(r)
			if got := strings.Join(r.Missed, "\n"); tc.missed == "" && got != "" || !strings.Contains(got, tc.missed) {
				t.Errorf("%q", got)
			}
		})
	}
}
