package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"vigil/authz"
	"vigil/signals"
	"vigil/signals/kafka"
	"vigil/signals/snapshot"
)

// kafkaLog is what a node needs of the log on Kafka. *kafka.Log is one; tests have another,
// whose brokers are a few lines of memory.
type kafkaLog interface {
	signals.Log
	// FreshAt is how new the view is. It is on the hot path.
	FreshAt() authz.Instant
	// Marks must be taken after the positions that they go with; RestoreMarks, before the
	// log is followed.
	Marks() []byte
	RestoreMarks([]byte) error
	// Starts is where each partition begins now.
	Starts(ctx context.Context) (signals.Positions, error)
	PartitionName(partition int32) string
	Stats() kafka.Stats
	Close() error
}

// dialKafka opens the log. It waits for the brokers until ctx ends.
func (n *node) dialKafka(ctx context.Context, cfg kafka.Config) (kafkaLog, error) {
	if n.on.kafka != nil {
		return n.on.kafka(ctx, cfg)
	}
	log, err := kafka.Open(ctx, cfg)
	if err != nil {
		return nil, err // and no log, not a nil one in an interface
	}
	return log, nil
}

// kafkaStorage is a storage whose log is shared with other replicas.
type kafkaStorage struct {
	storage
	kafka  kafkaLog
	starts signals.Positions // where each partition begins, of those that are followed
}

// openKafka opens the log, waiting for its brokers, and begins from a snapshot of this
// replica or of another, or from nothing where every partition is whole.
func (n *node) openKafka(ctx context.Context) error {
	cfg, err := n.cfg.kafka(n.now, n.log)
	if err != nil {
		return &failure{code: exitInput, err: err}
	}
	// Before the brokers are waited for: whatever is wrong with it can be said at once.
	peers, err := n.peers()
	if err != nil {
		return err
	}
	if err := n.openSpool(); err != nil {
		return err
	}
	log, err := n.dialKafka(ctx, cfg)
	if err != nil {
		n.closeSpool()
		return n.refusal(ctx, fmt.Errorf("the signal log: %w", err))
	}
	n.kafka, n.feed.freshAt, n.feed.partitionNames = log, log.FreshAt, log.PartitionName
	s := &kafkaStorage{kafka: log}
	n.furnishStorage(&s.storage)
	s.signals, s.marks, s.continues = log, log.Marks, snapshot.Of(log.ID())
	if err = s.restore(ctx, peers); err == nil {
		err = n.forwardLetters(cfg)
	}
	if err == nil {
		err = n.attach(&s.storage)
	}
	if err != nil {
		n.closeKafka()
		n.kafka = nil
		return n.refusal(ctx, err)
	}
	return nil
}

// refusal is why a start is refused, unless it was told to end.
func (n *node) refusal(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	var hole *holeError
	var strange *strangeError
	var weak *kafka.WeakError
	var unreachable *failure
	code, hint := exitInput, ""
	switch {
	case errors.As(err, &weak):
		return &failure{code: exitInput, err: weakness(weak.Findings), hint: weakHint(weak.Findings)}
	case errors.As(err, &hole):
		hint = bootstrapHint
		if errors.As(hole.because, &unreachable) && unreachable.code == exitUnreachable {
			code = exitUnreachable // and not because of what was given: trying again may help
		}
	case errors.As(err, &strange):
		hint = "It was deleted and made anew, or is of another cluster. To begin with it from nothing, move " + strange.dir + " away; what was revoked in the old log must then be sent again."
	}
	return &failure{code: code, err: err, hint: hint}
}

// closeKafka closes the log and the spool of its signals.
func (n *node) closeKafka() {
	if err := n.kafka.Close(); err != nil {
		n.log.Error("closing the signal log", "error", err)
	}
	n.closeSpool()
}

// bootstrapHint says how a replica gets what the log no longer has.
const bootstrapHint = "Take it from a replica that runs: name it with --bootstrap-from URL (log.bootstrap_from), or `pdp snapshot save` there and `pdp snapshot load` here (docs/operations.md). Nothing was decided."

// holeError says that records are gone which no snapshot makes up for.
type holeError struct {
	partition string
	start     int64
	because   error // why there is no snapshot
}

func (e *holeError) Error() string {
	return fmt.Sprintf("the partition %s begins at offset %d, and there is no snapshot of what was before: %v", e.partition, e.start, e.because)
}

func (e *holeError) Unwrap() error { return e.because }

// strangeError says that all that this replica has kept is of another log.
type strangeError struct {
	dir     string
	because error
}

func (e *strangeError) Error() string {
	return fmt.Sprintf("the topic is not the log that the snapshots are of: %v", e.because)
}

// restore reads the newest good snapshot that the log still continues, which may be one
// of another replica, or begins from nothing where every partition has its first record.
// Anything else is an error: what is gone may have been a revocation.
func (s *kafkaStorage) restore(ctx context.Context, from *peers) error {
	var err error
	if s.starts, err = s.kafka.Starts(ctx); err != nil {
		return fmt.Errorf("where the log begins: %w", err)
	}
	err = s.restoreLocal()
	if !errors.Is(err, snapshot.ErrNone) {
		return err
	}
	hole := s.hole(err)
	if hole == nil {
		s.beginEmpty()
		return nil
	}
	if from == nil {
		return hole
	}
	s.log.Info("the log no longer has its beginning: taking a snapshot from another replica", "partition", hole.partition, "begins", hole.start)
	if hole.because = from.take(ctx, s.dir, s.accept); hole.because != nil {
		return hole
	}
	return s.restoreLocal()
}

