package interop

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for something that has to come.
const patience = 60 * time.Second

// engine is a running pdp with the rules of the invoice example.
type engine struct {
	t                 *testing.T
	dir               string
	decision, control string // URLs
	http              *http.Client
}

// secret is a bearer token, and what the configuration has of it.
type secret string

func newSecret() secret { return secret(rand.Text()) }

func (s secret) hash() string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }

// file is one that the configuration names.
type file struct{ name, text string }

// start runs pdp until the test ends, with this below the settings that all have. It must end
// in order then.
func start(t *testing.T, config string, files ...file) *engine {
	t.Helper()
	e := &engine{t: t, dir: t.TempDir(), http: &http.Client{Timeout: patience}}
	t.Cleanup(e.http.CloseIdleConnections)
	must(t, os.CopyFS(e.path("rules"), os.DirFS("../examples/invoice/rules")))
	e.write("vigil.yaml", `vigil: 1
data_dir: data
rules: {dir: rules}
decision: {listen: "127.0.0.1:0", drain: 0s}
control: {listen: "127.0.0.1:0"}
logging: {level: warn}
`+config)
	e.write("seed.json", registrations)
	for _, f := range files {
		e.write(f.name, f.text)
	}

	addresses := e.path("addresses.json")
	cmd := exec.Command(pdp, "serve", "--config", e.path("vigil.yaml"), "--seed", e.path("seed.json"), "--address-file", addresses)
	cmd.Env = []string{"HOME=" + e.dir}
	log, err := os.Create(e.path("pdp.log"))
	must(t, err)
	defer log.Close() // the program has its own
	cmd.Stdout, cmd.Stderr = log, log
	must(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			<-ended
		}
		if code := cmd.ProcessState.ExitCode(); code != 0 || t.Failed() {
			t.Errorf("pdp ended with code %d:\n%s", code, e.read("pdp.log"))
		}
	})
	// The file appears whole; there is nothing else to wait on.
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		select {
		case <-ended:
			t.Fatal("pdp serve ended")
		default:
		}
		data, err := os.ReadFile(addresses)
		if err != nil {
			continue
		}
		var at struct{ Decision, Control string }
		must(t, json.Unmarshal(data, &at))
		e.decision, e.control = at.Decision, at.Control
		return e
	}
	t.Fatal("pdp serve was not ready in time")
	return nil
}

func (e *engine) path(name string) string { return filepath.Join(e.dir, filepath.FromSlash(name)) }

func (e *engine) write(name, text string) {
	e.t.Helper()
	must(e.t, os.MkdirAll(filepath.Dir(e.path(name)), 0o700))
	must(e.t, os.WriteFile(e.path(name), []byte(text), 0o600))
}

func (e *engine) read(name string) string {
	data, err := os.ReadFile(e.path(name))
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// registrations are two agents that may do the same, so that one of them can be the one that
// nothing is about.
const registrations = `[
 {"v":1,"id":"r-1","type":"register","time":"2026-01-01T00:00:00Z","entities":["agent:payer","agent:bystander"],
  "class":"high-high","labels":{"role":"invoice-agent"},"scopes":["view:invoices","propose:payments"]},
 {"v":1,"id":"r-2","type":"attest","time":"2026-01-01T00:00:00Z","entities":["agent:payer","agent:bystander"],"result":"pass"},
 {"v":1,"id":"r-3","type":"register","time":"2026-01-01T00:00:00Z","entities":["session:s-1","session:s-2"],"class":"session"},
 {"v":1,"id":"r-4","type":"register","time":"2026-01-01T00:00:00Z","entities":["user:kim","user:lee"],"class":"person"}
]`

// decides asks whether an agent may pay for a user in a session, and says "allowed" or the code
// of the no.
func (e *engine) decides(agent, user, session string) string {
	e.t.Helper()
	return e.asks(fmt.Sprintf(`{"subject":{"type":"user","id":%q,"properties":{"role":"AP-analyst","scope":"view:invoices propose:payments","act":{"sub":%q}}},
 "action":{"name":"pay"},"resource":{"type":"payment","id":"inv-88","properties":{"amount":4200,"supplier":"acme"}},"context":{"session":%q}}`, user, agent, session))
}

func (e *engine) asks(body string) string {
	e.t.Helper()
	status, answer := e.post(e.decision+"/access/v1/evaluation", "", "application/json", body)
	var said struct {
		Decision bool
		Context  struct{ Code string }
	}
	if err := json.Unmarshal(answer, &said); err != nil || status != http.StatusOK || said.Decision != (said.Context.Code == "allowed") {
		e.t.Fatalf("%d %s: %v", status, answer, err)
	}
	return said.Context.Code
}

// expect asserts what the agent that signals are about is answered, and that the other one,
// which acts for another user in another session, is allowed.
func (e *engine) expect(when, code string) {
	e.t.Helper()
	if got := e.decides("payer", "kim", "s-1"); got != code {
		e.t.Errorf("%s: %s, want %s", when, got, code)
	}
	if got := e.decides("bystander", "lee", "s-2"); got != "allowed" {
		e.t.Errorf("%s: the bystander: %s", when, got)
	}
}

func (e *engine) post(url string, token secret, contentType, body string) (status int, answer []byte) {
	e.t.Helper()
	r, err := http.NewRequestWithContext(e.t.Context(), http.MethodPost, url, strings.NewReader(body))
	must(e.t, err)
	r.Header.Set("Content-Type", contentType)
	return e.do(r, token)
}

func (e *engine) get(url string, token secret) (status int, answer []byte) {
	e.t.Helper()
	r, err := http.NewRequestWithContext(e.t.Context(), http.MethodGet, url, nil)
	must(e.t, err)
	return e.do(r, token)
}

func (e *engine) do(r *http.Request, token secret) (status int, answer []byte) {
	e.t.Helper()
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+string(token))
	}
	response, err := e.http.Do(r)
	must(e.t, err)
	defer response.Body.Close()
	var all bytes.Buffer
	_, err = io.Copy(&all, io.LimitReader(response.Body, 16<<20))
	must(e.t, err)
	return response.StatusCode, all.Bytes()
}
