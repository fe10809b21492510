package control

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"vigil/authz"
)

// metrics is what /metrics shows: numbers of the other rooms, read when they are scraped,
// and what this port counts itself. No label holds an id of an agent, user or session.
type metrics struct {
	handler      http.Handler
	requests     *prometheus.CounterVec
	authFailures *prometheus.CounterVec
	panics       prometheus.Counter
}

func newMetrics(s *Server) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vigil_control_requests_total", Help: "Requests to the control port, by route and status.",
		}, []string{"route", "status"}),
		authFailures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vigil_control_auth_failures_total", Help: "Requests to the control port without a credential or scope that suffices.",
		}, []string{"reason"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vigil_control_panics_total", Help: "Defects that a request to the control port met.",
		}),
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(m.requests, m.authFailures, m.panics, &rooms{s},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		DisableCompression: true,
		ErrorHandling:      promhttp.ContinueOnError, ErrorLog: scrapeLog{s},
	})
	return m
}

func (m *metrics) request(route string, status int) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
}

func (s *Server) getMetrics(c *call) error {
	if !s.scrapes.enter(c.r.Context()) {
		return busy("the metrics are being read")
	}
	defer s.scrapes.leave()
	s.metrics.handler.ServeHTTP(c.w, c.r)
	return nil
}

// scrapeLog takes what promhttp has to say to the log.
type scrapeLog struct{ s *Server }

func (l scrapeLog) Println(v ...any) { l.s.cfg.Log.Error("metrics", "error", v) }

// rooms collects the numbers of the other rooms. It describes nothing in advance: which
// there are depends on what is attached.
type rooms struct{ s *Server }

func (r *rooms) Describe(chan<- *prometheus.Desc) {}

func (r *rooms) Collect(out chan<- prometheus.Metric) {
	s := r.s
	now := s.cfg.Now()
	sample := func(f *family, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(f.desc, f.kind, value, labels...)
	}
	sample(buildInfo, 1, s.cfg.Build.Version, s.cfg.Build.Revision, s.cfg.Build.GoVersion)
	ready := s.cfg.Ready()
	sample(readyNow, oneIf(ready.Ready))
	sample(degraded, oneIf(len(ready.Degraded) > 0))
	sample(clockAhead, s.cfg.Clock().Ahead)
	collectDecisions(s.cfg.Decisions(), out, sample)
	if parts := s.parts.Load(); parts != nil {
		collectParts(parts, now, sample)
	}
	s.collectEvents(sample)
}

func collectDecisions(counts DecisionCounts, out chan<- prometheus.Metric, sample func(*family, float64, ...string)) {
	for label, n := range counts.Decisions {
		sample(decisions, float64(n), label.Effect.String(), label.Class.String())
	}
	for rule, n := range counts.RuleErrors {
		sample(ruleErrors, float64(n), strings.ToValidUTF8(rule, "?"))
	}
	for label, n := range counts.Observed {
		sample(observed, float64(n), strings.ToValidUTF8(label.Rule, "?"), label.Effect.String())
	}
	sample(logDropped, float64(counts.LogDropped))
	for status, n := range counts.Responses {
		label := "other"
		if status != 0 {
			label = strconv.Itoa(status)
		}
		sample(responses, float64(n), label)
	}
	sample(unavailable, float64(counts.Unavailable))
	sample(overloaded, float64(counts.Overloaded))
	sample(decisionPanics, float64(counts.Panics))
	sample(connectionsNow, float64(counts.Connections))
	sample(inFlight, float64(counts.InFlight))
	sample(waiting, float64(counts.Waiting))
	out <- prometheus.MustNewConstHistogram(duration.desc, counts.Duration.Count, counts.Duration.Sum, counts.Duration.Buckets)
}

