package main

import (
	"context"
	"fmt"
	"time"
)

// awayRounds is how often a replica is away, and awayAgents how many agents it misses
// signals about.
const (
	awayRounds = 3
	awayAgents = 10_000
)

// measureAway stops the replica, produces, starts it again, and compares with a start that
// has missed nothing, and with a reader that does nothing with what it reads.
func (b *scalingBench) measureAway(ctx context.Context, a *replica) error {
	n := b.missed / awayRounds
	var restart, rate, bare, ratios, used, bareUsed, received []float64
	for range awayRounds {
		if err := a.stop(); err != nil {
			return err
		}
		plain, plainUsed, err := a.start(ctx)
		if err != nil {
			return err
		}
		if err := a.stop(); err != nil {
			return err
		}
		from, to, err := b.miss(ctx, n)
		if err != nil {
			return err
		}
		took, cpu, err := a.start(ctx)
		if err != nil {
			return err
		}
		u, err := a.use()
		if err != nil {
			return err
		}
		readTook, readUsed, err := b.readBare(ctx, from, to)
		if err != nil {
			return err
		}
		restart = append(restart, plain.Seconds())
		used = append(used, (cpu-plainUsed).Seconds()/float64(n))
		bareUsed = append(bareUsed, readUsed.Seconds()/float64(n))
		received = append(received, float64(u.received)/float64(n))
		if took <= plain {
			continue // the machine was at something else
		}
		rate = append(rate, float64(n)/(took-plain).Seconds())
		bare = append(bare, float64(n)/readTook.Seconds())
		ratios = append(ratios, readTook.Seconds()/(took-plain).Seconds())
	}
	if len(rate) == 0 {
		return fmt.Errorf("a start that missed %d signals was no longer than one that missed none: they are too few, or the machine is too busy", n)
	}
	// A process counts from its start.
	var err error
	if b.inputSent, b.logSent, err = b.applied(ctx, a); err != nil {
		return err
	}
	b.report.add("away.rounds", count, float64(len(rate)))
	b.report.add("away.signals", count, float64(n))
	b.report.add("away.restart", seconds, median(restart))
	b.report.add("away.caught_up", perSecond, median(rate))
	b.report.add("away.bare", perSecond, median(bare))
	b.report.add("away.to_bare", ratio, median(ratios))
	b.report.add("away.cpu_per_signal", seconds, median(used))
	b.report.add("away.bare_cpu_per_signal", seconds, median(bareUsed))
	b.report.add("away.received_per_signal", bytesEach, median(received))
	return nil
}

// miss produces signals that no replica is there for, and gives where they begin and end in
// each partition.
func (b *scalingBench) miss(ctx context.Context, n int) (from, to map[int]int64, err error) {
	if from, err = b.ends(ctx); err != nil {
		return nil, nil, err
	}
	before := b.inputSent
	if err := b.bulk(ctx, n, func(i int) []byte {
		risk := i % 60
		return encoded(signalBody{ID: fmt.Sprintf("missed-%.0f", before+float64(i)), Type: "risk", Entities: []string{fmt.Sprintf("agent:missed-%d", i%awayAgents)}, Time: wireTime(time.Now()), Risk: &risk})
	}); err != nil {
		return nil, nil, err
	}
	to, err = b.ends(ctx)
	return from, to, err
}

// measureNew takes a snapshot, then has retention take the beginning of the log, and starts
// a replica that has nothing, which takes a snapshot from the first.
func (b *scalingBench) measureNew(ctx context.Context, a *replica) error {
	begun, used := time.Now(), processorTime(a.pid)
	size, err := a.download(ctx, "/v1/snapshot")
	if err != nil {
		return err
	}
	n := float64(2 * b.entities) // agents with a risk, and sessions
	b.report.add("snapshot.entities", count, n)
	b.report.add("snapshot.per_entity", bytesEach, float64(size)/n)
	b.report.add("snapshot.take_per_million", seconds, time.Since(begun).Seconds()/n*1e6)
	b.report.add("snapshot.take_cpu_per_million", seconds, (processorTime(a.pid)-used).Seconds()/n*1e6)
	if err := b.cut(ctx); err != nil {
		return err
	}
	late, err := b.newReplica("c", fmt.Sprintf("  bootstrap_from: [%q]\n  bootstrap_token_file: %s\n", "http://"+a.control.address, a.tokenName()))
	if err != nil {
		return err
	}
	took, cpu, err := late.start(ctx)
	if err != nil {
		return err
	}
	b.report.add("bootstrap.per_million", seconds, (took-b.empty.took).Seconds()/n*1e6)
	b.report.add("bootstrap.cpu_per_million", seconds, (cpu-b.empty.processor).Seconds()/n*1e6)
	return nil
}