// hole is the first partition that does not begin with its first record, or nil.
func (s *kafkaStorage) hole(because error) *holeError {
	for _, partition := range slices.Sorted(maps.Keys(s.starts)) {
		if start := s.starts[partition]; start > 0 {
			return &holeError{s.kafka.PartitionName(partition), start, because}
		}
	}
	return nil
}

// accept is nil for the snapshots of this log behind which every partition goes on.
func (s *kafkaStorage) accept(m snapshot.Meta) error {
	if err := s.continues(m); err != nil {
		return err
	}
	for _, partition := range slices.Sorted(maps.Keys(s.starts)) {
		if at, start := m.Positions[partition], s.starts[partition]; at < start {
			return fmt.Errorf("it stands at offset %d of %s, which begins at %d: what is between is gone", at, s.kafka.PartitionName(partition), start)
		}
	}
	return nil
}

// restoreLocal reads the newest snapshot of the folder that can be used. The error wraps
// snapshot.ErrNone where there is none and none is needed.
func (s *kafkaStorage) restoreLocal() error {
	begun := time.Now()
	defer collectSeldom()()
	var known bool    // there is one of this log
	var strange error // what one is of that is of another
	accept := func(m snapshot.Meta) error {
		if err := s.continues(m); err != nil {
			strange = err
			return err
		}
		known = true
		return s.accept(m)
	}
	// A topic that is followed no more can make an older snapshot stand at higher offsets:
	// one that has none but those that are followed is the better one.
	meta, store, err := s.dir.Newest(func(m snapshot.Meta) error {
		if err := accept(m); err != nil {
			return err
		}
		if gone := s.gone(m); len(gone) > 0 {
			return fmt.Errorf("it stands in partitions that are followed no more: %v", gone)
		}
		return nil
	}, s.now())
	if errors.Is(err, snapshot.ErrNone) {
		meta, store, err = s.dir.Newest(accept, s.now())
	}
	switch {
	case errors.Is(err, snapshot.ErrNone) && strange != nil && !known && s.hole(err) == nil:
		return &strangeError{s.dir.Path, strange}
	case errors.Is(err, snapshot.ErrNone):
		return err
	case err != nil:
		return fmt.Errorf("snapshots: %w", err)
	}
	if err := s.kafka.RestoreMarks(meta.Marks); err != nil {
		return fmt.Errorf("the newest snapshot, %s: %w", meta.String(), err)
	}
	for _, partition := range s.gone(meta) {
		s.log.Warn("a partition is followed no more; what it has said stays in force", "partition", partition, "offset", meta.Positions[partition])
		delete(meta.Positions, partition)
	}
	s.begin(meta, store, time.Since(begun))
	return nil
}

// gone are the partitions that a snapshot stands in and that are not followed.
func (s *kafkaStorage) gone(m snapshot.Meta) []int32 {
	var all []int32
	for _, partition := range slices.Sorted(maps.Keys(m.Positions)) {
		if _, followed := s.starts[partition]; !followed {
			all = append(all, partition)
		}
	}
	return all
}

// unfit ends a start whose feed shows that the log is not the one that it should begin
// with, which trying again does not change.
func (n *node) unfit(err error) {
	if errors.Is(err, kafka.ErrHole) {
		n.end(&failure{code: exitInput, err: err, hint: bootstrapHint})
		return
	}
	for _, what := range []error{kafka.ErrTruncated, kafka.ErrDiverged, kafka.ErrRecreated} {
		if errors.Is(err, what) {
			n.end(&failure{code: exitInput, err: err, hint: "No snapshot fits a log that has lost what it had. To begin with the log as it is, move " + n.store.dir.Path + " away; what was revoked in what is lost must then be sent again."})
			return
		}
	}
}

// weakness says one by one what of the topics is weaker than the contract needs.
func weakness(findings []kafka.Finding) error {
	var text strings.Builder
	text.WriteString("the topics are weaker than the contract needs:")
	for _, f := range findings {
		text.WriteString("\n  " + f.String())
	}
	return errors.New(text.String())
}

// weakHint says how to accept that.
func weakHint(findings []kafka.Finding) string {
	var words, never []string
	for _, f := range findings {
		list := &words
		if f.Never {
			list = &never
		}
		if !slices.Contains(*list, f.Setting) {
			*list = append(*list, f.Setting)
		}
	}
	hint := "Change the topics; `pdp topics check` says how they are."
	if len(words) > 0 {
		hint += " To accept them as they are, by name: log.kafka.allow_weak: [" + strings.Join(words, ", ") + "]."
	}
	if len(never) > 0 {
		hint += " What cannot be accepted: " + strings.Join(never, ", ") + "."
	}
	return hint
}
