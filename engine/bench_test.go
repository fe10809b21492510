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

// BenchmarkNew decides requests that nobody asked for lately, with a cache and without: what
// they differ by is what a cache costs that does not help.
func BenchmarkNew(b *testing.B) {
	const sessions = 1 << 17 // in a circle, and far more than a cache of so few entries remembers
	for _, mode := range []struct {
		name  string
		cache CacheMode
	}{{"off", CacheOff}, {"on", CacheOn}} {
		b.Run("cache="+mode.name, func(b *testing.B) {
			began := time.Now()
			e := newEngine(b, Config{Cache: mode.cache, CacheEntries: 4000, Now: func() authz.Instant {
				return start + authz.Instant(time.Since(began))
			}})
			_, set := loadUnder(b, manifest, ruleSets[0])
			store := posture.NewStore()
			e.Use(set, store)
			items := payments(1000)
			for i := range items {
				store.Apply(start, change(agentKey(items[i].Principal.Agent), register(start, "default")))
			}
			names := make([]string, sessions)
			for i := range names {
				names[i] = fmt.Sprint("session-", i)
			}
			caller := &authz.Caller{Tenants: []string{authz.DefaultTenant}}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				it := &items[i%len(items)]
				it.Principal.Session = names[i%sessions]
				if a := e.Decide(caller, it.Request, it.Principal); a.Effect != authz.Allow || a.Cache == authz.Hit {
					b.Fatal(a.Code, a.Cache)
				}
				i++
			}
		})
	}
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
				store.Hear("client:soar", start.Add(time.Hour), start.Add(time.Hour))
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
