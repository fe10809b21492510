package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go/protocol/createtopics"

	"vigil/signals"
)

// defaultPartitions lets each of three brokers lead one, so that pushes need not wait for an
// election when one of them goes.
const defaultPartitions = 3

// createdMessageBytes is max.message.bytes of the topics that Create makes.
const createdMessageBytes = 1 << 20

// CreateOptions are what Create may be told besides. The zero value is fit for production.
type CreateOptions struct {
	// Partitions of each topic; 0 for 3. More can be added while replicas run.
	Partitions int
	// Replication of each topic. 0 is 3, or as many as there are brokers where
	// Config.AllowWeak names "replication".
	Replication int
	// DeadLetterTopic is made, too, where it is not "". Nobody follows it, so it has the
	// retention that the brokers give by default.
	DeadLetterTopic string
	// Topics are further ones that are made, such as those that issuers' events come by.
	Topics []string
}

// Created is what became of a topic.
type Created struct {
	Topic       string
	Partitions  int
	Replication int
	Existed     bool // it was there before, and was left as it was
}

// RefusedError says that the brokers do not make a topic.
type RefusedError struct {
	Topic string
	Why   string
}

func (e *RefusedError) Error() string { return "topic " + e.Topic + " was not made: " + e.Why }

// Create makes the topics that are not there yet, with the settings that the contract needs,
// and returns when all of them have leaders. It leaves those alone that are there; Check
// says what of them is weak. The error is a *WeakError where there would be fewer copies than
// is allowed, and holds a *RefusedError for each topic that the brokers do not make; the
// others are made all the same. Any other error says that no broker answers.
func Create(ctx context.Context, cfg Config, opts CreateOptions) ([]Created, error) {
	c, err := dialAny(ctx, &cfg)
	if err != nil {
		return nil, err
	}
	defer c.close()
	names := append(cfg.topicNames(), opts.Topics...)
	if opts.DeadLetterTopic != "" {
		names = append(names, opts.DeadLetterTopic)
	}
	if opts.Partitions == 0 {
		opts.Partitions = defaultPartitions
	}
	if most := signals.MaxPartitions / (1 + len(cfg.Inputs)); opts.Partitions < 1 || opts.Partitions > most {
		return nil, &RefusedError{cfg.Topic, fmt.Sprintf("each topic may have 1 to %d partitions, not %d", most, opts.Partitions)}
	}
	before, err := c.settledMetadata(ctx, names)
	if err != nil {
		return nil, err
	}
	var missing []string
	var refusals []error
	for _, name := range names {
		switch code := before.topics[name].code; code {
		case errNone:
		case errUnknownTopic:
			missing = append(missing, name)
		default:
			refusals = append(refusals, &RefusedError{name, code.Error()})
		}
	}
	if len(missing) > 0 {
		if opts.Replication, err = cfg.replication(opts.Replication, len(before.brokers)); err != nil {
			return nil, err
		}
		refused, err := cfg.create(ctx, missing, opts, before)
		if err != nil {
			return nil, err
		}
		refusals = append(refusals, refused...)
	}
	var created []Created
	for _, name := range names {
		isRefused := func(err error) bool {
			var r *RefusedError
			return errors.As(err, &r) && r.Topic == name
		}
		if slices.ContainsFunc(refusals, isRefused) {
			continue
		}
		t, err := c.awaitTopic(ctx, name)
		if err != nil {
			return created, errors.Join(append(refusals, err)...)
		}
		created = append(created, Created{name, len(t.partitions), fewestReplicas(t), !slices.Contains(missing, name)})
	}
	return created, errors.Join(refusals...)
}

// replication is how many copies there are to be: what is wanted, 0 for the most that there
// can be up to three.
func (cfg *Config) replication(wanted, brokers int) (int, error) {
	n := wanted
	if n == 0 {
		n = min(wantReplicas, brokers)
	}
	switch {
	case n > brokers:
		return 0, &RefusedError{cfg.Topic, fmt.Sprintf("%d replicas need as many brokers, and there are %d", n, brokers)}
	case n < 1:
		return 0, &RefusedError{cfg.Topic, fmt.Sprintf("a topic has at least 1 replica, not %d", n)}
	case n < wantReplicas:
		ch := &checker{cfg: cfg, topic: cfg.Topic}
		ch.fewReplicas(n)
		return n, refused(ch.found)
	}
	return n, nil
}

