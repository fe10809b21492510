package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// replicasOptions is what `replicas` can be told besides.
type replicasOptions struct {
	options
	replicaURLs      []string
	rounds           int
	think            time.Duration
	brokers          string
	topic, bareTopic string
}

func replicasCommand(ctx context.Context, args []string, out, log io.Writer) error {
	var o replicasOptions
	set := newFlags("replicas", log)
	o.flags(set)
	set.Func("replica", "decision port of another replica on the same log; may be given several times", func(url string) error {
		o.replicaURLs = append(o.replicaURLs, url)
		return nil
	})
	set.IntVar(&o.rounds, "rounds", 300, "revocations to time, 1 to 1,000,000")
	set.DurationVar(&o.think, "think", 300*time.Microsecond, "pause between two questions to one replica, which is what the times are rounded up by")
	set.StringVar(&o.brokers, "brokers", "", "Kafka brokers, host:port,...: produce the revocations to --topic instead of pushing them to --control-url, and time a bare kafka-go between")
	set.StringVar(&o.topic, "topic", "", "with --brokers: topic that all replicas have as an input, which may revoke sessions")
	set.StringVar(&o.bareTopic, "bare-topic", "", "with --brokers: topic of one partition for the bare round trips from producer to consumer; nobody else may use it")
	if err := parse(set, args); err != nil {
		return err
	}
	return o.run(ctx, out, log)
}

func (o *replicasOptions) check() error {
	if err := o.options.check(); err != nil {
		return err
	}
	for _, err := range []error{checkRange("rounds", o.rounds, 1, 1_000_000), checkRange("replica", len(o.replicaURLs), 0, 100)} {
		if err != nil {
			return err
		}
	}
	switch {
	case o.start && len(o.replicaURLs) > 0:
		return badUsage("--replica goes with --decision-url")
	case !o.start && o.controlURL == "":
		return badUsage("want --control-url, to register the agent that is asked about")
	case o.think < 0 || o.think > time.Second:
		return badUsage("--think: want 0 to a second")
	case (o.brokers == "") != (o.topic == "") || (o.brokers == "") != (o.bareTopic == ""):
		return badUsage("--brokers, --topic and --bare-topic go together")
	}
	return nil
}

func (o *replicasOptions) run(ctx context.Context, out, log io.Writer) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	report, id := newReport("replicas"), newRun()
	w, s, err := o.prepare(ctx, log, id, func(w *Workload) []Agent { return w.raceAgents(id, 1) })
	if err != nil {
		return err
	}
	defer closing(&err, s.close)
	m := &spread{
		replicas: []target{s.decision}, timeout: o.timeout, think: o.think,
		body: func(session string) []byte { return w.Race.body(id+"-0", session) },
	}
	for _, url := range o.replicaURLs {
		to, err := parseTarget(url, o.remote)
		if err != nil {
			return err
		}
		m.replicas = append(m.replicas, to)
	}
	var registered newest
	status, err := s.ask(ctx, http.MethodGet, "/v1/status", nil)
	if err != nil {
		return err
	}
	registered.learn(status)
	if err := m.allowed("idle", registered.demand()); err != nil {
		return err
	}
	push := conn{to: s.control, timeout: o.timeout}
	defer push.close()
	send, way := pusher(s, &push), "pushed over HTTP to the first"
	var bare *bareKafka
	if o.brokers != "" {
		if bare, err = newBareKafka(ctx, strings.Split(o.brokers, ","), o.topic, o.bareTopic); err != nil {
			return err
		}
		defer closing(&err, bare.close)
		send, way = bare.produce, "produced to Kafka, a bare kafka-go round trip on the same broker between every two"
	}
	report.aboutf("%d replicas, %d revocations, one at a time, %s", len(m.replicas), o.rounds, way)
	m.start(ctx)
	defer m.end()

	var every, each, sent, round histogram
	for i := range o.rounds {
		session := fmt.Sprintf("%s-s%d", id, i)
		if err = m.allowed(session, ""); err != nil {
			break
		}
		delays, failed := m.time(session, func() error {
			begun := time.Now()
			defer func() { sent.record(time.Since(begun)) }()
			return send(session)
		})
		if err = failed; err != nil {
			break
		}
		for _, d := range delays {
			each.record(d)
		}
		every.record(slices.Max(delays))
		if bare != nil {
			var d time.Duration
			if d, err = bare.roundTrip(); err != nil {
				break
			}
			round.record(d)
		}
	}
	report.add("replicas.count", count, float64(len(m.replicas)))
	report.add("replicas.rounds", count, float64(every.total))
	report.latency("replicas.sent_to_acknowledged", &sent)
	report.latency("replicas.sent_to_deny_on_each", &each)
	report.latency("replicas.sent_to_deny_on_every", &every)
	if round.total > 0 {
		report.latency("replicas.bare_kafka", &round)
		report.add("replicas.to_bare.p50", ratio, float64(every.quantile(.5))/float64(round.quantile(.5)))
		report.add("replicas.to_bare.p99", ratio, float64(every.quantile(.99))/float64(round.quantile(.99)))
	}
	if report.Interrupted = ctx.Err() != nil; err != nil && !report.Interrupted {
		report.missf("after %d revocations: %v", every.total, err)
	}
	return report.finish(&o.options, out)
}

// pusher gives a function that pushes the revocation of a session to the site.
func pusher(s *site, c *conn) func(session string) error {
	return func(session string) error {
		body, err := revocationOf(session)
		if err != nil {
			return err
		}
		status, answer, err := c.do(s.control.request(http.MethodPost, signalsPath, s.token, body))
		if err == nil && (status != http.StatusOK || !strings.Contains(string(answer), `"outcome":"applied"`)) {
			err = fmt.Errorf("a revocation: status %d: %.300s", status, answer)
		}
		return err
	}
}

func revocationOf(session string) ([]byte, error) {
	if session == "" {
		return nil, errors.New("no session")
	}
	return json.Marshal(signalBody{V: 1, ID: "revoke-" + session, Type: "revoke", Entities: []string{"session:" + session}, Time: wireTime(time.Now())})
}
