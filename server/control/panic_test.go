package control

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"vigil/authz"
)

// every gives each route of the port, with a path that leads to it.
func every(s *Server) map[string]*route {
	all := map[string]*route{}
	for path, methods := range s.routes.fixed {
		for _, r := range methods {
			all[path+" "+r.method] = r
		}
	}
	for _, p := range s.routes.prefixes {
		rest := "agent:a"
		if p.prefix == "/debug/pprof/" {
			rest = "symbol"
		}
		for _, r := range p.methods {
			all[p.prefix+rest+" "+r.method] = r
		}
	}
	return all
}

// tokenFor is one that may call the route.
func tokenFor(r *route) string {
	if r.path == "/v1/signals" {
		return soarToken
	}
	return adminToken
}

// TestAPanicInAnyHandlerIsAnsweredAndTheNextRequestWorks goes through the table of routes,
// so that a new one is here by itself.
func TestAPanicInAnyHandlerIsAnsweredAndTheNextRequestWorks(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *Parts) { c.Pprof = true })
	w.snapshot = func(_ context.Context, out io.Writer) error { _, err := out.Write([]byte("snapshot")); return err }
	routes := every(w.server)
	if len(routes) != len(w.server.table()) {
		t.Fatalf("%d routes of %d", len(routes), len(w.server.table()))
	}
	panics := 0
	for where, r := range routes {
		path, method, _ := strings.Cut(where, " ")
		body := ""
		if r.body {
			body = "{}"
		}
		handle, mark := r.handle, "a fault of "+where
		r.handle = func(*call) error { panic(mark) }
		got := w.do(method, path, tokenFor(r), body)
		if r.commits {
			got.wantProblem(http.StatusGatewayTimeout, CodeUnknownOutcome)
		} else {
			got.wantProblem(http.StatusInternalServerError, CodeInternal)
		}
		if strings.Contains(got.body, mark) {
			t.Errorf("%s: the caller is told what panicked: %s", where, got.body)
		}
		if log := w.logged.String(); !strings.Contains(log, mark) || !strings.Contains(log, "panic_test.go") {
			t.Errorf("%s: the log has no stack", where)
		}
		panics++

		// An answer that was begun must not look whole.
		r.handle = func(c *call) error {
			c.w.WriteHeader(http.StatusOK)
			_, _ = c.w.Write([]byte("half an ans"))
			panic(mark)
		}
		func() {
			defer func() {
				if recover() != http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
					t.Errorf("%s: half an answer ends like a whole one", where)
				}
			}()
			w.do(method, path, tokenFor(r), body)
		}()
		panics++

		r.handle = handle
		if got := w.do(method, path, tokenFor(r), body); got.status >= 500 && got.status != http.StatusServiceUnavailable {
			t.Errorf("%s: afterwards: %d %s", where, got.status, got.body)
		}
	}
	if all := w.get("/metrics", adminToken).want(200).body; !strings.Contains(all, fmt.Sprintf("vigil_control_panics_total %d\n", panics)) {
		t.Errorf("%d panics are not counted", panics)
	}
}

