package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
)

// site is an engine under load: one that runs somewhere, or one that was started here.
type site struct {
	decision, control target
	hasControl        bool
	token             string
	http              *http.Client // for what is not load
	process           *process     // nil where it runs by itself
	pid               int
}

// process is a program that was started, maybe several times in one folder. A goroutine of
// each start waits for its end and then closes ended.
type process struct {
	program string
	args    []string
	env     []string
	cmd     *exec.Cmd
	dir     string // removed at the end, unless it is evidence
	keep    bool
	log     *os.File
	ended   chan struct{}
}

// open gives the engine that the options name, and starts it where they say so.
func (o *options) open(ctx context.Context, w *Workload, log io.Writer) (*site, error) {
	s := &site{http: &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 2}}}
	var err error
	if o.start {
		if s.process, err = startEngine(ctx, o, w, log); err != nil {
			return nil, err
		}
		err = s.meet(ctx)
	} else {
		err = s.connect(o.decisionURL, o.controlURL, o.tokenFile, o.remote)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// meet finds the engine that was started here, once it answers.
func (s *site) meet(ctx context.Context) error {
	s.pid = s.process.cmd.Process.Pid
	decision, control, err := s.process.addresses(ctx)
	if err != nil {
		return err
	}
	return s.connect(decision, control, filepath.Join(s.process.dir, "data", "local.token"), false)
}

func (s *site) connect(decision, control, tokenFile string, remote bool) (err error) {
	if s.decision, err = parseTarget(decision, remote); err != nil {
		return err
	}
	if control != "" {
		s.hasControl = true
		if s.control, err = parseTarget(control, remote); err != nil {
			return err
		}
		if s.control.network != "tcp" {
			return badUsage("--control-url: want http://host:port")
		}
	}
	if tokenFile != "" {
		s.token, err = readToken(tokenFile)
	}
	return err
}

// close stops the engine if it was started, and removes what it left.
func (s *site) close() error {
	s.http.CloseIdleConnections()
	if s.process == nil {
		return nil
	}
	return s.process.stop()
}

func startEngine(ctx context.Context, o *options, w *Workload, log io.Writer) (*process, error) {
	dir, err := os.MkdirTemp("", "vigil-load-")
	if err != nil {
		return nil, err
	}
	p := &process{program: o.pdp, dir: dir}
	abandon := func(err error) (*process, error) { return nil, errors.Join(err, os.RemoveAll(dir)) }
	if len(w.Bundle) == 0 {
		return abandon(badUsage("the workload has no bundle to start an engine with"))
	}
	if p.program == "" {
		p.program = filepath.Join(dir, "pdp")
		fmt.Fprintln(log, "building pdp")
		build := exec.CommandContext(ctx, "go", "build", "-o", p.program, "vigil/cmd/pdp")
		if out, err := build.CombinedOutput(); err != nil {
			return abandon(fmt.Errorf("go build vigil/cmd/pdp: %w\n%s", err, out))
		}
	}
	rules := filepath.Join(dir, "rules")
	if err := os.Mkdir(rules, 0o700); err != nil {
		return abandon(err)
	}
	for name, text := range w.Bundle {
		if err := os.WriteFile(filepath.Join(rules, name), []byte(text), 0o600); err != nil {
			return abandon(err)
		}
	}
	listen := "127.0.0.1:0"
	if o.unix {
		listen = "unix:" + filepath.Join(dir, "decision.sock")
	}
	if p.log, err = os.OpenFile(filepath.Join(dir, "pdp.log"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600); err != nil {
		return abandon(err)
	}
	p.args = []string{"serve", "--data-dir", filepath.Join(dir, "data"), "--rules-dir", rules,
		"--decision-listen", listen, "--control-listen", "127.0.0.1:0", "--cache", o.cache,
		"--logging-level", "warn", "--logging-decisions", "off", "--address-file", filepath.Join(dir, "addresses.json")}
	// Nothing of ours is its business, and its token stays in dir.
	p.env = []string{"XDG_RUNTIME_DIR=" + dir, "VIGIL_DECISION_DRAIN=0s"}
	if o.snapshotEvery > 0 {
		p.env = append(p.env, "VIGIL_SNAPSHOT_EVERY="+o.snapshotEvery.String())
	}
	if err := p.launch(); err != nil {
		p.log.Close()
		return abandon(err)
	}
	return p, nil
}

// launch starts the program, for the first time or after it has ended.
func (p *process) launch() error {
	if err := os.Remove(filepath.Join(p.dir, "addresses.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	cmd := exec.Command(p.program, p.args...)
	cmd.Env = p.env
	cmd.Stdout, cmd.Stderr = p.log, p.log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	p.cmd, p.ended = cmd, ended
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	return nil
}

// kill ends the program as a power cut would end it, and waits until it is gone. One that
// had ended before is an error.
func (p *process) kill() error {
	err := p.cmd.Process.Kill()
	<-p.ended
	if p.cmd.ProcessState.Exited() {
		return fmt.Errorf("the engine ended by itself: %s", p.tail())
	}
	return err
}

// startTime bounds how long an engine may take to answer.
const startTime = time.Minute

// addresses waits until the engine says where it listens: the file appears whole, once it
// answers.
func (p *process) addresses(ctx context.Context) (decision, control string, err error) {
	patience := time.NewTimer(startTime)
	defer patience.Stop()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return "", "", ctx.Err()
		case <-p.ended:
			return "", "", fmt.Errorf("the engine ended by itself: %s", p.tail())
		case <-patience.C:
			return "", "", fmt.Errorf("the engine does not answer: %s", p.tail())
		case <-look.C:
		}
		data, err := os.ReadFile(filepath.Join(p.dir, "addresses.json"))
		if err != nil {
			continue
		}
		var at struct {
			Decision string `json:"decision"`
			Control  string `json:"control"`
		}
		if err := json.Unmarshal(data, &at); err != nil {
			return "", "", fmt.Errorf("the engine's addresses: %w", err)
		}
		return at.Decision, at.Control, nil
	}
}

// tail gives the end of what the engine printed.
func (p *process) tail() string {
	data, err := os.ReadFile(p.log.Name())
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(data[max(0, len(data)-2000):]))
}

// stop ends the engine as an operator would. One that does not end is killed, which is an
// error, and so is an exit code other than 0.
func (p *process) stop() error {
	var problem error
	select {
	case <-p.ended:
		problem = fmt.Errorf("the engine had ended by itself: %s", p.tail())
	default:
		if p.cmd.Process.Signal(syscall.SIGTERM) != nil {
			_ = p.cmd.Process.Kill() // where there is no such signal
		}
		patience := time.NewTimer(30 * time.Second)
		defer patience.Stop()
		select {
		case <-p.ended:
			if code := p.cmd.ProcessState.ExitCode(); code != 0 {
				problem = fmt.Errorf("the engine ended with code %d: %s", code, p.tail())
			}
		case <-patience.C:
			problem = errors.New("the engine did not stop and was killed")
			_ = p.cmd.Process.Kill()
			<-p.ended
		}
	}
	p.log.Close()
	if p.keep {
		return problem
	}
	return errors.Join(problem, os.RemoveAll(p.dir))
}
