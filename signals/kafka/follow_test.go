package kafka

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"vigil/signals"
)

// broken waits for Follow to end, and wants a *PartitionError of that kind and offset.
func (f *following) broken(what error, partition string, offset int64) {
	f.t.Helper()
	err := f.ended()
	var p *PartitionError
	if !errors.As(err, &p) || !errors.Is(err, what) || p.Partition != partition || p.Offset != offset {
		f.t.Errorf("%v, want %v of %s at %d", err, what, partition, offset)
	}
}

func TestALogThatIsCutIsAHole(t *testing.T) {
	w := newWorld(t, 1, 1)
	cl := client(t, w.fake)
	for i := range 10 {
		put(t, cl, "log", 0, fmt.Sprint(i))
	}
	l := w.openLog(w.config())
	if err := w.fake.DeleteRecords("log", 0, 4); err != nil {
		t.Fatal(err)
	}
	f := follow(t, l, nil)
	f.broken(ErrHole, "log/0", 0)
	if f.count() != 0 {
		t.Error(f.values(0))
	}
	follow(t, l, signals.Positions{0: 3}).broken(ErrHole, "log/0", 3)
	starts, err := l.Starts(t.Context())
	if err != nil || starts[0] != 4 || len(starts) != 1 {
		t.Fatal(starts, err)
	}
	f = follow(t, l, starts)
	f.wait()
	eventually(t, "all are delivered", func() bool { return slices.Equal(f.values(0), []string{"4", "5", "6", "7", "8", "9"}) })
	f.stop()
	// What was read is gone by retention: the same log all the same, and nothing is missing.
	if err := w.fake.DeleteRecords("log", 0, 10); err != nil {
		t.Fatal(err)
	}
	f = follow(t, l, signals.Positions{0: 10})
	f.wait()
	put(t, cl, "log", 0, "10")
	eventually(t, "it goes on", func() bool { return slices.Equal(f.values(0), []string{"10"}) })
}

func TestAGapBetweenBatchesIsAHole(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.scripted("log", func(c *copied) {
		c.add(0, "0", "1")
		c.batches = append(c.batches, copiedBatch{base: 4, values: []string{"4"}})
	})
	f := follow(t, w.openLog(w.config()), nil)
	f.broken(ErrHole, "log/0", 2)
	if !slices.Equal(f.values(0), []string{"0", "1"}) {
		t.Error(f.values(0))
	}
}

// TestAGapWithinABatchIsAHole: compaction takes single records out of batches, and leaves the
// offsets that these span.
func TestAGapWithinABatchIsAHole(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.scripted("log", func(c *copied) {
		c.add(0, "0", "1")
		c.batches[0].lacks = 1
		c.add(0, "3")
	})
	f := follow(t, w.openLog(w.config()), nil)
	f.broken(ErrHole, "log/0", 2)
	if !slices.Equal(f.values(0), []string{"0", "1"}) {
		t.Error(f.values(0))
	}
	follow(t, w.openLog(w.config()), signals.Positions{0: 1}).broken(ErrHole, "log/0", 2)
	follow(t, w.openLog(w.config()), signals.Positions{0: 2}).broken(ErrHole, "log/0", 2)
	f = follow(t, w.openLog(w.config()), signals.Positions{0: 3})
	f.wait()
}

func TestATopicMadeAnewIsNeverTheOldOne(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.create("risks", 1)
	cl := client(t, w.fake)
	put(t, cl, "risks", 0, "0", "1")
	l := w.openLog(w.config("risks"))
	f := follow(t, l, nil)
	f.wait()
	eventually(t, "delivered", func() bool { return f.count() == 2 })
	marks, id := l.Marks(), l.ID()
	if err := w.fake.DeleteTopic("risks"); err != nil {
		t.Fatal(err)
	}
	w.create("risks", 1)
	put(t, client(t, w.fake), "risks", 0, "x", "y", "z")
	f.broken(ErrRecreated, "risks", -1)
	if f.count() != 2 {
		t.Error("what another topic has was delivered")
	}
	follow(t, l, signals.Positions{base("risks"): 2}).broken(ErrRecreated, "risks", -1)

	// Nor after a restart: the snapshot's marks name the topic.
	again := w.openLog(w.config("risks"))
	if again.ID() != id {
		t.Error("the log's topic is the same")
	}
	if err := again.RestoreMarks(marks); err != nil {
		t.Fatal(err)
	}
	follow(t, again, signals.Positions{base("risks"): 2}).broken(ErrRecreated, "risks/0", 1)

	if err := w.fake.DeleteTopic("log"); err != nil {
		t.Fatal(err)
	}
	w.create("log", 1)
	if w.openLog(w.config()).ID() == id {
		t.Error("a log that was made anew has the identity of the old one")
	}
}

