package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vigil/server/credential"
)

// startServe runs `pdp serve` in this process until the test ends, and gives the
// address of its decision port.
func startServe(t *testing.T, args ...string) string {
	t.Helper()
	decision, _ := startServeAt(t, args...)
	return decision
}

// startServeAt is startServe with the address of the control port, too.
func startServeAt(t *testing.T, args ...string) (decision, control string) {
	t.Helper()
	addresses := filepath.Join(t.TempDir(), "addresses.json")
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	var code int
	var stdout, stderr buffer
	go func() {
		defer close(ended)
		a := &app{env: environment{"VIGIL_DECISION_DRAIN=0s", "HOME=" + t.TempDir()}, stdin: &buffer{}}
		code = a.Run(ctx, append([]string{"serve", "--address-file", addresses}, args...), &stdout, &stderr)
	}()
	t.Cleanup(func() {
		stop()
		if <-ended; code != exitOK {
			t.Errorf("serve ended with code %d:\n%s", code, stderr.String())
		}
	})
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		select {
		case <-ended:
			t.Fatalf("serve ended with code %d:\n%s", code, stderr.String())
		default:
		}
		data, err := os.ReadFile(addresses) // it appears whole; there is nothing else to wait on
		if err != nil {
			continue
		}
		var at struct {
			Decision string `json:"decision"`
			Control  string `json:"control"`
		}
		if err := json.Unmarshal(data, &at); err != nil {
			t.Fatal(err)
		}
		return at.Decision, at.Control
	}
	t.Fatalf("serve was not ready in time:\n%s", stderr.String())
	return "", ""
}

// TestTheAuthZENTodoInteropOverHTTP asks the 40 evaluations and the 3 batches of the
// AuthZEN Todo interop, of an engine that runs the example.
func TestTheAuthZENTodoInteropOverHTTP(t *testing.T) {
	token := credential.NewToken()
	config := filepath.Join(t.TempDir(), "vigil.yaml")
	hash := credential.HashToken(token)
	rulesDir, err := filepath.Abs("../../examples/authzen-todo/rules")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, fmt.Appendf(nil, `vigil: 1
data_dir: %s
rules: {dir: %s}
decision: {listen: "127.0.0.1:0", anonymous: none}
control: {listen: "127.0.0.1:0"}
clients:
  - {name: todo-app, token_sha256: ["%x"], scopes: [decide], agentless: [user]}
`, t.TempDir(), rulesDir, hash), 0o600); err != nil {
		t.Fatal(err)
	}
	url := startServe(t, "--config", config, "--seed", "../../examples/authzen-todo/registrations.json")

	var cases struct {
		Evaluation []struct {
			Request  jsontext.Value `json:"request"`
			Expected bool           `json:"expected"`
		} `json:"evaluation"`
		Evaluations []struct {
			Request  jsontext.Value `json:"request"`
			Expected []decided      `json:"expected"`
		} `json:"evaluations"`
	}
	data, err := os.ReadFile("../../authzen/testdata/interop/todo-decisions-1_0-02.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases.Evaluation) != 40 || len(cases.Evaluations) != 3 {
		t.Fatalf("%d and %d cases, want 40 and 3", len(cases.Evaluation), len(cases.Evaluations))
	}
	post := func(path string, body []byte, to any) {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, url+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s %s %v", resp.Status, answer, err)
		}
		if err := json.Unmarshal(answer, to); err != nil {
			t.Fatalf("%v: %s", err, answer)
		}
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	for i, c := range cases.Evaluation {
		var got decided
		if post("/access/v1/evaluation", c.Request, &got); got.Decision != c.Expected {
			t.Errorf("evaluation %d: %v, want %v: %s", i, got.Decision, c.Expected, c.Request)
		}
	}
	for i, c := range cases.Evaluations {
		var got struct {
			Evaluations []decided `json:"evaluations"`
		}
		if post("/access/v1/evaluations", c.Request, &got); !reflect.DeepEqual(got.Evaluations, c.Expected) {
			t.Errorf("evaluations %d: %v, want %v: %s", i, got.Evaluations, c.Expected, c.Request)
		}
	}

	// And without the token nothing is decided, as the configuration says.
	resp, err := http.Post(url+"/access/v1/evaluation", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a credential: %s", resp.Status)
	}
}

// decided is the part of an answer that the interop looks at.
type decided struct {
	Decision bool `json:"decision"`
}
