package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestRatiosAreOfOneRoundEach(t *testing.T) {
	// The machine is ten times slower in the second round, for both.
	got := ratios([]float64{2, 20, 2}, []float64{1, 10, 1})
	if got != (spread{2, 2, 2}) {
		t.Error(got)
	}
}

func TestSpreadOf(t *testing.T) {
	if got := spreadOf([]float64{5, 1, 4, 2, 3}); got != (spread{2, 3, 4}) {
		t.Error(got)
	}
	if got := spreadOf([]float64{1, 2}); got.median != 1.5 {
		t.Error(got)
	}
	if got := spreadOf(nil); got != (spread{}) {
		t.Error(got)
	}
}

func TestInterleaveRunsSubjectsInTurnAndInTheirSteps(t *testing.T) {
	var runs []string
	busy := func(name string, step int) subject {
		return subject{name: name, step: step, run: func(n int) {
			if n < 1 || step > 0 && n%step != 0 {
				t.Errorf("%s runs %d times, in steps of %d", name, n, step)
			}
			runs = append(runs, name)
			for begin := threadTime(); threadTime()-begin < slice/4; { // one operation, however many are meant
			}
		}}
	}
	times, err := interleave(t.Context(), 3, busy("a", 0), busy("b", 7))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a", "b", "a", "b", "a", "b"}; !slices.Equal(runs[len(runs)-6:], want) {
		t.Errorf("%v", runs)
	}
	if len(times) != 2 || len(times[0]) != 3 || len(times[1]) != 3 {
		t.Error(times)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := interleave(ended, 1, busy("a", 0)); err == nil {
		t.Error("an ended run goes on")
	}
}

func TestQuantilesAreWithinABucketOfTheTruth(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, most := range []int64{40, 5_000, 1_000_000_000} {
		var l, other latencies
		var all []time.Duration
		for i := range 10_000 {
			d := time.Duration(random.Int64N(most))
			all = append(all, d)
			if i%2 == 0 {
				l.add(d)
			} else {
				other.add(d)
			}
		}
		l.merge(&other)
		slices.Sort(all)
		for _, q := range []float64{.5, .9, .99, .999, 1} {
			truth, got := all[int(q*float64(len(all)))-1], l.quantile(q)
			if got < truth || float64(got) > float64(truth)*(1+1./16)+1 {
				t.Errorf("below %d: quantile %v is %d, the truth %d", most, q, got, truth)
			}
		}
	}
}

func TestAllocationsAreCounted(t *testing.T) {
	var keep []*[64]byte
	keep = slices.Grow(keep, 2000)
	if n := allocations(1000, func(int) { keep = append(keep, new([64]byte)) }); n < 1 || n > 1.1 {
		t.Errorf("%v, want 1", n)
	}
	if n := allocations(1000, func(int) {}); n > 0.1 {
		t.Errorf("%v, want 0", n)
	}
}
