package control

import (
	"strings"
	"testing"
	"time"
)

// TestHistoryTellsWhoSaidWhatAndWhatOfItIsInForce: newest first, with what waits behind a
// newer word and with what has ended.
func TestHistoryTellsWhoSaidWhatAndWhatOfItIsInForce(t *testing.T) {
	w := newWorld(t)
	for _, body := range []string{
		`{"v":1,"id":"q1","type":"quarantine","entities":["agent:a"],"time":"2026-11-23T08:00:00Z","actor":"kim@acme","ticket":"INC-7"}`,
		`{"v":1,"id":"t1","type":"taint","entities":["agent:a"],"time":"2026-11-23T08:01:00Z","expires":"2026-11-23T08:30:00Z"}`,
		`{"v":1,"id":"n1","type":"narrow","entities":["agent:a"],"time":"2026-11-23T08:02:00Z","scopes":["read"]}`,
		`{"v":1,"id":"l1","type":"lift","entities":["agent:a"],"time":"2026-11-23T08:03:00Z","lifts":{"type":"narrow","id":"n1"}}`,
		`{"v":1,"id":"q2","type":"release","entities":["agent:a"],"time":"2026-11-23T08:04:00Z","expires":"2026-11-23T09:30:00Z"}`,
		`{"v":1,"id":"k1","type":"risk","entities":["agent:a"],"time":"2026-11-23T08:05:00.5Z","risk":40}`,
		`{"v":1,"id":"k2","type":"risk","entities":["agent:a"],"time":"2026-11-23T08:05:00Z","risk":90}`, // an older word that comes late
	} {
		w.push(soarToken, body)
	}
	history := func(query string) (got HistoryResponse, lines string) {
		w.get("/v1/history/agent:a"+query, kimToken).want(200).into(&got)
		var all []string
		for _, e := range got.Entries {
			all = append(all, strings.TrimSpace(e.Fact.ID+" "+e.Fact.Type+" "+e.State+" "+e.From))
		}
		return got, strings.Join(all, "; ")
	}
	got, lines := history("")
	want := "k1 risk in_force; q2 release in_force; l1 lift in_force; t1 taint ended; q1 quarantine waiting 2026-11-23T09:30:00Z"
	if lines != want || got.Status != "active" || got.Kept != 5 {
		t.Errorf("got  %s (%s, %d)\nwant %s", lines, got.Status, got.Kept, want)
	}
	if f := got.Entries[4].Fact; f.Actor != "kim@acme" || f.Ticket != "INC-7" || f.Source != "client:soar" {
		t.Errorf("by whom: %+v", f)
	}
	w.advance(time.Hour)
	got, lines = history("")
	want = "k1 risk in_force; q2 release ended; l1 lift in_force; t1 taint ended; q1 quarantine in_force"
	if lines != want || got.Status != "quarantined" {
		t.Errorf("an hour later %s (%s), want %s", lines, got.Status, want)
	}
	if got, lines := history("?limit=2"); lines != "k1 risk in_force; q2 release ended" || got.Kept != 5 {
		t.Errorf("bounded: %s of %d", lines, got.Kept)
	}
	w.get("/v1/history/agent:nobody", kimToken).wantProblem(404, CodeUnknownEntity)
	w.get("/v1/history/agent:a?limit=1001", kimToken).wantProblem(400, CodeBadParameter)
	w.get("/v1/history/robot:a", kimToken).wantProblem(400, CodeBadReference)
}
