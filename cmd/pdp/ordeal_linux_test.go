package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/go-json-experiment/json"
)

// program is pdp in a process of its own, for what can only be done to a process.
type program struct {
	t                        *testing.T
	cmd                      *exec.Cmd
	dir                      string
	decision, control, token string
	log                      string // file
	http                     *http.Client
}

const ordealBundle = `vigil: 1
files: [rules.yaml]
profiles:
  default: {max_feed_age: 30s, on_stale: deny}
`

const ordealRules = `vigil: 1
attributes:
  resource.document: {}
actions: {read: {}}
rules:
  - {id: read, effect: allow, on: {actions: [read], resources: [document]}, when: '"role" in agent.labels'}
`

// startProgram starts pdp serve with the rules above; it is killed when the test ends.
func startProgram(t *testing.T, env ...string) *program {
	t.Helper()
	name, err := exec.LookPath("pdp") // TestMain has put it there
	if err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, dir: t.TempDir(), http: &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	p.log = filepath.Join(p.dir, "log")
	must(t, os.Mkdir(filepath.Join(p.dir, "rules"), 0o700))
	p.writeRules(ordealRules)
	must(t, os.WriteFile(filepath.Join(p.dir, "rules", "bundle.yaml"), []byte(ordealBundle), 0o600))
	out, err := os.Create(p.log)
	must(t, err)
	addresses := filepath.Join(p.dir, "addresses.json")
	p.cmd = exec.Command(name, "serve", "--data-dir", filepath.Join(p.dir, "data"), "--rules-dir", filepath.Join(p.dir, "rules"),
		"--decision-listen", "127.0.0.1:0", "--control-listen", "127.0.0.1:0", "--address-file", addresses)
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.dir, "XDG_RUNTIME_DIR=" + p.dir, "VIGIL_DECISION_DRAIN=0s", "VIGIL_LOGGING_DECISIONS=off"}, env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	must(t, p.cmd.Start())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-ended
		_ = out.Close()
		p.http.CloseIdleConnections()
		if t.Failed() {
			t.Logf("%s", p.logged())
		}
	})
	p.until("it answers", func() bool {
		select {
		case <-ended:
			t.Fatalf("pdp serve ended: %s", p.logged())
		default:
		}
		data, err := os.ReadFile(addresses) // it appears whole
		if err != nil {
			return false
		}
		var at struct {
			Decision string `json:"decision"`
			Control  string `json:"control"`
		}
		must(t, json.Unmarshal(data, &at))
		p.decision, p.control = at.Decision, at.Control
		return true
	})
	token, err := os.ReadFile(filepath.Join(p.dir, "data", "local.token"))
	must(t, err)
	p.token = strings.TrimSpace(string(token))
	return p
}

func (p *program) writeRules(text string) {
	must(p.t, os.WriteFile(filepath.Join(p.dir, "rules", "rules.yaml"), []byte(text), 0o600))
}

func (p *program) logged() string {
	data, err := os.ReadFile(p.log)
	must(p.t, err)
	return string(data)
}

// until polls: another process has no condition to wait on.
func (p *program) until(what string, done func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("it never came about that %s\n%s", what, p.logged())
		}
	}
}

// ask makes one request with the local token; body "" makes it a GET.
func (p *program) ask(client *http.Client, url, body string) (status int, answer string, err error) {
	method := http.MethodGet
	if body != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+p.token)
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	var all bytes.Buffer
	_, err = io.Copy(&all, resp.Body)
	return resp.StatusCode, all.String(), err
}

func (p *program) must(client *http.Client, url, body string) string {
	p.t.Helper()
	status, answer, err := p.ask(client, url, body)
	if err != nil || status != http.StatusOK {
		p.t.Fatalf("%s: %d %s %v\n%s", url, status, answer, err, p.logged())
	}
	return answer
}

// push sends a signal that must be acknowledged.
func (p *program) push(client *http.Client, id, kind, ref, more string) {
	p.t.Helper()
	p.must(client, p.control+"/v1/signals", signalText(id, kind, ref, more))
}

func signalText(id, kind, ref, more string) string {
	return fmt.Sprintf(`{"v":1,"id":%q,"type":%q,"entities":[%q],"time":%q%s}`, id, kind, ref, time.Now().UTC().Format(time.RFC3339Nano), more)
}

func readRequest(agent, session string) string {
	return fmt.Sprintf(`{"subject":{"type":"agent","id":%q},"action":{"name":"read"},"resource":{"type":"document","id":"d"},"context":{"session":%q}}`, agent, session)
}