func collectParts(parts *Parts, now authz.Instant, sample func(*family, float64, ...string)) {
	stats := parts.Engine.Stats()
	for i, n := range stats.Lookups {
		sample(cacheLookups, float64(n), authz.Lookup(i).String())
	}
	sample(cacheMismatches, float64(stats.Mismatch))

	progress := parts.Feed.Progress()
	for label, n := range progress.Counts {
		sample(signalsSeen, float64(n), strings.ToValidUTF8(label.Type, "?"), strings.ToValidUTF8(label.Source, "?"), label.Outcome)
	}
	sample(feedAge, parts.Feed.Age(now).Seconds())
	sample(feedBroken, oneIf(progress.Err != nil))
	sample(feedCaughtUp, oneIf(progress.CaughtUp))
	sample(logHealthy, oneIf(parts.Feed.Health() == nil))
	sample(deadLetters, float64(progress.DeadLetters))
	for partition, offset := range progress.Applied {
		sample(feedPosition, float64(offset), parts.Feed.PartitionName(partition))
	}
	if parts.DeadLetters != nil {
		c := parts.DeadLetters()
		sample(deadLettersWritten, float64(c.Written))
		sample(deadLettersSkipped, float64(c.Skipped))
		sample(deadLettersForwarded, float64(c.Forwarded))
		sample(deadLettersDropped, float64(c.Dropped))
	}
	if parts.Kafka != nil {
		collectKafka(parts.Kafka(), sample)
	}
	if parts.Spool != nil {
		collectSpool(parts.Spool(), now, sample)
	}

	if parts.Tail != nil {
		parts.Tail.collect(sample)
	}

	known, held := parts.Posture.Len(), parts.Posture.Held()
	for _, kind := range authz.Kinds() {
		sample(entities, float64(known[kind]), kind.String())
		sample(entitiesHeld, float64(held[kind]), kind.String())
	}

	if parts.Sources != nil {
		collectSources(parts.Sources(now), sample)
	}

	state := parts.Rules.State()
	sample(lastReload, oneIf(state.Err == nil))
	sample(lastReloadTime, float64(state.Tried)/1e9)
	sample(lastGood, oneIf(state.LastGood))

	if parts.Journal != nil {
		j := parts.Journal()
		sample(journalSegments, float64(j.Segments))
		sample(journalBytes, float64(j.Bytes))
		sample(journalFailures, float64(j.Failures))
		sample(journalLastSync, j.LastSync.Seconds())
		sample(journalLongestSync, j.LongestSync.Seconds())
		sample(journalPending, float64(j.Pending))
	}

	sample(recentKept, float64(parts.Recent.Remembered()))
	sample(recentDropped, float64(parts.Recent.Dropped()))
}

func collectKafka(k KafkaCounts, sample func(*family, float64, ...string)) {
	sample(feedPartitions, float64(k.Partitions))
	for partition, n := range k.Lag {
		sample(feedLag, float64(n), partition)
	}
	sample(kafkaReconnects, float64(k.Reconnects))
	sample(kafkaFetchErrors, float64(k.FetchErrors))
	sample(kafkaProduceErrors, float64(k.ProduceErrors))
}

func collectSpool(s SpoolCounts, now authz.Instant, sample func(*family, float64, ...string)) {
	sample(spoolWaiting, float64(s.Waiting))
	sample(spoolWaitingBytes, float64(s.WaitingBytes))
	oldest := 0.0
	if s.Oldest != 0 {
		oldest = time.Duration(max(0, now-s.Oldest)).Seconds()
	}
	sample(spoolOldest, oldest)
	sample(spoolForwarded, float64(s.Forwarded))
	sample(spoolRetries, float64(s.Retries))
	sample(spoolHealthy, oneIf(s.Health == nil))
}

