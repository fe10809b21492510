package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/rogpeppe/go-internal/testscript"
)

// patience bounds what only a failing test waits for.
const patience = 60 * time.Second

// engine is a running `pdp serve` of a script.
type engineProcess struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed after err was set
	err   error
}

var engines struct {
	sync.Mutex
	byName map[string]*engineProcess // by the script's folder and the name
}

func engineNamed(ts *testscript.TestScript, name string) *engineProcess {
	engines.Lock()
	defer engines.Unlock()
	e := engines.byName[ts.Getenv("WORK")+"/"+name]
	if e == nil {
		ts.Fatalf("no engine was started as %s", name)
	}
	return e
}

// serve NAME FLAG...: starts `pdp serve` on free ports, waits until it is ready, and
// points pdp's environment at it. Its output is in NAME.out and NAME.log. With a leading
// "!" it must end by itself with a failure, and nothing is set.
func serveInScript(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 {
		ts.Fatalf("usage: [!] serve NAME FLAG...")
	}
	name := args[0]
	addresses := ts.MkAbs(name + ".json")
	os.Remove(addresses)
	program, err := exec.LookPath("pdp")
	ts.Check(err)
	cmd := exec.Command(program, append([]string{"serve", "--address-file", addresses,
		"--decision-listen", "127.0.0.1:0", "--control-listen", "127.0.0.1:0"}, args[1:]...)...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "TMPDIR", "VIGIL_DECISION_DRAIN", "VIGIL_SNAPSHOT_EVERY"} {
		if value := ts.Getenv(name); value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	out, err := os.Create(ts.MkAbs(name + ".out"))
	ts.Check(err)
	log, err := os.Create(ts.MkAbs(name + ".log"))
	ts.Check(err)
	cmd.Stdout, cmd.Stderr = out, log
	ts.Check(cmd.Start())
	e := &engineProcess{cmd: cmd, ended: make(chan struct{})}
	go func() {
		e.err = cmd.Wait()
		out.Close()
		log.Close()
		close(e.ended)
	}()
	ts.Defer(func() {
		_ = cmd.Process.Kill()
		<-e.ended
	})
	engines.Lock()
	if engines.byName == nil {
		engines.byName = map[string]*engineProcess{}
	}
	engines.byName[ts.Getenv("WORK")+"/"+name] = e
	engines.Unlock()

	// The file appears whole; there is nothing else to wait on.
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		select {
		case <-e.ended:
			if !neg {
				ts.Fatalf("pdp serve ended: %v\n%s", e.err, ts.ReadFile(name+".log"))
			}
			return
		default:
		}
		data, err := os.ReadFile(addresses)
		if err != nil {
			continue
		}
		if neg {
			ts.Fatalf("pdp serve should not have started")
		}
		var at struct {
			Decision string `json:"decision"`
			Control  string `json:"control"`
		}
		ts.Check(json.Unmarshal(data, &at))
		ts.Setenv("VIGIL_DECISION_URL", at.Decision)
		ts.Setenv("VIGIL_CONTROL_URL", at.Control)
		return
	}
	ts.Fatalf("pdp serve was not ready in time:\n%s", ts.ReadFile(name+".log"))
}

// signal NAME TERM|KILL|HUP: sends a signal to an engine.
func signalInScript(ts *testscript.TestScript, neg bool, args []string) {
	known := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL, "HUP": syscall.SIGHUP, "INT": syscall.SIGINT}
	if neg || len(args) != 2 || known[args[1]] == 0 {
		ts.Fatalf("usage: signal NAME TERM|KILL|HUP|INT")
	}
	ts.Check(engineNamed(ts, args[0]).cmd.Process.Signal(known[args[1]]))
}

// ended NAME CODE: waits until an engine has ended; -1 is for a killed one.
func endedInScript(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: ended NAME CODE")
	}
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	e := engineNamed(ts, args[0])
	select {
	case <-e.ended:
	case <-time.After(patience):
		ts.Fatalf("%s goes on", args[0])
	}
	got := 0
	var exit *exec.ExitError
	if errors.As(e.err, &exit) {
		got = exit.ExitCode()
	} else if e.err != nil {
		got = -2
	}
	if got != want {
		ts.Fatalf("%s ended with code %d (%v), want %d:\n%s", args[0], got, e.err, want, ts.ReadFile(args[0]+".log"))
	}
}

// http METHOD decision|control PATH [FILE]: one request with the local token, as curl
// would make it; the status and the body become the output of the file http.out.
func httpInScript(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 || len(args) > 4 {
		ts.Fatalf("usage: http METHOD decision|control PATH [FILE]")
	}
	base := ts.Getenv("VIGIL_" + strings.ToUpper(args[1]) + "_URL")
	var body io.Reader
	if len(args) == 4 {
		body = strings.NewReader(ts.ReadFile(args[3]))
	}
	req, err := http.NewRequest(args[0], base+args[2], body)
	ts.Check(err)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if args[1] == "control" {
		name := tokenFileFor(filepath.Join(ts.Getenv("XDG_RUNTIME_DIR"), "vigil"), strings.TrimPrefix(base, "http://"))
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(ts.ReadFile(name)))
	}
	resp, err := (&http.Client{Timeout: patience}).Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	var out bytes.Buffer
	out.WriteString(resp.Status + "\n")
	_, err = out.ReadFrom(resp.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("http.out"), append(out.Bytes(), '\n'), 0o600))
}

// unready decision|control: waits until /readyz of a port answers 503.
func unreadyInScript(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: unready decision|control")
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		httpInScript(ts, false, []string{"GET", args[0], "/readyz"})
		if strings.HasPrefix(ts.ReadFile("http.out"), "503 ") {
			return
		}
	}
	ts.Fatalf("%s stays ready", args[0])
}
