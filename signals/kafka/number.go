package kafka

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"

	"vigil/signals"
)

// Positions name a partition by one number, over all topics. It has to be the same on every
// replica, in every snapshot, and whatever else is configured: a partition of the log has
// its own number, one of an input that plus a base made of the topic's name.
const (
	numberBits         = 12
	maxTopicPartitions = 1 << numberBits
)

// base is where the numbers of an input's partitions begin: 1 to 2^18 times 4096.
func base(topic string) int32 {
	sum := sha256.Sum256([]byte(topic))
	return int32(1+binary.BigEndian.Uint32(sum[:4])>>14) << numberBits
}

// topic is one of those that are followed. It does not change once the log is open.
type topic struct {
	name  string
	id    [16]byte // KIP-516
	base  int32    // 0 for the log
	input *signals.Input
	// decode makes what is delivered of a record; nil where that is its value.
	decode Decoder
}

// number is that of a partition of t, which must be below maxTopicPartitions.
func (t *topic) number(partition int32) int32 { return t.base + partition }

// partitionName is for people.
func (t *topic) partitionName(partition int32) string {
	return t.name + "/" + strconv.Itoa(int(partition))
}

// topics makes the topics of a configuration, the log first.
func topics(cfg *Config) ([]*topic, error) {
	if cfg.Topic == "" {
		return nil, fmt.Errorf("kafka: no topic for the log")
	}
	all := []*topic{{name: cfg.Topic}}
	byBase := map[int32]string{}
	for i := range cfg.Inputs {
		in := &cfg.Inputs[i]
		if in.Topic == cfg.Topic {
			return nil, fmt.Errorf("kafka: the topic %q is the log, which only replicas may write; it cannot be an input", in.Topic)
		}
		t := &topic{name: in.Topic, base: base(in.Topic), input: &signals.Input{
			Source: signals.Source{Kind: "topic", Name: in.Topic}, Grants: in.Grants,
		}, decode: in.Decode}
		if err := t.input.Check(); err != nil {
			return nil, fmt.Errorf("kafka: %w", err)
		}
		switch other, taken := byBase[t.base]; {
		case taken && other == t.name:
			return nil, fmt.Errorf("kafka: the input %q is there twice", t.name)
		case taken:
			return nil, fmt.Errorf("kafka: the inputs %q and %q cannot be told apart in positions, for their names have the same hash; rename one of the topics", other, t.name)
		}
		byBase[t.base] = t.name
		all = append(all, t)
	}
	return all, nil
}

// topicOf gives the topic that a number belongs to, and the partition; nil where none does.
func topicOf(all []*topic, number int32) (*topic, int32) {
	for _, t := range all {
		if number >= 0 && number&^(maxTopicPartitions-1) == t.base {
			return t, number - t.base
		}
	}
	return nil, 0
}
