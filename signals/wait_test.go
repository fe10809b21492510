package signals

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestATokenOfTheMostPartitionsFits whatever their numbers and offsets.
func TestATokenOfTheMostPartitionsFits(t *testing.T) {
	for name, at := range map[string]func(i int) (int32, int64){
		"at their ends": func(i int) (int32, int64) {
			return int32(math.MaxInt32 - i*(math.MaxInt32/MaxPartitions)), math.MaxInt64
		},
		"of one log": func(i int) (int32, int64) { return int32(i), int64(i+1) << 40 },
		"of inputs":  func(i int) (int32, int64) { return int32((i*1311+1)&(1<<19-1))<<12 | int32(i%3), int64(i) + 1<<35 },
	} {
		positions := Positions{}
		for i := range MaxPartitions {
			partition, offset := at(i)
			positions[partition] = offset
		}
		if len(positions) != MaxPartitions {
			t.Fatalf("%s: %d partitions", name, len(positions))
		}
		token := FormatAsOf(LogID{0xff}, positions)
		_, got, err := ParseAsOf(token)
		if err != nil || !got.Covers(positions) || !positions.Covers(got) {
			t.Errorf("%s: a token of %d bytes: %v", name, len(token), err)
		}
	}
}

// TestWaitingWithALogThatOthersWrite: such a log does not say where it ends, so a position
// past it is waited for, no longer than is allowed; a partition that there is not counts as
// not reached, and those who wait are bounded.
func TestWaitingWithALogThatOthersWrite(t *testing.T) {
	const input = 5<<12 | 3
	synctest.Test(t, func(t *testing.T) {
		f := newFollower(t, func(cfg *ApplierConfig) { cfg.MaxWaiters, cfg.MaxWait = 3, time.Second })
		f.take(Entry{Appended: start, Record: record(signalJSON("taint"))})
		f.take(Entry{Position: Position{Partition: input, Offset: 41}, Appended: start, Record: []byte(signalJSON("taint")), Input: anything})
		wait := func(at Positions) error {
			return f.WaitApplied(context.Background(), FormatAsOf(LogID{1}, at))
		}
		for _, c := range []struct {
			at      Positions
			reached bool
		}{
			{Positions{0: 1}, true},
			{Positions{input: 42}, true},
			{Positions{0: 1, input: 42}, true},
			{Positions{0: 2}, false},
			{Positions{input: 43}, false},
			{Positions{0: 1, input: 42, 1: 1}, false}, // no such partition of the log
			{Positions{0: 1, 5<<12 | 4: 1}, false},    // nor of the input
			{Positions{6<<12 | 3: 1}, false},          // nor such an input
			{Positions{math.MaxInt32: math.MaxInt64}, false},
		} {
			begun := time.Now()
			err := wait(c.at)
			switch waited := time.Since(begun); {
			case c.reached && (err != nil || waited != 0):
				t.Errorf("%v is reached: %v after %v", c.at, err, waited)
			case !c.reached && (!errors.Is(err, ErrPastHead) || waited != time.Second):
				t.Errorf("%v is not reached: %v after %v", c.at, err, waited)
			}
		}
		if err := f.WaitApplied(context.Background(), FormatAsOf(LogID{2}, Positions{0: 1})); !errors.Is(err, ErrOtherLog) {
			t.Errorf("another log: %v", err)
		}

		var all sync.WaitGroup
		answers := make(chan string, 4)
		for i, at := range []Positions{{0: 2}, {input: 43}, {1: 1}} { // the last is in vain
			all.Go(func() { answers <- fmt.Sprint(i, " ", wait(at)) })
		}
		synctest.Wait()
		if err := wait(Positions{0: 2}); !errors.Is(err, ErrOverloaded) {
			t.Errorf("one too many: %v", err)
		}
		before := time.Now()
		f.take(Entry{Position: Position{Partition: input, Offset: 42}, Appended: start, Record: []byte("{}"), Input: anything})
		if got := <-answers; got != "1 <nil>" || time.Since(before) != 0 {
			t.Errorf("told %q after %v", got, time.Since(before))
		}
		f.take(Entry{Position: Position{Offset: 1}, Appended: start, Refused: "of a transaction"})
		if got := <-answers; got != "0 <nil>" || time.Since(before) != 0 {
			t.Errorf("told %q after %v", got, time.Since(before))
		}
		all.Wait()
		if got := <-answers; got != "2 "+ErrPastHead.Error() || len(f.mu.waiters) != 0 {
			t.Errorf("told %q; %d still wait", got, len(f.mu.waiters))
		}
	})
}
