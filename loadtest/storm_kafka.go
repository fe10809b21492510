package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/segmentio/kafka-go"
)

// kafkaStorm is a storm of signals that is produced to a topic which the engine has as an
// input, as a stream job would: at a rate, in batches of whatever is due.
type kafkaStorm struct {
	rate    float64
	brokers []string
	topic   string
}

// kafkaStormResult is what became of it.
type kafkaStormResult struct {
	produced int64
	took     time.Duration
	batches  histogram     // from handed over to acknowledged by the broker
	behind   time.Duration // from the last one produced until the engine had applied all
	err      error
}

// stormTick is how often a storm hands over what is due.
const stormTick = 5 * time.Millisecond

// run produces for a time. It falls behind its rate where the broker does.
func (st *kafkaStorm) run(ctx context.Context, w *Workload, run string, duration time.Duration, seed uint64) (result kafkaStormResult) {
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	writer := &kafka.Writer{Addr: kafka.TCP(st.brokers...), Topic: st.topic, RequiredAcks: kafka.RequireAll, BatchSize: 10_000, BatchTimeout: time.Millisecond,
		Balancer: &kafka.RoundRobin{}, Transport: transport}
	defer func() {
		if err := writer.Close(); result.err == nil {
			result.err = err
		}
	}()
	random := rand.New(rand.NewPCG(seed, 0x5707))
	begin := time.Now()
	for time.Since(begin) < duration && ctx.Err() == nil {
		due := int64(st.rate*time.Since(begin).Seconds()) - result.produced
		messages := make([]kafka.Message, min(due, 10_000))
		now := wireTime(time.Now())
		for i := range messages {
			agent := &w.Agents[random.IntN(len(w.Agents))]
			risk := stormRisk(random, agent.Risk)
			body, err := json.Marshal(signalBody{V: 1, ID: fmt.Sprintf("%s-storm-%d", run, result.produced+int64(i)), Type: "risk", Entities: []string{"agent:" + agent.ID}, Time: now, Risk: &risk})
			if err != nil {
				panic(err) // signalBody has nothing that cannot be marshalled
			}
			messages[i].Value = body
		}
		if len(messages) > 0 {
			handed := time.Now()
			if result.err = writer.WriteMessages(ctx, messages...); result.err != nil {
				break
			}
			result.batches.record(time.Since(handed))
			result.produced += int64(len(messages))
		}
		time.Sleep(stormTick)
	}
	result.took = time.Since(begin)
	return result
}

// settle waits until the engine has applied what was produced since before.
func (st *kafkaStorm) settle(ctx context.Context, s *site, before float64, result *kafkaStormResult) {
	begun := time.Now()
	for limit := begun.Add(5 * time.Minute); result.err == nil; time.Sleep(10 * time.Millisecond) {
		after, err := s.scrape(ctx)
		switch {
		case err != nil:
			result.err = err
		case st.applied(after)-before >= float64(result.produced):
			result.behind = time.Since(begun)
			return
		case time.Now().After(limit):
			result.err = fmt.Errorf("after %s the engine had applied %.0f of %d signals", time.Since(begun), st.applied(after)-before, result.produced)
		}
	}
}

// applied gives how many signals of the topic an engine has come to.
func (st *kafkaStorm) applied(metrics scrape) (n float64) {
	for name, value := range metrics {
		if strings.HasPrefix(name, "vigil_signals_total{") && strings.Contains(name, `source="topic:`+st.topic+`"`) {
			n += value
		}
	}
	return n
}

// kafkaStorm adds what became of it.
func (r *Report) kafkaStorm(result *kafkaStormResult) {
	r.add("signals.produced", count, float64(result.produced))
	r.add("signals.rate", perSecond, float64(result.produced)/max(result.took.Seconds(), 1e-9))
	r.latency("signals.batch", &result.batches)
	r.add("signals.applied_after", seconds, result.behind.Seconds())
	if result.err != nil {
		r.missf("signals: %v", result.err)
	}
	if result.produced == 0 {
		r.missf("signals: none was produced")
	}
}
