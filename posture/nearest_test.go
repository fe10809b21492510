package posture

import (
	"fmt"
	"strings"
	"testing"

	"vigil/authz"
)

func TestNearest(t *testing.T) {
	s := newStore(4, &defaultCaps)
	for _, id := range []string{"invoice-agent", "invoice-agents", "invoice-bot", "payment-agent", "ünvoice-agent", "x", strings.Repeat("invoice-agent", 30)} {
		s.Apply(1, []Change{{agent(id), []Fact{risk(1, 1)}}})
	}
	s.Apply(1, []Change{
		{authz.Ref{Kind: authz.KindUser, ID: "invoice-agnet"}.In("default"), []Fact{risk(1, 1)}},
		{authz.Ref{Kind: authz.KindAgent, ID: "invoice-agnet"}.In("other"), []Fact{risk(1, 1)}},
	})
	for _, c := range []struct {
		id   string
		n    int
		want string
	}{
		{"invoice-agnet", 3, "[agent:invoice-agent agent:invoice-agents agent:ünvoice-agent]"},
		{"invoice-agnet", 1, "[agent:invoice-agent]"},
		{"invoice-agnet", 0, "[]"},
		{"invoice-agent", 1, "[agent:invoice-agents]"},
		{"y", 3, "[agent:x]"},
		{"something else", 3, "[]"},
		{"", 3, "[agent:x]"},
	} {
		if got := fmt.Sprint(s.Nearest(agent(c.id), c.n)); got != c.want {
			t.Errorf("%q, %d: %s; want %s", c.id, c.n, got, c.want)
		}
	}
	if got := s.Nearest(authz.Ref{Kind: authz.KindAgent, ID: "invoice-agent"}.In("nobody"), 3); len(got) != 0 {
		t.Error("another tenant's:", got)
	}
}

// TestEntitiesComeAndGo grows tables, empties them and shrinks them again.
func TestEntitiesComeAndGo(t *testing.T) {
	s := newStore(8, &defaultCaps)
	const n = 10_000
	key := func(i int) authz.Key { return agent(fmt.Sprint("agent-", i)) }
	for round := range 3 {
		at := authz.Instant(round*10 + 1)
		for i := range n {
			until := at + 5
			if i%10 == 0 {
				until = authz.Forever
			}
			s.Apply(at, []Change{{key(i), []Fact{{Facet: Taint, Source: "client:a", ID: fmt.Sprint(round), Time: at, Until: until}}}})
		}
		if got := s.Len()[authz.KindAgent]; got != n {
			t.Fatal(got)
		}
		facts, entities := s.Prune(at + 5)
		if facts != n*9/10 || entities != n*9/10 {
			t.Fatalf("round %d: pruned %d facts, %d entities", round, facts, entities)
		}
		walked := 0
		s.Walk(func(k authz.Key, r *Record) bool {
			walked++
			if s.Get(k) != r {
				t.Fatalf("%v is walked and not found", k)
			}
			return true
		})
		if walked != n/10 || s.Len()[authz.KindAgent] != n/10 {
			t.Fatal(walked, s.Len())
		}
		for i := range n {
			if (s.Get(key(i)) != nil) != (i%10 == 0) {
				t.Fatalf("round %d: entity %d", round, i)
			}
		}
	}
	slots := 0
	for i := range s.shards {
		slots += len(s.shards[i].table.Load().slots)
	}
	if slots > n {
		t.Errorf("%d slots for %d entities", slots, n/10)
	}
}
