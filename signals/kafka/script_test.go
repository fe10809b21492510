package kafka

import (
	"encoding/binary"
	"hash/crc32"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// history is what brokers have of partition 0 of a topic, in the stead of what the cluster
// has: logs that lose and change what they had. Each node may have its own.
type history struct {
	w     *world
	topic string
	id    [16]byte

	mu    sync.Mutex
	nodes map[int32]*copied
	n     int // requests to fetch, and for where it ends
}

// copied is one node's copy.
type copied struct {
	start, hw int64 // hw -1 for the end
	batches   []copiedBatch
	flood     bool      // more is added by each fetch than it brings
	limit     int       // how many batches an answer brings; 0 for all
	code      errorCode // what it answers to fetches
	rubbish   bool      // it sends bytes that are no batches
	ends      errorCode // what it answers to where it ends
	epoch     int32     // the leader's that it knows of; -1 for what the cluster knows
	leader    int32
	replicas  []int32
	twins     bool // it says that brokers 1 and 2 have its address
}

type copiedBatch struct {
	base   int64
	epoch  int32
	values []string
	lacks  int32 // how many records after these the batch says to have had
}

func (c *copied) end() int64 {
	if len(c.batches) == 0 {
		return c.start
	}
	last := c.batches[len(c.batches)-1]
	return last.next()
}

// next is the offset after the batch.
func (b copiedBatch) next() int64 { return b.base + int64(len(b.values)) + int64(b.lacks) }

// add appends a batch.
func (c *copied) add(epoch int32, values ...string) {
	c.batches = append(c.batches, copiedBatch{base: c.end(), epoch: epoch, values: values})
}

// scripted puts a history in the place of a topic's partition 0, the same on every node
// until it is changed.
func (w *world) scripted(topic string, change func(*copied)) *history {
	h := &history{w: w, topic: topic, id: w.fake.TopicInfo(topic).TopicID, nodes: map[int32]*copied{}}
	for id := range int32(len(w.gates)) {
		c := &copied{hw: -1, epoch: -1}
		if change != nil {
			change(c)
		}
		h.nodes[id] = c
	}
	for _, key := range []int16{1, 2, 3} {
		w.fake.ControlKey(key, h.control)
	}
	return h
}

// seen is how many requests of a follower came.
func (h *history) seen() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.n
}

// change changes the copy of one node.
func (h *history) change(node int32, f func(*copied)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(h.nodes[node])
}

// changeAll changes all copies.
func (h *history) changeAll(f func(*copied)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.nodes {
		f(c)
	}
}

func (h *history) control(req kmsg.Request) (kmsg.Response, error, bool) {
	h.w.fake.KeepControl()
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.nodes[h.w.fake.CurrentNode()]
	switch req := req.(type) {
	case *kmsg.FetchRequest:
		h.n++
		res := h.fetch(c, req)
		return res, nil, res != nil
	case *kmsg.ListOffsetsRequest:
		h.n++
		if len(req.Topics) == 1 && req.Topics[0].Topic == h.topic && req.Topics[0].Partitions[0].Partition == 0 {
			return h.offsets(c, req), nil, true
		}
	case *kmsg.MetadataRequest:
		if c.epoch >= 0 && len(req.Topics) == 1 {
			return h.metadata(c, req), nil, true
		}
	}
	return nil, nil, false
}

func (h *history) fetch(c *copied, req *kmsg.FetchRequest) kmsg.Response {
	if len(req.Topics) != 1 || req.Topics[0].TopicID != h.id || req.Topics[0].Partitions[0].Partition != 0 {
		return nil
	}
	asked := req.Topics[0].Partitions[0]
	res := req.ResponseKind().(*kmsg.FetchResponse)
	p := kmsg.NewFetchResponseTopicPartition()
	if c.flood {
		c.limit = 1
		c.add(0, "more")
		c.add(0, "and more")
	}
	hw := c.hw
	if hw < 0 {
		hw = c.end()
	}
	p.HighWatermark, p.LastStableOffset, p.LogStartOffset = hw, hw, c.start
	if c.epoch >= 0 && asked.CurrentLeaderEpoch < c.epoch {
		p.ErrorCode = int16(errFencedLeaderEpoch)
	} else if asked.FetchOffset < c.start || asked.FetchOffset > c.end() {
		p.ErrorCode = int16(errOffsetOutOfRange)
	}
	if c.code != errNone {
		p.ErrorCode = int16(c.code)
	}
	if c.rubbish {
		p.RecordBatches = []byte("what a broker would never send, and long enough to be looked at as a batch")
	}
	brought := 0
	for _, b := range c.batches {
		last := b.next() - 1
		if p.ErrorCode == 0 && last >= asked.FetchOffset && last < hw && last >= c.start && (c.limit == 0 || brought < c.limit) {
			brought++
			p.RecordBatches = append(p.RecordBatches, b.encode()...)
		}
	}
	t := kmsg.NewFetchResponseTopic()
	t.Topic, t.TopicID = h.topic, h.id
	t.Partitions = append(t.Partitions, p)
	res.Topics = append(res.Topics, t)
	return res
}

// encode makes the bytes that a broker keeps.
func (b copiedBatch) encode() []byte {
	raw := appendBatch(nil, bytesOf(b.values...), 1_000_000_000)
	binary.BigEndian.PutUint64(raw, uint64(b.base))
	binary.BigEndian.PutUint32(raw[atEpoch:], uint32(b.epoch))
	binary.BigEndian.PutUint32(raw[atSealed+2:], uint32(len(b.values))-1+uint32(b.lacks))
	binary.BigEndian.PutUint32(raw[atCRC:], crc32.Checksum(raw[atSealed:], castagnoli))
	return raw
}

func (h *history) offsets(c *copied, req *kmsg.ListOffsetsRequest) kmsg.Response {
	res := req.ResponseKind().(*kmsg.ListOffsetsResponse)
	p := kmsg.NewListOffsetsResponseTopicPartition()
	switch p.Offset = c.hw; {
	case req.Topics[0].Partitions[0].Timestamp == earliest:
		p.Offset = c.start
	case c.ends != errNone:
		p.ErrorCode, p.Offset = int16(c.ends), -1
	case c.hw < 0:
		p.Offset = c.end()
	}
	t := kmsg.NewListOffsetsResponseTopic()
	t.Topic, t.Partitions = h.topic, append(t.Partitions, p)
	res.Topics = append(res.Topics, t)
	return res
}

// metadata is what a broker answers that believes in an epoch of its own.
func (h *history) metadata(c *copied, req *kmsg.MetadataRequest) kmsg.Response {
	res := req.ResponseKind().(*kmsg.MetadataResponse)
	for id, g := range h.w.gates {
		b := kmsg.NewMetadataResponseBroker()
		b.NodeID, b.Host, b.Port = int32(id), g.address.IP.String(), int32(g.address.Port)
		res.Brokers = append(res.Brokers, b)
		for twin := int32(1); twin <= 2 && c.twins; twin++ {
			b.NodeID = twin
			res.Brokers = append(res.Brokers, b)
		}
	}
	p := kmsg.NewMetadataResponseTopicPartition()
	p.Leader, p.LeaderEpoch, p.Replicas = c.leader, c.epoch, c.replicas
	p.ISR = p.Replicas
	t := kmsg.NewMetadataResponseTopic()
	t.Topic, t.TopicID = kmsg.StringPtr(h.topic), h.id
	t.Partitions = append(t.Partitions, p)
	res.Topics = append(res.Topics, t)
	return res
}
