package recent

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"

	"vigil/authz"
	"vigil/posture"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func denied(agent, action, id string, at authz.Instant) *Event {
	return &Event{
		Client: "envoy", Tenant: "default", RequestID: "r-" + id, TraceID: "4bf92f3577b34da6a3ce929d0e0e4736",
		Caller: &authz.Caller{Name: "envoy", Tenants: []string{"default"}},
		Request: &authz.Request{
			Subject:  authz.Party{Type: "user", ID: "kim"},
			Action:   authz.Action{Name: action},
			Resource: authz.Party{Type: "payment", ID: id, Properties: authz.Object{{Name: "iban", Value: authz.Value{Kind: authz.String, Str: "DE-SECRET"}}}},
		},
		Principal: &authz.Principal{Tenant: "default", Agent: agent, User: "kim", Session: "s-1"},
		Answer: authz.Answer{
			Decision: &authz.Decision{Effect: authz.Deny, Class: authz.ClassGate, Code: authz.EntityQuarantined, Bundle: "sha256:9f2c",
				Entity: authz.Ref{Kind: authz.KindAgent, ID: agent}, Rules: []string{"pay-small"}},
			AsOf: "v1.kQ3x", At: at,
		},
	}
}

func ids(entries []Entry) string {
	var all []string
	for _, e := range entries {
		all = append(all, fmt.Sprintf("%s*%d", e.Request.Resource.ID, e.Count))
	}
	return strings.Join(all, " ")
}

func TestRepeatsAreCountedAndComeFirst(t *testing.T) {
	r := NewRing(RingConfig{})
	for i, id := range []string{"a", "b", "c", "a", "a"} {
		r.Add(denied("bot", "pay", id, authz.Instant(100+i)))
	}
	other := denied("bot", "pay", "b", 110)
	other.Answer.Decision = &authz.Decision{Code: authz.NoAllowRule}
	r.Add(other)
	allow := denied("bot", "pay", "x", 111)
	allow.Answer.Decision = &authz.Decision{Effect: authz.Allow}
	r.Add(allow)
	got := r.Query(Query{Tenant: "default"})
	if ids(got) != "b*1 a*3 c*1 b*1" {
		t.Fatal(ids(got))
	}
	a := got[1]
	if a.First != 100 || a.Last != 104 || a.RequestID != "r-a" || a.Answer.At != 100 {
		t.Fatalf("%+v", a)
	}
	if got := ids(r.Query(Query{Tenant: "default", Since: 104})); got != "b*1 a*3" {
		t.Fatal("since:", got)
	}
	if got := ids(r.Query(Query{Tenant: "default", Before: a.Cursor})); got != "c*1 b*1" {
		t.Fatal("before:", got)
	}
	if got := ids(r.Query(Query{Tenant: "default", Limit: 1})); got != "b*1" {
		t.Fatal("limit:", got)
	}
	if got := r.Query(Query{Tenant: "default", Ref: authz.Ref{Kind: authz.KindAgent, ID: "nobody"}}); len(got) != 0 {
		t.Fatal("ref:", ids(got))
	}
	if got := ids(r.Query(Query{Tenant: "default", Ref: authz.Ref{Kind: authz.KindSession, ID: "s-1"}})); got != "b*1 a*3 c*1 b*1" {
		t.Fatal("ref:", got)
	}
}

func TestTenantsDoNotSeeOneAnother(t *testing.T) {
	var read []authz.Key
	r := NewRing(RingConfig{Record: func(k authz.Key) *posture.Record { read = append(read, k); return nil }, Tenants: 2})
	e := denied("bot", "pay", "a", 1)
	e.Tenant = "acme"
	e.Principal.Tenant = "globex" // a claim that did not match; its records are not for acme
	r.Add(e)
	entry := r.Query(Query{Tenant: "acme"})[0]
	for _, k := range read {
		if k.Tenant == "globex" {
			t.Errorf("read %v for tenant acme", k)
		}
	}
	if _, ok := r.Get("acme", entry.ID); !ok {
		t.Error("own entry not found")
	}
	if _, ok := r.Get("globex", entry.ID); ok || len(r.Query(Query{Tenant: "globex"})) != 0 {
		t.Error("seen by another tenant")
	}
	for _, tenant := range []string{"b", "c", "d"} {
		e := denied("bot", "pay", "a", 1)
		e.Tenant = tenant
		r.Add(e)
	}
	if r.Dropped() != 2 || r.Remembered() != 2 {
		t.Errorf("%d dropped, %d remembered", r.Dropped(), r.Remembered())
	}
}