// oneConnection is a client that keeps one connection of its own.
func oneConnection() *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{MaxConnsPerHost: 1, MaxIdleConnsPerHost: 1}}
}

// metric gives a value of /metrics.
func (p *program) metric(client *http.Client, name string) (value float64) {
	p.t.Helper()
	for line := range strings.Lines(p.must(client, p.control+"/metrics", "")) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			if _, err := fmt.Sscan(rest, &value); err != nil {
				p.t.Fatal(err)
			}
			return value
		}
	}
	p.t.Fatalf("no metric %s", name)
	return 0
}

// sighting is one decision as its caller saw it.
type sighting struct {
	agent          string
	sent, received time.Time
	allowed        bool
	decidedAt      time.Time
}

// A process that is stopped (SIGSTOP, a frozen container, a paused machine) sleeps through
// the ends of what it has decided by. What it answers after it wakes is of the time then:
// an authority that has ended meanwhile is not served from cache, and neither is a denial.
func TestAStoppedProcessWakesToTheTime(t *testing.T) {
	p := startProgram(t)
	setup := oneConnection()
	// A machine that is too slow to decide anything before the end gets more time.
	for awake := 800 * time.Millisecond; awake < time.Minute; awake *= 2 {
		if stopAndWake(t, p, setup, awake) {
			break
		}
	}
	if age, broken := p.metric(setup, "vigil_feed_age_seconds"), p.metric(setup, "vigil_feed_broken"); age != 0 || broken != 0 {
		t.Errorf("the view is %vs old, broken %v", age, broken)
	}
	p.must(setup, p.decision+"/readyz?strict", "")
}

// stopAndWake stops the process over the end of what two agents are decided by. It reports
// false where nothing was decided before that.
func stopAndWake(t *testing.T, p *program, setup *http.Client, awake time.Duration) bool {
	registration, round := `,"class":"default","labels":{"role":"r"}`, awake.String()
	long, short, held := "long-"+round, "short-"+round, "held-"+round
	p.push(setup, "reg-"+long, "register", "agent:"+long, registration)
	p.push(setup, "reg-"+held, "register", "agent:"+held, registration)
	end := time.Now().Add(awake)
	expires := fmt.Sprintf(`,"expires":%q`, end.UTC().Format(time.RFC3339Nano))
	p.push(setup, "reg-"+short, "register", "agent:"+short, registration+expires)
	p.push(setup, "hold-"+held, "quarantine", "agent:"+held, expires)

	var stop atomic.Bool
	var answered atomic.Int64
	const workers = 4
	all := make([][]sighting, workers)
	errs := make([]error, workers)
	var group sync.WaitGroup
	for n := range workers {
		group.Go(func() {
			client := oneConnection()
			defer client.CloseIdleConnections()
			for i := n; !stop.Load(); i++ {
				s := sighting{agent: []string{long, short, held}[i%3], sent: time.Now()}
				status, answer, err := p.ask(client, p.decision+"/access/v1/evaluation", readRequest(s.agent, "s"))
				s.received = time.Now()
				var said struct {
					Decision bool `json:"decision"`
					Context  struct {
						DecidedAt time.Time `json:"decided_at"`
					} `json:"context"`
				}
				if err == nil && status != http.StatusOK {
					err = fmt.Errorf("%d %s", status, answer)
				}
				if err == nil {
					err = json.Unmarshal([]byte(answer), &said)
				}
				if err != nil {
					errs[n] = err
					return
				}
				s.allowed, s.decidedAt = said.Decision, said.Context.DecidedAt
				all[n] = append(all[n], s)
				answered.Add(1)
			}
		})
	}
	defer group.Wait()
	defer stop.Store(true)
	p.until("decisions are made", func() bool { return answered.Load() > 50 })
	must(t, p.cmd.Process.Signal(syscall.SIGSTOP))
	stopped := time.Now()
	p.until("the process has stopped", func() bool {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
		must(t, err)
		return bytes.Contains(data, []byte(") T "))
	})
	before := answered.Load()
	// Two that come while it sleeps: a signal, and a stranger.
	pushed := make(chan error, 2)
	go func() {
		status, answer, err := p.ask(p.http, p.control+"/v1/signals", signalText("revoke-"+round, "revoke", "session:gone-"+round, ""))
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("%d %s", status, answer)
		}
		if err == nil { // acknowledged: from here on it is in force
			_, answer, err = p.ask(p.http, p.decision+"/access/v1/evaluation", readRequest(long, "gone-"+round))
			if err == nil && !strings.Contains(answer, `"code":"revoked"`) {
				err = errors.New("after the acknowledgement: " + answer)
			}
		}
		pushed <- err
	}()
	p.until("what it decided by has ended", func() bool { return time.Now().After(end) })
	woken := time.Now()
	must(t, p.cmd.Process.Signal(syscall.SIGCONT))
	p.until("decisions go on", func() bool { return answered.Load() > before+100 })
	stop.Store(true)
	group.Wait()
	if err := <-pushed; err != nil {
		t.Errorf("a signal that was sent while it slept: %v", err)
	}

	slept, early, late := 0, 0, 0
	for n := range all {
		if errs[n] != nil {
			t.Errorf("worker %d: %v", n, errs[n])
		}
		var last time.Time
		for _, s := range all[n] {
			if s.sent.Before(woken) && s.received.After(woken) && s.received.After(stopped) {
				slept++
			}
			if s.decidedAt.Before(last) {
				t.Errorf("now went back from %s to %s", last, s.decidedAt)
			}
			last = s.decidedAt
			if s.decidedAt.Before(s.sent.Truncate(time.Millisecond)) || s.decidedAt.After(s.received) {
				t.Errorf("asked at %s, decided at %s, received at %s", s.sent, s.decidedAt, s.received)
			}
			switch ended, begun := !s.sent.Before(end), s.received.Before(end); {
			case s.agent == long && !s.allowed:
				t.Errorf("%s: denied at %s", long, s.decidedAt)
			case s.agent == long:
			case ended:
				late++
				if s.allowed != (s.agent == held) {
					t.Errorf("%s, asked %s after the end: allowed %t", s.agent, s.sent.Sub(end), s.allowed)
				}
			case begun:
				early++
				if s.allowed != (s.agent == short) {
					t.Errorf("%s, answered %s before the end: allowed %t", s.agent, end.Sub(s.received), s.allowed)
				}
			}
		}
	}
	if slept == 0 || late == 0 {
		t.Errorf("%d decisions over the sleep, %d after the end: nothing was tried", slept, late)
	}
	return early > 0
}

