package control

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// connections bounds how many connections are open. Where one more comes, one that works
// for no client goes, strangers first; where all work, the new one is closed. So neither
// leaked keep-alive connections nor silent or slow strangers keep anyone out.
type connections struct {
	max int

	mu   sync.Mutex
	open map[*boundConn]struct{} // guarded by mu
}

// boundConn gives its place back when it is closed.
type boundConn struct {
	net.Conn
	conns *connections
	once  sync.Once

	// Guarded by conns.mu.
	waiting bool      // for a request: new or idle
	known   bool      // a client was recognized on it
	working bool      // for that client
	worked  time.Time // when that ended last
}

func newConnections(max int) *connections {
	return &connections{max: max, open: make(map[*boundConn]struct{})}
}

// patience is how long a client has to take an answer where the place of its connection is
// wanted.
const patience = time.Second

// dispensable reports whether c may be closed for another. net/http counts as active also
// who is refused but goes on sending a body, or who takes no answer: a stranger needs no
// credential for either. So only work for a client protects a connection, and after it the
// time to take the answer. c.conns.mu is held.
func (c *boundConn) dispensable(now time.Time) bool {
	return !c.working && (c.waiting || !c.known || now.Sub(c.worked) >= patience)
}

// changed is http.Server.ConnState.
func (s *connections) changed(conn net.Conn, state http.ConnState) {
	c := boundOf(conn)
	if c == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.waiting = state == http.StateNew || state == http.StateIdle
}

// recognized says that a request on c is that of a client, and finished that its handler
// has ended. Both do nothing for nil.
func (c *boundConn) recognized() {
	if c == nil {
		return
	}
	c.conns.mu.Lock()
	defer c.conns.mu.Unlock()
	c.known, c.working = true, true
}

func (c *boundConn) finished() {
	if c == nil {
		return
	}
	c.conns.mu.Lock()
	defer c.conns.mu.Unlock()
	if c.working {
		c.working, c.worked = false, time.Now()
	}
}

// add counts one more connection, or reports that there is no place for it. victim is one
// to close in its stead; it holds no place any more.
func (s *connections) add(c *boundConn) (victim *boundConn, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) >= s.max {
		if victim = s.victim(time.Now()); victim == nil {
			return nil, false
		}
		delete(s.open, victim)
	}
	s.open[c] = struct{}{}
	return victim, true
}

// victim chooses a connection to close, or nil. Strangers come in no order: whoever floods
// is the likeliest hit. Of clients, the one goes that worked longest ago. s.mu is held.
func (s *connections) victim(now time.Time) (victim *boundConn) {
	for c := range s.open {
		switch {
		case !c.dispensable(now):
		case !c.known:
			return c
		case victim == nil || c.worked.Before(victim.worked):
			victim = c
		}
	}
	return victim
}

func (s *connections) remove(c *boundConn) {
	s.mu.Lock()
	delete(s.open, c)
	s.mu.Unlock()
}

func (s *connections) bound(l net.Listener) net.Listener { return &boundListener{l, s} }

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
		c := &boundConn{Conn: conn, conns: l.conns, waiting: true}
		victim, ok := l.conns.add(c)
		if !ok {
			_ = conn.Close()
			continue
		}
		if victim != nil {
			// Not by way of TLS, which would say goodbye and wait for it to be read.
			_ = victim.Close()
		}
		return c, nil
	}
}

func (c *boundConn) Close() error {
	c.once.Do(func() { c.conns.remove(c) })
	return c.Conn.Close()
}

// boundOf finds ours in a connection of net/http's, or nil.
func boundOf(conn net.Conn) *boundConn {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	c, _ := conn.(*boundConn)
	return c
}

type connectionKey struct{}

// withConnection is http.Server.ConnContext.
func withConnection(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, boundOf(conn))
}

// connectionOf gives the connection of a request, or nil.
func connectionOf(r *http.Request) *boundConn {
	c, _ := r.Context().Value(connectionKey{}).(*boundConn)
	return c
}
