package main

import (
	"context"
	"fmt"
	"path/filepath"

	"vigil/disk"
	"vigil/server/control"
	"vigil/signals/cloudevents"
	"vigil/signals/kafka"
	"vigil/signals/ssf"
)

// consumer makes what reads the topic of an issuer, of the brokers of the log.
func (n *node) consumer(r *ssf.Receiver, c *issuerConfig) (*kafka.Consumer, error) {
	topic, err := ssf.NewTopic(r, ssf.TopicConfig{Authentic: c.Topic.ACL, DeadLetter: n.deadLetter})
	if err != nil {
		return nil, err
	}
	cfg, err := n.cfg.kafka(n.now, n.log)
	if err != nil {
		return nil, err
	}
	fs := n.on.fs
	if fs == nil {
		fs = disk.OS
	}
	dir := filepath.Join(n.cfg.DataDir, eventsName)
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("%s: %s", dir, plainOSError(err))
	}
	return kafka.NewConsumer(cfg, kafka.ConsumerConfig{
		Topic: c.Topic.Name, Decode: cloudevents.Token, For: n.feed.log.ID(),
		Path: filepath.Join(dir, c.SSF.Name), FS: fs,
		Take: func(ctx context.Context, m *kafka.Consumed) error {
			return topic.Take(ctx, m.Partition, &m.Entry, m.Read)
		},
	})
}

// topicStatus is how the reading of a topic goes, in the words of the control port.
func topicStatus(c *topicConfig, k *kafka.Consumer) control.EventTopic {
	s := k.Status()
	t := control.EventTopic{
		Name: c.Name, Authentic: "signature", Next: s.Next, Behind: s.Behind, Taken: s.Taken, Lost: s.Lost, Fresh: instant(s.Fresh),
	}
	if c.ACL {
		t.Authentic = "acl"
	}
	if s.Err != nil {
		t.Reading = s.Err.Error()
	}
	return t
}