func TestATopicThatIsUnknownForAWhileIsWaitedFor(t *testing.T) {
	w := newWorld(t, 1, 1)
	h := w.scripted("log", func(c *copied) { c.add(0, "0") })
	l := w.openLog(w.config())
	f := follow(t, l, nil)
	f.wait()
	// The broker has lost its leader, and then finds it again.
	h.changeAll(func(c *copied) { c.leader, c.epoch, c.replicas = noLeader, 2, []int32{0} })
	eventually(t, "the partition has no leader", func() bool { lead, _ := l.cluster.leaderNow(0); return lead == nil })
	eventually(t, "it is said that nobody leads it", func() bool { return w.lines.has("without a leader") && w.lines.has("log/0") })
	h.changeAll(func(c *copied) { c.leader, c.epoch = 0, 3; c.add(3, "1") })
	eventually(t, "it is read on", func() bool { return slices.Equal(f.values(0), []string{"0", "1"}) })
	eventually(t, "it is said, too", func() bool { return w.lines.has("has a leader again") })
}

func TestATruncatedAndRegrownLogIsNoticedByItsMark(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*copied)
		what   error
		offset int64
	}{
		"another record":                   {func(c *copied) { c.batches = c.batches[:1]; c.add(7, "other"); c.add(7, "3") }, ErrDiverged, 2},
		"the same record of another epoch": {func(c *copied) { c.batches = c.batches[:1]; c.add(7, "2"); c.add(7, "3") }, ErrDiverged, 2},
		"shorter":                          {func(c *copied) { c.batches = c.batches[:1] }, ErrTruncated, 2},
		"much shorter":                     {func(c *copied) { c.batches = nil }, ErrTruncated, 2},
		"cut from the front":               {func(c *copied) { c.add(7, "3", "4"); c.start = 4 }, ErrHole, 3},
		"batches changed shape":            {func(c *copied) { c.batches = nil; c.add(7, "0", "1", "2", "3") }, ErrDiverged, 2},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, 1)
			h := w.scripted("log", func(c *copied) { c.add(0, "0", "1"); c.add(0, "2") })
			l := w.openLog(w.config())
			f := follow(t, l, nil)
			f.wait()
			eventually(t, "delivered", func() bool { return f.count() == 3 })
			marks := l.Marks()

			// While it is followed, under another epoch of the leader.
			h.changeAll(func(c *copied) { tc.change(c); c.leader, c.epoch, c.replicas = 0, 2, []int32{0} })
			f.broken(tc.what, "log/0", tc.offset)
			if f.count() != 3 {
				t.Errorf("what comes after was delivered: %q", f.values(0))
			}
			// And by a process that starts from a snapshot.
			again := w.openLog(w.config())
			if err := again.RestoreMarks(marks); err != nil {
				t.Fatal(err)
			}
			f = follow(t, again, signals.Positions{0: 3})
			f.broken(tc.what, "log/0", tc.offset)
			if f.count() != 0 {
				t.Errorf("what comes after was delivered: %q", f.values(0))
			}
		})
	}
}

