package kafka

import (
	"io"
	"net"
	"sync"
	"time"
)

// gate stands before a broker. It can hold what comes and goes, as a broker does that is
// stopped; cut connections; or lose answers after the broker has acted.
type gate struct {
	address *net.TCPAddr

	mu      sync.Mutex
	changed chan struct{}
	held    bool // nothing passes
	lose    bool // answers are lost, with their connections
	refuse  bool // new connections are closed at once
	conns   map[net.Conn]bool
}

func newGate(l net.Listener) *gate {
	return &gate{address: l.Addr().(*net.TCPAddr), changed: make(chan struct{}), conns: make(map[net.Conn]bool)}
}

func (g *gate) set(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
	close(g.changed)
	g.changed = make(chan struct{})
}

func (g *gate) hold() { g.set(func() { g.held = true }) }
func (g *gate) open() { g.set(func() { g.held, g.lose, g.refuse = false, false, false }) }

// loseAnswers has every answer lost from now on.
func (g *gate) loseAnswers() { g.set(func() { g.lose = true }) }

// down cuts all connections, and refuses others.
func (g *gate) down() {
	g.set(func() {
		g.refuse = true
		for c := range g.conns {
			_ = c.Close()
		}
	})
}

// cut ends all connections.
func (g *gate) cut() {
	g.set(func() {
		for c := range g.conns {
			_ = c.Close()
		}
	})
}

// pass waits while the gate is held, or the connection is closed.
func (g *gate) pass(c *gatedConn) (lose bool) {
	for {
		g.mu.Lock()
		held, lose, changed := g.held, g.lose, g.changed
		g.mu.Unlock()
		if !held {
			return lose
		}
		select {
		case <-changed:
		case <-c.closed:
			return false
		}
	}
}

type gatedListener struct {
	net.Listener
	g *gate
}

func (l *gatedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		gc := &gatedConn{Conn: c, g: l.g, closed: make(chan struct{})}
		l.g.mu.Lock()
		refuse := l.g.refuse
		if !refuse {
			l.g.conns[gc] = true
		}
		l.g.mu.Unlock()
		if !refuse {
			return gc, nil
		}
		_ = c.Close()
	}
}

type gatedConn struct {
	net.Conn
	g      *gate
	once   sync.Once
	closed chan struct{}
}

func (c *gatedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.g.pass(c)
	return n, err
}

func (c *gatedConn) Write(p []byte) (int, error) {
	if c.g.pass(c) {
		_ = c.Close()
		return 0, io.ErrClosedPipe
	}
	return c.Conn.Write(p)
}

func (c *gatedConn) SetDeadline(t time.Time) error { return c.Conn.SetDeadline(t) }

func (c *gatedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
