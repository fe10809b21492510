package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"vigil/authz"
	"vigil/disk/disktest"
	"vigil/signals"
)

// taking is a Consumer that runs, and what it has handed over.
type taking struct {
	t    testing.TB
	k    *Consumer
	stop func()

	mu    sync.Mutex
	times map[string]int // by what was taken: "partition:offset value"
	tries map[string]int // by the same, of what was refused for now
	now   func(*Consumed) error
}

const placePath = "events/idp"

// consume reads the topic "events" with a file on fs.
func (w *world) consume(fs *disktest.Memory, change ...func(*ConsumerConfig)) *taking {
	w.t.Helper()
	c := &taking{t: w.t, times: map[string]int{}, tries: map[string]int{}}
	cfg := ConsumerConfig{Topic: "events", Path: placePath, FS: fs, For: signals.LogID{1}, Take: c.take}
	for _, f := range change {
		f(&cfg)
	}
	all := w.config()
	var err error
	if c.k, err = NewConsumer(all, cfg); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.k.Run(ctx); !errors.Is(err, context.Canceled) {
			w.t.Errorf("it ended: %v", err)
		}
	}()
	c.stop = func() { cancel(); <-done }
	w.t.Cleanup(c.stop)
	return c
}

func (c *taking) take(_ context.Context, m *Consumed) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	what := fmt.Sprintf("%s:%d %s%s", strings.TrimPrefix(m.Partition, "events/"), m.Position.Offset, m.Record, m.Refused)
	if c.now != nil {
		if err := c.now(m); err != nil {
			c.tries[what]++
			return err
		}
	}
	c.times[what]++
	return nil
}

// refuse has what is taken looked at first; nil for nothing.
func (c *taking) refuse(f func(*Consumed) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = f
}

func (c *taking) tried(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tries[what]
}

func (c *taking) taken() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.times)
}

// has waits until exactly these were taken, each once.
func (c *taking) has(want ...string) {
	c.t.Helper()
	slices.Sort(want)
	eventually(c.t, fmt.Sprint("taken: ", want), func() bool { return len(c.taken()) >= len(want) })
	got := c.taken()
	if keys := slices.Sorted(maps.Keys(got)); !slices.Equal(keys, want) {
		c.t.Fatalf("%q, want %q", keys, want)
	}
	for what, n := range got {
		if n != 1 {
			c.t.Errorf("%s was taken %d times", what, n)
		}
	}
}

// at waits until the place of a partition is there: what was handed over is taken before the
// place moves, and a stop between the two has it taken again.
func (c *taking) at(partition string, next int64) {
	c.t.Helper()
	eventually(c.t, fmt.Sprint(partition, " is read to ", next), func() bool { return c.k.Status().Next[partition] == next })
}

func TestEachRecordIsTakenAndReadingGoesOnWhereItWas(t *testing.T) {
	w := newWorld(t, 3, 1)
	w.create("events", 2)
	fs := disktest.New()
	cl := client(t, w.fake)
	put(t, cl, "events", 0, "a", "b")
	put(t, cl, "events", 1, "c")
	before := w.now()
	c := w.consume(fs)
	c.has("0:0 a", "0:1 b", "1:0 c")
	put(t, cl, "events", 1, "d")
	c.has("0:0 a", "0:1 b", "1:0 c", "1:1 d")
	eventually(t, "it is at the end", func() bool {
		s := c.k.Status()
		return s.Err == nil && s.Behind == 0 && s.Taken == 4 && s.Lost == 0 && s.Fresh >= before &&
			maps.Equal(s.Next, map[string]int64{"events/0": 2, "events/1": 2})
	})
	c.stop()
	put(t, cl, "events", 0, "e")
	grow(t, cl, "events", 3)
	put(t, client(t, w.fake), "events", 2, "f")
	again := w.consume(fs)
	again.has("0:2 e", "2:0 f")
	again.stop()
	// What was read for another log is read for this one.
	other := w.consume(fs, func(cfg *ConsumerConfig) { cfg.For = signals.LogID{2} })
	other.has("0:0 a", "0:1 b", "0:2 e", "1:0 c", "1:1 d", "2:0 f")
}