// TestWhatWasFoundLostIsRememberedWhenRetentionTakesTheProof: that the mark's record is gone
// by retention says nothing of a log that is known to have lost it before.
func TestWhatWasFoundLostIsRememberedWhenRetentionTakesTheProof(t *testing.T) {
	for what, change := range map[error]func(*copied){
		ErrDiverged:  func(c *copied) { c.batches = c.batches[:1]; c.add(7, "other"); c.add(7, "3") },
		ErrTruncated: func(c *copied) { c.batches = c.batches[:1] },
	} {
		t.Run(what.Error(), func(t *testing.T) {
			w := newWorld(t, 1, 1)
			h := w.scripted("log", func(c *copied) { c.add(0, "0", "1"); c.add(0, "2") })
			l := w.openLog(w.config())
			f := follow(t, l, nil)
			f.wait()
			eventually(t, "delivered", func() bool { return f.count() == 3 })
			h.changeAll(func(c *copied) { change(c); c.leader, c.epoch, c.replicas = 0, 2, []int32{0} })
			f.broken(what, "log/0", 2)

			h.changeAll(func(c *copied) { c.start, c.batches = 3, nil; c.add(7, "3") })
			f = follow(t, l, signals.Positions{0: 3})
			f.broken(what, "log/0", 2)
			if f.count() != 0 {
				t.Errorf("what comes after was delivered: %q", f.values(0))
			}

			// A leader that still has the record leads again: nothing is lost.
			h.changeAll(func(c *copied) { c.start, c.batches = 0, nil; c.add(0, "0", "1"); c.add(0, "2"); c.epoch = 3 })
			f = follow(t, l, signals.Positions{0: 3})
			f.wait()
			f.stop()
			h.changeAll(func(c *copied) { c.start, c.batches = 3, nil; c.add(3, "3") })
			f = follow(t, l, signals.Positions{0: 3})
			eventually(t, "it goes on", func() bool { return slices.Equal(f.values(0), []string{"3"}) })
		})
	}
}

// The mechanism turned off: without a mark, a log that was cut and has grown again is read on
// as if nothing had happened.
func TestWithoutAMarkARegrownLogGoesUnnoticed(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.scripted("log", func(c *copied) { c.add(0, "0", "1"); c.add(7, "other"); c.add(7, "3") })
	f := follow(t, w.openLog(w.config()), signals.Positions{0: 3})
	f.wait()
	eventually(t, "it is read on", func() bool { return slices.Equal(f.values(0), []string{"3"}) })
}

func TestALeaderThatIsBehindEndsNothing(t *testing.T) {
	w := newWorld(t, 1, 1)
	h := w.scripted("log", func(c *copied) { c.add(0, "0", "1"); c.add(0, "2") })
	l := w.openLog(w.config())
	f := follow(t, l, nil)
	f.wait()
	eventually(t, "delivered", func() bool { return f.count() == 3 })
	// A new leader does not say where it ends, for it does not know yet what was acknowledged.
	h.changeAll(func(c *copied) {
		c.add(0, "3")
		c.leader, c.epoch, c.replicas, c.hw, c.ends = 0, 2, []int32{0}, 3, errOffsetNotAvailable
	})
	eventually(t, "the new epoch is known", func() bool { lead, _ := l.cluster.leaderNow(0); return lead.epoch == 2 })
	stuck := w.now()
	for n := h.seen(); h.seen() < n+5; { // some more answers
		time.Sleep(time.Millisecond)
	}
	for range 3 { // and the leader is confirmed
		<-l.cluster.changes()
	}
	if at := l.FreshAt(); at > stuck {
		t.Errorf("the view is made fresh at %s by a leader that does not know what was acknowledged", at)
	}
	if f.finished() {
		t.Fatal(f.err)
	}
	h.changeAll(func(c *copied) { c.hw, c.ends = -1, errNone })
	eventually(t, "it goes on", func() bool { return f.count() == 4 && l.FreshAt() > stuck })
}

func TestANewPartitionIsFollowedBeforeTheViewIsFreshAgain(t *testing.T) {
	w := newWorld(t, 3, 1)
	l := w.openLog(w.config())
	f := follow(t, l, nil)
	f.wait()
	inside, leave := make(chan struct{}), make(chan struct{})
	f.mu.Lock()
	f.hook = func(entries []signals.Entry) {
		if entries[0].Position.Partition == 2 {
			inside <- struct{}{}
			<-leave
		}
	}
	f.mu.Unlock()
	grow(t, client(t, w.fake), "log", 3)
	put(t, client(t, w.fake), "log", 2, "new")
	acknowledged := w.now()
	<-inside
	for range 6 { // all brokers confirm the leaders of all partitions
		<-l.cluster.changes()
	}
	if at := l.FreshAt(); at >= acknowledged {
		t.Errorf("fresh at %s, but what was acknowledged at %s in the new partition is not delivered", at, acknowledged)
	}
	close(leave)
	eventually(t, "fresh", func() bool { return l.FreshAt() >= acknowledged })
	if got := f.values(2); !slices.Equal(got, []string{"new"}) {
		t.Errorf("the view is said to be as of %d, after the record was acknowledged: %q", l.FreshAt(), got)
	}
	f.mu.Lock()
	f.hook = nil
	f.mu.Unlock()
	eventually(t, "appends go there", func() bool {
		at, err := l.Append(t.Context(), bytesOf("x"))
		return err == nil && at[0].Partition == 2
	})
}

