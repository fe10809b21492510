package recent

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"vigil/authz"
)

func TestLogLineHasItsFieldsAndNoProperty(t *testing.T) {
	var out bytes.Buffer
	l := NewLog(slog.New(slog.NewJSONHandler(&out, nil)), Denied, 0)
	e := denied("invoice-agent", "pay", "inv-1\nforged", authz.InstantOf(time.Date(2026, 11, 23, 3, 5, 0, 0, time.UTC)))
	e.Took = 123456 * time.Nanosecond
	l.Add(e)
	allow := denied("bot", "pay", "x", 1)
	allow.Answer.Decision = &authz.Decision{Effect: authz.Allow}
	l.Add(allow)
	l.Close()
	if strings.Count(out.String(), "\n") != 1 || strings.Contains(out.String(), "SECRET") {
		t.Fatal(out.String())
	}
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"time": "2026-11-23T03:05:00Z", "level": "INFO", "msg": "decision", "request_id": "r-inv-1\nforged",
		"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "client": "envoy", "agent": "invoice-agent", "user": "kim",
		"action": "pay", "resource": "payment:inv-1\nforged", "effect": "deny", "class": "gate", "code": "quarantined",
		"bundle": "sha256:9f2c", "as_of": "v1.kQ3x", "duration_us": 123.0,
	} {
		if got[name] != want {
			t.Errorf("%s: %v, want %v", name, got[name], want)
		}
		delete(got, name)
	}
	if rules, _ := got["rules"].([]any); len(rules) != 1 || rules[0] != "pay-small" || len(got) != 1 {
		t.Errorf("also: %v", got)
	}
}

func TestALineNamesTheExceptionsThatADecisionRestsOn(t *testing.T) {
	var out bytes.Buffer
	l := NewLog(slog.New(slog.NewJSONHandler(&out, nil)), All, 0)
	e := denied("bot", "pay", "x", 1)
	e.Answer.Decision = &authz.Decision{Effect: authz.Allow, Waived: []string{"client:soc/INC-7"}}
	l.Add(e)
	l.Close()
	if !strings.Contains(out.String(), `"waived":["client:soc/INC-7"]`) {
		t.Error(out.String())
	}
}

func TestModes(t *testing.T) {
	for mode, want := range map[string]int{"off": 0, "denied": 1, "all": 2} {
		m, err := ParseMode(mode)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		l := NewLog(slog.New(slog.NewTextHandler(&out, nil)), m, 0)
		allow := denied("bot", "pay", "x", 1)
		allow.Answer.Decision = &authz.Decision{Effect: authz.Allow}
		l.Add(allow)
		l.Add(denied("bot", "pay", "y", 1))
		l.Close()
		l.Add(denied("bot", "pay", "z", 1)) // after the end: nothing happens
		l.Close()
		if got := strings.Count(out.String(), "\n"); got != want {
			t.Errorf("%s: %d lines, want %d", mode, got, want)
		}
	}
	if _, err := ParseMode("sometimes"); err == nil {
		t.Error("unknown mode accepted")
	}
}

// gate is a handler that writes only when it is let.
type gate struct {
	slog.Handler
	entered chan struct{}
	open    chan struct{}
}

func (g *gate) Handle(ctx context.Context, r slog.Record) error {
	g.entered <- struct{}{}
	<-g.open
	return g.Handler.Handle(ctx, r)
}

func TestAWriterThatHangsStallsNobody(t *testing.T) {
	var out bytes.Buffer
	g := &gate{Handler: slog.NewTextHandler(&out, nil), entered: make(chan struct{}, 100), open: make(chan struct{})}
	l := NewLog(slog.New(g), All, 4)
	l.Add(denied("bot", "pay", "0", 1))
	<-g.entered // the writer holds the first line
	for range 10 {
		l.Add(denied("bot", "pay", "n", 1)) // four wait, six are dropped
	}
	if l.Dropped() != 6 {
		t.Fatalf("%d dropped, want 6", l.Dropped())
	}
	close(g.open)
	l.Close()
	if got := strings.Count(out.String(), "\n"); got != 5 {
		t.Fatalf("%d lines, want 5", got)
	}
}

func TestLongNamesAreCut(t *testing.T) {
	var out bytes.Buffer
	l := NewLog(slog.New(slog.NewJSONHandler(&out, nil)), All, 0)
	l.Add(denied(strings.Repeat("a", 10_000), strings.Repeat("b", 10_000), strings.Repeat("é", 10_000), 1))
	l.Close()
	if out.Len() > 2500 {
		t.Fatalf("a line of %d bytes", out.Len())
	}
}
