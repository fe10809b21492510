package main

import (
	"context"
	"runtime"
	"slices"
	"time"
)

// subject is one kind of work to be measured beside another. run does it n times, in its
// own goroutine, and n is a multiple of step where that is not 0.
type subject struct {
	name string
	run  func(n int)
	step int
}

// slice is how long one subject runs before the next one does. It is short, so that what
// slows the machine down for longer than that slows all subjects.
const slice = 4 * time.Millisecond

// interleave runs the subjects in turn, one slice each, rounds times, and gives the
// nanoseconds of one operation by subject and round. It counts the time that the thread was
// on a processor, where the system tells: others may want the processors too.
func interleave(ctx context.Context, rounds int, subjects ...subject) ([][]float64, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	counts := make([]int, len(subjects))
	times := make([][]float64, len(subjects))
	for i, s := range subjects {
		counts[i] = calibrate(s)
	}
	runtime.GC()
	for range rounds {
		for i, s := range subjects {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			begin := threadTime()
			s.run(counts[i])
			times[i] = append(times[i], float64(threadTime()-begin)/float64(counts[i]))
		}
	}
	return times, nil
}

// calibrate finds how often a subject runs in a slice.
func calibrate(s subject) int {
	step := max(1, s.step)
	for n := step; ; n *= 2 {
		begin := threadTime()
		s.run(n)
		if took := threadTime() - begin; took >= slice/2 || n >= 1<<24 {
			return max(1, int(float64(n/step)*float64(slice)/float64(max(took, 1)))) * step
		}
	}
}

// spread is a median with the quartiles around it.
type spread struct{ low, median, high float64 }

// spreadOf sorts values in place. It is zero for none.
func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	slices.Sort(values)
	at := func(q float64) float64 {
		position := q * float64(len(values)-1)
		i := int(position)
		if i+1 == len(values) {
			return values[i]
		}
		return values[i] + (position-float64(i))*(values[i+1]-values[i])
	}
	return spread{at(.25), at(.5), at(.75)}
}

// ratios divides round by round: what disturbed a round is on both sides.
func ratios(work, reference []float64) spread {
	all := make([]float64, min(len(work), len(reference)))
	for i := range all {
		all[i] = work[i] / reference[i]
	}
	return spreadOf(all)
}

// median does not change values.
func median(values []float64) float64 { return spreadOf(slices.Clone(values)).median }

// allocations is how often f allocates, on average over n runs after a first one. Nothing
// else may run meanwhile.
func allocations(n int, f func(i int)) float64 {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	f(0)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range n {
		f(i)
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(n)
}
