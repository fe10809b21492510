package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// decided is what became of decisions, with or without signals beside them.
type decided struct {
	latency  histogram
	answers  int64
	took     time.Duration
	produced int64 // signals
	storming time.Duration
	// On processors: by the replica, by what sends, by the broker, and by all that the
	// machine does.
	replica, own, broker, machine time.Duration
}

func (d *decided) take(r *loadResult) error {
	d.latency.merge(&r.latency)
	d.answers += r.answered
	if r.failed+r.wrong > 0 {
		return fmt.Errorf("%d decisions failed, %d were wrong, such as: %s", r.failed, r.wrong, r.example)
	}
	return nil
}

// storm produces signals at a rate for one step.
func (b *scalingBench) storm(ctx context.Context, rate float64) kafkaStormResult {
	b.storms++
	stream := kafkaStorm{rate: rate, brokers: b.brokers, topic: b.input}
	result := stream.run(ctx, b.w, fmt.Sprintf("%s-%d", b.id, b.storms), b.step, b.shape.seed)
	b.inputSent += float64(result.produced)
	return result
}

// besideRounds is how often decisions are measured with and without signals, in turn.
const besideRounds = 2

// measureBeside asks for decisions at a rate, in turn with and without signals beside them.
func (b *scalingBench) measureBeside(ctx context.Context, a *replica) error {
	if err := a.register(ctx, b.id, b.w.Agents); err != nil {
		return err
	}
	for i := range b.w.Agents {
		if b.logSent++; b.w.Agents[i].Risk > 0 {
			b.logSent++
		}
	}
	b.decisions(b.w, a.decision, b.step/2).run(ctx) // to warm up
	beside := []float64{0, b.signals / 10, b.signals}
	sides := make([]decided, len(beside))
	for range besideRounds {
		for i, signals := range beside {
			s := &sides[i]
			own, broker, busy := processorTime(os.Getpid()), processorTime(b.brokerPid), busyTime()
			spent, err := b.watch(ctx, a, func() error {
				load := b.decisions(b.w, a.decision, b.step)
				if signals == 0 {
					return s.take(load.run(ctx))
				}
				stormed := make(chan kafkaStormResult, 1)
				go func() { stormed <- b.storm(ctx, signals) }()
				err := s.take(load.run(ctx))
				produced := <-stormed
				s.produced += produced.produced
				s.storming += produced.took
				if err == nil {
					err = produced.err
				}
				return err
			})
			if err == nil {
				err = b.await(ctx, a, b.inputSent, b.logSent)
			}
			if err != nil {
				return err
			}
			s.took += spent.took
			s.replica += spent.processor
			s.own += processorTime(os.Getpid()) - own
			s.broker += processorTime(b.brokerPid) - broker
			s.machine += busyTime() - busy
		}
	}
	for i, signals := range beside {
		s := &sides[i]
		name := fmt.Sprintf("beside_%.0f.", signals)
		b.report.add(name+"decisions", perSecond, float64(s.answers)/s.took.Seconds())
		if signals > 0 {
			b.report.add(name+"signals", perSecond, float64(s.produced)/s.storming.Seconds())
		}
		b.report.add(name+"p50", seconds, s.latency.quantile(.5).Seconds())
		b.report.add(name+"p99", seconds, s.latency.quantile(.99).Seconds())
		b.report.add(name+"p99_ratio", ratio, float64(s.latency.quantile(.99))/float64(max(1, sides[0].latency.quantile(.99))))
		b.report.add(name+"replica_cores", ratio, s.replica.Seconds()/s.took.Seconds())
		b.report.add(name+"generator_cores", ratio, s.own.Seconds()/s.took.Seconds())
		b.report.add(name+"broker_cores", ratio, s.broker.Seconds()/s.took.Seconds())
		b.report.add(name+"machine_cores", ratio, s.machine.Seconds()/s.took.Seconds())
	}
	return nil
}
