package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"vigil/server/credential"
)

// TestTheSOCExample plays examples/soc with the real programs, as its README tells it.
func TestTheSOCExample(t *testing.T) {
	examples, err := filepath.Abs("../../examples")
	must(t, err)
	programs := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", programs, "../../examples/soc/idp").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/soc", RequireExplicitExec: true, RequireUniqueNames: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve": serveInScript, "exits": exits, "await": await, "configure": configureSOC, "ask": askInScript, "aim": aimSOC,
			"signal": signalInScript, "ended": endedInScript,
		},
		Setup: func(env *testscript.Env) error {
			env.Setenv("EXAMPLES", examples)
			env.Setenv("VIGIL_DECISION_DRAIN", "0s")
			env.Setenv("XDG_RUNTIME_DIR", env.WorkDir)
			env.Setenv("XDG_STATE_HOME", env.WorkDir)
			env.Setenv("VIGIL_ACTOR", "kim")
			env.Setenv("PATH", programs+string(filepath.ListSeparator)+env.Getenv("PATH"))
			return nil
		},
	})
}

// configure IDP: writes vigil.yaml as run.sh does, and a token for each placeholder. IDP is
// a file with the URL of the issuer.
func configureSOC(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: configure IDP")
	}
	text := ts.ReadFile(filepath.Join(ts.Getenv("EXAMPLES"), "soc", "vigil.yaml"))
	fill := []string{"@examples@", ts.Getenv("EXAMPLES"), "@idp@", strings.TrimSpace(ts.ReadFile(args[0]))}
	for _, name := range []string{"gateway", "siem", "analyst", "duty", "transmitter"} {
		token := credential.NewToken()
		hash := credential.HashToken(token)
		ts.Check(os.WriteFile(ts.MkAbs(name+".token"), []byte(token+"\n"), 0o600))
		fill = append(fill, "@"+name+"@", fmt.Sprintf("%x", hash))
	}
	ts.Check(os.WriteFile(ts.MkAbs("vigil.yaml"), []byte(strings.NewReplacer(fill...).Replace(text)), 0o600))
}

// aim: has what is pushed sent to the control port that the engine listens on.
func aimSOC(ts *testscript.TestScript, neg bool, args []string) {
	where := regexp.MustCompile(`http://127\.0\.0\.1:\d+/v1/events/`)
	text := ts.ReadFile("vigil.yaml")
	if neg || len(args) != 0 || !where.MatchString(text) {
		ts.Fatalf("usage: aim; vigil.yaml pushes to %s", where)
	}
	ts.Check(os.WriteFile(ts.MkAbs("vigil.yaml"), []byte(where.ReplaceAllString(text, ts.Getenv("VIGIL_CONTROL_URL")+"/v1/events/")), 0o600))
}

// ask STATUS TOKEN PATH [BODY HEADER...]: a request to the control port, as curl would make
// it; a POST where there is a body. The answer is in http.out.
func askInScript(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: ask STATUS TOKEN PATH [BODY HEADER...]")
	}
	method, body := http.MethodGet, ""
	if len(args) > 3 {
		method, body = http.MethodPost, args[3]
	}
	r, err := http.NewRequest(method, ts.Getenv("VIGIL_CONTROL_URL")+args[2], strings.NewReader(body))
	ts.Check(err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(ts.ReadFile(args[1])))
	for _, h := range args[min(len(args), 4):] {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	response, err := (&http.Client{Timeout: patience}).Do(r)
	ts.Check(err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("http.out"), answer, 0o600))
	if !strings.HasPrefix(response.Status, args[0]) {
		ts.Fatalf("answered %s, want %s:\n%s", response.Status, args[0], answer)
	}
}
