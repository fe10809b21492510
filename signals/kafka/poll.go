package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"time"
)

// errAnew says that a connection is to be given up for another: the credentials' session ends
// soon, or the broker has moved. Nothing is wrong.
var errAnew = errors.New("it is to be reached anew")

// poll asks one broker until ctx ends.
func (c *cluster) poll(ctx context.Context, id int32, b *broker) {
	defer c.running.Done()
	var pause backoff
	for ctx.Err() == nil {
		err := guard(func() error { return c.converse(ctx, id, b, &pause) })
		if ctx.Err() != nil {
			return
		}
		if err == errAnew {
			continue
		}
		c.mu.Lock()
		if b.up {
			c.log.Warn("a broker does not answer", slog.Int("broker", int(id)), slog.Any("error", err))
			b.up, b.wrong = false, nil
			c.changeLocked()
		}
		c.mu.Unlock()
		if !pause.wait(ctx) {
			return
		}
	}
}

// converse asks a broker again and again over one connection. It returns what went wrong.
func (c *cluster) converse(ctx context.Context, id int32, b *broker, pause *backoff) error {
	address := c.address(id)
	cn, err := c.connect(ctx, address)
	if err != nil {
		return err
	}
	defer cn.close()
	every := time.NewTimer(0)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-b.wake:
			if !sleep(ctx, askGap) {
				return ctx.Err()
			}
		case <-every.C:
		}
		if now := c.address(id); now != address || cn.ending() {
			return errAnew
		}
		asked := c.cfg.Now() // Guard: the send time is taken before the request is written.
		m, err := c.question(ctx, cn)
		if err != nil {
			return err
		}
		_ = c.heard(id, asked, m) // kept with the broker
		pause.reset()
		every.Reset(pollEvery)
	}
}

func (c *cluster) connect(ctx context.Context, address string) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, pollPatience)
	defer cancel()
	return c.dialer.dial(ctx, address)
}

func (c *cluster) question(ctx context.Context, cn *conn) (*clusterMeta, error) {
	ctx, cancel := context.WithTimeout(ctx, pollPatience)
	defer cancel()
	return cn.metadata(ctx, c.names)
}

// seek looks for the cluster at the configured addresses while no broker answers, and reads
// the topics' settings now and then.
func (c *cluster) seek(ctx context.Context) {
	defer c.running.Done()
	const settingsEvery = 10
	var leaderless []string
	for n := 1; sleep(ctx, pollEvery); n++ {
		_ = guard(func() error {
			leaderless = c.tellLeaderless(leaderless)
			up := c.upAddresses()
			if len(up) == 0 {
				address := c.cfg.Brokers[n%len(c.cfg.Brokers)]
				if m, err := c.askAt(ctx, address); err == nil {
					_ = c.heard(nobody, 0, m) // kept nowhere: a seed has no id
				}
			} else if n%settingsEvery == 0 {
				return c.readSettings(ctx, up[n/settingsEvery%len(up)])
			}
			return nil
		})
	}
}

// tellLeaderless says which partitions nobody can read, for those who would wait without a
// word: they have no leader, or one whose address no broker tells. before is what it gave the
// last time.
func (c *cluster) tellLeaderless(before []string) []string {
	var now []string
	c.mu.Lock()
	for _, number := range slices.Sorted(maps.Keys(c.parts)) {
		if lead := c.parts[number].lead.leader; lead == noLeader || c.addresses[lead] == "" {
			t, p := topicOf(c.topics, number)
			now = append(now, t.partitionName(p))
		}
	}
	c.mu.Unlock()
	switch {
	case slices.Equal(now, before):
	case len(now) == 0:
		c.log.Info("every partition has a leader again")
	default:
		c.log.Warn("partitions without a leader cannot be read; the view ages", slog.Int("partitions", len(now)), slog.Any("first", now[:min(len(now), 10)]))
	}
	return now
}

// askAt asks whoever listens at an address.
func (c *cluster) askAt(ctx context.Context, address string) (*clusterMeta, error) {
	cn, err := c.connect(ctx, address)
	if err != nil {
		return nil, err
	}
	defer cn.close()
	return c.question(ctx, cn)
}

func (c *cluster) upAddresses() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var up []string
	for id, b := range c.brokers {
		if b.up {
			up = append(up, c.addresses[id])
		}
	}
	return up
}

// readSettings reads min.insync.replicas of each topic. Where a broker refuses to tell it
// counts as 1, so that all replicas have to confirm; what cannot be asked stays as it was.
func (c *cluster) readSettings(ctx context.Context, address string) error {
	cn, err := c.connect(ctx, address)
	if err != nil {
		return err
	}
	defer cn.close()
	ctx, cancel := context.WithTimeout(ctx, pollPatience)
	defer cancel()
	all, err := cn.settingsOf(ctx, c.names)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.topics {
		if n := all[t.name].minInsync(); n != c.minISR[t] {
			c.log.Info("min.insync.replicas of a topic", slog.String("topic", t.name), slog.Int("is", n), slog.Int("was", c.minISR[t]))
			c.minISR[t] = n
		}
	}
	for number := range c.parts {
		t, _ := topicOf(c.topics, number)
		c.fresh.setMinISR(number, c.minISR[t])
	}
	return nil
}

// guard turns a panic into an error.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("kafka: panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}