// TestADefectOfAnyRoomIsSurvivedByEveryRoute lets every method of a room behind the port
// panic, one room after the other and then all, and asks for everything more often than any
// route has places. Afterwards everything works: no place, body or lock was left behind.
func TestADefectOfAnyRoomIsSurvivedByEveryRoute(t *testing.T) {
	var faulty bool
	w := newWorld(t, func(c *Config, p *Parts) {
		c.Pprof = true
		ready, decisions := c.Ready, c.Decisions
		c.Ready = func() Readiness {
			if faulty {
				panic("a defect of readiness")
			}
			return ready()
		}
		c.Decisions = func() DecisionCounts {
			if faulty {
				panic("a defect of the decision port")
			}
			return decisions()
		}
		p.Journal = func() JournalCounts { return JournalCounts{} }
	})
	w.snapshot = func(_ context.Context, out io.Writer) error { _, err := out.Write([]byte("snapshot")); return err }
	w.push(soarToken, signal("register", "agent:a", `,"class":"high-high"`))
	w.decide(&authz.Caller{Name: "gate", Tenants: []string{"default"}}, payRequest)
	good := *w.server.parts.Load()

	// A struct with an interface that is nil panics in each of its methods.
	rooms := map[string]func(*Parts){
		"intake":   func(p *Parts) { p.Intake = struct{ Intake }{} },
		"posture":  func(p *Parts) { p.Posture = struct{ Posture }{} },
		"digest":   func(p *Parts) { p.Posture = brokenDigest{p.Posture} },
		"engine":   func(p *Parts) { p.Engine = struct{ Engine }{} },
		"rules":    func(p *Parts) { p.Rules = struct{ Rules }{} },
		"recent":   func(p *Parts) { p.Recent = struct{ Recent }{} },
		"feed":     func(p *Parts) { p.Feed = struct{ Feed }{} },
		"snapshot": func(p *Parts) { p.Snapshot = func(context.Context, io.Writer) error { panic("a defect of snapshots") } },
		"journal":  func(p *Parts) { p.Journal = func() JournalCounts { panic("a defect of the journal") } },
		"the port": func(*Parts) { faulty = true },
	}
	rooms["all"] = func(p *Parts) {
		for name, breakIt := range rooms {
			if name != "all" {
				breakIt(p)
			}
		}
	}
	ask := func(where string, r *route) *reply {
		path, method, _ := strings.Cut(where, " ")
		body := ""
		switch path {
		case "/v1/signals", "/v1/dry-run":
			body = signal("risk", "agent:a", `,"risk":3`)
		case "/v1/explain":
			if body = payRequest; method == "GET" {
				path, body = path+"?id=1", ""
			}
		case "/v1/rules/reload":
			body = "{}"
		case "/v1/status":
			path += "?digest=1"
		}
		r2 := w.request(method, path, tokenFor(r), body)
		if r.furnished && !r.commits {
			r2.Header.Set("Vigil-At-Least", w.applier.Progress().AsOf)
		}
		defer func() {
			if v := recover(); v != nil && v != http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
				panic(v)
			}
		}()
		return w.send(r2)
	}
	routes := every(w.server)
	met := map[string]bool{} // rooms whose defect some route met
	for name, breakIt := range rooms {
		parts := good
		breakIt(&parts)
		w.server.Attach(parts)
		for where, r := range routes {
			for range 5 {
				if got := ask(where, r); got == nil || got.status >= 500 {
					met[name] = true
				}
			}
		}
		faulty = false
		w.server.Attach(good)
		for where, r := range routes {
			if got := ask(where, r); got == nil || got.status != http.StatusOK && got.status != http.StatusAccepted && !strings.Contains(got.body, CodeUnknownDecision) {
				t.Errorf("%s, after defects of %s: %+v", where, name, got)
			}
		}
	}
	if strings.Contains(w.logged.String(), "a defect of the journal") { // which only metrics ask; they leave it out
		met["journal"] = true
	}
	for name := range rooms {
		if !met[name] {
			t.Errorf("no route met the defect of %s", name)
		}
	}
	if n := w.server.bodies.used.Load(); n != 0 {
		t.Errorf("%d bytes of bodies are still counted", n)
	}
	for name, gate := range map[string]*turnstile{
		"pushes": w.server.pushes, "explain": w.server.explain, "bulky": w.server.bulky, "lists": w.server.lists,
		"reload": w.server.reload, "snapshots": w.server.snapshots, "profiles": w.server.profiles, "scrapes": w.server.scrapes,
	} {
		if n := len(gate.places); n != 0 {
			t.Errorf("%d places of %s were never left", n, name)
		}
	}
}

// brokenDigest is a posture of which only the digest has a defect.
type brokenDigest struct{ Posture }

func (brokenDigest) Digest(authz.Instant) [32]byte { panic("a defect of digests") }
