package main

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"vigil/server/control"
	"vigil/signals"
)

// TestACommandSaysNothingWasDoneOnlyWhereThatIsKnown: who believes it does not send again.
func TestACommandSaysNothingWasDoneOnlyWhereThatIsKnown(t *testing.T) {
	for _, c := range []struct {
		status  int
		body    string
		method  string
		unknown bool
	}{
		{500, `{"code":"internal_error"}`, "POST", true},
		{500, `{"code":"internal_error"}`, "GET", false},
		{504, `{"code":"unknown_outcome"}`, "POST", true},
		{503, `{"code":"unavailable"}`, "POST", false},
		{429, `{"code":"busy"}`, "POST", false},
		{502, `<html>`, "POST", true},
		{502, `<html>`, "GET", false},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			_, _ = w.Write([]byte(c.body))
		}))
		a := &app{stderr: &bytes.Buffer{}}
		cl, err := a.dial(&connection{Timeout: "10s"}, "--control-url", server.URL)
		must(t, err)
		got, err := cl.call(context.Background(), c.method, "/v1/signals", nil)
		must(t, err)
		var f *failure
		if err := cl.decode(got, nil); !errors.As(err, &f) || f.code != exitUnreachable || f.unknown != c.unknown {
			t.Errorf("%s %d %s: %+v", c.method, c.status, c.body, f)
		} else if resent := strings.Contains(hintOf(resendable(err, "--id S-1", true)), "--id S-1"); resent != c.unknown || c.unknown && strings.Contains(f.hint, "Nothing") {
			t.Errorf("%s %d %s: %s", c.method, c.status, c.body, f.hint)
		}
		server.Close()
	}
}

func TestExitCodeSaysWhetherASignalDidWhatItWasFor(t *testing.T) {
	held := []control.Hold{{Type: "quarantine", Source: "client:me"}}
	for _, c := range []struct {
		name   string
		kind   signals.Type
		result control.SignalResult
		code   int // of the exit
		says   string
	}{
		{"applied", signals.TypeQuarantine, entityResult("applied", held), 0, ""},
		{"quarantined again", signals.TypeQuarantine, entityResult("no_change", held), 0, ""},
		{"registered again", signals.TypeRegister, entityResult("no_change", nil), 0, ""},
		{"sent again", signals.TypeRelease, entityResult("duplicate", nil), 0, ""},
		{"not held", signals.TypeRelease, entityResult("no_change", nil), exitNoEffect, "nothing held it"},
		{"below another's risk", signals.TypeRisk, entityResult("no_change", nil), exitNoEffect, "its risk is as it was"},
		{"nothing to lift", signals.TypeLift, entityResult("no_change", nil), exitNoEffect, "nothing was in force"},
		{"still held", signals.TypeRelease, entityResult("applied", held), exitNoEffect, "still held"},
		{"behind a newer one", signals.TypeQuarantine, entityResult("superseded", held), exitNoEffect, "a newer or stronger signal"},
		{"lifted before", signals.TypeTaint, entityResult("lifted", nil), exitNoEffect, "was lifted before it came"},
		{"a stranger", signals.TypeQuarantine, strangerResult, exitNoEffect, "nothing is known of agent:b; did you mean agent:c?"},
		{"a stranger registers", signals.TypeRegister, strangerResult, 0, ""},
		{"no entities", signals.TypeQuarantine, control.SignalResult{ID: "S", Outcome: "no_change", Detail: "it names none"}, exitNoEffect, "it names none"},
	} {
		var said bytes.Buffer
		a := &app{stderr: &said}
		err := a.judgeResults(&signalFlags{}, []draft{{kind: c.kind}}, &control.SignalsResponse{Results: []control.SignalResult{c.result}})
		if code := a.report(err); code != c.code || !strings.Contains(said.String(), c.says) || (c.says == "") != (said.Len() == 0) {
			t.Errorf("%s: exit %d, want %d; %s", c.name, code, c.code, &said)
		}
	}
}

// strangerResult is of a signal that is in force and names somebody who was never seen.
var strangerResult = control.SignalResult{ID: "S", Outcome: "applied", Entities: []control.SignalEntity{{Ref: "agent:b", Outcome: "applied", Nearest: []string{"agent:c"}}}}

func TestAllowUnknownIsForStrangers(t *testing.T) {
	a := &app{stderr: &bytes.Buffer{}}
	if err := a.judgeResults(&signalFlags{AllowUnknown: true}, []draft{{kind: signals.TypeQuarantine}}, &control.SignalsResponse{Results: []control.SignalResult{strangerResult}}); err != nil {
		t.Error(err)
	}
	if err := a.judgeResults(&signalFlags{AllowUnknown: true}, []draft{{kind: signals.TypeRelease}}, &control.SignalsResponse{Results: []control.SignalResult{entityResult("no_change", nil)}}); err == nil {
		t.Error("it also excuses a release of what nothing held")
	}
}

func entityResult(outcome string, holds []control.Hold) control.SignalResult {
	return control.SignalResult{ID: "S", Outcome: outcome, Entities: []control.SignalEntity{{Ref: "agent:b", Outcome: outcome, Known: true, Holds: holds}}}
}

// hintOf gives the hint of a failure, or "".
func hintOf(err error) string {
	var f *failure
	if errors.As(err, &f) {
		return f.hint
	}
	return ""
}
