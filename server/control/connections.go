package control

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// connections bounds how many connections are open. Where one more comes, one that waits
// for a request goes; where all are at work, the new one is closed. So neither leaked
// keep-alive connections nor silent ones keep anyone out.
type connections struct {
	max int

	mu   sync.Mutex
	open int                   // guarded by mu
	idle map[net.Conn]struct{} // guarded by mu: new or idle ones
}

func newConnections(max int) *connections {
	return &connections{max: max, idle: make(map[net.Conn]struct{})}
}

// changed is http.Server.ConnState.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew, http.StateIdle:
		c.idle[conn] = struct{}{}
	default:
		delete(c.idle, conn)
	}
}

// admit counts one more connection, or reports that there is no place for it. victim is
// one to close in its stead.
func (c *connections) admit() (victim net.Conn, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open >= c.max {
		for conn := range c.idle { // in no order: whoever floods is the likeliest hit
			victim = conn
			break
		}
		if victim == nil {
			return nil, false
		}
		delete(c.idle, victim)
	}
	c.open++
	return victim, true
}

func (c *connections) closed() {
	c.mu.Lock()
	c.open--
	c.mu.Unlock()
}

func (c *connections) bound(l net.Listener) net.Listener { return &boundListener{l, c} }

type boundListener struct {
	net.Listener
	conns *connections
}

func (l *boundListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		victim, ok := l.conns.admit()
		if !ok {
			_ = conn.Close()
			continue
		}
		if victim != nil {
			drop(victim)
		}
		return &boundConn{Conn: conn, conns: l.conns}, nil
	}
}

// drop closes conn at once. A TLS connection would first say goodbye and wait for the
// other side to read it.
func drop(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	_ = conn.Close()
}

// boundConn gives its place back when it is closed.
type boundConn struct {
	net.Conn
	conns *connections
	once  sync.Once
}

func (c *boundConn) Close() error {
	c.once.Do(c.conns.closed)
	return c.Conn.Close()
}
