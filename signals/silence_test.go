package signals

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"vigil/authz"
	"vigil/posture"
)

func heartbeatJSON(source string, more ...string) string {
	return signalJSON("heartbeat", append([]string{about("source:" + source)}, more...)...)
}

func waiveJSON(source, name string, more ...string) string {
	return signalJSON("waive", append([]string{about("source:" + source), id(name), `"expires":"2026-11-23T05:04:05Z"`, `"reason":"r"`}, more...)...)
}

// TestWhateverIsAppliedIsHeard: every record that is accepted shows that its source is
// alive, as of when the log took it; what is refused or dead shows nothing.
func TestWhateverIsAppliedIsHeard(t *testing.T) {
	w := newWorld(t, worldOptions{})
	if at := w.store.Heard("client:soar"); at != 0 {
		t.Fatal("heard before it spoke, at", at)
	}
	w.push(t, as("soar"), signalJSON("quarantine"))
	if at := w.store.Heard("client:soar"); at != start {
		t.Error("a signal is heard at", at)
	}
	w.clock.advance(time.Second)
	w.push(t, as("soar"), signalJSON("quarantine"))
	if at := w.store.Heard("client:soar"); at != start.Add(time.Second) {
		t.Error("a duplicate is heard at", at)
	}
	for _, c := range []struct {
		name   string
		record []byte
		heard  bool
	}{
		{"a type to come", record(signalJSON("suspend", id("n1"))), true},
		{"a heartbeat", record(heartbeatJSON("client:boss", id("n2"))), true},
		{"garbage", []byte("garbage"), false},
		{"no envelope", record(`{}`), false},
		{"a type to come that may hold nothing", record(signalJSON("suspend", id("n3")), func(r *Record) { r.Verdict = Verdict{} }), false},
		{"a date that is refused", record(signalJSON("release", id("n4"), when(start.Add(time.Hour)))), false},
		{"another tenant's", record(signalJSON("taint", id("n5"), `"tenant":"acme"`)), false},
	} {
		w.clock.advance(time.Second)
		before := w.store.Heard("client:boss")
		w.append(t, c.record)
		want := before
		if c.heard {
			want = w.clock.Now()
		}
		if at := w.store.Heard("client:boss"); at != want {
			t.Errorf("%s: heard at %v, want %v", c.name, at, want)
		}
	}
}

// TestWhatIsSpooledIsHeardWhenTheLogHasIt: replicas hear by the log's time alone.
func TestWhatIsSpooledIsHeardWhenTheLogHasIt(t *testing.T) {
	w := newWorld(t, worldOptions{})
	entry := Entry{Appended: start, Record: record(signalJSON("quarantine"))}
	if err := w.applier.deliverSpooled([]Entry{entry}, func([]Entry) {}); err != nil {
		t.Fatal(err)
	}
	if at := w.store.Heard("client:boss"); at != 0 || w.of("agent:a").Status != authz.Quarantined {
		t.Error(at, w.of("agent:a").Status)
	}
	w.clock.advance(time.Minute)
	w.append(t, entry.Record)
	if at := w.store.Heard("client:boss"); at != start.Add(time.Minute) {
		t.Error(at)
	}
}

func TestAHeartbeatIsOneOfItsSender(t *testing.T) {
	w := newWorld(t, worldOptions{})
	mute := Sender{Source: Source{Kind: "client", Name: "mute"}, Authority: Authority{Tenants: []string{"default"}}}
	receipt := w.push(t, mute, heartbeatJSON("client:mute"))
	if r := receipt.Results[0]; r.Outcome != posture.Applied || len(r.Entities) != 1 || !r.Entities[0].Known ||
		r.Entities[0].Key.Ref().String() != "source:client:mute" {
		t.Errorf("%+v", r)
	}
	if w.store.Heard("client:mute") != start || w.store.Len() != [authz.NumKinds]int{} {
		t.Error("it left more behind than that it was heard:", w.store.Len())
	}
	var refused *RefusedError
	for _, sender := range []Sender{mute, boss} {
		if err := w.refused(t, sender, heartbeatJSON("client:other")); !errors.As(err, &refused) || refused.Pointer != "/entities/0" {
			t.Error(sender.Source, err)
		}
	}
	if w.store.Heard("client:other") != 0 {
		t.Error("somebody was heard who did not speak")
	}
	// Its id is one like others.
	soar := as("soar")
	soar.Authority.Kinds = []string{"source"}
	w.push(t, soar, waiveJSON("client:soar", "w"))
	w.intake.recent = newRecentIDs() // as after a restart
	if err := w.refused(t, soar, heartbeatJSON("client:soar", id("w"))); !errors.Is(err, ErrConflict) {
		t.Error(err)
	}
}

// TestWhoMaySpeakOfAnythingMayNotWaive: sources must be named, so that no authority that
// was given before there were any covers them.
func TestWhoMaySpeakOfAnythingMayNotWaive(t *testing.T) {
	w := newWorld(t, worldOptions{})
	sender := as("soar")
	var refused *RefusedError
	for _, body := range []string{waiveJSON("client:siem", "w"), signalJSON("lift", about("source:client:siem"), `"lifts":{"type":"waive","id":"w"}`)} {
		if err := w.refused(t, sender, body); !errors.As(err, &refused) || !strings.Contains(err.Error(), "may not speak about a source") {
			t.Error(err)
		}
	}
	sender.Authority.Kinds = append(sender.Authority.Kinds, "source")
	w.push(t, sender, waiveJSON("client:siem", "w"))
	e := w.of("source:client:siem")
	if by := e.WaivedBy(); !e.Waived || len(by) != 1 || by[0].ID != "w" || by[0].Source != "client:soar" || e.Until != at("2026-11-23T05:04:05Z") {
		t.Errorf("%+v", by)
	}
	w.push(t, sender, signalJSON("lift", id("l"), about("source:client:siem"), `"lifts":{"type":"waive","id":"w"}`))
	if w.of("source:client:siem").Waived {
		t.Error("a lift ends no waiver")
	}
	if got := w.push(t, sender, waiveJSON("client:siem", "w")).Results[0].Outcome; got != posture.Lifted || w.of("source:client:siem").Waived {
		t.Error("the waiver came back:", got)
	}
}

