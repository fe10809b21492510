package posture

import (
	"fmt"
	"runtime"
	"testing"

	"vigil/authz"
)

// fleet is what a platform registers: few kinds of agents, each with its own id.
func fleet(i int) (authz.Key, []Fact) {
	return agent(fmt.Sprintf("agent-%07d", i)), []Fact{{
		Facet: Registration, Source: "client:orchestrator", ID: fmt.Sprintf("reg-%07d", i),
		Time: authz.Instant(1_790_000_000_000_000_000 + i), Registration: &Registered{
			Class:  []string{"low-low", "low-high", "high-low", "high-high"}[i%4],
			Labels: map[string]string{"role": "invoice-agent", "team": fmt.Sprint("team-", i%50)},
			Scopes: []string{"propose:payments", "view:invoices"},
			Code:   fmt.Sprintf("sha256:%064x", i%20),
			Model:  fmt.Sprintf("sha256:%064x", i%5),
		},
	}}
}

func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestHeapPerIdleAgent holds the memory bar: an idle registered agent, all in but for
// the fixed cost of a store, costs at most 400 bytes; one that is attested, has a risk
// or is revoked besides, not much more.
func TestHeapPerIdleAgent(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("makes a large heap, and race detection changes sizes")
	}
	more := func(i int, f Fact) Fact {
		f.Source, f.ID, f.Time = "client:soar", fmt.Sprintf("sig-%07d", i), authz.Instant(1_790_000_000_000_000_000+i)
		return f
	}
	for _, c := range []struct {
		name   string
		agents int
		facts  func(i int) []Fact
		most   uint64
	}{
		{"registered", 100_000, func(i int) []Fact { _, f := fleet(i); return f }, 270},
		{"registered, attested, with a risk", 30_000, func(i int) []Fact {
			_, f := fleet(i)
			return append(f, more(i, Fact{Facet: Attest, Passed: true}), more(i, Fact{Facet: Risk, Risk: i % 60}))
		}, 400},
		{"revoked", 30_000, func(i int) []Fact { return []Fact{more(i, Fact{Facet: Revoke, Reason: "token stolen"})} }, 300},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := NewStore()
			before := heapInUse()
			for i := range c.agents {
				key, _ := fleet(i)
				s.Apply(1, []Change{{Key: key, Facts: c.facts(i)}})
			}
			per := (heapInUse() - before) / uint64(c.agents)
			runtime.KeepAlive(s)
			t.Logf("%d bytes per agent", per)
			if per > c.most {
				t.Errorf("%d bytes per agent, more than %d", per, c.most)
			}
		})
	}
}
