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

// Log is the signal log of a cluster: a signals.Log. Its topic takes what is appended, and
// it is followed together with the inputs. All methods are safe for concurrent use.
//
// Open starts goroutines that ask the brokers who leads what, and one for each partition of
// the log that writes to it. Close ends them. Those that read are Follow's.
type Log struct {
	cfg    Config
	log    *slog.Logger
	topics []*topic // the log first

	ctx     context.Context // ends with Close
	end     context.CancelFunc
	cluster *cluster
	writer  *writer
	fresh   freshness
	marks   memory

	following atomic.Bool

	mu       sync.Mutex
	progress map[int32]*progress
}

// unknownTopicFor is how long a topic may be unknown to the brokers while the log is opened:
// one that was just made is not known to all of them at once.
const unknownTopicFor = 10 * time.Second

// Open reaches the cluster, however long that takes, until ctx ends; it says in the log what
// it waits for. It is an error if the configuration is wrong, if a topic does not exist or is
// set to be weaker than the log needs (see Check), if brokers are older than
// Kafka 3.1, or if they do not take the credentials.
func Open(ctx context.Context, cfg Config) (*Log, error) {
	switch {
	case len(cfg.Brokers) == 0:
		return nil, errors.New("kafka: no brokers")
	case cfg.Now == nil:
		return nil, errors.New("kafka: no clock")
	}
	if cfg.Poll <= 0 {
		cfg.Poll = 500 * time.Millisecond
	}
	l := &Log{cfg: cfg, log: cfg.Logger, progress: make(map[int32]*progress)}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if l.topics, err = topics(&l.cfg); err != nil {
		return nil, err
	}
	l.cluster = newCluster(&l.cfg, l.topics, &l.fresh, l.log)
	first, minISR, err := l.reach(ctx)
	if err != nil {
		return nil, err
	}
	l.ctx, l.end = context.WithCancel(context.Background())
	l.writer = newWriter(l)
	if err := l.cluster.start(l.ctx, first, minISR); err != nil {
		l.Close()
		return nil, err
	}
	l.writer.start()
	return l, nil
}

// reach asks the configured brokers in turn until one knows all topics, and takes the ids of
// the topics from its answer. It also gives min.insync.replicas by topic.
func (l *Log) reach(ctx context.Context) (*clusterMeta, map[string]int, error) {
	var pause backoff
	told := make([]said, len(l.cfg.Brokers))
	var unknownSince time.Time
	for n := 0; ; n++ {
		which := n % len(l.cfg.Brokers)
		address := l.cfg.Brokers[which]
		m, minISR, err := l.meet(ctx, address)
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

// meet asks one broker for the topics and how they are set.
func (l *Log) meet(ctx context.Context, address string) (*clusterMeta, map[string]int, error) {
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
	found, minISR, err := cn.checkTopics(ctx, &l.cfg, m)
	if err != nil {
		return nil, nil, err
	}
	for _, f := range found {
		if f.Allowed {
			l.log.Warn("a topic is weaker than the contract needs", slog.String("finding", f.String()))
		}
	}
	return m, minISR, refused(found)
}

// identify takes the ids of the topics from an answer.
func (l *Log) identify(m *clusterMeta) error {
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

// Close ends what Open started, and a Follow that runs. What is being appended may be in the
// log or not.
func (l *Log) Close() error {
	l.end()
	l.cluster.stop()
	l.writer.stop()
	return nil
}

// ID is the log's identity: the id of its topic (KIP-516), which no other topic has, of the
// same name neither.
func (l *Log) ID() signals.LogID { return l.topics[0].id }

// FreshAt is the instant, by Config.Now, as of which the view is complete: whatever any
// replica or input was told is in the log by then has been delivered, and deliver has
// returned. It never goes back, is 0 before the first catch-up, and costs one atomic load.
func (l *Log) FreshAt() authz.Instant { return l.fresh.freshAt() }

// Marks are what is needed to know the log's latest records again, for a snapshot: take the
// positions first, and the marks after. They are never of earlier records than the positions.
func (l *Log) Marks() []byte { return encodeMarks(l.marks.all()) }

// RestoreMarks takes what Marks gave, before Follow. What they say is compared then.
func (l *Log) RestoreMarks(b []byte) error {
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
func (l *Log) PartitionName(number int32) string {
	t, p := topicOf(l.topics, number)
	if t == nil {
		return fmt.Sprintf("a topic that is not configured (%d)", number)
	}
	return t.partitionName(p)
}

// Partitions is how many partitions there are, of the log and of the inputs.
func (l *Log) Partitions() int {
	l.cluster.mu.Lock()
	defer l.cluster.mu.Unlock()
	return len(l.cluster.parts)
}

// Starts says where each partition begins now: the first offset that it has. It waits for
// leaders until ctx ends.
func (l *Log) Starts(ctx context.Context) (signals.Positions, error) {
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
func (l *Log) startOf(ctx context.Context, number int32, conns map[string]*conn) (int64, error) {
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

// Append makes records durable in one partition of the log: min.insync.replicas replicas
// have them when it returns. They must not change until then, nor after an error. Concurrent
// calls share requests. The errors are those of signals.Log: ErrUnavailable where nothing was
// written for sure, with ErrOverloaded where too much is waiting.
func (l *Log) Append(ctx context.Context, records [][]byte) ([]signals.Position, error) {
	return l.writer.append(ctx, records)
}

// Health says why no partition of the log can take records now, or nil where one can. It
// recovers by itself.
func (l *Log) Health() error { return l.writer.health() }

func (l *Log) progressOf(number int32) *progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.progress[number]
	if p == nil {
		p = new(progress)
		l.progress[number] = p
	}
	return p
}

// Stats are for metrics.
type Stats struct {
	Partitions []PartitionStats // in order of their numbers
	// ProduceErrors counts requests to write that failed, were refused or were not answered.
	ProduceErrors int64
}

// PartitionStats say how the following of a partition goes.
type PartitionStats struct {
	Name        string // "topic/partition"
	Lag         int64  // records that the leader has and that were not delivered yet
	Reconnects  int64  // times that it was begun anew, also for another leader
	FetchErrors int64
	LastError   string // "" for none since the start
}

// Stats reports how the log does.
func (l *Log) Stats() Stats {
	s := Stats{ProduceErrors: l.writer.errors.Load()}
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
		s.Partitions = append(s.Partitions, of)
	}
	return s
}
