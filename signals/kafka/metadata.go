package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"

	"github.com/segmentio/kafka-go/protocol"
)

// The library's Metadata ends before topics had ids (KIP-516), so this one is written out.
// Every broker since 2.8 knows version 11.
const metadataVersion = 11

// clusterMeta is what one broker believes of the cluster and of the topics that it was
// asked about.
type clusterMeta struct {
	cluster    string           // the cluster's id, "" where it has none
	controller int32            // the broker that makes topics; -1 for none
	brokers    map[int32]string // host:port by id
	topics     map[string]topicMeta
}

// topicMeta is a topic. One that does not exist has a code and no partitions.
type topicMeta struct {
	id         [16]byte // KIP-516; zero where code is set, or where the topic is older than ids
	code       errorCode
	partitions map[int32]partitionMeta
}

// partitionMeta is who has a partition.
type partitionMeta struct {
	leader   int32 // -1 for none
	epoch    int32 // of the leader
	replicas []int32
	inSync   []int32
	code     errorCode // may be set although the rest is good, as for a replica that is down
}

// metadata asks the broker about the cluster and these topics; none for the cluster alone.
// It makes no topic.
func (c *conn) metadata(ctx context.Context, topics []string) (*clusterMeta, error) {
	m, err := c.askMetadata(ctx, topics)
	if err != nil {
		c.close()
		if greeting := c.last <= 2; greeting && c.anonymous && errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: the broker closes the connection instead of an answer, as one does that wants credentials (SASL)", err)
		}
		return nil, fmt.Errorf("%s: %w", protocol.Metadata, err)
	}
	return m, nil
}

func (c *conn) askMetadata(ctx context.Context, topics []string) (*clusterMeta, error) {
	if _, err := c.version(protocol.Metadata, metadataVersion, metadataVersion); err != nil {
		return nil, err
	}
	frame := c.begin(protocol.Metadata, metadataVersion)
	frame = binary.AppendUvarint(frame, uint64(len(topics))+1)
	for _, topic := range topics {
		frame = append(frame, make([]byte, 16)...) // by name, not by id
		frame = appendString(frame, topic)
		frame = append(frame, 0)
	}
	const createTopics, authorizedOperations, tags = 0, 0, 0
	frame = append(frame, createTopics, authorizedOperations, tags)
	body, err := c.exchange(ctx, end(frame), requestTimeout, c.room)
	if err != nil {
		return nil, err
	}
	return decodeMetadata(body)
}

// decodeMetadata reads an answer of version 11, from after its correlation id on.
func decodeMetadata(body []byte) (*clusterMeta, error) {
	c := &cursor{rest: body}
	m := &clusterMeta{brokers: map[int32]string{}, topics: map[string]topicMeta{}}
	c.tags()  // of the header
	c.int32() // throttle time
	for n := c.count(true); n > 0 && !c.bad; n-- {
		id, host, port := c.int32(), c.string(true), c.int32()
		c.string(true) // rack
		c.tags()
		if _, twice := m.brokers[id]; twice || host == "" || port < 1 || port > 65535 {
			return nil, fmt.Errorf("%w: broker %d at %q, port %d", errMalformed, id, clip(host), port)
		}
		m.brokers[id] = net.JoinHostPort(host, strconv.Itoa(int(port)))
	}
	m.cluster = c.string(true)
	m.controller = c.int32()
	for n := c.count(true); n > 0 && !c.bad; n-- {
		t := topicMeta{code: errorCode(c.int16()), partitions: map[int32]partitionMeta{}}
		name := c.string(true)
		copy(t.id[:], c.take(16))
		c.int8() // internal
		if err := c.partitions(t.partitions); err != nil {
			return nil, fmt.Errorf("%w of the topic %q", err, clip(name))
		}
		c.int32() // authorized operations
		c.tags()
		if _, twice := m.topics[name]; twice {
			return nil, fmt.Errorf("%w: the topic %q twice", errMalformed, clip(name))
		}
		m.topics[name] = t
	}
	c.tags()
	if c.bad || len(c.rest) > 0 {
		return nil, fmt.Errorf("%w: it ends too early or too late", errMalformed)
	}
	return m, nil
}

func (c *cursor) partitions(into map[int32]partitionMeta) error {
	for n := c.count(true); n > 0 && !c.bad; n-- {
		p := partitionMeta{code: errorCode(c.int16())}
		index := c.int32()
		p.leader, p.epoch = c.int32(), c.int32()
		p.replicas, p.inSync = c.brokerIDs(), c.brokerIDs()
		c.brokerIDs() // offline
		c.tags()
		if _, twice := into[index]; twice || index < 0 {
			return fmt.Errorf("%w: partition %d is negative or there twice,", errMalformed, index)
		}
		into[index] = p
	}
	return nil
}

func (c *cursor) brokerIDs() []int32 {
	n := c.count(true)
	if n == 0 || n > len(c.rest)/4 {
		c.bad = c.bad || n > 0
		return nil
	}
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = c.int32()
	}
	return ids
}
