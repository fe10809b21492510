package kafka

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"vigil/signals"
)

// errFollowed says that Follow was called while it runs.
var errFollowed = errors.New("kafka: the log is followed already")

// Follow delivers every partition of the log and of the inputs from the given positions on:
// in order within a partition, and from several partitions at once, so that deliver has to
// be safe for concurrent use. A partition that is not in from is delivered from offset 0.
// Positions of topics that are not configured count for nothing. Partitions that are added
// later are followed, too.
//
// It goes on through whatever brokers do that loses nothing: while a partition cannot be
// read it waits, and FreshAt stands still. It returns a *PartitionError when records are
// gone, are others than they were, or belong to another topic of the same name; what deliver
// returned; or the error of ctx. It may be called again then, but not twice at once. What
// it starts has ended when it returns.
func (l *feed) Follow(ctx context.Context, from signals.Positions, deliver func([]signals.Entry) error, caughtUp func()) error {
	return l.follow(ctx, from, func(_ context.Context, entries []signals.Entry) error { return deliver(entries) }, caughtUp)
}

// follow is Follow for a deliver that waits: its context ends with the following of any
// partition.
func (l *feed) follow(ctx context.Context, from signals.Positions, deliver func(context.Context, []signals.Entry) error, caughtUp func()) error {
	if !l.following.CompareAndSwap(false, true) {
		return errFollowed
	}
	defer l.following.Store(false)

	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(l.ctx, cancel)
	defer stop()
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()

	caught := l.fresh.begin(l.cfg.Now())
	l.cluster.ask()
	failed := make(chan error, 1)
	started := make(map[int32]bool)
	for {
		changed := l.cluster.changes()
		numbers, err := l.cluster.numbers()
		if err != nil {
			return err
		}
		if len(started) == 0 {
			if err := l.known(numbers, from); err != nil {
				return err
			}
		}
		for _, number := range numbers {
			if started[number] {
				continue
			}
			if len(started) > 0 && from[number] == 0 {
				l.log.Info("a partition is followed", slog.String("partition", l.PartitionName(number)))
			}
			started[number] = true
			f := l.newFollower(number, from[number], func(entries []signals.Entry) error { return deliver(ctx, entries) })
			running.Go(func() {
				if err := guard(func() error { return f.run(ctx) }); err != nil {
					select {
					case failed <- err:
					default: // another was first
					}
				}
			})
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failed:
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		case <-caught:
			caughtUp()
			caught = nil
		case <-changed:
		}
	}
}

// known says whether what is known of partitions from before can belong to those that there
// are: a topic never loses a partition.
func (l *feed) known(numbers []int32, from signals.Positions) error {
	there := make(map[int32]bool)
	for _, number := range numbers {
		there[number] = true
	}
	for number, at := range from {
		if t, _ := topicOf(l.topics, number); t != nil && at > 0 && !there[number] {
			return &PartitionError{Partition: l.PartitionName(number), Offset: at, What: ErrTruncated,
				Detail: "the topic has no such partition any more"}
		}
	}
	return nil
}

// memory holds the mark of each partition: of the last record that was handed over, or of a
// later one; and where it was found that records which were handed over are there no more.
// It is safe for concurrent use.
type memory struct {
	mu     sync.Mutex
	marks  map[int32]mark
	losses map[int32]*PartitionError
}

// lost remembers, with nil forgets, that a partition has lost what it had. Once retention has
// taken the place of a mark nothing else tells a log that went on from one that did not.
func (m *memory) lost(number int32, what *PartitionError) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.losses == nil {
		m.losses = make(map[int32]*PartitionError)
	}
	m.losses[number] = what
}

// loss gives what is remembered as an error, or nil.
func (m *memory) loss(number int32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.losses[number] == nil {
		return nil
	}
	what := *m.losses[number]
	what.Detail += "; retention has taken the place since, so that a restart from a snapshot would not notice it"
	return &what
}

// of gives the mark of a partition, if it has one.
func (m *memory) of(number int32) (mark, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.marks[number]
	return k, ok
}

// set remembers a record, unless a later one is remembered.
func (m *memory) set(k mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, ok := m.marks[k.partition]; ok && old.offset >= k.offset {
		return
	}
	if m.marks == nil {
		m.marks = make(map[int32]mark)
	}
	m.marks[k.partition] = k
}

func (m *memory) all() []mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]mark, 0, len(m.marks))
	for _, k := range m.marks {
		all = append(all, k)
	}
	return all
}
