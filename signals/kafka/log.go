package kafka

import (
	"context"
	"log/slog"

	"vigil/signals"
)

// Log is the signal log of a cluster: a signals.Log. Its topic takes what is appended, and
// it is followed together with the inputs. All methods are safe for concurrent use.
//
// Open starts goroutines that ask the brokers who leads what, and one for each partition of
// the log that writes to it. Close ends them. Those that read are Follow's.
type Log struct {
	feed   // the log's topic first
	writer *writer
}

// Open reaches the cluster, however long that takes, until ctx ends; it says in the log what
// it waits for. It is an error if the configuration is wrong, if a topic does not exist or is
// set to be weaker than the log needs (see Check), if brokers are older than
// Kafka 3.1, or if they do not take the credentials.
func Open(ctx context.Context, cfg Config) (*Log, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	all, err := topics(&cfg)
	if err != nil {
		return nil, err
	}
	l := &Log{}
	l.furnish(cfg, all)
	if err := l.open(ctx, l.checked); err != nil {
		return nil, err
	}
	l.writer = newWriter(l)
	l.writer.start()
	return l, nil
}

// checked gives min.insync.replicas by topic, unless a topic is weaker than was allowed.
func (l *Log) checked(ctx context.Context, cn *conn, m *clusterMeta) (map[string]int, error) {
	found, minISR, err := cn.checkTopics(ctx, &l.cfg, m)
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		if f.Allowed {
			l.log.Warn("a topic is weaker than the contract needs", slog.String("finding", f.String()))
		}
	}
	return minISR, refused(found)
}

// Close ends what Open started, and a Follow that runs. What is being appended may be in the
// log or not.
func (l *Log) Close() error {
	l.close()
	l.writer.stop()
	return nil
}

// ID is the log's identity: the id of its topic (KIP-516), which no other topic has, of the
// same name neither.
func (l *Log) ID() signals.LogID { return l.topics[0].id }

// Append makes records durable in one partition of the log: min.insync.replicas replicas
// have them when it returns. They must not change until then, nor after an error. Concurrent
// calls share requests. The errors are those of signals.Log: ErrUnavailable where nothing was
// written for sure, with ErrOverloaded where too much is waiting.
func (l *Log) Append(ctx context.Context, records [][]byte) ([]signals.Position, error) {
	return l.writer.append(ctx, records)
}

// Health says why no partition of the log can take records now, or nil where one can. It
// recovers by itself.
func (l *Log) Health() error { return l.writer.health() }

// Stats are for metrics.
type Stats struct {
	Partitions []PartitionStats // in order of their numbers
	// ProduceErrors counts requests to write that failed, were refused or were not answered.
	ProduceErrors int64
}

// PartitionStats say how the following of a partition goes.
type PartitionStats struct {
	Name        string // "topic/partition"
	Lag         int64  // records that the leader has and that were not delivered yet
	Reconnects  int64  // times that it was begun anew, also for another leader
	FetchErrors int64
	LastError   string // "" for none since the start
}

// Stats reports how the log does.
func (l *Log) Stats() Stats {
	return Stats{Partitions: l.partitionStats(), ProduceErrors: l.writer.errors.Load()}
}
