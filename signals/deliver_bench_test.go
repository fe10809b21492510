package signals

import (
	"fmt"
	"syscall"
	"testing"

	"vigil/authz"
	"vigil/posture"
)

// cpu is the processor time that this process has used, in ns: what counts on a machine
// that others use, too.
func cpu(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkDeliver is what a record that another replica appended, or that came by an
// input, costs the goroutine that applies, in batches of 1,000: each is decoded here for
// the first time. "decode" is that part alone.
func BenchmarkDeliver(b *testing.B) {
	const batch, agents = 1000, 100_000
	for _, from := range []string{"replica", "input"} {
		batches := make([][]Entry, 200)
		for k := range batches {
			batches[k] = make([]Entry, batch)
			for i := range batches[k] {
				n := k*batch + i
				body := signalJSON("risk", id(fmt.Sprint("RISK-2026-", n)), about(fmt.Sprintf("agent:billing-%d", n*7919%agents)),
					fmt.Sprintf(`"risk":%d`, n%101), `"actor":"scorer"`, `"reason":"spike to a new supplier"`)
				e := Entry{Appended: start}
				if from == "replica" {
					e.Record = record(body, func(r *Record) { r.Origin, r.Seq = 77, uint64(n+1) })
				} else {
					e.Record, e.Input = []byte(body), anything
				}
				batches[k][i] = e
			}
		}
		run := func(b *testing.B, each func(f *follower, entries []Entry)) {
			f := &follower{t: b, store: posture.NewStore()}
			var err error
			if f.Applier, err = NewApplier(ApplierConfig{Store: f.store, Now: func() authz.Instant { return start }}); err != nil {
				b.Fatal(err)
			}
			f.reached.Store(&reached{log: LogID{1}, at: Positions{}})
			b.ReportAllocs()
			before, n := cpu(b), 0
			for b.Loop() {
				each(f, batches[n%len(batches)])
				n++
			}
			signals := float64(n * batch)
			b.ReportMetric(float64(cpu(b)-before)/signals, "cpu-ns/signal")
			b.ReportMetric(signals/b.Elapsed().Seconds(), "signals/s")
		}
		b.Run(from+"/deliver", func(b *testing.B) {
			run(b, func(f *follower, entries []Entry) {
				if err := f.deliver(entries); err != nil {
					b.Fatal(err)
				}
			})
		})
		b.Run(from+"/decode", func(b *testing.B) {
			run(b, func(f *follower, entries []Entry) {
				for i := range entries {
					if in := f.read(&entries[i]); in.dead != "" {
						b.Fatal(in.dead)
					}
				}
			})
		})
	}
}
