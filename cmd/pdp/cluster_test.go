package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"vigil/authz"
	"vigil/signals"
	"vigil/signals/kafka"
)

// cluster is a log that several nodes share, in memory: what a node may expect of one on
// Kafka, without the wire, so that a test in a bubble of fake time can make it fail.
type cluster struct {
	now func() authz.Instant

	mu       sync.Mutex
	id       signals.LogID
	parts    map[int32]*part
	inputs   map[int32]*signals.Input // of the partitions that others write
	next     int32                    // partition of the next append
	most     int                      // so many are delivered at once
	away     bool                     // nobody answers
	deaf     bool                     // nothing can be appended, and all can be read
	silent   bool                     // what is asked is answered when it is no more
	lossy    bool                     // what is appended is, and nobody hears of it
	appended chan struct{}            // closed and replaced when anything changes
}

// part is one partition.
type part struct {
	start   int64
	entries []signals.Entry // from start on
}

func (p *part) end() int64 { return p.start + int64(len(p.entries)) }

func newCluster(partitions int32, now func() authz.Instant) *cluster {
	b := &cluster{now: now, id: signals.LogID{1}, parts: map[int32]*part{}, inputs: map[int32]*signals.Input{}, most: batch, appended: make(chan struct{})}
	for p := range partitions {
		b.parts[p] = new(part)
	}
	return b
}

// change does something to b and has every follower look.
func (b *cluster) change(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	close(b.appended)
	b.appended = make(chan struct{})
}

// input adds partitions that others write.
func (b *cluster) input(in *signals.Input, partitions ...int32) {
	for _, p := range partitions {
		b.parts[p], b.inputs[p] = new(part), in
	}
}

// produce appends what somebody writes to a partition of an input.
func (b *cluster) produce(partition int32, record string) {
	b.change(func() {
		p := b.parts[partition]
		at := signals.Position{Partition: partition, Offset: p.end()}
		p.entries = append(p.entries, signals.Entry{Position: at, Appended: b.now(), Record: []byte(record), Input: b.inputs[partition]})
	})
}

// cut removes what a partition holds.
func (b *cluster) cut(partition int32) {
	b.change(func() {
		p := b.parts[partition]
		p.start, p.entries = p.end(), nil
	})
}

// open is what machine.kafka takes.
func (b *cluster) open(ctx context.Context, cfg kafka.Config) (kafkaLog, error) {
	for {
		b.mu.Lock()
		away, changed := b.away, b.appended
		b.mu.Unlock()
		if !away {
			return &clusterLog{cluster: b, now: cfg.Now, marks: map[int32]int64{}}, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		}
	}
}

// clusterLog is what one node sees of them.
type clusterLog struct {
	*cluster
	now    func() authz.Instant
	alone  *atomic.Bool   // this node alone is cut off; nil for never
	behind *atomic.Uint64 // the partitions that do not get through to this node, by bit; nil for none
	// delivered is called after each delivery, by the goroutine that follows; nil for not.
	delivered *atomic.Pointer[func()]
	freshAt   atomic.Int64

	marking sync.Mutex
	marks   map[int32]int64 // the offsets of the last records that were delivered
}

func (l *clusterLog) ID() signals.LogID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.id
}

func (l *clusterLog) FreshAt() authz.Instant       { return authz.Instant(l.freshAt.Load()) }
func (l *clusterLog) PartitionName(p int32) string { return fmt.Sprintf("log/%d", p) }
func (l *clusterLog) Close() error                 { return nil }

func (l *clusterLog) Stats() kafka.Stats { return kafka.Stats{} }

func (l *clusterLog) Starts(context.Context) (signals.Positions, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := signals.Positions{}
	for p, part := range l.parts {
		at[p] = part.start
	}
	return at, nil
}

func (l *clusterLog) Health() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away {
		return errors.New("no broker answers")
	}
	return nil
}

func (l *clusterLog) Append(_ context.Context, records [][]byte) ([]signals.Position, error) {
	at := make([]signals.Position, len(records))
	err := signals.ErrUnavailable
	l.change(func() {
		if l.away || l.deaf || l.cutOff() {
			return
		}
		if err = nil; l.lossy {
			err = errors.New("no answer came")
		}
		partition := l.next % int32(len(l.parts)-len(l.inputs))
		l.next++
		p := l.parts[partition]
		for i, r := range records {
			at[i] = signals.Position{Partition: partition, Offset: p.end()}
			p.entries = append(p.entries, signals.Entry{Position: at[i], Appended: l.cluster.now(), Record: slices.Clone(r)})
		}
	})
	return at, err
}

// lacks reports whether a partition does not get through to this node now.
func (l *clusterLog) lacks(partition int32) bool {
	return l.behind != nil && l.behind.Load()&(1<<partition) != 0
}

func (l *clusterLog) cutOff() bool { return l.alone != nil && l.alone.Load() }

func (l *clusterLog) Marks() []byte {
	l.marking.Lock()
	defer l.marking.Unlock()
	marks, err := json.Marshal(l.marks, json.Deterministic(true))
	if err != nil {
		panic(err)
	}
	return marks
}

func (l *clusterLog) RestoreMarks(marks []byte) error {
	l.marking.Lock()
	defer l.marking.Unlock()
	return json.Unmarshal(marks, &l.marks)
}

// batch bounds what is delivered at once where nobody says otherwise, so that there are several.
const batch = 3

// Follow goes from partition to partition. A view is as new as the beginning of a round
// that found nothing anywhere.
func (l *clusterLog) Follow(ctx context.Context, from signals.Positions, deliver func([]signals.Entry) error, caughtUp func()) error {
	at := maps.Clone(from)
	for ctx.Err() == nil {
		begun, found, whole := l.now(), false, true
		l.mu.Lock()
		gone, answers, changed := l.id, !l.away && !l.silent && !l.cutOff(), l.appended
		parts := slices.Sorted(maps.Keys(l.parts))
		l.mu.Unlock()
		if gone != (signals.LogID{1}) {
			return fmt.Errorf("log/0: %w", kafka.ErrRecreated)
		}
		for _, partition := range parts {
			if !answers {
				break
			}
			if l.lacks(partition) {
				whole = false
				continue
			}
			entries, err := l.read(partition, at[partition])
			if err != nil {
				return err
			}
			if len(entries) == 0 {
				continue
			}
			found = true
			last := entries[len(entries)-1].Position.Offset
			l.marking.Lock()
			l.marks[partition] = last
			l.marking.Unlock()
			if err := deliver(entries); err != nil {
				return err
			}
			at[partition] = last + 1
			if l.delivered != nil {
				if f := l.delivered.Load(); f != nil {
					(*f)()
				}
			}
		}
		if found {
			continue
		}
		if answers && whole {
			l.freshAt.Store(max(l.freshAt.Load(), int64(begun)))
			if caughtUp != nil {
				caughtUp()
				caughtUp = nil
			}
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-time.After(100 * time.Millisecond):
		}
	}
	return ctx.Err()
}

func (l *clusterLog) read(partition int32, at int64) ([]signals.Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.parts[partition]
	switch {
	case at < p.start:
		return nil, fmt.Errorf("log/%d at offset %d: %w", partition, at, kafka.ErrHole)
	case at > p.end():
		return nil, fmt.Errorf("log/%d at offset %d: %w", partition, at, kafka.ErrTruncated)
	}
	entries := p.entries[at-p.start:]
	return slices.Clone(entries[:min(len(entries), l.most)]), nil
}
