//go:build e2e && linux

package e2e

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// outsider is a client of the broker that is none of ours.
func outsider(t *testing.T, more ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(kafka.Address()), kgo.RecordPartitioner(kgo.ManualPartitioner())}, more...)...)
	must(t, err)
	t.Cleanup(c.Close)
	return c
}

// topicSettings are what the contract needs of a topic, as far as one broker can.
var topicSettings = map[string]string{
	"cleanup.policy": "delete", "retention.ms": "-1", "message.timestamp.type": "LogAppendTime", "max.message.bytes": "1048576",
}

func createTopic(t *testing.T, name string, partitions int32) {
	t.Helper()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, partitions, 1
	for k, v := range topicSettings {
		setting := kmsg.NewCreateTopicsRequestTopicConfig()
		setting.Name, setting.Value = k, kmsg.StringPtr(v)
		topic.Configs = append(topic.Configs, setting)
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis, req.Topics = 30_000, append(req.Topics, topic)
	resp, err := req.RequestWith(t.Context(), outsider(t))
	must(t, err)
	must(t, kerr.ErrorForCode(resp.Topics[0].ErrorCode))
	awaitTopic(t, name)
}

// awaitTopic waits until a new topic takes records: it is named before it can.
func awaitTopic(t *testing.T, name string) {
	t.Helper()
	until(t, name+" has a leader", func() bool { return offsetOf(t, name, 0, -1) >= 0 })
}

func deleteTopic(t *testing.T, name string) {
	t.Helper()
	topic := kmsg.NewDeleteTopicsRequestTopic()
	topic.Topic = kmsg.StringPtr(name)
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TimeoutMillis, req.Topics, req.TopicNames = 30_000, append(req.Topics, topic), []string{name}
	resp, err := req.RequestWith(t.Context(), outsider(t))
	must(t, err)
	must(t, kerr.ErrorForCode(resp.Topics[0].ErrorCode))
}

// cut removes everything that a partition holds now from its start, and gives where it
// starts then.
func cut(t *testing.T, name string, partition int32) int64 {
	t.Helper()
	topic := kmsg.NewDeleteRecordsRequestTopic()
	topic.Topic = name
	topic.Partitions = append(topic.Partitions, kmsg.DeleteRecordsRequestTopicPartition{Partition: partition, Offset: -1})
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis, req.Topics = 30_000, append(req.Topics, topic)
	resp, err := req.RequestWith(t.Context(), outsider(t))
	must(t, err)
	p := resp.Topics[0].Partitions[0]
	must(t, kerr.ErrorForCode(p.ErrorCode))
	return p.LowWatermark
}

// offsetOf gives where a partition starts (-2) or ends (-1); -1 where nobody can say yet.
func offsetOf(t *testing.T, name string, partition int32, which int64) int64 {
	t.Helper()
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.Timestamp = partition, which
	topic := kmsg.NewListOffsetsRequestTopic()
	topic.Topic, topic.Partitions = name, append(topic.Partitions, p)
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID, req.Topics = -1, append(req.Topics, topic)
	resp, err := req.RequestWith(t.Context(), outsider(t))
	if err != nil || len(resp.Topics) == 0 || resp.Topics[0].Partitions[0].ErrorCode != 0 {
		return -1
	}
	return resp.Topics[0].Partitions[0].Offset
}

// produce writes records to partition 0, as they are.
func produce(t *testing.T, topic string, values ...[]byte) {
	t.Helper()
	var records []*kgo.Record
	for _, v := range values {
		records = append(records, &kgo.Record{Topic: topic, Value: v, Timestamp: time.Now()})
	}
	must(t, outsider(t).ProduceSync(t.Context(), records...).FirstErr())
}
