package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"

	"vigil/authz"
	"vigil/posture"
	"vigil/signals"
	"vigil/signals/journal"
	"vigil/signals/snapshot"
)

// child is a program that was started, on a processor of its own where the machine has
// several. It is for one goroutine.
type child struct {
	cmd    *exec.Cmd
	input  io.WriteCloser // closing it ends the child, but for the engine
	output *bufio.Reader
	silent chan struct{} // of an engine: closed when it says nothing any more
	ended  bool
	errors *strings.Builder // what it said besides; to be read once it has ended
}

// start starts a program on one processor. The processor is set by this program, which
// then becomes the other one, so that every thread of it is there from the start.
func (b *bench) start(processor int, program string, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(self, append([]string{"pinned", fmt.Sprint(processor), program}, args...)...), errors: &strings.Builder{}}
	c.cmd.Env = []string{"GOMAXPROCS=1", "VIGIL_DECISION_DRAIN=0s", "XDG_RUNTIME_DIR=" + b.dir}
	c.cmd.Stderr = c.errors
	if c.input, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	output, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.output = bufio.NewReader(output)
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	return c, nil
}

// startSelf starts a command of this program.
func (b *bench) startSelf(processor int, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return b.start(processor, self, args...)
}

// line reads a line of a child's output.
func (c *child) line() (string, error) {
	text, err := c.output.ReadString('\n')
	if err != nil {
		c.stop()
		return "", fmt.Errorf("%s ended early: %s", c.cmd.Args[2:], c.errors)
	}
	return strings.TrimSpace(text), nil
}

// stop ends a child and waits for it. It may be called again.
func (c *child) stop() {
	if c.ended {
		return
	}
	c.ended = true
	_ = c.input.Close()
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(20*time.Second, func() { _ = c.cmd.Process.Kill() })
	if c.silent != nil {
		<-c.silent
	} else {
		_, _ = io.Copy(io.Discard, c.output)
	}
	_ = c.cmd.Wait()
	kill.Stop()
}

// program gives the engine's program, built if none was named.
func (b *bench) program(ctx context.Context) (string, error) {
	if b.pdp != "" {
		return filepath.Abs(b.pdp)
	}
	b.pdp = filepath.Join(b.dir, "pdp")
	b.say("building the engine")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", b.pdp, "vigil/cmd/pdp").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build vigil/cmd/pdp: %w\n%s", err, out)
	}
	return b.pdp, nil
}

// writePolicy writes the twelve rules into a new folder.
func (b *bench) writePolicy() (string, error) {
	dir, err := os.MkdirTemp(b.dir, "rules-")
	if err != nil {
		return "", err
	}
	for name, text := range policyFiles() {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// writeData makes a data folder whose snapshot has the store, as an engine leaves it, and
// gives the snapshot's file too.
func (b *bench) writeData(store *posture.Store) (dir, file string, err error) {
	if dir, err = os.MkdirTemp(b.dir, "data-"); err != nil {
		return "", "", err
	}
	j, err := journal.Open(filepath.Join(dir, "journal"), journal.Options{})
	if err != nil {
		return "", "", err
	}
	meta := snapshot.Meta{Log: j.ID(), Positions: signals.Positions{0: j.Head()}, Now: authz.InstantOf(time.Now())}
	if err := j.Close(); err != nil {
		return "", "", err
	}
	snapshots := snapshot.Dir{Path: filepath.Join(dir, "snapshots")}
	if err := os.MkdirAll(snapshots.Path, 0o700); err != nil {
		return "", "", err
	}
	file, err = snapshots.Save(meta, store)
	return dir, file, err
}

// engineProcess is an engine that serves.
type engineProcess struct {
	*child
	address string        // of the decision port
	ready   time.Duration // from its start until it answered
}

// serve starts an engine on a data folder.
func (b *bench) serve(ctx context.Context, processor int, data string, flags ...string) (*engineProcess, error) {
	program, err := b.program(ctx)
	if err != nil {
		return nil, err
	}
	rules, err := b.writePolicy()
	if err != nil {
		return nil, err
	}
	where := filepath.Join(rules, "..", filepath.Base(rules)+"-addresses.json")
	begin := time.Now()
	c, err := b.start(processor, program, append([]string{"serve", "--data-dir", data, "--rules-dir", rules, "--decision-listen", "127.0.0.1:0", "--control-listen", "127.0.0.1:0",
		"--logging-level", "warn", "--logging-decisions", "off", "--address-file", where}, flags...)...)
	if err != nil {
		return nil, err
	}
	c.silent = make(chan struct{})
	go func() { // it ends with the engine
		defer close(c.silent)
		_, _ = io.Copy(io.Discard, c.output)
	}()
	for {
		if data, err := os.ReadFile(where); err == nil {
			e := &engineProcess{child: c, ready: time.Since(begin)}
			var at struct {
				Decision string `json:"decision"`
			}
			if err := json.Unmarshal(data, &at); err != nil {
				c.stop()
				return nil, err
			}
			e.address = strings.TrimPrefix(at.Decision, "http://")
			return e, nil
		}
		gone := false
		select {
		case <-c.silent:
			gone = true
		case <-time.After(time.Millisecond):
		}
		if ctx.Err() != nil || gone || time.Since(begin) > 2*time.Minute {
			c.stop()
			return nil, errors.Join(ctx.Err(), fmt.Errorf("the engine does not answer: %s", c.errors))
		}
	}
}