// TestNothingIsSkippedThatCannotBeTakenNow: it is given again, what is behind it waits for its
// place, and a process that is killed meanwhile reads it again.
func TestNothingIsSkippedThatCannotBeTakenNow(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.create("events", 2)
	fs := disktest.New()
	cl := client(t, w.fake)
	put(t, cl, "events", 0, "a")
	c := w.consume(fs, func(cfg *ConsumerConfig) { cfg.AtOnce = 2 })
	c.has("0:0 a")
	eventually(t, "its place is written down", func() bool {
		p, err := decodePlace(string(fs.Contents(placePath)))
		return err == nil && p.next[base("events")] == 1
	})
	c.refuse(func(m *Consumed) error {
		switch string(m.Record) {
		case "away":
			return errors.New("the keys are away")
		case "panic":
			panic("at once")
		}
		return nil
	})
	put(t, cl, "events", 0, "away", "b", "c")
	put(t, cl, "events", 1, "panic", "x")
	eventually(t, "both are tried again", func() bool { return c.tried("0:1 away") > 2 && c.taken()["0:3 c"] == 1 && c.taken()["1:1 x"] == 1 })
	s := c.k.Status()
	if s.Err == nil || s.Behind < 3 || s.Next["events/0"] != 1 || s.Next["events/1"] != 0 {
		t.Errorf("%+v", s)
	}
	killed := fs.Clone()
	killed.Kill()
	again := w.consume(killed)
	again.has("0:1 away", "0:2 b", "0:3 c", "1:0 panic", "1:1 x")
	c.refuse(nil)
	c.has("0:0 a", "0:1 away", "0:2 b", "0:3 c", "1:0 panic", "1:1 x")
	eventually(t, "nothing is wrong any more", func() bool { s := c.k.Status(); return s.Err == nil && s.Next["events/0"] == 4 && s.Behind == 0 })
}

// TestWhatRetentionTookIsCountedAndPassedOver: before the first start it is nobody's loss.
func TestWhatRetentionTookIsCountedAndPassedOver(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.create("events", 1)
	fs := disktest.New()
	cl := client(t, w.fake)
	put(t, cl, "events", 0, "a", "b", "c")
	if err := w.fake.DeleteRecords("events", 0, 2); err != nil {
		t.Fatal(err)
	}
	c := w.consume(fs)
	c.has("0:2 c")
	if s := c.k.Status(); s.Lost != 0 {
		t.Errorf("%+v", s)
	}
	c.at("events/0", 3)
	c.stop()
	put(t, cl, "events", 0, "d", "e", "f")
	if err := w.fake.DeleteRecords("events", 0, 5); err != nil {
		t.Fatal(err)
	}
	c = w.consume(fs)
	c.has("0:5 f")
	if s := c.k.Status(); s.Lost != 2 || !w.lines.has("records are gone that were never read") {
		t.Errorf("%+v", s)
	}
}

func TestGapsAsCompactionLeavesThemArePassedOver(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.create("events", 1)
	h := w.scripted("events", func(c *copied) {
		c.add(0, "0", "1")
		c.batches[0].lacks = 2
		c.batches = append(c.batches, copiedBatch{base: 7, values: []string{"7"}})
	})
	c := w.consume(disktest.New())
	c.has("0:0 0", "0:1 1", "0:7 7")
	h.changeAll(func(c *copied) { c.add(0, "8") })
	c.has("0:0 0", "0:1 1", "0:7 7", "0:8 8")
	if s := c.k.Status(); s.Lost != 5 {
		t.Errorf("%+v", s)
	}
}

func TestATopicThatIsAnotherIsReadFromItsBeginning(t *testing.T) {
	for name, change := range map[string]func(*copied){
		"it was cut":         func(c *copied) { c.batches = c.batches[:1] },
		"it has others":      func(c *copied) { c.batches[2].values[0] = "other" },
		"it has other terms": func(c *copied) { c.batches[2].epoch = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, 1)
			w.create("events", 1)
			h := w.scripted("events", func(c *copied) {
				for _, v := range []string{"a", "b", "c"} {
					c.add(0, v)
				}
			})
			fs := disktest.New()
			c := w.consume(fs)
			c.has("0:0 a", "0:1 b", "0:2 c")
			c.at("events/0", 3)
			c.stop()
			h.changeAll(change)
			c = w.consume(fs)
			eventually(t, "all are taken again", func() bool {
				h.mu.Lock()
				want := len(h.nodes[0].batches)
				h.mu.Unlock()
				return len(c.taken()) == want
			})
			if c.taken()["0:0 a"] != 1 || c.k.Status().Lost != 0 {
				t.Error(c.taken(), c.k.Status())
			}
		})
	}
}

func TestATopicThatIsMadeAnewIsReadFromItsBeginning(t *testing.T) {
	w := newWorld(t, 1, 1)
	fs := disktest.New()
	c := w.consume(fs) // and is waited for
	eventually(t, "it waits", func() bool { return w.lines.has("waiting for the Kafka cluster") && c.k.Status().Err != nil })
	w.create("events", 1)
	put(t, client(t, w.fake), "events", 0, "a", "b")
	c.has("0:0 a", "0:1 b")
	remake := func(values ...string) {
		t.Helper()
		if err := w.fake.DeleteTopic("events"); err != nil {
			t.Fatal(err)
		}
		w.create("events", 1)
		put(t, client(t, w.fake), "events", 0, values...)
	}
	remake("x", "y", "z")
	c.has("0:0 a", "0:1 b", "0:0 x", "0:1 y", "0:2 z")
	c.at("events/0", 3)
	c.stop()
	remake("p")
	again := w.consume(fs)
	again.has("0:0 p")
}

