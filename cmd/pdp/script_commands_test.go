package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// scriptCommands are what scripts can do besides testscript's own commands.
var scriptCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"exits":  exits,
	"await":  await,
	"serve":  serveInScript,
	"signal": signalInScript,
	"ended":  endedInScript,
	"http":   httpInScript,
	"issue":  issueInScript,

	"unready": unreadyInScript,
	"follow":  followInScript,
}

// exits CODE COMMAND...: the command must end with this exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	if err != nil {
		ts.Fatalf("exits: %v", err)
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		if _, scanErr := fmt.Sscanf(err.Error(), "exit status %d", &got); scanErr != nil {
			ts.Fatalf("%s: %v", strings.Join(args[1:], " "), err)
		}
	}
	if got != want {
		ts.Fatalf("%s: exit code %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

// await FILE [TEXT]: waits until the file exists and holds the text. It polls, for a
// file has no condition to wait on; the time limit only bounds a test that fails.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: await FILE [TEXT]")
	}
	name := ts.MkAbs(args[0])
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		data, err := os.ReadFile(name)
		if err == nil && (len(args) == 1 || strings.Contains(string(data), args[1])) {
			return
		}
	}
	data, _ := os.ReadFile(name)
	ts.Fatalf("%s never came to hold %q; it holds:\n%s", args[0], args[1:], data)
}

// follow FILE FLAG...: starts `pdp signal tail` with its output in the file, and waits until
// it is told of what comes. It ends with the script at the latest.
func followInScript(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: follow FILE FLAG...")
	}
	program, err := exec.LookPath("pdp")
	ts.Check(err)
	cmd := exec.Command(program, append([]string{"signal", "tail"}, args[1:]...)...)
	for _, name := range []string{"HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "VIGIL_CONTROL_URL"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	out, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	log, err := os.Create(ts.MkAbs(args[0] + ".log"))
	ts.Check(err)
	cmd.Stdout, cmd.Stderr = out, log
	ts.Check(cmd.Start())
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		out.Close()
		log.Close()
		close(ended)
	}()
	ts.Defer(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		for _, name := range []string{args[0], args[0] + ".log"} {
			if text := ts.ReadFile(name); strings.Contains(text, "Following") || strings.Contains(text, `"begin"`) {
				return
			}
		}
	}
	ts.Fatalf("pdp signal tail began nothing:\n%s", ts.ReadFile(args[0]+".log"))
}

// buffer is a bytes.Buffer that a command and a test can use at once.
type buffer struct {
	mu   sync.Mutex
	data []byte // guarded by mu
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.data = append(b.data, p...)
	return len(p), nil
}

func (b *buffer) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.data)
	b.data = b.data[n:]
	return n, nil
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.data)
}
