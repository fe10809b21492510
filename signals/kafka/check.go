package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"vigil/signals"
)

// What of a topic may be weaker than the contract needs, as Config.AllowWeak names it.
const (
	weakReplication = "replication"
	weakMinInsync   = "min_insync_replicas"
	weakUnclean     = "unclean_election"
	weakTimestamp   = "timestamp_type"
	weakCleanup     = "cleanup_policy"
	weakRetention   = "retention"
	weakMaxMessage  = "max_message_bytes"
	weakAll         = "all"
)

// Settings that a finding can be about and that cannot be allowed.
const (
	settingTopic      = "topic"
	settingPartitions = "partitions"
)

// WeakSettings are the names that Config.AllowWeak takes besides "all".
func WeakSettings() []string {
	return []string{weakReplication, weakMinInsync, weakUnclean, weakTimestamp, weakCleanup, weakRetention, weakMaxMessage}
}

// What the contract needs.
const (
	wantReplicas  = 3
	wantMinInsync = 2
	wantRetention = 7 * 24 * time.Hour

	// leastLogBatch is a batch of one record of a replica, leastInputBatch one of a signal
	// with room for a key and headers. Of more, replicas send fewer at once.
	leastLogBatch   = signals.MaxRecord + 4<<10
	leastInputBatch = signals.MaxSignal + 4<<10
	// mostBatch is what a batch may unpack to.
	mostBatch = maxUnpacked
)

// Finding is a setting of a topic that is not what the contract needs.
type Finding struct {
	Topic   string
	Setting string // of WeakSettings, or "topic" or "partitions", which cannot be allowed
	Value   string // what it is
	Want    string // what it has to be
	Cost    string // what it costs to allow it, or why it cannot be allowed: a sentence
	Never   bool   // it cannot be allowed
	Allowed bool   // Config.AllowWeak names it
}

func (f Finding) String() string {
	return fmt.Sprintf("topic %s: %s is %s, want %s: %s", f.Topic, f.Setting, f.Value, f.Want, f.Cost)
}

// WeakError says that topics are weaker than the contract needs and than was allowed.
type WeakError struct{ Findings []Finding }

func (e *WeakError) Error() string {
	text := make([]string, len(e.Findings))
	for i, f := range e.Findings {
		text[i] = f.String()
	}
	return "the topics are weaker than the contract needs:\n" + strings.Join(text, "\n")
}

// refused gives the findings that were not allowed as an error; nil where there are none.
func refused(found []Finding) error {
	found = slices.DeleteFunc(slices.Clone(found), func(f Finding) bool { return f.Allowed })
	if len(found) == 0 {
		return nil
	}
	return &WeakError{found}
}

// Check compares the log's topic and those of the inputs with what the contract needs, and
// gives what is weaker, also what was allowed to be. It asks one of cfg.Brokers, the first
// that answers; the error says that none did. It changes nothing.
func Check(ctx context.Context, cfg Config) ([]Finding, error) {
	c, err := dialAny(ctx, &cfg)
	if err != nil {
		return nil, err
	}
	defer c.close()
	m, err := c.settledMetadata(ctx, cfg.topicNames())
	if err != nil {
		return nil, err
	}
	for {
		found, _, err := c.checkTopics(ctx, &cfg, m)
		var code errorCode
		if !errors.As(err, &code) || !momentary(code) {
			return found, err
		}
		if late := pause(ctx); late != nil {
			return nil, err
		}
	}
}

// allows reports whether a setting may be weaker than the contract needs.
func (cfg *Config) allows(setting string) bool {
	return slices.Contains(cfg.AllowWeak, setting) || slices.Contains(cfg.AllowWeak, weakAll)
}

// topicNames are the topics to follow, the log first.
func (cfg *Config) topicNames() []string {
	names := []string{cfg.Topic}
	for _, in := range cfg.Inputs {
		names = append(names, in.Topic)
	}
	return names
}

