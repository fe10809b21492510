package rules

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"cel.dev/cel-go/common/types"

	"vigil/authz"
)

// compare runs two kinds of work in turn, in short batches, and reports the ratio of their
// fastest tenths: on a machine that others use too, that is what can be compared.
func compare(b *testing.B, name string, work, yardstick func()) {
	const batch = 500
	var times [2][]time.Duration
	for b.Loop() {
		for i, f := range [...]func(){work, yardstick} {
			start := time.Now()
			for range batch {
				f()
			}
			times[i] = append(times[i], time.Since(start))
		}
	}
	for i := range times {
		slices.Sort(times[i])
	}
	tenth := len(times[0]) / 10
	b.ReportMetric(float64(times[0][tenth])/float64(times[1][tenth]), name)
	b.ReportMetric(float64(times[0][tenth].Nanoseconds())/batch, "work-ns")
	b.ReportMetric(float64(times[1][tenth].Nanoseconds())/batch, "yardstick-ns")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkFreshToRaw is a fresh evaluation of twelve rules, five of them candidates,
// against one raw CEL evaluation of the policy as one expression.
func BenchmarkFreshToRaw(b *testing.B) {
	set := mustLoad(b, twelveRules)
	f := benchFrame()
	program, values := rawPolicy(b)
	compare(b, "fresh/raw", func() {
		if v := set.Plan("pay", "payment", f.Request.Resource.ID).Evaluate(f, "high-high"); v.Effect != authz.Allow {
			b.Fatal(v)
		}
	}, func() {
		if out, _, err := program.Eval(values); err != nil || out != types.String("allow") {
			b.Fatal(out, err)
		}
	})
}

// BenchmarkManyToFew is a decision under 10,000 rules against one under 10, with as many
// candidates: the rules differ by resource id, or by action.
func BenchmarkManyToFew(b *testing.B) {
	for _, byAction := range []bool{false, true} {
		b.Run(fmt.Sprintf("byAction=%v", byAction), func(b *testing.B) {
			decide := func(n int) func() {
				_, set, errs := Load(manyRules(n, byAction))
				if len(errs) > 0 {
					b.Fatal(errs)
				}
				frames := make([]*Frame, 10)
				for i := range frames {
					frames[i] = toolFrame(i * (n / 10))
					if byAction {
						frames[i].Request.Action.Name = fmt.Sprintf("act-%05d", i*(n/10))
					}
				}
				i := 0
				return func() {
					f := frames[i%len(frames)]
					i++
					if v := set.Plan(f.Request.Action.Name, "tool", f.Request.Resource.ID).Evaluate(f, ""); v.Effect != authz.Allow {
						b.Fatal(v)
					}
				}
			}
			compare(b, "many/few", decide(10_000), decide(10))
		})
	}
}