// TestAPlaceIsOfOneTopicAndOneLog: also where there is no mark to show that it is another.
func TestAPlaceIsOfOneTopicAndOneLog(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.create("events", 1)
	put(t, client(t, w.fake), "events", 0, "a", "b")
	id := w.fake.TopicInfo("events").TopicID
	for _, p := range []place{
		{log: signals.LogID{1}, topic: [16]byte{7}, next: signals.Positions{base("events"): 1}},
		{log: signals.LogID{7}, topic: id, next: signals.Positions{base("events"): 1}},
	} {
		fs := disktest.New()
		fs.Put(placePath, []byte(encodePlace(&p)))
		w.consume(fs).has("0:0 a", "0:1 b")
	}
	same := disktest.New()
	same.Put(placePath, []byte(encodePlace(&place{log: signals.LogID{1}, topic: id, next: signals.Positions{base("events"): 1}})))
	w.consume(same).has("0:1 b")
}

func TestAPlaceOfWhichAByteIsAnotherIsNoPlace(t *testing.T) {
	text := encodePlace(&place{log: signals.LogID{1}, topic: [16]byte{2}, next: signals.Positions{4096: 12, 4097: 9}, marks: someMarks(1)})
	if _, err := decodePlace(text); err != nil {
		t.Fatal(err)
	}
	for i := range len(text) {
		for _, c := range []byte("0a:, -\n") {
			other := text[:i] + string(c) + text[i+1:]
			if _, err := decodePlace(other); err == nil && other != text {
				t.Fatalf("%q", other)
			}
		}
		if _, err := decodePlace(text[:i]); err == nil {
			t.Fatalf("%q", text[:i])
		}
	}
}

// TestAPlaceThatCannotBeReadOrWrittenStopsNothing.
func TestAPlaceThatCannotBeReadOrWrittenStopsNothing(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.create("events", 1)
	put(t, client(t, w.fake), "events", 0, "a")
	fs := disktest.New()
	fs.Put(placePath, []byte("vigil-topic 1 what is this"))
	fs.SetFault(func(op disktest.Op, _ string, _ int) (int, error) {
		if op == disktest.OpSync {
			return 0, errors.New("the disk is full")
		}
		return 0, nil
	})
	c := w.consume(fs)
	c.has("0:0 a")
	eventually(t, "both are said", func() bool {
		return w.lines.has("up to where the topic was read is not known") && w.lines.has("the disk is full")
	})
	c.at("events/0", 1)
	fs.SetFault(nil)
	c.stop()
	if p, err := decodePlace(string(fs.Contents(placePath))); err != nil || p.next[base("events")] != 1 || len(p.marks) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestAPoisonedTopicIsReadToItsEnd: what nobody can read is handed over as refused.
func TestAPoisonedTopicIsReadToItsEnd(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.create("events", 1)
	cl := client(t, w.fake, kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.ProducerBatchMaxBytes(64<<20), kgo.MaxBufferedBytes(128<<20))
	carry(t, cl, "events", []byte("a"))
	carry(t, cl, "events", make([]byte, maxUnpacked+1))
	carry(t, cl, "events", make([]byte, maxEncoded+1))
	carry(t, cl, "events", []byte("v"), "panic=at once")
	carry(t, cl, "events", []byte("b"))
	c := w.consume(disktest.New(), func(cfg *ConsumerConfig) { cfg.Decode = spelled })
	eventually(t, "all are taken", func() bool { return len(c.taken()) == 5 })
	for what := range c.taken() {
		if what != "0:0 a" && what != "0:4 b" && !strings.Contains(what, "more than") && !strings.Contains(what, "panic while reading it") {
			t.Errorf("%.200q", what)
		}
	}
	eventually(t, "it is at the end", func() bool { s := c.k.Status(); return s.Next["events/0"] == 5 && s.Behind == 0 && s.Err == nil })
}

// TestALogDoesNotWaitForATopicThatIsStuck: whose batches are packed, in more partitions than
// may be unpacked at once.
func TestALogDoesNotWaitForATopicThatIsStuck(t *testing.T) {
	w := newWorld(t, 1, 1)
	const partitions = 2 * unpackers
	w.create("events", partitions)
	w.create("risks", 1)
	cl := client(t, w.fake, kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	for p := range int32(partitions) {
		put(t, cl, "events", p, strings.Repeat("a", 1000))
	}
	c := w.consume(disktest.New())
	c.refuse(func(*Consumed) error { return errors.New("the keys are away") })
	eventually(t, "it is stuck", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.tries) >= unpackers
	})
	put(t, cl, "risks", 0, strings.Repeat("b", 1000))
	f := follow(t, w.openLog(w.config("risks")), nil)
	f.wait()
	if f.count() != 1 {
		t.Error(f.count())
	}
	c.refuse(nil)
	eventually(t, "all are taken", func() bool { return len(c.taken()) == partitions })
}

