package decision

import (
	"bufio"
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"vigil/authz"
	"vigil/engine"
	"vigil/posture"
	"vigil/server/recent"
)

// declaredPaths are the paths of the port as the source has them: its constants path….
func declaredPaths(t *testing.T) map[string]bool {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	paths := map[string]bool{}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), e.Name(), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == len(spec.Names) {
				for i, name := range spec.Names {
					if value, ok := spec.Values[i].(*ast.BasicLit); ok && value.Kind == token.STRING && strings.HasPrefix(name.Name, "path") {
						path, err := strconv.Unquote(value.Value)
						if err != nil {
							t.Fatal(err)
						}
						paths[path] = true
					}
				}
			}
			return true
		})
	}
	return paths
}

// faultyRooms is every room behind the port; the one that is named panics.
type faultyRooms struct {
	*fakeEngine
	mapping Mapper
	mu      sync.Mutex
	name    string // guarded by mu
	met     int    // guarded by mu
}

func (f *faultyRooms) fail(name string) {
	f.mu.Lock()
	failing := f.name == name
	if failing {
		f.met++
	}
	f.mu.Unlock()
	if failing {
		panic("a defect of " + name)
	}
}

func (f *faultyRooms) set(name string) (met int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	met, f.name, f.met = f.met, name, 0
	return met
}

func (f *faultyRooms) Decide(c *authz.Caller, req *authz.Request, p *authz.Principal) authz.Answer {
	f.fail("engine")
	return f.fakeEngine.Decide(c, req, p)
}

func (f *faultyRooms) DecideBatch(c *authz.Caller, items []engine.Item, answers []authz.Answer, stop func(authz.Answer) bool) []authz.Answer {
	answers = f.fakeEngine.DecideBatch(c, items, answers, stop)
	f.fail("engine") // when all is decided
	return answers
}

func (f *faultyRooms) Principal(caller *authz.Caller, req *authz.Request, p *authz.Principal) {
	f.mapping.Principal(caller, req, p)
	f.fail("mapping")
}

func (f *faultyRooms) WaitFor(_ context.Context, position string) error {
	f.fail("at least")
	return (&waiter{}).WaitFor(context.Background(), position)
}

// TestAPanicBehindAnyPathIsNoAllowAndTheNextRequestWorks lets each room behind the port
// panic under each of its paths. The paths are taken from the source, so that a new one
// cannot be forgotten here.
func TestAPanicBehindAnyPathIsNoAllowAndTheNextRequestWorks(t *testing.T) {
	batch := `{"subject":{"type":"user","id":"kim"},"action":{"name":"pay"},"evaluations":[{"resource":{"type":"payment","id":"1"}},{"resource":{"type":"payment","id":"2"}}]}`
	deciding := []string{"engine", "mapping", "at least", "ready"}
	tests := map[string]struct {
		call  call
		rooms []string // that it needs
	}{
		pathEvaluation:  {call{body: goodBody, header: []string{"Vigil-At-Least: v1.here"}}, deciding},
		pathEvaluations: {call{body: batch, header: []string{"Vigil-At-Least: v1.here"}}, deciding},
		pathReady:       {call{method: "GET"}, []string{"ready", "strict"}},
		pathMetadata:    {call{method: "GET"}, nil}, // it needs nobody
	}
	for path := range declaredPaths(t) {
		if _, ok := tests[path]; !ok {
			t.Errorf("%s: no test lets what is behind it panic", path)
		}
	}
	if len(declaredPaths(t)) != len(tests) {
		t.Error("the paths were not found in the source")
	}

	rooms := &faultyRooms{}
	logs := &lockedLog{}
	p := newPort(t, func(c *Config) {
		rooms.fakeEngine, rooms.mapping = c.Engine.(*fakeEngine), c.Mapping
		c.Engine, c.Mapping, c.AtLeast = rooms, rooms, rooms
		ready := c.Ready
		c.Ready = func() error { rooms.fail("ready"); return ready() }
		c.Strict = func() error { rooms.fail("strict"); return nil }
		c.Logger = slog.New(slog.NewTextHandler(logs, nil))
	}).listen()
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	reader := bufio.NewReader(conn)
	for path, test := range tests {
		test.call.path = path
		if path == pathReady {
			test.call.path += "?strict"
		}
		for _, name := range []string{"engine", "mapping", "at least", "ready", "strict"} {
			before := p.Stats().Panics
			rooms.set(name)
			got := p.exchange(conn, reader, test.call)
			met := rooms.set("")
			needs := false
			for _, room := range test.rooms {
				needs = needs || room == name
			}
			if (met > 0) != needs {
				t.Errorf("%s: a defect of %s is met %d times; is it in the table?", path, name, met)
			}
			if met > 0 {
				if strings.Contains(got.body, `"decision":true`) || got.status != 200 && got.status < 500 || got.status == 200 && !strings.Contains(got.body, `"code":"could_not_evaluate"`) {
					t.Errorf("%s: a defect of %s is answered %d %s", path, name, got.status, got.body)
				}
				if strings.Contains(got.body, "a defect of") {
					t.Errorf("%s: the caller is told of the defect of %s: %s", path, name, got.body)
				}
				if p.Stats().Panics != before+1 {
					t.Errorf("%s: a defect of %s is not counted", path, name)
				}
				if all := logs.String(); !strings.Contains(all, "a defect of "+name) || !strings.Contains(all, "panic_test.go") {
					t.Errorf("%s: the log has no stack for a defect of %s", path, name)
				}
			}
			// The same connection goes on.
			if next := p.exchange(conn, reader, call{body: goodBody}); next.status != 200 || !strings.Contains(next.body, `"decision":true`) {
				t.Fatalf("%s, after a defect of %s: %d %s", path, name, next.status, next.body)
			}
			if got := p.exchange(conn, reader, test.call); got.status != 200 {
				t.Fatalf("%s, after a defect of %s: %d %s", path, name, got.status, got.body)
			}
		}
	}
	if stats := p.Stats(); stats.InFlight != 0 || stats.Waiting != 0 {
		t.Errorf("%d are still at work, %d still wait", stats.InFlight, stats.Waiting)
	}
}

// TestAPanicWhileRememberingADecisionLeavesNoLock: what is remembered is read from the
// records, in the middle of the ring's work.
func TestAPanicWhileRememberingADecisionLeavesNoLock(t *testing.T) {
	var faulty bool // the port and the test take turns
	var ring *recent.Ring
	p := newPort(t, func(c *Config) {
		ring = recent.NewRing(recent.RingConfig{Record: func(authz.Key) *posture.Record {
			if faulty {
				panic("a defect of the records")
			}
			return nil
		}})
		c.Recent = ring
	}).listen()
	for range 3 {
		faulty = true
		if got := p.call(call{body: actionBody("deny")}); got.status != 200 || !strings.Contains(got.body, `"decision":false`) {
			t.Errorf("%d %s", got.status, got.body)
		}
		faulty = false
		before := ring.Remembered()
		if got := p.call(call{body: strings.Replace(actionBody("deny"), "inv-1", "inv-"+strconv.Itoa(before+2), 1)}); got.status != 200 {
			t.Errorf("%d %s", got.status, got.body)
		}
		if ring.Remembered() <= before {
			t.Error("nothing is remembered any more")
		}
	}
	if n := p.Stats().Panics; n != 3 {
		t.Errorf("%d panics", n)
	}
	if len(ring.Query(recent.Query{Tenant: "default"})) == 0 {
		t.Error("the ring does not answer")
	}
}

type lockedLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
