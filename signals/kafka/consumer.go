package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"vigil/authz"
	"vigil/disk"
	"vigil/signals"
)

// ConsumerConfig says what is consumed, and who takes it.
type ConsumerConfig struct {
	// Topic is neither the log nor an input. Required.
	Topic string
	// Decode makes of a record what is taken; nil where that is its value.
	Decode Decoder
	// Take takes one record, several at once and in any order. It returns nil when that has
	// been done for good, whatever came of it, and an error to be given it again: after a
	// while, again and again. Its context ends when reading does. Required.
	Take func(context.Context, *Consumed) error
	// AtOnce bounds the records of a partition that are being taken; 0 for 8.
	AtOnce int
	// Path is of the file that says up to where all was taken. Required.
	Path string
	// FS holds it; nil means the machine's.
	FS disk.FS
	// For is the log that what is taken goes into. What was taken for another is taken again.
	For signals.LogID
}

// Consumed is a record as it is handed over. Its memory is the consumer's once it was taken.
type Consumed struct {
	signals.Entry
	Partition string        // "topic/partition"
	Read      authz.Instant // when it had come from the broker, by Config.Now
}

// Consumer reads a topic to its end and then what is added, each record at least once: the
// place up to which all were taken is written down, and reading goes on there after a start.
// Unlike a Log it stops for nothing. What retention took before it was read is counted and
// passed over. A topic that is not there yet is waited for. One that was made anew, or whose
// brokers show other records than they did, is read from its beginning. So it is fit for what
// makes no difference when it is taken twice.
//
// It has no goroutine but those of Run.
type Consumer struct {
	cfg Config
	c   ConsumerConfig
	log *slog.Logger

	turns   turns // to unpack in: see unpacking
	told    said  // of Run's goroutine, why the topic cannot be read
	unsaved said  // of whoever saves, which is one at a time, why the place cannot be written

	mu struct {
		sync.Mutex
		feed     *feed // while there is one
		place    place
		dirty    bool // place is not what the file says
		taken    uint64
		lost     uint64
		lostSaid time.Time // when that was said last
		fresh    authz.Instant
		broken   error         // why the topic as a whole is not read; nil while it is
		stuck    map[int32]int // records by partition that are to be taken again
		why      error         // what Take said last of one of these
	}
}

// NewConsumer makes a consumer. Of cfg the topics are not read.
func NewConsumer(cfg Config, c ConsumerConfig) (*Consumer, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	switch {
	case c.Topic == "" || c.Take == nil || c.Path == "":
		return nil, errors.New("kafka: a consumer needs a topic, somebody to take its records, and a file")
	case c.Topic == cfg.Topic:
		return nil, fmt.Errorf("kafka: the topic %q is the log, which only replicas may write", c.Topic)
	}
	for i := range cfg.Inputs {
		if cfg.Inputs[i].Topic == c.Topic {
			return nil, fmt.Errorf("kafka: the topic %q is an input", c.Topic)
		}
	}
	if c.AtOnce <= 0 {
		c.AtOnce = 8
	}
	if c.FS == nil {
		c.FS = disk.OS
	}
	k := &Consumer{cfg: cfg, c: c, log: cfg.Logger, turns: make(turns, unpackers)}
	if k.log == nil {
		k.log = slog.New(slog.DiscardHandler)
	}
	k.log = k.log.With(slog.String("topic", c.Topic))
	k.mu.stuck = make(map[int32]int)
	return k, nil
}

const (
	// saveEvery is how often the place is written down while it moves.
	saveEvery = time.Second
	// goodSession is how long reading must have gone on for it to be begun anew at once.
	goodSession = 10 * time.Second
)

// Run reads until ctx ends, and returns its error. One Run at a time.
func (k *Consumer) Run(ctx context.Context) error {
	k.restore()
	var pause backoff
	for ctx.Err() == nil {
		began := time.Now()
		err := guard(func() error { return k.session(ctx) })
		if ctx.Err() != nil {
			break
		}
		k.failed(err)
		if time.Since(began) > goodSession {
			pause.reset()
		}
		if !pause.wait(ctx) {
			break
		}
	}
	k.save()
	return ctx.Err()
}

// session reads until the topic cannot be read as it is. It returns why.
func (k *Consumer) session(ctx context.Context) error {
	f := &feed{skip: k.skipped, turns: k.turns}
	f.furnish(k.cfg, []*topic{{name: k.c.Topic, base: base(k.c.Topic), decode: k.c.Decode}})
	// How the topic is set is the business of those who write it.
	asItIs := func(context.Context, *conn, *clusterMeta) (map[string]int, error) {
		return map[string]int{k.c.Topic: 1}, nil
	}
	k.mu.Lock()
	if k.mu.broken == nil {
		k.mu.broken = errNotReached // until begin
	}
	k.mu.Unlock()
	if err := f.open(ctx, asItIs); err != nil {
		return err
	}
	defer f.close()
	from := k.begin(f)
	defer k.end(f)

	saving, stop := context.WithCancel(ctx)
	var saver sync.WaitGroup
	saver.Go(func() {
		for sleep(saving, saveEvery) {
			k.save()
		}
	})
	defer saver.Wait()
	defer stop()
	return f.follow(ctx, from, k.deliver, func() {})
}

// begin puts a feed in use, and gives where it is to be read from.
func (k *Consumer) begin(f *feed) signals.Positions {
	k.mu.Lock()
	defer k.mu.Unlock()
	if id := f.topics[0].id; k.mu.place.topic != id || k.mu.place.log != k.c.For {
		if len(k.mu.place.next) > 0 {
			k.log.Warn("it is another topic of that name, or what it says is to go into another log: it is read from its beginning")
		}
		k.mu.place, k.mu.dirty = place{log: k.c.For, topic: id, next: signals.Positions{}}, true
	}
	for _, m := range k.mu.place.marks {
		f.marks.set(m)
	}
	k.mu.feed, k.mu.broken = f, nil
	clear(k.mu.stuck)
	return k.mu.place.next.Clone()
}

