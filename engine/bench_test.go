package engine

import (
	"fmt"
	"testing"
	"time"

	"vigil/authz"
	"vigil/posture"
)

// payments are requests of so many agents on behalf of users, in sessions, by tokens.
func payments(agents int) []Item {
	items := make([]Item, agents)
	for i := range items {
		q := paying()
		q.principal.Agent, q.principal.Session = fmt.Sprint("agent-", i), fmt.Sprint("session-", i)
		q.principal.Actors, q.principal.Grants, q.principal.Expires = nil, nil, 0
		items[i] = Item{Request: q.request, Principal: q.principal}
	}
	return items
}

// BenchmarkDecide decides parsed requests. "cached" is to be seen beside "fresh", and that
// beside "needing", of a profile that needs a source.
func BenchmarkDecide(b *testing.B) {
	for _, mode := range []struct {
		name  string
		cache CacheMode
		under string
	}{{"cached", CacheOn, manifest}, {"fresh", CacheOff, manifest}, {"needing", CacheOff, monitored}} {
		for _, agents := range []int{16, 10_000} {
			b.Run(fmt.Sprintf("%s/agents=%d", mode.name, agents), func(b *testing.B) {
				began := time.Now()
				e := newEngine(b, Config{Cache: mode.cache, Now: func() authz.Instant {
					return start + authz.Instant(time.Since(began))
				}})
				_, set := loadUnder(b, mode.under, ruleSets[0])
				store := posture.NewStore()
				store.Hear("client:soar", start.Add(time.Hour))
				e.Use(set, store)
				items := payments(agents)
				for i := range items {
					store.Apply(start, change(agentKey(items[i].Principal.Agent), register(start, "default")))
				}
				caller := &authz.Caller{Tenants: []string{authz.DefaultTenant}}
				for range 3 {
					for i := range items {
						if a := e.Decide(caller, items[i].Request, items[i].Principal); a.Effect != authz.Allow {
							b.Fatal(a.Code, a.ReasonAdmin)
						}
					}
					e.settle()
				}
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					e.Decide(caller, items[i].Request, items[i].Principal)
					if i++; i == len(items) {
						i = 0
					}
				}
			})
		}
	}
}
