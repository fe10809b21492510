package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vigil/authz"
	"vigil/signals"
)

// feed reads topics: what a Log, which has to have every record, and a Consumer have in
// common. open starts goroutines that ask the brokers who leads what, and close ends them.
// Those that read are follow's.
type feed struct {
	cfg    Config
	log    *slog.Logger
	topics []*topic
	// skip is told of offsets that the brokers no longer have and that are passed over; nil
	// where that ends Follow. It is called by the goroutine of the partition.
	skip func(number int32, from, to int64)
	// turns are those that batches are unpacked by.
	turns turns

	ctx     context.Context // ends with close
	end     context.CancelFunc
	cluster *cluster
	fresh   freshness
	marks   memory

	following atomic.Bool

	mu       sync.Mutex
	progress map[int32]*progress
}

// unknownTopicFor is how long a topic may be unknown to the brokers while a feed is opened:
// one that was just made is not known to all of them at once.
const unknownTopicFor = 10 * time.Second

// check says what is missing for any feed.
func (cfg *Config) check() error {
	switch {
	case len(cfg.Brokers) == 0:
		return errors.New("kafka: no brokers")
	case cfg.Now == nil:
		return errors.New("kafka: no clock")
	}
	return nil
}

// furnish gives a new feed what it needs to be opened.
func (l *feed) furnish(cfg Config, all []*topic) {
	if cfg.Poll <= 0 {
		cfg.Poll = 500 * time.Millisecond
	}
	l.cfg, l.log, l.topics, l.progress = cfg, cfg.Logger, all, make(map[int32]*progress)
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.turns == nil {
		l.turns = unpacking
	}
	l.cluster = newCluster(&l.cfg, l.topics, &l.fresh, l.log)
}

// meeting looks at what a broker says of the topics, and gives min.insync.replicas by topic,
// where it is known.
type meeting func(context.Context, *conn, *clusterMeta) (map[string]int, error)

// open reaches the cluster, however long that takes, until ctx ends, and begins to ask who
// leads what. After an error there is nothing to close.
func (l *feed) open(ctx context.Context, look meeting) error {
	first, minISR, err := l.reach(ctx, look)
	if err != nil {
		return err
	}
	l.ctx, l.end = context.WithCancel(context.Background())
	if err := l.cluster.start(l.ctx, first, minISR); err != nil {
		l.close()
		return err
	}
	return nil
}

// close ends what open started, and a Follow that runs.
func (l *feed) close() {
	l.end()
	l.cluster.stop()
}

// reach asks the configured brokers in turn until one knows all topics, and takes the ids of
// the topics from its answer. It also gives min.insync.replicas by topic.
func (l *feed) reach(ctx context.Context, look meeting) (*clusterMeta, map[string]int, error) {
	var pause backoff
	told := make([]said, len(l.cfg.Brokers))
	var unknownSince time.Time
	for n := 0; ; n++ {
		which := n % len(l.cfg.Brokers)
		address := l.cfg.Brokers[which]
		m, minISR, err := l.meet(ctx, address, look)
		var weak *WeakError
		switch {
		case err == nil:
			return m, minISR, nil
		case ctx.Err() != nil:
			return nil, nil, fmt.Errorf("kafka: the cluster could not be reached: %w", errors.Join(ctx.Err(), err))
		case errors.As(err, &weak), errors.Is(err, errAuthentication), errors.Is(err, errTooOld),
			errors.Is(err, errTopicAuthorization), errors.Is(err, errInvalidTopic):
			return nil, nil, fmt.Errorf("kafka: %s: %w", address, err)
		case errors.Is(err, errUnknownTopic):
			if unknownSince.IsZero() {
				unknownSince = time.Now()
			}
			if time.Since(unknownSince) > unknownTopicFor {
				return nil, nil, fmt.Errorf("kafka: %w; `pdp topics create` makes the topics", err)
			}
		}
		if told[which].news(err) {
			l.log.Warn("waiting for the Kafka cluster", slog.String("broker", address), slog.Any("error", err))
		}
		if !pause.wait(ctx) {
			return nil, nil, fmt.Errorf("kafka: the cluster could not be reached: %w", errors.Join(ctx.Err(), err))
		}
	}
}

// meet asks one broker for the topics, and looks at what it says.
func (l *feed) meet(ctx context.Context, address string, look meeting) (*clusterMeta, map[string]int, error) {
	cn, err := l.cluster.dialer.dial(ctx, address)
	if err != nil {
		return nil, nil, err
	}
	defer cn.close()
	m, err := l.cluster.question(ctx, cn)
	if err != nil {
		return nil, nil, err
	}
	if err := l.identify(m); err != nil {
		return nil, nil, err
	}
	minISR, err := look(ctx, cn, m)
	return m, minISR, err
}

