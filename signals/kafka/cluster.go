package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"vigil/authz"
	"vigil/signals"
)

const (
	// pollEvery is how often each broker is asked what it knows. A view is as old as the
	// last answers, so this bounds its age from below.
	pollEvery = time.Second
	// pollPatience is how long a broker may take to answer.
	pollPatience = 3 * time.Second
	// askGap is the least time between two questions to one broker, however many ask for
	// them.
	askGap = 25 * time.Millisecond
	// maxAddresses bounds what is remembered of brokers.
	maxAddresses = 4096
)

// cluster knows who leads which partition, by asking each broker that has a replica of one,
// directly and by its own connection. What they say goes to freshness, which needs to hear
// it from a quorum, and to whoever follows or writes a partition, who needs the newest.
//
// Its goroutines, one for each broker and one that looks for the cluster while no broker
// answers, end with the context of start, and stop waits for them.
type cluster struct {
	cfg    *Config
	dialer *dialer
	log    *slog.Logger
	topics []*topic
	names  []string
	fresh  *freshness

	running sync.WaitGroup

	mu        sync.Mutex // before freshness.mu
	ctx       context.Context
	addresses map[int32]string
	brokers   map[int32]*broker // those that are asked
	parts     map[int32]*partition
	minISR    map[*topic]int
	twins     string        // said of brokers that have one address
	changed   chan struct{} // closed, and another made, when anything here changes
}

// broker is one that is asked. Its members are guarded by cluster.mu, but for wake.
type broker struct {
	wake  chan struct{} // holds one
	end   context.CancelFunc
	up    bool  // the last question was answered
	wrong error // what the last answer makes impossible
}

// partition is who leads it, as the newest answer has it.
type partition struct {
	lead     *lead
	inSync   int
	replicas []int32
}

// lead is a leader in an epoch. It is immutable.
type lead struct {
	leader, epoch int32
	// over ends when another leader or epoch is known.
	over context.Context
	end  context.CancelFunc
}

// nobody stands for a broker whose id is not known: one of the configured addresses.
const nobody = -1

func newCluster(cfg *Config, all []*topic, fresh *freshness, log *slog.Logger) *cluster {
	c := &cluster{
		cfg: cfg, dialer: newDialer(cfg), log: log, topics: all, fresh: fresh,
		addresses: make(map[int32]string), brokers: make(map[int32]*broker), parts: make(map[int32]*partition),
		minISR: make(map[*topic]int), changed: make(chan struct{}),
	}
	for _, t := range all {
		c.names = append(c.names, t.name)
	}
	return c
}

// start begins to ask. first is an answer whose topics have the ids that c.topics have.
func (c *cluster) start(ctx context.Context, first *clusterMeta, minISR map[string]int) error {
	c.mu.Lock()
	c.ctx = ctx
	for _, t := range c.topics {
		c.minISR[t] = minISR[t.name]
	}
	c.mu.Unlock()
	c.running.Add(1)
	go c.seek(ctx)
	return c.heard(nobody, 0, first)
}

// stop waits for the goroutines, whose context has ended.
func (c *cluster) stop() { c.running.Wait() }

// changes is closed when anything changes after the call.
func (c *cluster) changes() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

func (c *cluster) changeLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// ask has every broker asked soon.
func (c *cluster) ask() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range c.brokers {
		select {
		case b.wake <- struct{}{}:
		default:
		}
	}
}

// numbers are the partitions that are known to exist. The error says why they cannot be
// followed: a broker names another topic, or too many partitions.
func (c *cluster) numbers() ([]int32, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(c.brokers)) {
		if err := c.brokers[id].wrong; err != nil {
			return nil, err
		}
	}
	return slices.Sorted(maps.Keys(c.parts)), nil
}

// leader waits for a partition to have a leader whose address is known.
func (c *cluster) leader(ctx context.Context, number int32) (*lead, string, error) {
	for {
		changed := c.changes()
		if ctx.Err() != nil {
			return nil, "", ctx.Err()
		}
		if l, address := c.leaderNow(number); l != nil {
			return l, address, nil
		}
		select {
		case <-ctx.Done():
			return nil, "", ctx.Err()
		case <-changed:
		}
	}
}

// leaderNow is nil while nobody is known to lead the partition.
func (c *cluster) leaderNow(number int32) (*lead, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.parts[number]
	if p == nil || p.lead.leader == noLeader || c.addresses[p.lead.leader] == "" {
		return nil, ""
	}
	return p.lead, c.addresses[p.lead.leader]
}

// writable says why a partition cannot take records now, as far as the brokers say, or nil.
func (c *cluster) writable(t *topic, number int32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.parts[number]
	switch {
	case p == nil || p.lead.leader == noLeader:
		return fmt.Errorf("partition %s has no leader", t.partitionName(number-t.base))
	case c.brokers[p.lead.leader] == nil || !c.brokers[p.lead.leader].up:
		return fmt.Errorf("broker %d, which leads partition %s, does not answer", p.lead.leader, t.partitionName(number-t.base))
	case p.inSync < c.minISR[t]:
		return fmt.Errorf("partition %s has %d replicas in sync, and needs %d to take records", t.partitionName(number-t.base), p.inSync, c.minISR[t])
	}
	for _, b := range c.brokers {
		if b.wrong != nil {
			return b.wrong
		}
	}
	return nil
}

