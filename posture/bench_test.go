package posture

import (
	"bytes"
	"fmt"
	"testing"

	"vigil/authz"
)

// fleetOf registers n agents.
func fleetOf(n int) *Store {
	s := NewStore()
	for i := range n {
		key, facts := fleet(i)
		s.Apply(1, []Change{{key, facts}})
	}
	return s
}

func BenchmarkApply(b *testing.B) {
	const agents = 10_000
	run := func(name string, signal func(i int) []Change) {
		b.Run(name, func(b *testing.B) {
			s := fleetOf(agents)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				s.Apply(authz.Instant(i), signal(i))
			}
		})
	}
	keys := make([]authz.Key, agents)
	for i := range keys {
		keys[i], _ = fleet(i)
	}
	hold := func(i int) []Fact {
		return []Fact{{Facet: Hold, Source: "client:soar", ID: "INC-4711-1", Time: authz.Instant(i), Held: i/agents%2 == 0, Reason: "beaconing"}}
	}
	run("risk", func(i int) []Change {
		return []Change{{keys[i%agents], []Fact{{Facet: Risk, Source: "client:ueba", ID: "r", Time: authz.Instant(i), Until: authz.Instant(i + 1000), Risk: i % 100}}}}
	})
	run("hold", func(i int) []Change { return []Change{{keys[i%agents], hold(i)}} })
	run("hold of two", func(i int) []Change {
		return []Change{{keys[i%agents], hold(i)}, {keys[(i+1)%agents], hold(i)}}
	})
	run("birth", func(i int) []Change {
		return []Change{{agent(fmt.Sprint("session-", i)), []Fact{{Facet: Revoke, Source: "client:soar", ID: "x", Time: 1}}}}
	})
}

// BenchmarkView reads what a request touches: most of it unknown.
func BenchmarkView(b *testing.B) {
	for _, agents := range []int{10_000, 1_000_000} {
		b.Run(fmt.Sprint(agents), func(b *testing.B) {
			s := fleetOf(agents)
			keys := make([]authz.Key, 1<<14)
			for i := range keys {
				keys[i], _ = fleet(i * 7919 % agents)
			}
			more := []authz.Key{
				{Tenant: "default", Kind: authz.KindUser, ID: "kim"},
				{Tenant: "default", Kind: authz.KindSession, ID: "s-1"},
				{Tenant: "default", Kind: authz.KindTool, ID: "payments"},
				{Tenant: "default", Kind: authz.KindTenant, ID: "default"},
				{Kind: authz.KindEverything},
			}
			var v View
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				v.Reset(s)
				v.Read(keys[i%len(keys)]).At(5)
				for _, key := range more {
					v.Read(key).At(5)
				}
				if !v.Confirm() {
					b.Fatal()
				}
			}
		})
	}
}

func BenchmarkStampCurrent(b *testing.B) {
	s := fleetOf(1000)
	key, _ := fleet(17)
	stamp := stampOf(viewOf(s, key, agent("a"), agent("b"), agent("c"), agent("d")))
	b.ReportAllocs()
	for range b.N {
		if !stamp.Current() {
			b.Fatal()
		}
	}
}

// BenchmarkReadSnapshot compares the start with filling a Go map with as many entries.
func BenchmarkReadSnapshot(b *testing.B) {
	const agents = 1_000_000
	s := fleetOf(agents)
	var snapshot bytes.Buffer
	if err := s.WriteSnapshot(&snapshot, 1); err != nil {
		b.Fatal(err)
	}
	ids := make([]string, agents)
	for i := range ids {
		key, _ := fleet(i)
		ids[i] = key.ID
	}
	b.Run("read", func(b *testing.B) {
		b.SetBytes(int64(snapshot.Len()))
		b.ReportAllocs()
		for range b.N {
			if _, err := ReadSnapshot(bytes.NewReader(snapshot.Bytes()), 1); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("map", func(b *testing.B) {
		for range b.N {
			m := map[string]*Record{}
			for _, id := range ids {
				m[id] = absent
			}
		}
	})
	b.Run("write", func(b *testing.B) {
		b.SetBytes(int64(snapshot.Len()))
		for range b.N {
			var out bytes.Buffer
			out.Grow(snapshot.Len() + 1<<20)
			if err := s.WriteSnapshot(&out, 1); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("digest", func(b *testing.B) {
		for range b.N {
			s.Digest(1)
		}
	})
	b.Run("prune", func(b *testing.B) {
		for range b.N {
			s.Prune(1)
		}
	})
}