// limitFiles sets how many files another process may have open, and gives what it was.
func limitFiles(t *testing.T, pid int, files uint64) (was uint64) {
	t.Helper()
	var old syscall.Rlimit
	set := syscall.Rlimit{Cur: files}
	for _, change := range []*syscall.Rlimit{nil, &set} {
		set.Max = old.Max
		if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(pid), syscall.RLIMIT_NOFILE,
			uintptr(unsafe.Pointer(change)), uintptr(unsafe.Pointer(&old)), 0, 0); errno != 0 {
			t.Skipf("prlimit: %v", errno)
		}
		if change == nil {
			was = old.Cur
		}
	}
	return was
}

// hasOpen reports whether the process has a file open.
func (p *program) hasOpen(suffix string) bool {
	folder := fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid)
	entries, err := os.ReadDir(folder)
	must(p.t, err)
	for _, e := range entries {
		if name, err := os.Readlink(filepath.Join(folder, e.Name())); err == nil && strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

// No file and no connection can be opened any more. Who is connected goes on being
// served, a revocation is taken and in force; who comes waits; and everything that needs a
// file works again as soon as it can be had.
func TestWithoutAFreeDescriptorTheProcessGoesOnAndRecovers(t *testing.T) {
	p := startProgram(t, "VIGIL_SNAPSHOT_EVERY=1s")
	control, decision := oneConnection(), oneConnection()
	p.push(control, "reg", "register", "agent:a", `,"class":"default","labels":{"role":"r"}`)
	evaluation := p.decision + "/access/v1/evaluation"
	if answer := p.must(decision, evaluation, readRequest("a", "s")); !strings.Contains(answer, `"decision":true`) {
		t.Fatal(answer)
	}
	// The journal opens its watermark when the first signal has been acknowledged, and keeps it.
	p.until("the journal has all its files open", func() bool { return p.hasOpen("/journal/acknowledged") })
	was := limitFiles(t, p.cmd.Process.Pid, 0)

	p.push(control, "revoke", "revoke", "session:s", "")
	for range 100 {
		if answer := p.must(decision, evaluation, readRequest("a", "s")); !strings.Contains(answer, `"code":"revoked"`) {
			t.Fatalf("a revocation was acknowledged: %s", answer)
		}
		if answer := p.must(decision, evaluation, readRequest("a", "other")); !strings.Contains(answer, `"decision":true`) {
			t.Fatal(answer)
		}
	}
	// Rules cannot be read: the old ones decide on.
	p.writeRules(strings.ReplaceAll(ordealRules, "read", "write"))
	if status, answer, err := p.ask(control, p.control+"/v1/rules/reload", "{}"); err != nil || status != http.StatusUnprocessableEntity {
		t.Errorf("a reload: %d %s %v", status, answer, err)
	}
	// Strangers wait for a place.
	const strangers = 20
	waiting := make(chan error, strangers)
	for range strangers {
		go func() {
			status, answer, err := p.ask(&http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}, evaluation, readRequest("a", "s"))
			if err == nil && (status != http.StatusOK || strings.Contains(answer, `"decision":true`)) {
				err = fmt.Errorf("%d %s", status, answer)
			}
			waiting <- err
		}()
	}
	p.until("the lack was met by a port, the clock and a snapshot", func() bool {
		log := p.logged()
		return strings.Contains(log, "accept") && strings.Contains(log, "the clock's floor cannot be written") && strings.Contains(log, "no snapshot")
	})
	if answer := p.must(decision, evaluation, readRequest("a", "other")); !strings.Contains(answer, `"decision":true`) {
		t.Error(answer)
	}
	p.push(control, "revoke-2", "revoke", "session:other", "")
	if len(waiting) > 0 {
		t.Errorf("a stranger was answered without a descriptor: %v", <-waiting)
	}

	limitFiles(t, p.cmd.Process.Pid, was)
	for range strangers {
		if err := <-waiting; err != nil {
			t.Errorf("a stranger who waited: %v", err)
		}
	}
	p.must(control, p.control+"/v1/rules/reload", "{}")
	p.until("the floor and a snapshot are written again", func() bool {
		log := p.logged()
		return strings.Contains(log, "the clock's floor is written again") && strings.Contains(log, "snapshot saved")
	})
	if log := p.logged(); strings.Contains(log, "panic") {
		t.Error(log)
	}
}