// heard takes an answer. asked was read before the request was written.
func (c *cluster) heard(id int32, asked authz.Instant, m *clusterMeta) error {
	claims, inSync, wrong := c.read(asked, m)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.addresses) > maxAddresses {
		clear(c.addresses)
	}
	maps.Copy(c.addresses, m.brokers)
	if b := c.brokers[id]; b != nil {
		b.up, b.wrong = true, wrong
	}
	if wrong == nil {
		// A partition is known, and holds back what is fresh, before anything in the
		// answer that names it first can count for it.
		for number, k := range claims {
			c.claimedLocked(number, k, inSync[number])
		}
		if id != nobody {
			c.fresh.answered(id, claims)
		}
	}
	c.reconcileLocked()
	c.changeLocked()
	return wrong
}

// read takes an answer apart: what it says of each partition, and how many of its replicas
// are in sync. A topic that the broker does not know now is left out, so that the answer
// confirms nothing; it may know it again in a moment. Another topic of the same name is an
// error at once.
func (c *cluster) read(asked authz.Instant, m *clusterMeta) (map[int32]claim, map[int32]int, error) {
	claims, inSync := make(map[int32]claim), make(map[int32]int)
	for _, t := range c.topics {
		of := m.topics[t.name]
		if of.code != errNone || len(of.partitions) == 0 {
			continue
		}
		if of.id != t.id {
			return nil, nil, &PartitionError{Partition: t.name, Offset: -1, What: ErrRecreated,
				Detail: fmt.Sprintf("its id was %x and is %x: start replicas anew, without their snapshots", t.id, of.id)}
		}
		for p, pm := range of.partitions {
			if p < 0 || p >= maxTopicPartitions {
				return nil, nil, fmt.Errorf("kafka: the topic %s has a partition %d; there may be %d", t.name, p, maxTopicPartitions)
			}
			claims[t.number(p)] = claim{leader: pm.leader, epoch: pm.epoch, replicas: pm.replicas, asked: asked}
			inSync[t.number(p)] = len(pm.inSync)
		}
	}
	if len(claims) > signals.MaxPartitions {
		return nil, nil, fmt.Errorf("kafka: the topics have %d partitions; there may be %d in all", len(claims), signals.MaxPartitions)
	}
	return claims, inSync, nil
}

// claimedLocked keeps the newest of what is said of a partition. A broker that names an
// earlier epoch is behind.
func (c *cluster) claimedLocked(number int32, k claim, inSync int) {
	p := c.parts[number]
	if p == nil {
		t, _ := topicOf(c.topics, number)
		c.fresh.add(number, c.minISR[t])
		p = &partition{lead: &lead{leader: noLeader, epoch: -1, end: func() {}}}
		c.parts[number] = p
	}
	newer := k.epoch > p.lead.epoch || k.epoch == p.lead.epoch && p.lead.leader == noLeader && k.leader != noLeader
	if newer {
		p.lead.end()
		over, end := context.WithCancel(c.ctx)
		p.lead = &lead{leader: k.leader, epoch: k.epoch, over: over, end: end}
	}
	if k.epoch == p.lead.epoch {
		p.inSync, p.replicas = inSync, k.replicas
	}
}

// reconcileLocked has exactly the brokers asked that have a replica of a partition. Two
// brokers of one address cannot be told apart, so neither may answer for the other.
func (c *cluster) reconcileLocked() {
	wanted := make(map[int32]bool)
	for _, p := range c.parts {
		for _, id := range p.replicas {
			if c.addresses[id] != "" {
				wanted[id] = true
			}
		}
	}
	ids, at := slices.Sorted(maps.Keys(wanted)), make(map[string]int32)
	for _, id := range ids {
		address := c.addresses[id]
		if other, taken := at[address]; taken {
			delete(wanted, id)
			if twins := fmt.Sprint(other, id, address); c.twins != twins {
				c.twins = twins
				c.log.Error("two brokers have one address, so that only one of them can be asked", slog.Int("broker", int(other)), slog.Int("other", int(id)), slog.String("address", address))
			}
			continue
		}
		at[address] = id
	}
	for id, b := range c.brokers {
		if !wanted[id] {
			b.end()
			delete(c.brokers, id)
		}
	}
	for id := range wanted {
		if c.brokers[id] == nil && c.ctx.Err() == nil {
			ctx, end := context.WithCancel(c.ctx)
			b := &broker{wake: make(chan struct{}, 1), end: end}
			c.brokers[id] = b
			c.running.Add(1)
			go c.poll(ctx, id, b)
		}
	}
}

func (c *cluster) address(id int32) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addresses[id]
}
