package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
)

// The real program, killed by SIGKILL under load a few times, with snapshots. `make kills`
// does it a thousand times.
func TestKill9OfTheEngineLosesNothingAcknowledged(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts engines")
	}
	dir := t.TempDir()
	pdp, results := filepath.Join(dir, "pdp"), filepath.Join(dir, "results.json")
	if out, err := exec.Command("go", "build", "-o", pdp, "vigil/cmd/pdp").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	code, out := command(t, "kills", "--start", "--pdp", pdp, "--quiet", "--kills", "6", "--longest", "250ms", "--timeout", "30s",
		"--json", results)
	if code != exitOK {
		t.Fatalf("code %d\n%s", code, out)
	}
	data, err := os.ReadFile(results)
	if err != nil {
		t.Fatal(err)
	}
	var report Report
	if err := json.Unmarshal(data, &report); err != nil {
		t.Fatal(err)
	}
	for name, least := range map[string]float64{"kills.done": 6, "signals.acknowledged": 10, "signals.recovered_sessions": 1, "decisions.allowed": 1, "decisions.denied": 1} {
		if m, ok := report.metric(name); !ok || m.Value < least {
			t.Errorf("%s: %v, at least %v", name, m.Value, least)
		}
	}
}

// What an engine has forgotten, or made up, is found.
func TestTheLedgerFindsWhatIsLost(t *testing.T) {
	revoked := `{"effective":{"status":"revoked"},"facts":[{"type":"revoke","id":"r-1","active":true}]}`
	line := func(status string, facts ...string) string {
		return fmt.Sprintf(`{"effective":{"status":%q,"risk":7},"facts":[%s]}`, status, strings.Join(facts, ","))
	}
	quarantine, release := `{"type":"quarantine","id":"a/hold/3","active":true}`, `{"type":"release","id":"a/hold/4","active":true}`
	for _, c := range []struct {
		name           string
		session, agent string // what the engine answers; "" for unknown
		want           string // the loss; "" for none
	}{
		{"all there", revoked, line("active", quarantine, release), ""},
		{"in force without an answer", revoked, line("quarantined", release, `{"type":"quarantine","id":"a/hold/5","active":true}`), ""},
		{"session unknown", "", line("active", release), "session:s is not revoked by r-1"},
		{"revocation without effect", `{"effective":{"status":"active"},"facts":[{"type":"revoke","id":"r-1","active":true}]}`, line("active", release), "session:s"},
		{"revoked by another only", `{"effective":{"status":"revoked"},"facts":[{"type":"revoke","id":"r-2","active":true}]}`, line("active", release), "session:s"},
		{"revocation expired", `{"effective":{"status":"revoked"},"facts":[{"type":"revoke","id":"r-1","active":false}]}`, line("active", release), "session:s"},
		{"agent unknown", revoked, "", "the hold stands at 0, and 4 was acknowledged"},
		{"an older hold", revoked, line("quarantined", quarantine), "the hold stands at 3, and 4 was acknowledged"},
		{"a hold that nobody sent", revoked, line("active", `{"type":"release","id":"a/hold/6","active":true}`), "which nobody sent"},
		{"a hold without effect", revoked, line("active", release, `{"type":"quarantine","id":"a/hold/5","active":true}`), "its newest hold is true, its status active"},
		{"a risk without effect", revoked, line("active", release, `{"type":"risk","id":"a/risk/1","risk":9,"active":true}`), "its newest risk is 9, its effective one 7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				answer := c.agent
				if strings.HasSuffix(r.URL.Path, "/session:s") {
					answer = c.session
				}
				if answer == "" {
					w.WriteHeader(http.StatusNotFound)
					answer = `{"code":"unknown_entity"}`
				}
				_, _ = w.Write([]byte(answer))
			}))
			defer server.Close()
			s := &site{http: server.Client()}
			if err := s.connect(server.URL, server.URL, "", false); err != nil {
				t.Fatal(err)
			}
			l := newLedger()
			hold, risk := lineKey{"a", facetHold}, lineKey{"a", facetRisk}
			l.pushing(hold, 5)
			l.pushing(risk, 1)
			l.holds(&act{line: hold, serial: 4})
			l.holds(&act{signal: signalBody{ID: "r-1"}, sessions: []string{"s"}})
			o := &killsOptions{options: options{timeout: 30 * time.Second}}
			random := rand.New(rand.NewPCG(1, 2))
			for _, all := range []bool{false, true} { // what is there now stays due
				if err := l.verify(s, o, l.due(random, 1, all)); err != nil {
					t.Fatal(err)
				}
			}
			if l.checked != 1 {
				t.Errorf("%d checked", l.checked)
			}
			if c.want == "" && l.lost > 0 || c.want != "" && (l.lost != 2 || !strings.Contains(l.examples[0], c.want)) {
				t.Errorf("%d lost: %q", l.lost, l.examples)
			}
		})
	}
}

// A push whose outcome nobody knew is sent again; what comes of that must fit what was seen
// in force, or the engine forgot a signal or took one twice.
func TestASignalSentAgainIsADuplicateExactlyWhereItWasSeen(t *testing.T) {
	line := act{line: lineKey{"a", facetHold}}
	for _, c := range []struct {
		act     act
		outcome string
		again   bool
		fits    bool
	}{
		{act{found: true}, "duplicate", true, true},
		{act{found: true}, "applied", true, false},
		{act{}, "applied", true, true},
		{act{}, "duplicate", true, false},
		{act{}, "applied", false, true},
		{act{}, "duplicate", false, false},
		{act{}, "no_change", false, false},
		{line, "superseded", true, true},
		{line, "duplicate", true, true},
		{line, "superseded", false, false},
		{line, "no_change", false, false},
	} {
		if got := c.act.fits(c.outcome, c.again); got != c.fits {
			t.Errorf("%+v %s again %t: %t", c.act, c.outcome, c.again, got)
		}
	}
}
