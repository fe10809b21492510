package signals

import (
	"errors"
	"fmt"
	"testing"

	"vigil/authz"
	"vigil/posture"
)

// TestRehearsalSaysWhatThePushWouldDoAndDoesNothing: each batch is rehearsed, and then
// pushed; the push does what was said, and the rehearsal had done nothing.
func TestRehearsalSaysWhatThePushWouldDoAndDoesNothing(t *testing.T) {
	w := newWorld(t, worldOptions{})
	line := func(id, kind, ref, more string) string {
		return fmt.Sprintf(`{"v":1,"id":%q,"type":%q,"entities":[%q],"time":"2026-11-23T03:04:05Z"%s}`, id, kind, ref, more)
	}
	for i, c := range []struct {
		sender Sender
		body   string
		want   string
	}{
		{boss, line("r1", "register", "agent:a", `,"class":"x","code":"sha256:aa"`), "applied false"},
		{boss, line("q1", "quarantine", "agent:a", ""), "applied true"},
		{boss, line("q1", "quarantine", "agent:a", ""), "duplicate true"},
		{as("soar"), line("q2", "quarantine", "agent:a", ""), "applied true"},
		{boss, line("q3", "release", "agent:a", `,"source":"client:soar"`), "applied true"},
		{boss, line("k1", "risk", "agent:b", `,"risk":0`), "no_change false"},
		{boss, "[" + line("t1", "taint", "agent:a", "") + "," + line("l1", "lift", "agent:a", `,"lifts":{"type":"taint","id":"t1"}`) + "]", "applied true"},
		{boss, line("t1", "taint", "agent:a", ""), "lifted true"},
		{boss, line("e1", "quarantine", "everything", ""), "applied false"},
	} {
		before, asOf := w.store.Digest(start), w.store.AsOf()
		r, err := w.intake.Rehearse(c.sender, []byte(c.body), nil)
		if err != nil {
			t.Fatal(i, err)
		}
		if w.store.Digest(start) != before || w.store.AsOf() != asOf {
			t.Fatalf("%d: the rehearsal has done something", i)
		}
		pushed := w.push(t, c.sender, c.body)
		for j := range pushed.Results {
			would, did := &r.Results[j], &pushed.Results[j]
			e := would.Entities[0]
			if got := fmt.Sprint(e.Outcome, " ", e.Known); j == 0 && got != c.want || would.Outcome != did.Outcome || would.ID != did.ID ||
				would.Tenant != did.Tenant || e.Known != did.Entities[0].Known ||
				would.Entities[0].Record.At(start).Status != did.Entities[0].Record.At(start).Status {
				t.Errorf("%d: would be %s %+v, is %+v", i, got, would, did)
			}
		}
	}
}

// TestRehearsalKnowsTheSoftwareOfAnAgent, for a decision about the agent reads it.
func TestRehearsalKnowsTheSoftwareOfAnAgent(t *testing.T) {
	w := newWorld(t, worldOptions{})
	push := func(body string) { w.push(t, boss, body) }
	push(`{"v":1,"id":"r1","type":"register","entities":["agent:a"],"time":"2026-11-23T03:04:05Z","class":"x","code":"sha256:aa"}`)
	push(`{"v":1,"id":"q1","type":"quarantine","entities":["code:sha256:aa","code:sha256:bb"],"time":"2026-11-23T03:04:05Z"}`)
	r, err := w.intake.Rehearse(boss, []byte(`{"v":1,"id":"r2","type":"register","entities":["agent:a"],"time":"2026-11-23T03:04:06Z","class":"x","code":"sha256:bb"}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, store := range []*posture.Store{r.Before, r.After} {
		for _, code := range []string{"sha256:aa", "sha256:bb"} {
			if store.Get(authz.Ref{Kind: authz.KindCode, ID: code}.In("default")).At(start).Status != authz.Quarantined {
				t.Errorf("%s is not known to be held", code)
			}
		}
	}
}

func TestRehearsalIsRefusedAsThePushWouldBe(t *testing.T) {
	w := newWorld(t, worldOptions{})
	weak := as("weak")
	weak.Authority.Types = []string{"risk"}
	const body = `{"v":1,"id":"q1","type":"quarantine","entities":["agent:a"],"time":"2026-11-23T03:04:05Z"}`
	var refused *RefusedError
	if _, err := w.intake.Rehearse(weak, []byte(body), nil); !errors.As(err, &refused) {
		t.Errorf("error %v", err)
	}
	var bad *DecodeError
	if _, err := w.intake.Rehearse(weak, []byte(`{}`), nil); !errors.As(err, &bad) {
		t.Errorf("error %v", err)
	}
}
