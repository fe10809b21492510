package signals

import (
	"testing"
	"time"

	"vigil/authz"
)

// TestInForceIsSaidOnlyOfWhatPushingWouldNotChange: of every type, until something else was
// said, and never of what is only like it.
func TestInForceIsSaidOnlyOfWhatPushingWouldNotChange(t *testing.T) {
	for name, body := range map[string]string{
		"register":      signalJSON("register", `"class":"c"`, `"labels":{"role":"r"}`),
		"attest":        signalJSON("attest", `"result":"pass"`),
		"risk":          signalJSON("risk", `"risk":72`),
		"quarantine":    signalJSON("quarantine", about("agent:a", "agent:b"), `"expires":"2026-11-23T05:00:00Z"`),
		"release":       signalJSON("release"),
		"narrow":        signalJSON("narrow", `"scopes":["read"]`),
		"approval":      signalJSON("require_approval", `"actions":["pay"]`),
		"taint":         signalJSON("taint"),
		"revoke":        signalJSON("revoke", about("session:s")),
		"issued before": signalJSON("revoke", about("user:kim"), `"issued_before":"2026-11-23T03:00:00Z"`),
		"decommission":  signalJSON("decommission"),
	} {
		w := newWorld(t, worldOptions{})
		soc := as("soc")
		if w.intake.InForce(soc, []byte(body)) {
			t.Errorf("%s: before it was said", name)
		}
		w.push(t, soc, body)
		written := w.written()
		if !w.intake.InForce(soc, []byte(body)) {
			t.Errorf("%s: it is not in force", name)
		}
		if w.intake.InForce(as("other"), []byte(body)) {
			t.Errorf("%s: another source has not said it", name)
		}
		w.clock.advance(time.Hour)
		if !w.intake.InForce(soc, []byte(body)) {
			t.Errorf("%s: an hour later", name)
		}
		if w.written() != written {
			t.Errorf("%s: it was written to find that", name)
		}
		w.store.Hear("client:soc", w.clock.Now(), w.clock.Now()) // as of any push
		before := w.store.Digest(w.clock.Now())
		w.push(t, soc, body)
		if w.store.Digest(w.clock.Now()) != before {
			t.Errorf("%s: in force, and pushing it changed something", name)
		}
	}
	w := newWorld(t, worldOptions{})
	soc := as("soc")
	one := signalJSON("quarantine", about("agent:a"))
	w.push(t, soc, one)
	for name, body := range map[string]string{
		"more entities": signalJSON("quarantine", about("agent:a", "agent:b")),
		"another end":   signalJSON("quarantine", about("agent:a"), `"expires":"2026-11-23T05:00:00Z"`),
		"another time":  signalJSON("quarantine", about("agent:a"), when(start+1)),
		"another type":  signalJSON("taint", about("agent:a")),
		"another id":    signalJSON("quarantine", about("agent:a"), id("2")),
		"one is new":    "[" + one + "," + signalJSON("taint", id("2")) + "]",
		"no signal":     "{}",
	} {
		if w.intake.InForce(soc, []byte(body)) {
			t.Errorf("%s is in force", name)
		}
	}
	w.push(t, soc, signalJSON("release", about("agent:a"), id("3"), when(start+2)))
	if w.intake.InForce(soc, []byte(one)) {
		t.Error("what was superseded is in force")
	}
}

// TestAHeartbeatIsInForceWhenItsSourceWasHeardAsLate: an issuer is heard as of what it says,
// everybody else as of now.
func TestAHeartbeatIsInForceWhenItsSourceWasHeardAsLate(t *testing.T) {
	w := newWorld(t, worldOptions{})
	idp := Sender{Source: Source{Kind: "issuer", Name: "idp"}, Authority: Authority{Tenants: []string{"default"}}}
	beat := func(source string, at authz.Instant) []byte {
		return []byte(signalJSON("heartbeat", about("source:"+source), when(at)))
	}
	w.clock.advance(time.Minute)
	if w.intake.InForce(idp, beat("issuer:idp", start)) {
		t.Error("before it was heard")
	}
	w.push(t, idp, string(beat("issuer:idp", start)))
	for at, in := range map[authz.Instant]bool{start - 1: true, start: true, start + 1: false} {
		if w.intake.InForce(idp, beat("issuer:idp", at)) != in {
			t.Errorf("heard at %v, and one of %v: want %v", start, at, in)
		}
	}
	soc := as("soc")
	w.push(t, soc, string(beat("client:soc", start)))
	w.clock.advance(time.Second)
	if w.intake.InForce(soc, beat("client:soc", start)) {
		t.Error("a client is heard as of now")
	}
}
