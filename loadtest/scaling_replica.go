package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// replica is an engine on a log on Kafka that was started here, over any number of starts.
type replica struct {
	*site
	config string
	runs   bool
}

// newReplica writes the configuration of a replica and starts it nowhere yet. Everything of
// it is in a folder that close removes.
func (b *scalingBench) newReplica(name, more string) (*replica, error) {
	dir := filepath.Join(b.dir, name)
	rules := filepath.Join(dir, "rules")
	if err := os.MkdirAll(rules, 0o700); err != nil {
		return nil, err
	}
	for name, text := range b.w.Bundle {
		if err := os.WriteFile(filepath.Join(rules, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	brokers, err := json.Marshal(b.brokers)
	if err != nil {
		return nil, err
	}
	r := &replica{
		site:   &site{http: &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 2}}},
		config: filepath.Join(dir, "vigil.yaml"),
	}
	text := fmt.Sprintf(`vigil: 1
data_dir: data
rules: {dir: rules}
decision: {listen: "127.0.0.1:0", drain: 0s}
control: {listen: "127.0.0.1:0", pprof: true}
logging: {level: warn, decisions: "off"}
snapshot: {every: 24h}
log:
  kind: kafka
%s  kafka:
    brokers: %s
    topic: %s
    allow_weak: [all]
    inputs:
      - topic: %s
        may: [{types: [register, risk, revoke], kinds: [agent, session]}]
`, more, brokers, b.log, b.input)
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	p := &process{program: b.pdp, dir: dir, args: []string{"serve", "--config", r.config, "--address-file", filepath.Join(dir, "addresses.json")},
		env: []string{"XDG_RUNTIME_DIR=" + dir}}
	if p.log, err = os.OpenFile(filepath.Join(dir, "pdp.log"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600); err != nil {
		return nil, err
	}
	r.process = p
	b.replicas = append(b.replicas, r)
	return r, nil
}

// start starts the replica and gives how long it took until it decides, by the clock and on
// processors.
func (r *replica) start(ctx context.Context) (took, used time.Duration, err error) {
	begun := time.Now()
	if err := r.process.launch(); err != nil {
		return 0, 0, err
	}
	r.runs = true
	if err := r.meet(ctx); err != nil {
		return 0, 0, err
	}
	return time.Since(begun), processorTime(r.pid), nil
}

// stop ends the replica in order; it may be started again.
func (r *replica) stop() error {
	r.http.CloseIdleConnections()
	r.runs = false
	r.process.keep = true // the whole of the bench is removed at once
	err := r.process.stop()
	log, reopened := os.OpenFile(r.process.log.Name(), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	r.process.log = log
	return errors.Join(err, reopened)
}

// use is what a replica has spent so far.
type use struct {
	at        time.Time
	processor time.Duration
	sockets
}

func (r *replica) use() (use, error) {
	u := use{at: time.Now(), processor: processorTime(r.pid)}
	var ports []int
	for _, to := range []target{r.decision, r.control} {
		_, text, err := net.SplitHostPort(to.address)
		port, bad := strconv.Atoi(text)
		if err := errors.Join(err, bad); err != nil {
			return u, err
		}
		ports = append(ports, port)
	}
	var err error
	u.sockets, err = socketsOf(r.pid, ports...)
	return u, err
}

// spent is what a replica has spent between two looks.
type spent struct {
	took, processor    time.Duration
	received, requests int64
}

func (u use) since(before use) spent {
	return spent{u.at.Sub(before.at), u.processor - before.processor, u.received - before.received, u.sent - before.sent}
}

// cores is how many processors it had at work on average.
func (s spent) cores() float64 { return s.processor.Seconds() / s.took.Seconds() }

// memory is what a replica holds: the heap after a collection, and what of the process is
// resident then, in bytes.
func (r *replica) memory(ctx context.Context) (heap, resident float64, err error) {
	for range 2 { // what is pooled goes with the second
		if _, err := r.ask(ctx, http.MethodGet, "/debug/pprof/heap?gc=1", nil); err != nil {
			return 0, 0, err
		}
	}
	m, err := r.scrape(ctx)
	return m["go_memstats_heap_alloc_bytes"], m["process_resident_memory_bytes"], err
}

// applied gives how many signals a replica has come to, from the input and from the log.
func (b *scalingBench) applied(ctx context.Context, r *replica) (input, log float64, err error) {
	m, err := r.scrape(ctx)
	for name, value := range m {
		switch {
		case !strings.HasPrefix(name, "vigil_signals_total{"):
		case strings.Contains(name, `source="topic:`+b.input+`"`):
			input += value
		default:
			log += value
		}
	}
	return input, log, err
}

// appliedLimit bounds how long a replica may take to what was produced.
const appliedLimit = 3 * time.Minute

// await waits until a replica has come to so many signals.
func (b *scalingBench) await(ctx context.Context, r *replica, input, log float64) error {
	for begun := time.Now(); ; {
		i, l, err := b.applied(ctx, r)
		if err != nil || i >= input && l >= log {
			return err
		}
		if time.Since(begun) > appliedLimit {
			return fmt.Errorf("after %s a replica had applied %.0f and %.0f of %.0f and %.0f signals", appliedLimit, i, l, input, log)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// createTopics makes the topics of the run with the program's own command.
func (b *scalingBench) createTopics(ctx context.Context, r *replica) error {
	create := exec.CommandContext(ctx, b.pdp, "topics", "create", "--config", r.config, "--partitions", strconv.Itoa(b.partitions), "--replication", "1")
	create.Env = r.process.env
	if out, err := create.CombinedOutput(); err != nil {
		return fmt.Errorf("pdp topics create: %w\n%s", err, out)
	}
	return nil
}

// tokenName is the file of the replica's token.
func (r *replica) tokenName() string { return filepath.Join(r.process.dir, "data", "local.token") }

// download reads what a path of the control port gives, and how long it is.
func (r *replica) download(ctx context.Context, path string) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.control.address+path, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	resp, err := r.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	return io.Copy(io.Discard, resp.Body)
}