// identify takes the ids of the topics from an answer.
func (l *feed) identify(m *clusterMeta) error {
	for _, t := range l.topics {
		of := m.topics[t.name]
		switch {
		case of.code != errNone:
			return fmt.Errorf("topic %s: %w", t.name, of.code)
		case len(of.partitions) == 0:
			return fmt.Errorf("topic %s: %w", t.name, errUnknownTopic)
		case of.id == [16]byte{}:
			return fmt.Errorf("topic %s has no id: %w", t.name, errTooOld)
		}
		t.id = of.id
	}
	return nil
}

// FreshAt is the instant, by Config.Now, as of which the view is complete: whatever any
// replica or input was told is in the log by then has been delivered, and deliver has
// returned. It never goes back, is 0 before the first catch-up, and costs one atomic load.
func (l *feed) FreshAt() authz.Instant { return l.fresh.freshAt() }

// Marks are what is needed to know the log's latest records again, for a snapshot: take the
// positions first, and the marks after. They are never of earlier records than the positions.
func (l *feed) Marks() []byte { return encodeMarks(l.marks.all()) }

// RestoreMarks takes what Marks gave, before Follow. What they say is compared then.
func (l *feed) RestoreMarks(b []byte) error {
	marks, err := decodeMarks(b)
	if err != nil {
		return err
	}
	for _, m := range marks {
		if t, _ := topicOf(l.topics, m.partition); t != nil {
			l.marks.set(m)
		}
	}
	return nil
}

// PartitionName says what a number in positions stands for: "topic/partition".
func (l *feed) PartitionName(number int32) string {
	t, p := topicOf(l.topics, number)
	if t == nil {
		return fmt.Sprintf("a topic that is not configured (%d)", number)
	}
	return t.partitionName(p)
}

// Partitions is how many partitions there are, of the log and of the inputs.
func (l *feed) Partitions() int {
	l.cluster.mu.Lock()
	defer l.cluster.mu.Unlock()
	return len(l.cluster.parts)
}

// Starts says where each partition begins now: the first offset that it has. It waits for
// leaders until ctx ends.
func (l *feed) Starts(ctx context.Context) (signals.Positions, error) {
	numbers, err := l.cluster.numbers()
	if err != nil {
		return nil, err
	}
	starts := make(signals.Positions, len(numbers))
	conns := make(map[string]*conn)
	defer func() {
		for _, cn := range conns {
			cn.close()
		}
	}()
	for _, number := range numbers {
		var pause backoff
		var told said
		for {
			at, err := l.startOf(ctx, number, conns)
			if err == nil {
				starts[number] = at
				break
			}
			if told.news(err) {
				l.log.Warn("waiting to hear where a partition begins", slog.String("partition", l.PartitionName(number)), slog.Any("error", err))
			}
			l.cluster.ask()
			if !pause.wait(ctx) {
				return nil, fmt.Errorf("kafka: where %s begins: %w", l.PartitionName(number), errors.Join(ctx.Err(), err))
			}
		}
	}
	return starts, nil
}

// startOf asks a partition's leader where it begins, over a connection that it keeps in conns.
func (l *feed) startOf(ctx context.Context, number int32, conns map[string]*conn) (int64, error) {
	lead, address, err := l.cluster.leader(ctx, number)
	if err != nil {
		return 0, err
	}
	cn := conns[address]
	if cn == nil {
		if cn, err = l.cluster.dialer.dial(ctx, address); err != nil {
			return 0, err
		}
		conns[address] = cn
	}
	t, p := topicOf(l.topics, number)
	at, code, err := cn.offset(ctx, t.name, p, lead.epoch, earliest)
	if err != nil {
		cn.close()
		delete(conns, address)
		return 0, err
	}
	return at, code.err()
}

func (l *feed) progressOf(number int32) *progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.progress[number]
	if p == nil {
		p = new(progress)
		l.progress[number] = p
	}
	return p
}

// partitionStats are those of every partition that was followed, in order of their numbers.
func (l *feed) partitionStats() (all []PartitionStats) {
	l.mu.Lock()
	defer l.mu.Unlock()
	numbers := make([]int32, 0, len(l.progress))
	for number := range l.progress {
		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	for _, number := range numbers {
		p := l.progress[number]
		of := PartitionStats{Name: l.PartitionName(number), Lag: p.lag.Load(), Reconnects: p.reconnects.Load(), FetchErrors: p.errors.Load()}
		if last := p.last.Load(); last != nil {
			of.LastError = *last
		}
		all = append(all, of)
	}
	return all
}
