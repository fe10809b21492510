//go:build e2e && linux

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/go-json-experiment/json"
)

// replica is one pdp serve, over any number of starts. Its methods are for the goroutine
// of the test, but for those of client.
type replica struct {
	t    *testing.T
	name string
	dir  string // configuration, data and log
	env  []string
	client

	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has ended
}

// newReplica writes the configuration of a replica, without starting it.
func newReplica(t *testing.T, name, logSection string) *replica {
	t.Helper()
	r := &replica{t: t, name: name, dir: t.TempDir()}
	r.http.Timeout, r.http.Transport = answerTime, &http.Transport{MaxIdleConnsPerHost: 64}
	rules, err := filepath.Abs("../examples/invoice/rules")
	must(t, err)
	must(t, os.WriteFile(r.config(), []byte(`vigil: 1
data_dir: data
rules: {dir: `+rules+`}
decision: {listen: "127.0.0.1:0", drain: 0s}
control: {listen: "127.0.0.1:0"}
logging: {level: warn, decisions: "off"}
snapshot: {every: 5s}
`+logSection), 0o600))
	t.Cleanup(func() {
		r.kill()
		if t.Failed() {
			t.Logf("%s printed last:\n%s", r.name, r.printed())
		}
	})
	return r
}

func (r *replica) config() string { return filepath.Join(r.dir, "vigil.yaml") }

// launch starts the process and does not wait for it.
func (r *replica) launch(flags ...string) {
	r.t.Helper()
	addresses := filepath.Join(r.dir, "addresses.json")
	if err := os.Remove(addresses); err != nil && !errors.Is(err, os.ErrNotExist) {
		r.t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(r.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(r.t, err)
	defer log.Close()
	r.cmd = exec.Command(pdp, append([]string{"serve", "--config", r.config(), "--address-file", addresses}, flags...)...)
	r.cmd.Env = append([]string{"HOME=" + r.dir, "XDG_RUNTIME_DIR=" + r.dir}, r.env...)
	r.cmd.Stdout, r.cmd.Stderr = log, log
	// Whatever becomes of the test, its processes end with it: each is started from a
	// thread that lives as long as it does.
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	r.ended = startOnOwnThread(r.t, r.cmd)
}

// start starts the process and waits until it decides.
func (r *replica) start(flags ...string) {
	r.t.Helper()
	r.launch(flags...)
	until(r.t, r.name+" is ready", func() bool {
		if r.over() {
			r.t.Fatalf("%s ended by itself:\n%s", r.name, r.printed())
		}
		return r.meet()
	})
}

// meet looks for the addresses, which appear once the process decides.
func (r *replica) meet() bool {
	data, err := os.ReadFile(filepath.Join(r.dir, "addresses.json")) // it appears whole
	if err != nil {
		return false
	}
	var at struct {
		Decision string `json:"decision"`
		Control  string `json:"control"`
	}
	must(r.t, json.Unmarshal(data, &at))
	token, err := os.ReadFile(filepath.Join(r.dir, "data", "local.token"))
	must(r.t, err)
	r.at.Store(&place{at.Decision, at.Control, strings.TrimSpace(string(token))})
	return true
}

func (r *replica) over() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

// printed gives the end of what the process printed, over all its starts.
func (r *replica) printed() string {
	data, err := os.ReadFile(filepath.Join(r.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-6000):])
}

// stop ends the process as an operator would.
func (r *replica) stop() {
	r.t.Helper()
	must(r.t, r.cmd.Process.Signal(syscall.SIGTERM))
	until(r.t, r.name+" stops", r.over)
	if code := r.cmd.ProcessState.ExitCode(); code != 0 {
		r.t.Fatalf("%s ended with code %d:\n%s", r.name, code, r.printed())
	}
}

// kill ends the process as a defect would. One that does not run is left alone.
func (r *replica) kill() {
	if r.cmd == nil || r.over() {
		return
	}
	_ = r.cmd.Process.Kill()
	<-r.ended
}

// suspend stops the process where it is, and waits until every thread of it stands still.
func (r *replica) suspend() {
	r.t.Helper()
	must(r.t, r.cmd.Process.Signal(syscall.SIGSTOP))
	untilStill(r.t, r.name, r.cmd.Process.Pid)
}

func (r *replica) resume() {
	r.t.Helper()
	must(r.t, r.cmd.Process.Signal(syscall.SIGCONT))
}

// mostMemory is the most that the process has ever had resident, in bytes.
func (r *replica) mostMemory() int {
	r.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
	must(r.t, err)
	for line := range strings.Lines(string(data)) {
		var kib int
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	r.t.Fatalf("%s has no VmHWM", r.name)
	return 0
}

// wipe removes what a stopped replica has kept.
func (r *replica) wipe() {
	r.t.Helper()
	must(r.t, os.RemoveAll(filepath.Join(r.dir, "data")))
}