// Requests about agents, sessions and resources that nobody knows, each another one, leave
// nothing behind that grows: caches, memories of decisions and counters have their bounds.
func TestAFloodOfStrangersLeavesNothingThatGrows(t *testing.T) {
	p := startProgram(t, "GOMEMLIMIT=64MiB", "VIGIL_CACHE_ENTRIES=1000", "VIGIL_CONTROL_PPROF=true")
	control := oneConnection()
	p.push(control, "reg", "register", "agent:a", `,"class":"default","labels":{"role":"r"}`)
	const batch, batches, floods = 100, 60, 4
	serial := 0
	flood := func() {
		for range batches {
			var body strings.Builder
			body.WriteString(`{"evaluations":[`)
			for i := range batch {
				if i > 0 {
					body.WriteByte(',')
				}
				serial++
				agent := "a" // half are allowed and cached, half are denied and remembered
				if serial%2 == 0 {
					agent = fmt.Sprintf("stranger-%d", serial)
				}
				fmt.Fprintf(&body, `{"subject":{"type":"agent","id":%q},"action":{"name":"read"},"resource":{"type":"document","id":"doc-%d"},"context":{"session":"session-%d"}}`, agent, serial, serial)
			}
			body.WriteString(`]}`)
			answer := p.must(p.http, p.decision+"/access/v1/evaluations", body.String())
			if n := strings.Count(answer, `"decision":true`); n != batch/2 {
				t.Fatalf("%d of %d are allowed: %.300s", n, batch, answer)
			}
		}
	}
	heap := func() float64 {
		p.must(control, p.control+"/debug/pprof/heap?gc=1", "")
		return p.metric(control, "go_memstats_heap_alloc_bytes")
	}
	flood() // fills what has bounds
	flood()
	before, known, goroutines := heap(), p.metric(control, `vigil_entities{kind="agent"}`), p.metric(control, "go_goroutines")
	for range floods {
		flood()
	}
	grown := heap() - before
	each := grown / (floods * batches * batch)
	t.Logf("%.0f bytes more after %d requests, %.1f each", grown, floods*batches*batch, each)
	if each > 64 { // one that is kept takes some hundred
		t.Errorf("the heap grew by %.0f bytes, %.0f for each request", grown, each)
	}
	if now := p.metric(control, `vigil_entities{kind="agent"}`); now != known {
		t.Errorf("requests made %.0f agents known", now-known)
	}
	if now := p.metric(control, "go_goroutines"); now > goroutines+16 {
		t.Errorf("%.0f goroutines, then %.0f", goroutines, now)
	}
}
