package kafka

import (
	"io"
	"net"
	"sync"
)

// gate stands before a broker. It can hold what comes and goes, as a broker does that is
// stopped; cut connections; or lose answers after the broker has acted.
type gate struct {
	address *net.TCPAddr

	mu      sync.Mutex
	changed chan struct{}
	held    bool // nothing passes
	answers bool // requests pass, and only so many answers
	permits int
	waiting int  // answers that do not pass now
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

// permit lets so many answers pass from now on, and no more.
func (g *gate) permit(n int) { g.set(func() { g.answers, g.permits = true, n }) }

// holds is how many answers wait.
func (g *gate) holds() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.waiting
}

func (g *gate) hold() { g.set(func() { g.held = true }) }
func (g *gate) open() {
	g.set(func() { g.held, g.answers, g.lose, g.refuse = false, false, false, false })
}

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
func (g *gate) pass(c *gatedConn, answer bool) (lose bool) {
	waits := false
	for {
		g.mu.Lock()
		held := g.held
		if !held && g.answers && answer {
			if held = g.permits == 0; !held {
				g.permits--
			}
		}
		if held != waits && answer {
			waits = held
			g.waiting += map[bool]int{true: 1, false: -1}[held]
		}
		lose, changed := g.lose, g.changed
		g.mu.Unlock()
		if !held {
			return lose
		}
		select {
		case <-changed:
		case <-c.closed:
			g.mu.Lock()
			defer g.mu.Unlock()
			if waits {
				g.waiting--
			}
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
	c.g.pass(c, false)
	return n, err
}

func (c *gatedConn) Write(p []byte) (int, error) {
	if c.g.pass(c, true) {
		_ = c.Close()
		return 0, io.ErrClosedPipe
	}
	return c.Conn.Write(p)
}

func (c *gatedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