// A flood of different denials costs the port no copy each, is counted, and does not last
// beyond its second. What repeats is counted all the same.
func TestAFloodIsCopiedUpToItsBound(t *testing.T) {
	r := NewRing(RingConfig{PerSecond: 10})
	second := authz.InstantOf(time.Date(2026, 11, 23, 3, 5, 0, 0, time.UTC))
	for i := range 100 {
		r.Add(denied("bot", "pay", fmt.Sprint(i), second+authz.Instant(i)))
		r.Add(denied("bot", "pay", "0", second+authz.Instant(i)))
	}
	if r.Remembered() != 10 || r.Dropped() != 90 {
		t.Errorf("%d remembered, %d dropped", r.Remembered(), r.Dropped())
	}
	r.Add(denied("bot", "pay", "later", second.Add(time.Second)))
	got := r.Query(Query{Tenant: "default"})
	if len(got) != 11 || got[0].Request.Resource.ID != "later" || got[1].Count != 101 {
		t.Errorf("%d entries: %s", len(got), ids(got))
	}
}

func TestBytesPerTenantHold(t *testing.T) {
	r := NewRing(RingConfig{BytesPerTenant: 64 << 10, PerSecond: 2000})
	for i := range 1000 {
		r.Add(denied("bot", "pay", fmt.Sprint(i), authz.Instant(i)))
	}
	entries := r.Query(Query{Tenant: "default", Limit: 1000})
	if len(entries) < 20 || len(entries) > 80 || entries[0].Request.Resource.ID != "999" {
		t.Fatalf("%d entries, newest %s", len(entries), ids(entries[:1]))
	}
	s := (*r.shelves.Load())["default"]
	if s.mu.bytes > 64<<10 || len(s.mu.byID) != len(s.mu.byKey) || len(s.mu.byID) != len(entries) {
		t.Fatalf("%d bytes, %d by id, %d by key, %d listed", s.mu.bytes, len(s.mu.byID), len(s.mu.byKey), len(entries))
	}
	// One large request does not push out the others.
	large := denied("bot", "pay", "large", 2000)
	large.Request.Context = authz.Object{{Name: "x", Value: authz.Value{Kind: authz.String, Str: strings.Repeat("x", 60<<10)}}}
	r.Add(large)
	after := r.Query(Query{Tenant: "default", Limit: 1000})
	if len(after) < len(entries)-1 || !after[0].Bare || after[0].Request.Resource.ID != "large" || after[0].Request.Context != nil {
		t.Fatalf("%d of %d are left; %+v", len(after), len(entries), after[0].Request)
	}
	counted := NewRing(RingConfig{PerTenant: 3})
	for i := range 10 {
		counted.Add(denied("bot", "pay", fmt.Sprint(i), authz.Instant(i)))
	}
	if got := ids(counted.Query(Query{Tenant: "default"})); got != "9*1 8*1 7*1" {
		t.Fatal(got)
	}
}

// Evidence keeps a whole rule set: what remembers it must not keep one for each reload.
func TestEvidenceOfOldRuleSetsIsLetGo(t *testing.T) {
	r := NewRing(RingConfig{})
	with := func(set int) *Event {
		e := denied("bot", "pay", fmt.Sprint(set), authz.Instant(set))
		e.Answer.Decision.Bundle, e.Answer.Decision.Evidence = fmt.Sprint("sha256:", set), new(int)
		return e
	}
	shared := with(0)
	r.InUse("sha256:0")
	r.Add(shared)
	for set := 1; set <= 6; set++ {
		r.InUse(fmt.Sprint("sha256:", set))
		r.Add(with(set))
	}
	late := with(1) // decided before the reload, remembered after it
	late.Request.Resource.ID = "late"
	r.Add(late)
	var kept []string
	entries := r.Query(Query{Tenant: "default"})
	for _, e := range entries {
		if e.Answer.Evidence != nil {
			kept = append(kept, e.Answer.Bundle)
		}
	}
	if got := strings.Join(kept, " "); len(entries) != 8 || got != "sha256:6 sha256:5 sha256:4 sha256:3" {
		t.Errorf("of %d entries, evidence of %s", len(entries), got)
	}
	if shared.Answer.Evidence == nil {
		t.Error("a shared decision was changed")
	}
}

