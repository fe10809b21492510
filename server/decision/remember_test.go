package decision

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"vigil/authz"
	"vigil/server/recent"
)

func TestWhatIsNotAllowedIsRememberedAndLogged(t *testing.T) {
	var out bytes.Buffer
	ring := recent.NewRing(recent.RingConfig{})
	log := recent.NewLog(slog.New(slog.NewJSONHandler(&out, nil)), recent.Denied, 0)
	p := newPort(t, func(c *Config) { c.Recent, c.Log = ring, log }).listen()
	trace := "Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	p.call(call{body: goodBody, header: []string{trace}})
	p.call(call{body: actionBody("deny"), header: []string{trace, "X-Request-ID: one"}})
	p.call(call{body: actionBody("deny"), header: []string{"X-Request-ID: two"}})
	p.call(call{path: pathEvaluations, body: batchBody("", "pay", "deny", "-")})
	foreign := strings.Replace(actionBody("deny"), `"subject"`, `"context":{"tenant":"globex"},"subject"`, 1)
	p.call(call{body: strings.Replace(foreign, "inv-1", "inv-2", 1)})
	log.Close()

	got := ring.Query(recent.Query{Tenant: "default"})
	if len(got) != 3 || ring.Remembered() != 3 {
		t.Fatalf("%d entries: %+v", len(got), got)
	}
	first := got[2]
	if first.Count != 2 || first.RequestID != "two" || first.Client != "envoy" || first.Principal.Agent != "invoice-agent" ||
		first.TraceID != "4bf92f3577b34da6a3ce929d0e0e4736" || first.Answer.Code != authz.NoAllowRule || first.Request.Resource.ID != "inv-1" {
		t.Errorf("%+v", first)
	}
	if n := strings.Count(out.String(), "\n"); n != 4 {
		t.Errorf("%d lines: %s", n, &out)
	}
	if strings.Contains(out.String(), p.token) || !strings.Contains(out.String(), `"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","client":"envoy","agent":"invoice-agent","user":"kim","action":"deny","resource":"payment:inv-1"`) {
		t.Error(out.String())
	}
}

// request makes a context as the server would, without a connection.
func request(p *port, body string, header ...string) *fasthttp.RequestCtx {
	ctx := new(fasthttp.RequestCtx)
	ctx.Init(new(fasthttp.Request), nil, nil)
	ctx.Request.Header.SetMethod("POST")
	ctx.Request.SetRequestURI("http://127.0.0.1:7070" + pathEvaluation)
	ctx.Request.Header.SetContentType("application/json")
	ctx.Request.Header.Set("Authorization", "Bearer "+p.token)
	ctx.Request.Header.Set("Accept", "*/*")
	ctx.Request.Header.Set("Accept-Encoding", "identity")
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		ctx.Request.Header.Set(name, value)
	}
	ctx.Request.SetBodyString(body)
	return ctx
}

func TestTheHandlerAllocatesNothing(t *testing.T) {
	if underRace {
		t.Skip("sync.Pool forgets at random under the race detector")
	}
	ring := recent.NewRing(recent.RingConfig{})
	p := newPort(t, func(c *Config) { c.Recent = ring })
	for name, ctx := range map[string]*fasthttp.RequestCtx{
		"allow":           request(p, goodBody),
		"repeated denial": request(p, actionBody("deny")),
		"with a trace":    request(p, goodBody, "X-Request-ID: r-1", "Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
	} {
		p.handle(ctx)
		if ctx.Response.StatusCode() != 200 {
			t.Fatal(name, string(ctx.Response.Body()))
		}
		if n := testing.AllocsPerRun(500, func() {
			ctx.Response.Reset()
			p.handle(ctx)
		}); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	batch := request(p, batchBody("", "pay", "deny", "pay"))
	batch.Request.SetRequestURI("http://127.0.0.1:7070" + pathEvaluations)
	p.handle(batch)
	if n := testing.AllocsPerRun(500, func() {
		batch.Response.Reset()
		p.handle(batch)
	}); n > 0 || short(string(batch.Response.Body())) != "ADA" {
		t.Errorf("batch: %v allocations, %s", n, batch.Response.Body())
	}
}

func BenchmarkHandler(b *testing.B) {
	p := newPort(b, nil)
	ctx := request(p, goodBody)
	b.ReportAllocs()
	for b.Loop() {
		ctx.Response.Reset()
		p.handle(ctx)
	}
}
