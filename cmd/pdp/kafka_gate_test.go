package main

import (
	"errors"
	"net"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

// gatedKafka is a Kafka cluster of another project, in this process, with a gate before its
// brokers.
type gatedKafka struct {
	*kfake.Cluster
	t *testing.T

	mu      sync.Mutex
	held    bool // what is sent or answered waits
	gone    bool // connections are cut, and refused
	changed chan struct{}
	conns   map[net.Conn]bool
}

func newGatedKafka(t *testing.T) *gatedKafka {
	t.Helper()
	k := &gatedKafka{t: t, changed: make(chan struct{}), conns: map[net.Conn]bool{}}
	var err error
	k.Cluster, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.ListenFn(func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		return &gatedListener{l, k}, err
	}))
	must(t, err)
	t.Cleanup(func() {
		k.set(false, false)
		k.Close()
	})
	return k
}

// set opens the gate, holds what comes and goes, or cuts everything off.
func (k *gatedKafka) set(held, gone bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held, k.gone = held, gone
	if gone {
		for c := range k.conns {
			c.Close()
		}
	}
	close(k.changed)
	k.changed = make(chan struct{})
}

// pass waits while the gate is held.
func (k *gatedKafka) pass() {
	for {
		k.mu.Lock()
		held, changed := k.held, k.changed
		k.mu.Unlock()
		if !held {
			return
		}
		<-changed
	}
}

type gatedListener struct {
	net.Listener
	k *gatedKafka
}

func (l *gatedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.k.mu.Lock()
		if l.k.gone {
			c.Close()
			l.k.mu.Unlock()
			continue
		}
		g := &gatedConn{c, l.k}
		l.k.conns[g] = true
		l.k.mu.Unlock()
		return g, nil
	}
}

type gatedConn struct {
	net.Conn
	k *gatedKafka
}

func (c *gatedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.k.pass()
	return n, err
}

func (c *gatedConn) Write(b []byte) (int, error) {
	c.k.pass()
	return c.Conn.Write(b)
}

func (c *gatedConn) Close() error {
	err := c.Conn.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
