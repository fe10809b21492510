package kafka

import (
	"context"
	"fmt"
	"strconv"

	"github.com/segmentio/kafka-go/protocol/describeconfigs"
)

// The names that brokers give to the settings of a topic that the contract depends on.
const (
	configMinInsync     = "min.insync.replicas"
	configUnclean       = "unclean.leader.election.enable"
	configTimestampType = "message.timestamp.type"
	configCleanup       = "cleanup.policy"
	configRetentionMs   = "retention.ms"
	configRetentionSize = "retention.bytes"
	configMaxMessage    = "max.message.bytes"
)

// settings are those of one topic, as a broker tells them.
type settings struct {
	values map[string]string // by the broker's name, defaults included
	code   errorCode         // why there are none, such as a lack of permission
}

// number gives a setting that is a number.
func (s *settings) number(name string) (int64, bool) {
	n, err := strconv.ParseInt(s.values[name], 10, 64)
	return n, err == nil
}

// minInsync is how many replicas have a record when it is acknowledged. Where that cannot
// be read it is 1, which is true of every topic.
func (s *settings) minInsync() int {
	if n, ok := s.number(configMinInsync); ok && n > 1 && n < 1<<15 {
		return int(n)
	}
	return 1
}

// settingsOf asks for what the contract depends on, for each topic. A topic that the broker
// refuses to tell of has a code; where it may tell in a moment the error wraps that.
func (c *conn) settingsOf(ctx context.Context, topics []string) (map[string]*settings, error) {
	const ofTopic = 2
	req := &describeconfigs.Request{}
	for _, topic := range topics {
		req.Resources = append(req.Resources, describeconfigs.RequestResource{
			ResourceType: ofTopic, ResourceName: topic,
			ConfigNames: []string{configMinInsync, configUnclean, configTimestampType, configCleanup, configRetentionMs, configRetentionSize, configMaxMessage},
		})
	}
	res, err := c.roundTrip(ctx, req)
	if err != nil {
		return nil, err
	}
	answer, ok := res.(*describeconfigs.Response)
	if !ok {
		return nil, fmt.Errorf("%w: no DescribeConfigs", errMalformed)
	}
	all := make(map[string]*settings, len(topics))
	for _, r := range answer.Resources {
		s := &settings{values: make(map[string]string), code: errorCode(r.ErrorCode)}
		for _, e := range r.ConfigEntries {
			s.values[e.ConfigName] = e.ConfigValue
		}
		all[r.ResourceName] = s
	}
	for _, topic := range topics {
		switch s := all[topic]; {
		case s == nil:
			return nil, fmt.Errorf("%w: it leaves out the topic %s", errMalformed, topic)
		case momentary(s.code):
			return nil, fmt.Errorf("settings of the topic %s: %w", topic, s.code)
		}
	}
	return all, nil
}

// momentary reports whether a broker that says so about a topic may say otherwise in a
// moment.
func momentary(code errorCode) bool {
	switch code {
	case errUnknownServer, errUnknownTopic, errLeaderNotAvailable, errRequestTimedOut, errBrokerNotAvailable,
		errNetworkException, errNotController, errThrottlingQuota:
		return true
	}
	return false
}