func TestAWaiverIsNotDatedAhead(t *testing.T) {
	w := newWorld(t, worldOptions{})
	sender := as("soar")
	sender.Authority.Kinds = []string{"source"}
	if err := w.refused(t, sender, waiveJSON("client:siem", "w", when(start.Add(time.Minute)))); !strings.Contains(err.Error(), "ahead") {
		t.Error(err)
	}
	w.append(t, record(waiveJSON("client:siem", "w", when(start.Add(time.Minute)))))
	if w.of("source:client:siem").Waived {
		t.Error("a waiver that the log has from another replica counts, though it is dated ahead")
	}
}

// TestNothingOfSilenceIsSpooled: a waiver permits, and so does being heard.
func TestNothingOfSilenceIsSpooled(t *testing.T) {
	w := newWorld(t, worldOptions{idle: true})
	for _, body := range []string{waiveJSON("client:siem", "w"), heartbeatJSON("client:boss")} {
		s, err := DecodeOne([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if why := w.intake.notSpoolable(&Record{Source: boss.Source}, &s, start.Add(time.Hour)); why == "" {
			t.Error(s.Type, "would be spooled")
		}
	}
}

// TestASourceIsNeverHeld: no signal withdraws anything of a source, so one that cannot be
// read need not be feared to.
func TestASourceIsNeverHeld(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.append(t, record(signalJSON("suspend", about("source:client:siem", "agent:a")), func(r *Record) {
		r.Verdict = (&Sender{Source: boss.Source, Authority: Authority{Types: []string{"*"}, Kinds: []string{"*", "source"}}}).
			verdict(&Signal{Entities: []authz.Ref{{Kind: authz.KindSource, ID: "client:siem"}, {Kind: authz.KindAgent, ID: "a"}}}, withoutClass)
	}))
	if w.of("agent:a").Status != authz.Unreadable || w.of("source:client:siem").Status != authz.Active {
		t.Error(w.of("agent:a").Status, w.of("source:client:siem").Status)
	}
}

// TestAnInputIsHeardUnderItsGrantAlone: nobody else can say that the topic is alive.
func TestAnInputIsHeardUnderItsGrantAlone(t *testing.T) {
	w := newWorld(t, worldOptions{idle: true})
	grants := []Grant{{From: start, Until: start.Add(time.Hour), Authority: Authority{Types: []string{"risk"}, Kinds: []string{"agent"}, Tenants: []string{"default"}}}}
	input := &Input{Source: Source{Kind: "topic", Name: "edr"}, Grants: grants}
	for i, c := range []struct {
		after time.Duration
		body  string
		heard bool
	}{
		{time.Minute, heartbeatJSON("topic:edr"), true},
		{2 * time.Minute, heartbeatJSON("topic:other"), false},
		{3 * time.Minute, signalJSON("quarantine"), false},
		{4 * time.Minute, signalJSON("risk", `"risk":5`), true},
		{2 * time.Hour, heartbeatJSON("topic:edr"), false},
	} {
		before := w.store.Heard("topic:edr")
		e := Entry{Position: Position{Offset: int64(i)}, Appended: start.Add(c.after), Record: []byte(c.body), Input: input}
		w.clock.advance(time.Duration(e.Appended - w.clock.Now()))
		if _, err := w.applier.apply(&e); err != nil {
			t.Fatal(err)
		}
		want := before
		if c.heard {
			want = e.Appended
		}
		if got := w.store.Heard("topic:edr"); got != want {
			t.Errorf("%d: heard at %v, want %v", i, got, want)
		}
	}
}

func TestARehearsalHearsItsSender(t *testing.T) {
	w := newWorld(t, worldOptions{})
	r, err := w.intake.Rehearse(as("soar"), []byte(heartbeatJSON("client:soar")), nil)
	if err != nil || r.Results[0].Outcome != posture.Applied {
		t.Fatal(fmt.Sprintf("%+v", r.Results), err)
	}
	if r.Before.Heard("client:soar") != 0 || r.After.Heard("client:soar") != start || w.store.Heard("client:soar") != 0 {
		t.Error(r.Before.Heard("client:soar"), r.After.Heard("client:soar"), w.store.Heard("client:soar"))
	}
}

// TestAnIssuerIsNotHeardFromTheFuture: what it signed for a time to come could be caught, and
// sent again until then, while it is dead.
func TestAnIssuerIsNotHeardFromTheFuture(t *testing.T) {
	for ahead, heard := range map[time.Duration]authz.Instant{
		-time.Hour: start.Add(-time.Hour), 0: start, 5 * time.Second: start, MaxIssuerSkew: start, MaxIssuerSkew + 1: 0, 24 * time.Hour: 0,
	} {
		for _, body := range []string{heartbeatJSON("issuer:idp", when(start.Add(ahead))), signalJSON("quarantine", when(start.Add(ahead)))} {
			w := newWorld(t, worldOptions{})
			w.append(t, record(body, func(r *Record) { r.Source = Source{Kind: "issuer", Name: "idp"} }))
			if got := w.store.Heard("issuer:idp"); got != heard {
				t.Errorf("%v ahead: heard at %q, want %q: %s", ahead, got, heard, body)
			}
		}
	}
}
