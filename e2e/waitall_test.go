//go:build e2e && linux

package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
)

// TestWaitAllEndsWhenEveryReplicaDenies: the command says that a revocation is in force where
// it is, and of a replica that stands still that it is not known.
func TestWaitAllEndsWhenEveryReplicaDenies(t *testing.T) {
	c := newCluster(t, 3)
	a, b, slow := c.replicas[0], c.replicas[1], c.replicas[2]
	// As if one user ran all three on this machine: their tokens are side by side.
	tokens := filepath.Join(t.TempDir(), "vigil")
	must(t, os.Mkdir(tokens, 0o700))
	for _, r := range c.replicas {
		files, err := filepath.Glob(filepath.Join(r.dir, "vigil", "*.token"))
		must(t, err)
		for _, file := range files {
			token, err := os.ReadFile(file)
			must(t, err)
			must(t, os.WriteFile(filepath.Join(tokens, filepath.Base(file)), token, 0o600))
		}
	}
	when := time.Now().UTC().Format(time.RFC3339Nano)
	revoke := func(session, timeout string) (reached map[string]bool, code int) {
		t.Helper()
		url := func(r *replica) string { return r.at.Load().control }
		cmd := exec.Command(pdp, "signal", "revoke", "session:"+session, "--allow-unknown", "-o", "json", "--id", session,
			"--time", when, // the same when it is sent again
			"--control-url", url(a), "--wait-all", url(b)+","+url(slow), "--wait-timeout", timeout)
		cmd.Env = []string{"HOME=" + t.TempDir(), "XDG_RUNTIME_DIR=" + filepath.Dir(tokens)}
		out, err := cmd.Output()
		var ended *exec.ExitError
		if errors.As(err, &ended) {
			code = ended.ExitCode()
		} else {
			must(t, err)
		}
		var said struct {
			Replicas []struct {
				URL     string `json:"url"`
				Reached bool   `json:"reached"`
				Error   string `json:"error"`
			} `json:"replicas"`
		}
		if err := json.Unmarshal(out, &said); err != nil {
			t.Fatalf("exit %d: %v in %q", code, err, out)
		}
		reached = map[string]bool{}
		for _, r := range said.Replicas {
			reached[r.URL] = r.Reached
			t.Logf("%s: %+v", session, r)
		}
		return map[string]bool{"b": reached[url(b)], "slow": reached[url(slow)]}, code
	}
	denied := func(r *replica, session string) {
		t.Helper()
		if a := r.decide(c.agent, session, ""); !a.denied() || a.code != "revoked" {
			t.Errorf("%s: %s %s %v", r.name, a, a.body, a.err)
		}
	}

	if reached, code := revoke("w-1", "30s"); code != 0 || !reached["b"] || !reached["slow"] {
		t.Errorf("exit %d, %v", code, reached)
	}
	for _, r := range c.replicas {
		denied(r, "w-1")
	}

	slow.suspend()
	reached, code := revoke("w-2", "5s")
	if code != 4 || !reached["b"] || reached["slow"] {
		t.Errorf("while one stands still: exit %d, %v", code, reached)
	}
	denied(a, "w-2")
	denied(b, "w-2")
	slow.resume()
	if reached, code := revoke("w-2", "30s"); code != 0 || !reached["slow"] {
		t.Errorf("afterwards: exit %d, %v", code, reached)
	}
	denied(slow, "w-2")
}
