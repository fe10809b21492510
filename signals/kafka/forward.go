package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"vigil/signals"
	"vigil/signals/deadletter"
)

const (
	// maxForwarded bounds the letters that wait: 4 MiB of records.
	maxForwarded = 256
	// farewell is how long Close lets letters be sent that wait.
	farewell = 2 * time.Second
)

// Forwarder writes dead letters to a topic, for whoever collects those of all replicas. Each
// is one record without a key, the line that package deadletter has for it. Every replica
// forwards what it meets, and again what it reads again after a start, so that consumers
// see a letter more than once, with the same partition and offset.
//
// It is safe for concurrent use. One goroutine, started by NewForwarder and ended by Close,
// does all I/O, one letter at a time. While the topic cannot be written, letters wait, as
// many as there is room for; more are counted and dropped. It is evidence and no promise.
type Forwarder struct {
	cfg    Config
	topic  string
	dialer *dialer
	log    *slog.Logger
	queue  chan signals.DeadLetter
	ctx    context.Context // of all I/O
	cancel context.CancelFunc
	closed chan struct{} // closed by Close
	ended  chan struct{} // closed by the goroutine
	once   sync.Once

	mu struct {
		sync.Mutex
		closed bool
		stats  ForwarderStats
	}

	// Used by the goroutine alone: the connection to the leader of a partition, nil for
	// none, and when it was last used.
	leader    *conn
	partition int32
	used      time.Time
	turn      int
}

// ForwarderStats are counts since NewForwarder.
type ForwarderStats struct {
	Written   uint64
	Dropped   uint64 // there was no room, a broker refused the letter, or it was too late
	Waiting   int    // now
	LastError string // why the topic cannot be written; "" where it can
}

// NewForwarder starts to forward to a topic, which must be neither the log nor an input. It
// does not wait for the brokers.
func NewForwarder(cfg Config, topic string) (*Forwarder, error) {
	switch {
	case topic == "" || len(cfg.Brokers) == 0 || cfg.Now == nil:
		return nil, errors.New("kafka: dead letters need brokers, a topic and a clock")
	case slices.Contains(cfg.topicNames(), topic):
		return nil, fmt.Errorf("kafka: dead letters in the topic %s would come back as signals", topic)
	}
	f := &Forwarder{
		cfg: cfg, topic: topic, dialer: newDialer(&cfg), log: cfg.Logger, queue: make(chan signals.DeadLetter, maxForwarded),
		closed: make(chan struct{}), ended: make(chan struct{}),
	}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	go f.run()
	return f, nil
}

// Add has a letter forwarded, or counts it where there is no room. It never waits. The letter
// is f's to keep. It is what signals.ApplierConfig.DeadLetter takes.
func (f *Forwarder) Add(l signals.DeadLetter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.closed {
		f.mu.stats.Dropped++
		return
	}
	select {
	case f.queue <- l:
	default:
		f.mu.stats.Dropped++
	}
}

// Stats reports what f has done.
func (f *Forwarder) Stats() ForwarderStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.mu.stats
	s.Waiting = len(f.queue)
	return s
}

// Close sends what waits, for 2 s at most, and ends the goroutine. Letters that come later
// are only counted.
func (f *Forwarder) Close() {
	f.once.Do(func() {
		f.mu.Lock()
		f.mu.closed = true
		f.mu.Unlock()
		close(f.closed)
	})
	late := time.AfterFunc(farewell, f.cancel)
	defer late.Stop()
	<-f.ended
}

func (f *Forwarder) run() {
	defer close(f.ended)
	defer f.cancel()
	defer f.disconnect()
	for {
		select {
		case l := <-f.queue:
			f.forward(&l)
			continue
		case <-f.closed:
		}
		for { // nothing is added any more
			select {
			case l := <-f.queue:
				f.forward(&l)
				continue
			default:
			}
			return
		}
	}
}

// forward writes a letter, and tries again for as long as it takes, unless it is the letter
// that is refused.
func (f *Forwarder) forward(l *signals.DeadLetter) {
	line, err := deadletter.Line(l)
	if err != nil {
		f.failed(err, true)
		return
	}
	var pauses backoff
	for {
		err := guard(func() error { return f.send(line) })
		switch {
		case err == nil:
			f.sent()
			return
		case f.ctx.Err() != nil, unfit(err):
			f.failed(err, true)
			return
		}
		f.disconnect()
		f.failed(err, false)
		if !pauses.wait(f.ctx) {
			f.failed(err, true)
			return
		}
	}
}

// unfit reports whether an error is about the letter and not about the topic.
func unfit(err error) bool {
	for _, code := range []errorCode{errMessageTooLarge, errRecordListTooLarge, errInvalidRecord} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

func (f *Forwarder) send(line []byte) error {
	if f.leader != nil && (time.Since(f.used) > idle || f.leader.ending()) {
		f.disconnect() // the broker may have closed it
	}
	if f.leader == nil {
		if err := f.connect(); err != nil {
			return err
		}
	}
	f.used = time.Now()
	set := appendBatch(make([]byte, 4, 4+batchHead+recordOverhead+len(line)), [][]byte{line}, f.cfg.Now())
	got, err := f.leader.produce(f.ctx, f.topic, f.partition, set, produceTimeout)
	if err != nil {
		return err
	}
	return got.code.err()
}

// connect finds a partition that has a leader, each time another one.
func (f *Forwarder) connect() error {
	c, err := dialAny(f.ctx, &f.cfg)
	if err != nil {
		return err
	}
	defer c.close()
	m, err := c.metadata(f.ctx, []string{f.topic})
	if err != nil {
		return err
	}
	t := m.topics[f.topic]
	if t.code == errUnknownTopic {
		return errors.New("the topic is not there; make it with pdp topics create")
	}
	if err := t.code.err(); err != nil {
		return err
	}
	led := slices.DeleteFunc(slices.Sorted(maps.Keys(t.partitions)), func(p int32) bool { return m.brokers[t.partitions[p].leader] == "" })
	if len(led) == 0 {
		return errors.New("no partition has a leader")
	}
	f.turn++
	f.partition = led[f.turn%len(led)]
	f.leader, err = f.dialer.dial(f.ctx, m.brokers[t.partitions[f.partition].leader])
	return err
}

func (f *Forwarder) disconnect() {
	if f.leader != nil {
		f.leader.close()
		f.leader = nil
	}
}

func (f *Forwarder) sent() {
	f.mu.Lock()
	f.mu.stats.Written++
	ill := f.mu.stats.LastError
	f.mu.stats.LastError = ""
	f.mu.Unlock()
	if ill != "" {
		f.log.Info("dead letters are forwarded again", slog.String("topic", f.topic))
	}
}

func (f *Forwarder) failed(err error, dropped bool) {
	f.mu.Lock()
	before := f.mu.stats.LastError
	f.mu.stats.LastError = err.Error()
	if dropped {
		f.mu.stats.Dropped++
	}
	f.mu.Unlock()
	if before == "" {
		f.log.Warn("dead letters cannot be forwarded; they wait, and are counted where there is no room", slog.String("topic", f.topic), slog.Any("error", err))
	}
}