func collectSources(sources []SourceState, sample func(*family, float64, ...string)) {
	for _, s := range sources {
		sample(sourceHeard, float64(s.Heard)/1e9, s.Source)
		sample(sourceSilent, oneIf(s.Silent), s.Source)
		sample(sourceWaived, oneIf(s.Waived), s.Source)
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// family is one metric with its type.
type family struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func counter(name, help string, labels ...string) *family {
	return &family{prometheus.NewDesc(name, help, labels, nil), prometheus.CounterValue}
}

func gauge(name, help string, labels ...string) *family {
	return &family{prometheus.NewDesc(name, help, labels, nil), prometheus.GaugeValue}
}

// The names are part of the API: dashboards and alerts stand on them.
var (
	buildInfo       = gauge("vigil_build_info", "Always 1; the program is in the labels.", "version", "revision", "go_version")
	readyNow        = gauge("vigil_ready", "1 while this replica decides.")
	degraded        = gauge("vigil_degraded", "1 while strict readiness would fail for more than readiness.")
	clockAhead      = gauge("vigil_clock_ahead_seconds", "How far now is ahead of the wall clock.")
	decisions       = counter("vigil_decisions_total", "Decisions, by effect and class of reason.", "effect", "class")
	duration        = gauge("vigil_decision_duration_seconds", "Time from the request's last byte to the answer, per request.")
	ruleErrors      = counter("vigil_rule_errors_total", "Evaluations of a rule that failed.", "rule")
	observed        = counter("vigil_observed_total", "What rules in observe mode would have said.", "rule", "effect")
	cacheLookups    = counter("vigil_cache_lookups_total", "Look-ups in the decision cache, by result.", "result")
	cacheMismatches = counter("vigil_cache_mismatches_total", "Cached decisions that a fresh one contradicted (cache: verify).")
	signalsSeen     = counter("vigil_signals_total", "Signals applied, by type, source and outcome.", "type", "source", "outcome")
	deadLetters     = counter("vigil_dead_letters_total", "Records of the log that could not be applied.")
	feedAge         = gauge("vigil_feed_age_seconds", "How old the view of the signals is.")
	feedBroken      = gauge("vigil_feed_broken", "1 while the feed of signals is broken. It is tried again; the log says why.")
	feedCaughtUp    = gauge("vigil_feed_caught_up", "1 since everything in the log at the start was applied.")
	feedPosition    = gauge("vigil_feed_position", "Next offset to read.", "partition")
	logHealthy      = gauge("vigil_log_healthy", "1 while the signal log takes signals.")
	entities        = gauge("vigil_entities", "Entities that something is known of.", "kind")
	entitiesHeld    = gauge("vigil_entities_held", "Entities that are quarantined, revoked or worse. What has ended by itself may count for a while.", "kind")
	sourceHeard     = gauge("vigil_source_heard_timestamp_seconds", "When a source that profiles need was heard last; 0 for never.", "source")
	sourceSilent    = gauge("vigil_source_silent", "1 while a source that profiles need is silent.", "source")
	sourceWaived    = gauge("vigil_source_waived", "1 while an exception is in force, in every tenant, for a source that profiles need.", "source")
	lastReload      = gauge("vigil_rules_last_reload_successful", "1 when the last attempt to load the rules succeeded.")
	lastReloadTime  = gauge("vigil_rules_last_reload_timestamp_seconds", "When loading the rules was last tried.")
	lastGood        = gauge("vigil_rules_last_good", "1 while a copy of the last good rules decides because the folder's are broken.")
	recentKept      = gauge("vigil_recent_decisions", "Decisions remembered for explain.")
	recentDropped   = counter("vigil_recent_decisions_dropped_total", "Decisions that were to be remembered and were not.")
	logDropped      = counter("vigil_decision_log_dropped_total", "Decision log lines that could not be written in time.")

	responses      = counter("vigil_decision_responses_total", "Answers of the decision port, by HTTP status, also those that carry no decision.", "status")
	unavailable    = counter("vigil_decision_unavailable_total", "Requests for decisions that came while none could be made.")
	overloaded     = counter("vigil_decision_overloaded_total", "Requests for decisions that there was no place for; they are unavailable ones too.")
	decisionPanics = counter("vigil_decision_panics_total", "Defects that a request to the decision port met.")
	connectionsNow = gauge("vigil_decision_connections", "Open connections to the decision port.")
	inFlight       = gauge("vigil_decision_in_flight", "Requests for decisions at work.")
	waiting        = gauge("vigil_decision_waiting", "Of them, those that wait for Vigil-At-Least.")

	deadLettersWritten   = counter("vigil_dead_letters_written_total", "Dead letters that were written to the file of this replica.")
	deadLettersSkipped   = counter("vigil_dead_letters_skipped_total", "Dead letters that were not written down: too many at once, or the disk failed.")
	deadLettersForwarded = counter("vigil_dead_letters_forwarded_total", "Dead letters that were sent to the topic for them.")
	deadLettersDropped   = counter("vigil_dead_letters_dropped_total", "Dead letters that the topic for them did not take in time.")

	feedPartitions     = gauge("vigil_feed_partitions", "Partitions that are followed, those of inputs included.")
	feedLag            = gauge("vigil_feed_lag_records", "Records that a partition was known to hold when it was last asked and that are not applied here.", "partition")
	kafkaReconnects    = counter("vigil_kafka_reconnects_total", "Connections to brokers that were made anew.")
	kafkaFetchErrors   = counter("vigil_kafka_fetch_errors_total", "Fetches that failed; each is tried again.")
	kafkaProduceErrors = counter("vigil_kafka_produce_errors_total", "Attempts to write to the log that failed.")

	spoolWaiting      = gauge("vigil_spool_waiting", "Signals that are in force on this replica and not in the log yet.")
	spoolWaitingBytes = gauge("vigil_spool_waiting_bytes", "Size of the signals that wait in the spool.")
	spoolOldest       = gauge("vigil_spool_oldest_seconds", "How long the oldest signal in the spool has waited; 0 for none.")
	spoolForwarded    = counter("vigil_spool_forwarded_total", "Signals of the spool that the log has taken.")
	spoolRetries      = counter("vigil_spool_retries_total", "Attempts to forward the spool that failed.")
	spoolHealthy      = gauge("vigil_spool_healthy", "1 while the spool can take signals.")

	journalSegments    = gauge("vigil_journal_segments", "Files of the signal log.")
	journalBytes       = gauge("vigil_journal_bytes", "Size of the signal log.")
	journalFailures    = counter("vigil_journal_failures_total", "Writes of the signal log that failed.")
	journalLastSync    = gauge("vigil_journal_last_sync_seconds", "How long the last group of signals took to be durable.")
	journalLongestSync = gauge("vigil_journal_longest_sync_seconds", "How long the slowest group since the start took to be durable.")
	journalPending     = gauge("vigil_journal_pending_records", "Signals that wait to be durable.")
)