// TestEverythingIsTakenWhileBrokersComeAndGo.
func TestEverythingIsTakenWhileBrokersComeAndGo(t *testing.T) {
	w := newWorld(t, 3, 1)
	w.create("events", 3)
	c := w.consume(disktest.New())
	cl := client(t, w.fake)
	want := map[string]bool{}
	for i := range 60 {
		value := fmt.Sprint(i)
		if cl.ProduceSync(t.Context(), &kgo.Record{Topic: "events", Partition: int32(i % 3), Value: []byte(value)}).FirstErr() == nil {
			want[value] = true
		}
		switch g := w.gates[i%3]; i % 6 {
		case 1:
			g.cut()
		case 3:
			if err := w.fake.MoveTopicPartition("events", int32(i%3), int32(i/6%3)); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "all are taken", func() bool {
		got := map[string]bool{}
		for what := range c.taken() {
			_, value, _ := strings.Cut(what, " ")
			got[value] = true
		}
		for value := range want {
			if !got[value] {
				return false
			}
		}
		return true
	})
}

// TestWhatIsReadIsDatedByWhenItCame: keys that are fetched later are newer than it.
func TestWhatIsReadIsDatedByWhenItCame(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.create("events", 1)
	begun := w.now()
	put(t, client(t, w.fake), "events", 0, "a")
	read := make(chan authz.Instant, 10)
	c := w.consume(disktest.New(), func(cfg *ConsumerConfig) {
		cfg.Take = func(_ context.Context, m *Consumed) error {
			read <- m.Read
			if len(read) < 2 {
				return errors.New("again")
			}
			return nil
		}
	})
	eventually(t, "it is taken", func() bool { return c.k.Status().Taken == 1 })
	first, second := <-read, <-read
	if first != second || first < begun || first > w.now() {
		t.Errorf("%s, then %s; it began at %s", first, second, begun)
	}
}

func TestWhatCannotBeConsumedIsSaid(t *testing.T) {
	w := newWorld(t, 1, 1)
	take := func(context.Context, *Consumed) error { return nil }
	for want, c := range map[string]ConsumerConfig{
		"needs a topic": {Path: "p", Take: take}, "somebody to take": {Topic: "t", Path: "p"}, "a file": {Topic: "t", Take: take},
		"is the log": {Topic: "log", Path: "p", Take: take}, "is an input": {Topic: "risks", Path: "p", Take: take},
	} {
		if _, err := NewConsumer(w.config("risks"), c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := NewConsumer(Config{Now: w.now}, ConsumerConfig{Topic: "t", Path: "p", Take: take}); err == nil {
		t.Error("without brokers")
	}
}

// TestAStopIsPromptWhileNothingCanBeTaken.
func TestAStopIsPromptWhileNothingCanBeTaken(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.create("events", 1)
	put(t, client(t, w.fake), "events", 0, "a")
	entered := make(chan struct{})
	c := w.consume(disktest.New(), func(cfg *ConsumerConfig) {
		cfg.Take = func(ctx context.Context, _ *Consumed) error {
			close(entered)
			<-ctx.Done()
			return ctx.Err()
		}
	})
	<-entered
	done := make(chan struct{})
	go func() { c.stop(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("it does not stop")
	}
	if s := c.k.Status(); s.Next["events/0"] != 0 {
		t.Errorf("%+v", s)
	}
}

func FuzzPlace(f *testing.F) {
	f.Add(encodePlace(&place{}))
	f.Add(encodePlace(&place{log: signals.LogID{1}, topic: [16]byte{2}, next: signals.Positions{0: 1, 4096: 9}, marks: someMarks(2)}))
	f.Add("vigil-topic 1 00 00 - AQ== 00000000\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := decodePlace(text)
		if err != nil {
			if !errors.Is(err, errPlace) || p.next != nil {
				t.Fatalf("%+v, %v", p, err)
			}
			return
		}
		if again := encodePlace(&p); again != text {
			t.Fatalf("%q became %q", text, again)
		}
		for number, at := range p.next {
			if number < 0 || at < 0 {
				t.Fatalf("%+v", p)
			}
		}
	})
}