// end takes a feed out of use.
func (k *Consumer) end(f *feed) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mu.fresh = max(k.mu.fresh, f.FreshAt())
	if k.mu.place.next != nil { // else it was forgotten
		k.mu.place.marks = f.marks.all()
	}
	k.mu.feed = nil
}

// failed notes why a session has ended, and begins anew where the records are not those that
// were read.
func (k *Consumer) failed(err error) {
	again := false
	for _, what := range []error{ErrTruncated, ErrDiverged, ErrRecreated} {
		again = again || errors.Is(err, what)
	}
	k.mu.Lock()
	if k.mu.broken = err; again {
		k.mu.place = place{}
	}
	k.mu.Unlock()
	if k.told.news(err) {
		k.log.Warn("the topic cannot be read just now", slog.Bool("from_its_beginning", again), slog.Any("error", err))
	}
}

// deliver has the records of a delivery taken, and moves the place past them when all are. It
// is called by the goroutine of their partition.
func (k *Consumer) deliver(ctx context.Context, entries []signals.Entry) error {
	number, read := entries[0].Position.Partition, k.cfg.Now()
	name := k.partitionName(number)
	var all sync.WaitGroup
	next := make(chan *signals.Entry)
	for range min(k.c.AtOnce, len(entries)) {
		all.Go(func() {
			for e := range next {
				k.take(ctx, &Consumed{Entry: *e, Partition: name, Read: read})
			}
		})
	}
	for i := range entries {
		select {
		case next <- &entries[i]:
		case <-ctx.Done():
		}
	}
	close(next)
	all.Wait()
	if ctx.Err() != nil {
		return ctx.Err() // what was taken is taken again, and the place stays true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mu.taken += uint64(len(entries))
	k.moveLocked(number, entries[len(entries)-1].Position.Offset+1)
	return nil
}

// take has one record taken, however long that takes, until ctx ends.
func (k *Consumer) take(ctx context.Context, m *Consumed) {
	var pause backoff
	stuck := false
	number := m.Position.Partition
	defer func() {
		if stuck {
			k.mu.Lock()
			defer k.mu.Unlock()
			if k.mu.stuck[number]--; k.mu.stuck[number] == 0 {
				delete(k.mu.stuck, number)
			}
		}
	}()
	for {
		err := guard(func() error { return k.c.Take(ctx, m) })
		if err == nil || ctx.Err() != nil {
			return
		}
		k.mu.Lock()
		if k.mu.why = fmt.Errorf("%s, offset %d: %w", m.Partition, m.Position.Offset, err); !stuck {
			stuck = true
			k.mu.stuck[number]++
		}
		k.mu.Unlock()
		if !pause.wait(ctx) {
			return
		}
	}
}

// skipped notes that offsets are gone. Before anything was read of a partition nothing of it
// is lost: it begins where it begins.
func (k *Consumer) skipped(number int32, from, to int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, known := k.mu.place.next[number]; known || from > 0 {
		k.mu.lost += uint64(to - from)
		// A compacted topic has a great many gaps, and they are no line each.
		if now := time.Now(); now.Sub(k.mu.lostSaid) >= sayEvery {
			k.mu.lostSaid = now
			k.log.Error("records are gone that were never read", slog.String("partition", k.nameLocked(number)),
				slog.Int64("from", from), slog.Int64("to", to), slog.Uint64("lost_since_the_start", k.mu.lost))
		}
	}
	k.moveLocked(number, to)
}

func (k *Consumer) moveLocked(number int32, to int64) {
	if k.mu.place.next == nil || k.mu.place.next[number] >= to {
		return
	}
	k.mu.place.next[number], k.mu.dirty = to, true
}

// ConsumerStatus is how the reading of a topic goes.
type ConsumerStatus struct {
	// Next is the first offset of each partition that may not have been taken, by
	// "topic/partition". One of which nothing was read is left out.
	Next map[string]int64
	// Behind is how many records the brokers had, when they were last asked, that were not
	// taken.
	Behind int64
	Taken  uint64 // records since the start
	Lost   uint64 // offsets since the start that were gone before they were read
	// Fresh: all that was in the topic at this instant has been taken; 0 for never.
	Fresh authz.Instant
	// Err is why the topic, one of its partitions, or one of its records cannot be got past
	// just now; nil where all goes well.
	Err error
}

// Status says how reading goes. It may be called while Run runs.
func (k *Consumer) Status() ConsumerStatus {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := ConsumerStatus{Next: make(map[string]int64), Taken: k.mu.taken, Lost: k.mu.lost, Fresh: k.mu.fresh, Err: k.mu.broken}
	for number, at := range k.mu.place.next {
		s.Next[k.nameLocked(number)] = at
	}
	if len(k.mu.stuck) > 0 {
		s.Err = k.mu.why
	}
	f := k.mu.feed
	if f == nil {
		return s
	}
	s.Fresh = max(s.Fresh, f.FreshAt())
	f.mu.Lock()
	defer f.mu.Unlock()
	for number, p := range f.progress {
		s.Behind += p.lag.Load()
		if why := p.failing.Load(); why != nil && s.Err == nil {
			s.Err = fmt.Errorf("%s: %s", k.nameLocked(number), *why)
		}
	}
	return s
}

func (k *Consumer) partitionName(number int32) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.nameLocked(number)
}

func (k *Consumer) nameLocked(number int32) string {
	t := topic{name: k.c.Topic}
	return t.partitionName(number - base(k.c.Topic))
}