// dialAny connects to the first of the configured brokers that answers.
func dialAny(ctx context.Context, cfg *Config) (*conn, error) {
	d := newDialer(cfg)
	var errs []error
	for _, address := range cfg.Brokers {
		c, err := d.dial(ctx, address)
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	if len(errs) == 0 {
		return nil, errors.New("no broker is configured")
	}
	return nil, errors.Join(errs...)
}

// settledMetadata asks until no topic is in the middle of being made or of electing its
// first leaders.
func (c *conn) settledMetadata(ctx context.Context, topics []string) (*clusterMeta, error) {
	for {
		m, err := c.metadata(ctx, topics)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(topics, func(name string) bool { return m.topics[name].code == errLeaderNotAvailable }) {
			return m, nil
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

// pause lets a cluster do what it is about to do.
func pause(ctx context.Context) error {
	const long = 50 * time.Millisecond
	if !sleep(ctx, long) {
		return ctx.Err()
	}
	return nil
}

// checkTopics is Check for what a broker has said of the topics. It also gives
// min.insync.replicas of each topic that exists, 1 where that cannot be read.
func (c *conn) checkTopics(ctx context.Context, cfg *Config, m *clusterMeta) (found []Finding, minInsync map[string]int, err error) {
	names := cfg.topicNames()
	there := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return m.topics[name].code != errNone })
	minInsync = make(map[string]int)
	var of map[string]*settings
	if len(there) > 0 {
		if of, err = c.settingsOf(ctx, there); err != nil {
			return nil, nil, err
		}
	}
	partitions := 0
	for _, name := range names {
		t := m.topics[name]
		partitions += len(t.partitions)
		ch := &checker{cfg: cfg, topic: name, log: name == cfg.Topic}
		if t.code != errNone {
			ch.missing(t.code)
		} else {
			minInsync[name] = of[name].minInsync()
			ch.compare(&t, of[name])
		}
		found = append(found, ch.found...)
	}
	if partitions > signals.MaxPartitions {
		ch := &checker{cfg: cfg, topic: cfg.Topic}
		ch.never(settingPartitions, fmt.Sprintf("%d with those of the inputs", partitions), fmt.Sprintf("at most %d", signals.MaxPartitions),
			"A position names an offset of every partition, and has to fit a header.")
		found = append(found, ch.found...)
	}
	return found, minInsync, nil
}

// checker collects the findings of one topic.
type checker struct {
	cfg   *Config
	topic string
	log   bool
	found []Finding
}

func (ch *checker) weak(setting, value, want, cost string) {
	ch.found = append(ch.found, Finding{Topic: ch.topic, Setting: setting, Value: value, Want: want, Cost: cost, Allowed: ch.cfg.allows(setting)})
}

func (ch *checker) never(setting, value, want, cost string) {
	ch.found = append(ch.found, Finding{Topic: ch.topic, Setting: setting, Value: value, Want: want, Cost: cost, Never: true})
}

func (ch *checker) missing(code errorCode) {
	switch code {
	case errUnknownTopic:
		ch.never(settingTopic, "not there", "a topic", "Make it with pdp topics create. Where it should be there, it was deleted, or these credentials may not see it.")
	default:
		ch.never(settingTopic, "unknown: "+code.Error(), "a topic", "What cannot be seen cannot be followed.")
	}
}

func (ch *checker) compare(t *topicMeta, s *settings) {
	replicas := fewestReplicas(t)
	if replicas < wantReplicas {
		ch.fewReplicas(replicas)
	}
	ch.each(s, weakMinInsync, configMinInsync, "at least "+strconv.Itoa(wantMinInsync),
		func(value string) (string, string) {
			n, err := strconv.Atoi(value)
			switch {
			case err != nil || n < wantMinInsync:
				return value, "A signal is acknowledged when one broker has it, and lost with that broker."
			case n > replicas:
				return fmt.Sprintf("%d of %d replicas", n, replicas), "So many replicas there are not: nothing can be written."
			}
			return "", ""
		})
	ch.each(s, weakUnclean, configUnclean, "false", func(value string) (string, string) {
		if value == "false" {
			return "", ""
		}
		return value, "A replica that lacks acknowledged signals may become the leader; they are lost then, and every follower stops at the difference."
	})
	ch.each(s, weakTimestamp, configTimestampType, "LogAppendTime", func(value string) (string, string) {
		if value == "LogAppendTime" {
			return "", ""
		}
		return value, "Whoever writes says when it was written: a signal can be dated ahead, or under another grant, or so early that it is deleted at once."
	})
	ch.cleanup(s)
	ch.retention(s)
	ch.size(s)
}

func (ch *checker) fewReplicas(n int) {
	ch.weak(weakReplication, strconv.Itoa(n), "at least "+strconv.Itoa(wantReplicas),
		"With fewer copies the loss of one machine can lose acknowledged signals or stop the log.")
}

// each looks at one setting. weaker gives what to show and what it costs, or nothing where
// the value is good.
func (ch *checker) each(s *settings, setting, name, want string, weaker func(value string) (shown, cost string)) {
	value, ok := s.values[name]
	if !ok {
		ch.unread(s, setting, want)
		return
	}
	if shown, cost := weaker(value); cost != "" {
		ch.weak(setting, shown, want, cost)
	}
}

// unread is what cannot be known, which may be anything.
func (ch *checker) unread(s *settings, setting, want string) {
	why := "the broker does not tell"
	if s.code != errNone {
		why = s.code.Error()
	}
	ch.weak(setting, "not known: "+why, want, "It may be weaker than the contract needs. Where it is a lack of permission, grant DescribeConfigs on the topic.")
}

func (ch *checker) cleanup(s *settings) {
	const want = "delete"
	value, ok := s.values[configCleanup]
	switch {
	case !ok:
		ch.unread(s, weakCleanup, want)
	case strings.Contains(value, "compact"):
		ch.never(weakCleanup, value, want,
			"Compaction removes records that another of the same key follows, revocations among them; a follower stops at the hole. It cannot be allowed.")
	case value != want:
		ch.weak(weakCleanup, strconv.Quote(value), want, "It is not known what this policy does to records.")
	}
}

func (ch *checker) retention(s *settings) {
	days := int(wantRetention / (24 * time.Hour))
	want := fmt.Sprintf("%s -1 or at least %d (%d days), %s -1", configRetentionMs, wantRetention.Milliseconds(), days, configRetentionSize)
	const cost = "A replica that starts reads on from its newest snapshot, which is as old as its last stop; what is deleted by then is a hole, and it starts only from a snapshot of a peer."
	ms, known := s.number(configRetentionMs)
	size, sizeKnown := s.number(configRetentionSize)
	if !known || !sizeKnown {
		ch.unread(s, weakRetention, want)
		return
	}
	var short []string
	if ms != -1 && ms < wantRetention.Milliseconds() {
		short = append(short, fmt.Sprintf("%s %d (%s)", configRetentionMs, ms, time.Duration(ms)*time.Millisecond))
	}
	if size != -1 {
		short = append(short, fmt.Sprintf("%s %d", configRetentionSize, size))
	}
	if len(short) > 0 {
		ch.weak(weakRetention, strings.Join(short, ", "), want, cost)
	}
}

func (ch *checker) size(s *settings) {
	least := leastInputBatch
	if ch.log {
		least = leastLogBatch
	}
	ch.each(s, weakMaxMessage, configMaxMessage, fmt.Sprintf("%d to %d", least, mostBatch), func(value string) (string, string) {
		n, err := strconv.Atoi(value)
		switch {
		case err != nil || n < least:
			return value, "A signal of the size that is allowed over HTTP cannot be written: whoever sends it is refused."
		case n > mostBatch:
			return value, "A batch of more than " + strconv.Itoa(mostBatch) + " bytes is a dead letter as a whole, whatever signals are in it."
		}
		return "", ""
	})
}

// fewestReplicas is the replication of a topic: that of its weakest partition.
func fewestReplicas(t *topicMeta) int {
	fewest := -1
	for _, p := range t.partitions {
		if fewest < 0 || len(p.replicas) < fewest {
			fewest = len(p.replicas)
		}
	}
	return max(0, fewest)
}