func TestNothingIsDeliveredTwiceOutOfOrderWithinAPartition(t *testing.T) {
	w := newWorld(t, 3, 3)
	l := w.openLog(w.config())
	f := follow(t, l, nil)
	f.wait()
	want := map[int32]int64{}
	for i := range 300 {
		switch {
		case i%20 == 7:
			w.gates[i%3].cut()
		case i%20 == 14:
			if err := w.fake.MoveTopicPartition("log", int32(i%3), int32(i/3%3)); err != nil {
				t.Fatal(err)
			}
		}
		at, err := l.Append(bounded(t), bytesOf(fmt.Sprint(i)))
		if err != nil {
			if errors.Is(err, signals.ErrUnavailable) {
				continue
			}
			t.Fatal(i, err)
		}
		want[at[0].Partition] = max(want[at[0].Partition], at[0].Offset)
	}
	acknowledged := w.now()
	eventually(t, "fresh", func() bool { return l.FreshAt() >= acknowledged })
	f.mu.Lock()
	defer f.mu.Unlock()
	for p, last := range want {
		all := f.entries[p]
		if int64(len(all)) <= last {
			t.Errorf("partition %d: %d of %d", p, len(all), last+1)
		}
		for i, e := range all {
			if e.Position.Offset != int64(i) {
				t.Fatalf("partition %d: %d is at place %d", p, e.Position.Offset, i)
			}
		}
	}
}

func TestMarksAreNeverOlderThanThePosition(t *testing.T) {
	w := newWorld(t, 1, 1)
	l := w.openLog(w.config())
	cl := client(t, w.fake)
	for i := range 50 {
		put(t, cl, "log", 0, fmt.Sprint(i))
	}
	f := follow(t, l, nil)
	delivered := 0
	f.mu.Lock()
	f.hook = func(entries []signals.Entry) {
		marks, err := decodeMarks(l.Marks())
		last := entries[len(entries)-1].Position.Offset
		if err != nil || len(marks) != 1 || marks[0].offset < last {
			t.Errorf("%+v, %v: while offset %d is delivered", marks, err, last)
		}
		delivered++
	}
	f.mu.Unlock()
	f.wait()
	put(t, cl, "log", 0, "50")
	eventually(t, "all", func() bool { return f.count() == 51 })
	f.stop()
	if delivered == 0 {
		t.Error("nothing was looked at")
	}
	// Read again from an earlier position, the mark stays where it was.
	l.marks.set(mark{partition: 0, offset: 10})
	if marks, err := decodeMarks(l.Marks()); err != nil || marks[0].offset != 50 {
		t.Error(marks, err)
	}
}

func TestCaughtUpOnlyAfterEverythingThatWasThere(t *testing.T) {
	w := newWorld(t, 3, 4)
	cl := client(t, w.fake)
	for i := range 200 {
		put(t, cl, "log", int32(i%4), fmt.Sprint(i))
	}
	l := w.openLog(w.config())
	for range 3 {
		f := follow(t, l, nil)
		f.wait()
		if n := f.count(); n < 200 {
			t.Errorf("%d of 200", n)
		}
		f.stop()
	}
}

func TestADeliveryThatFailsEndsFollow(t *testing.T) {
	w := newWorld(t, 1, 1)
	put(t, client(t, w.fake), "log", 0, "0")
	l := w.openLog(w.config())
	f := follow(t, l, nil)
	sorry := errors.New("sorry")
	f.mu.Lock()
	f.failing = sorry
	f.mu.Unlock()
	put(t, client(t, w.fake), "log", 0, "1")
	if err := f.ended(); err != sorry {
		t.Error(err)
	}
	if err := l.Follow(t.Context(), nil, func([]signals.Entry) error { panic("oops") }, func() {}); err == nil {
		t.Error("a panic is no error")
	}
}