// create makes topics that were missing in an answer. It gives those that the brokers
// refuse to make.
func (cfg *Config) create(ctx context.Context, missing []string, opts CreateOptions, m *clusterMeta) (refused []error, err error) {
	d := newDialer(cfg)
	for {
		said, err := createAt(ctx, d, cfg.controller(m), missing, opts, cfg)
		refused = append(refused, said.refused...)
		if err != nil || len(said.left) == 0 {
			return refused, err
		}
		missing = said.left
		if err := pause(ctx); err != nil {
			return refused, fmt.Errorf("topic %s was not made: %w: %w", missing[0], said.why, err)
		}
		c, err := dialAny(ctx, cfg)
		if err != nil {
			return refused, err
		}
		m, err = c.metadata(ctx, missing)
		c.close()
		if err != nil {
			return refused, err
		}
	}
}

// controller is the address of the broker that makes topics. Brokers with KRaft all pass it
// on.
func (cfg *Config) controller(m *clusterMeta) string {
	if address := m.brokers[m.controller]; address != "" {
		return address
	}
	return cfg.Brokers[0]
}

// asked is what a broker said of the topics that it was to make.
type asked struct {
	left    []string // another broker, or the same a little later, may make them
	why     error    // what it said of the last of these
	refused []error
}

// createAt asks one broker to make topics.
func createAt(ctx context.Context, d *dialer, address string, topics []string, opts CreateOptions, cfg *Config) (said asked, err error) {
	c, err := d.dial(ctx, address)
	if err != nil {
		return said, err
	}
	defer c.close()
	const patience = requestTimeout / 2
	req := &createtopics.Request{TimeoutMs: int32(patience / time.Millisecond)}
	for _, name := range topics {
		req.Topics = append(req.Topics, createtopics.RequestTopic{
			Name: name, NumPartitions: int32(opts.Partitions), ReplicationFactor: int16(opts.Replication),
			Configs: cfg.settingsFor(name, opts),
		})
	}
	res, err := c.roundTrip(ctx, req)
	if err != nil {
		return said, err
	}
	answer, ok := res.(*createtopics.Response)
	if !ok || len(answer.Topics) != len(topics) {
		return said, fmt.Errorf("%w: of other topics than were to be made", errMalformed)
	}
	for _, t := range answer.Topics {
		switch code := errorCode(t.ErrorCode); {
		case code == errNone, code == errTopicExists: // somebody else was faster
		case momentary(code):
			said.left, said.why = append(said.left, t.Name), code
		default:
			why := code.Error()
			if t.ErrorMessage != "" {
				why += fmt.Sprintf(": %q", clip(t.ErrorMessage))
			}
			said.refused = append(said.refused, &RefusedError{t.Name, why})
		}
	}
	return said, nil
}

// settingsFor are those of a topic that is made.
func (cfg *Config) settingsFor(topic string, opts CreateOptions) []createtopics.RequestConfig {
	minInsync := wantMinInsync
	if opts.Replication < wantReplicas && (opts.Replication < wantMinInsync || cfg.allows(weakMinInsync)) {
		minInsync = 1 // or the loss of one of two brokers would stop all writing
	}
	all := []createtopics.RequestConfig{
		{Name: configCleanup, Value: "delete"},
		{Name: configMinInsync, Value: strconv.Itoa(minInsync)},
		{Name: configUnclean, Value: "false"},
		{Name: configTimestampType, Value: "LogAppendTime"},
		{Name: configMaxMessage, Value: strconv.Itoa(createdMessageBytes)},
	}
	if topic != opts.DeadLetterTopic {
		all = append(all,
			createtopics.RequestConfig{Name: configRetentionMs, Value: "-1"},
			createtopics.RequestConfig{Name: configRetentionSize, Value: "-1"})
	}
	return all
}

// awaitTopic waits until every partition of a topic has a leader: it is there before it
// takes records.
func (c *conn) awaitTopic(ctx context.Context, name string) (*topicMeta, error) {
	for {
		m, err := c.metadata(ctx, []string{name})
		if err != nil {
			return nil, err
		}
		t := m.topics[name]
		led := t.code == errNone && len(t.partitions) > 0
		for _, p := range t.partitions {
			led = led && p.leader >= 0
		}
		if led {
			return &t, nil
		}
		if err := pause(ctx); err != nil {
			return nil, fmt.Errorf("topic %s has no leaders yet: %w", name, err)
		}
	}
}