// Requests alias a buffer that the server uses again at once.
func TestEntriesOutliveTheBodyTheyCameIn(t *testing.T) {
	body := []byte("bot|pay|inv-1|kim|s-1|DE-1|iban|payment|user|acme|envoy|r-1|v1.x")
	parts := strings.Split(unsafe.String(&body[0], len(body)), "|")
	e := denied(parts[0], parts[1], parts[2], 1)
	e.Principal.User, e.Principal.Session, e.Client, e.Tenant, e.RequestID = parts[3], parts[4], parts[10], parts[9], parts[11]
	e.Principal.Tenant, e.Answer.AsOf = parts[9], parts[12]
	e.Principal.Scopes = []string{parts[1]}
	e.Principal.Actors = []string{parts[0]}
	e.Principal.Grants = []authz.Delegation{{ID: parts[5], Scopes: []string{parts[1]}}}
	e.Request.Resource = authz.Party{Type: parts[7], ID: parts[2],
		Properties: authz.Object{{Name: parts[6], Value: authz.Value{Kind: authz.String, Str: parts[5]}}}}
	e.Request.Subject = authz.Party{Type: parts[8], ID: parts[3]}
	e.Answer.Decision = &authz.Decision{Code: authz.NoAllowRule}
	r := NewRing(RingConfig{})
	r.Add(e)
	for i := range body {
		body[i] = '#'
	}
	got := r.Query(Query{Tenant: "acme"})
	if len(got) != 1 {
		t.Fatal("not found under its tenant")
	}
	if all := fmt.Sprintf("%+v %+v %+v", got[0], *got[0].Request, *got[0].Principal); strings.Contains(all, "#") {
		t.Fatal(all)
	}
}

func TestAddNeverWaits(t *testing.T) {
	r := NewRing(RingConfig{})
	r.Add(denied("bot", "pay", "a", 1))
	s := (*r.shelves.Load())["default"]
	s.mu.Lock()
	r.Add(denied("bot", "pay", "a", 2)) // would hang here if it waited
	s.mu.Unlock()
	r.adding.Lock()
	e := denied("bot", "pay", "a", 1)
	e.Tenant = "new"
	r.Add(e)
	r.adding.Unlock()
	if r.Dropped() != 2 {
		t.Fatalf("%d dropped, want 2", r.Dropped())
	}
}

func TestRepeatsCostNoAllocation(t *testing.T) {
	r := NewRing(RingConfig{})
	e := denied("bot", "pay", "a", 1)
	r.Add(e)
	if n := testing.AllocsPerRun(1000, func() { r.Add(e) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func TestAddsAndQueriesTogether(t *testing.T) {
	r := NewRing(RingConfig{BytesPerTenant: 32 << 10})
	var all sync.WaitGroup
	const rounds, workers = 2000, 4
	for w := range workers {
		all.Go(func() {
			for i := range rounds {
				r.Add(denied("bot", "pay", fmt.Sprint((i*7+w)%50), authz.Instant(i)))
				if i%100 == 0 {
					for _, e := range r.Query(Query{Tenant: "default"}) {
						if _, ok := r.Get("default", e.ID); ok && e.Count == 0 {
							t.Error("an entry without a count")
						}
					}
				}
			}
		})
	}
	all.Wait()
	var counted uint64
	for _, e := range r.Query(Query{Tenant: "default", Limit: 1000}) {
		counted += e.Count
	}
	if counted+r.Dropped() > rounds*workers || counted == 0 {
		t.Fatalf("%d counted, %d dropped of %d", counted, r.Dropped(), rounds*workers)
	}
}
