//go:build unix

package journal

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"vigil/authz"
	"vigil/posture"
	"vigil/signals"
)

// BenchmarkPush is the way of a signal from its JSON to its acknowledgement, through a
// journal on the real disk: pushes of 1,000 risk signals about 10,000 registered agents,
// from four callers. One op is one signal. It reports the processor time of one, the
// collector's included.
func BenchmarkPush(b *testing.B) {
	const agents, callers, size = 10_000, 4, 1000
	now := func() authz.Instant { return authz.InstantOf(time.Now()) }
	j, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	store := posture.NewStore()
	for i := range agents {
		store.Apply(1, []posture.Change{{
			Key: authz.Key{Tenant: authz.DefaultTenant, Kind: authz.KindAgent, ID: fmt.Sprintf("agent-%07d", i)},
			Facts: []posture.Fact{{Facet: posture.Registration, Source: "client:registry", ID: fmt.Sprint(i), Time: 1,
				Registration: &posture.Registered{Class: "internal", Scopes: []string{"invoices:read"}}}},
		}})
	}
	applier, err := signals.NewApplier(signals.ApplierConfig{Store: store, Now: now})
	if err != nil {
		b.Fatal(err)
	}
	intake, err := signals.NewIntake(signals.IntakeConfig{Log: j, Applier: applier, Store: store, Now: now})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- applier.Run(ctx, j, nil) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	}()
	<-applier.CaughtUp()

	sender := signals.Sender{
		Source:    signals.Source{Kind: "client", Name: "ueba"},
		Authority: signals.Authority{Types: []string{"risk"}, Kinds: []string{"agent"}, Tenants: []string{authz.DefaultTenant}},
	}
	pushes := make(chan int)
	b.ReportAllocs()
	b.ResetTimer()
	before := processorTime()
	var group sync.WaitGroup
	for range callers {
		group.Go(func() {
			var body bytes.Buffer
			for first := range pushes {
				body.Reset()
				body.WriteByte('[')
				at := now()
				for i := first; i < min(first+size, b.N); i++ {
					if i > first {
						body.WriteByte(',')
					}
					fmt.Fprintf(&body, `{"v":1,"id":"risk-%09d","type":"risk","entities":["agent:agent-%07d"],"time":%q,"risk":%d}`, i, i%agents, at, 10+i%60)
				}
				body.WriteByte(']')
				if _, err := intake.Push(ctx, sender, body.Bytes()); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for i := 0; i < b.N; i += size {
		pushes <- i
	}
	close(pushes)
	group.Wait()
	b.ReportMetric(float64(processorTime()-before)/float64(b.N), "cpu-ns/op")
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
