package control

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"vigil/signals"
)

// spooling is an intake whose log is away.
type spooling struct{ Intake }

func (s spooling) Push(ctx context.Context, sender signals.Sender, body []byte) (signals.Receipt, error) {
	receipt, err := s.Intake.Push(ctx, sender, body)
	receipt.Spooled = true
	return receipt, err
}

// TestWhatWasSpooledIsSaidToBe: who revokes must know that other replicas do not know it yet.
func TestWhatWasSpooledIsSaidToBe(t *testing.T) {
	w := newWorld(t)
	if w.push(soarToken, signal("revoke", "session:a", "")).Spooled {
		t.Error("what the log took is said to be spooled")
	}
	w = newWorld(t, func(_ *Config, p *Parts) { p.Intake = spooling{p.Intake} })
	got := w.do("POST", "/v1/signals", soarToken, signal("revoke", "session:a", "")).want(200)
	if !strings.Contains(got.body, `"spooled":true`) {
		t.Errorf("it is not said: %s", got.body)
	}
}

func TestStatusAndMetricsShowTheLogOnKafka(t *testing.T) {
	w := newWorld(t)
	with := newWorld(t, func(_ *Config, p *Parts) {
		p.Feed = namingFeed{p.Feed}
		p.Kafka = func() KafkaCounts {
			return KafkaCounts{Partitions: 3, Lag: map[string]int64{"log/0": 0, "risk/1": 17}, Reconnects: 4, FetchErrors: 5, ProduceErrors: 6}
		}
		p.Spool = func() SpoolCounts {
			return SpoolCounts{Waiting: 2, WaitingBytes: 300, Oldest: start.Add(-time.Minute), Forwarded: 9, Retries: 8, LastError: "no broker", Health: errors.New("full")}
		}
		p.DeadLetters = func() DeadLetterCounts {
			return DeadLetterCounts{Written: 3, Skipped: 1204, Forwarded: 2, Dropped: 1}
		}
	})
	with.push(soarToken, signal("revoke", "session:a", ""))
	var s StatusResponse
	with.get("/v1/status", kimToken).want(200).into(&s)
	if s.Feed.Positions["log/0"] != 1 || len(s.Feed.Lag) != 1 || s.Feed.Lag["risk/1"] != 17 || s.Feed.Spool == nil ||
		*s.Feed.Spool != (SpoolStatus{Waiting: 2, WaitingBytes: 300, Oldest: "2026-11-23T08:59:00Z", Forwarded: 9, LastError: "no broker", Health: "full"}) {
		t.Errorf("got %+v, spool %+v", s.Feed, s.Feed.Spool)
	}
	metrics := with.get("/metrics", kimToken).want(200).body
	for _, line := range []string{
		`vigil_feed_partitions 3`, `vigil_feed_lag_records{partition="risk/1"} 17`, `vigil_feed_lag_records{partition="log/0"} 0`,
		`vigil_feed_position{partition="log/0"} 1`,
		`vigil_kafka_reconnects_total 4`, `vigil_kafka_fetch_errors_total 5`, `vigil_kafka_produce_errors_total 6`,
		`vigil_spool_waiting 2`, `vigil_spool_waiting_bytes 300`, `vigil_spool_oldest_seconds 60`, `vigil_spool_forwarded_total 9`,
		`vigil_spool_retries_total 8`, `vigil_spool_healthy 0`, `vigil_dead_letters_skipped_total 1204`, `vigil_dead_letters_written_total 3`,
		`vigil_dead_letters_forwarded_total 2`, `vigil_dead_letters_dropped_total 1`,
	} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("no %s", line)
		}
	}
	var without StatusResponse
	w.get("/v1/status", kimToken).want(200).into(&without)
	if without.Feed.Spool != nil || without.Feed.Lag != nil || strings.Contains(w.get("/metrics", kimToken).body, "vigil_spool_waiting") {
		t.Error("a journal has a spool")
	}
}

// namingFeed has the partition of a topic.
type namingFeed struct{ Feed }

func (namingFeed) PartitionName(int32) string { return "log/0" }
