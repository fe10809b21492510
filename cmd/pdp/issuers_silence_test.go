package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// TestAnIssuerThatNobodyNeedsCostsTheLogNothing: the answers to polls write nothing, until the
// rules require the issuer; then it is alive as of its last answer, without another one.
func TestAnIssuerThatNobodyNeedsCostsTheLogNothing(t *testing.T) {
	const answered = 2
	var polls atomic.Int32
	poll := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or the server does not notice that the client is gone
		if polls.Add(1) > answered {
			<-r.Context().Done() // it holds back what it has not got
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"sets":{}}`))
	}))
	t.Cleanup(poll.Close)
	folder := t.TempDir()
	rules := filepath.Join(folder, "rules")
	must(t, os.CopyFS(rules, os.DirFS("../../examples/invoice/rules")))
	must(t, os.WriteFile(filepath.Join(folder, "keys.json"), []byte(newIdentityProvider(t).keys()), 0o600))
	config := filepath.Join(folder, "vigil.yaml")
	must(t, os.WriteFile(config, fmt.Appendf(nil, `vigil: 1
data_dir: data
rules: {dir: rules}
decision: {listen: "127.0.0.1:0", drain: 0s}
control: {listen: "127.0.0.1:0"}
issuers:
  - name: idp
    issuer: https://idp.example.com/
    audience: [https://pdp.example.com/ssf]
    algorithms: [RS256]
    keys: {file: keys.json}
    may: {types: [revoke], kinds: [session]}
    poll: {endpoint: "%s"}
`, poll.URL), 0o600))
	s := launchWith(t, filepath.Join(folder, "data"), "--config", config).ready()
	s.until("its last answer was taken", func() bool { return polls.Load() > answered })
	heartbeats := func() string {
		_, metrics := s.do("GET", s.control+"/metrics", "")
		for line := range strings.Lines(metrics) {
			if strings.HasPrefix(line, "vigil_signals_total") && strings.Contains(line, `type="heartbeat"`) {
				return line
			}
		}
		return ""
	}
	if line := heartbeats(); line != "" {
		t.Errorf("nobody needs %s", line)
	}

	name := filepath.Join(rules, "bundle.yaml")
	text, err := os.ReadFile(name)
	must(t, err)
	must(t, os.WriteFile(name, []byte(strings.NewReplacer("profiles:\n", "sources: {\"issuer:idp\": {max_silence: 1h}}\nprofiles:\n",
		"requires: [session]}", "requires: [session], needs: [\"issuer:idp\"]}").Replace(string(text))), 0o600))
	if status, answer := s.do("POST", s.control+"/v1/rules/reload", "{}"); status != http.StatusOK {
		t.Fatalf("%d %s", status, answer)
	}
	s.until("it is alive", func() bool {
		sources := s.status().Sources
		return len(sources) == 1 && sources[0].Source == "issuer:idp" && !sources[0].Silent
	})
	if line := heartbeats(); !strings.HasSuffix(line, " 1\n") {
		t.Errorf("one heartbeat, and not %q", line)
	}
}
