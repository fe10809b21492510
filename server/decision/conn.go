package decision

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// link is what the port knows of one connection. fasthttp serves a connection by one
// goroutine, which alone reads and writes what is not atomic here.
type link struct {
	set     *connections
	address netip.Addr // of the caller, where it has one
	// local: the caller is on this machine, over loopback or a Unix socket.
	local bool
	unix  bool
	// used: a request came. Shutdown closes connections on which none did. busy: one is in
	// the handler or being answered. known: a client was recognized on it. All three only
	// choose what to close; they order nothing.
	used, busy, known atomic.Bool
	closed            atomic.Bool // so that it is counted out once
	// writes grows by one when a write begins and when it ends: odd is in the middle.
	writes atomic.Uint64
	// noted is a write that was seen in the middle of, at notedAt. Guarded by set.mu.
	noted   uint64
	notedAt time.Time

	looked bool                // the certificate was looked at
	chain  []*x509.Certificate // verified, the caller's first; or nil
}

// plainConn and secureConn are connections that the handler finds its link by. The
// second embeds *tls.Conn, by whose methods fasthttp knows TLS.
type plainConn struct {
	net.Conn
	link link
}

type secureConn struct {
	*tls.Conn
	link link
}

func (c *plainConn) Write(b []byte) (int, error) {
	c.link.writes.Add(1)
	defer c.link.writes.Add(1)
	return c.Conn.Write(b)
}

func (c *secureConn) Write(b []byte) (int, error) {
	c.link.writes.Add(1)
	defer c.link.writes.Add(1)
	return c.Conn.Write(b)
}

func (c *plainConn) Close() error {
	c.link.close(c)
	return c.Conn.Close()
}

func (c *secureConn) Close() error {
	c.link.close(c)
	return c.Conn.Close()
}

// linkOf gives the link of a connection of ours, or nil.
func linkOf(c net.Conn) *link {
	switch c := c.(type) {
	case *plainConn:
		return &c.link
	case *secureConn:
		return &c.link
	}
	return nil
}

// certificates gives the caller's certificate and what it was verified by during the
// handshake, or nil. The handshake is over once a request is there, and sessions are not
// resumed (see TLSConfig), so that once per connection is enough.
func (c *secureConn) certificates() []*x509.Certificate {
	if !c.link.looked {
		c.link.looked = true
		if chains := c.Conn.ConnectionState().VerifiedChains; len(chains) > 0 {
			c.link.chain = chains[0]
		}
	}
	return c.link.chain
}

func (l *link) close(c net.Conn) {
	if !l.closed.Swap(true) {
		l.set.remove(c, l.address)
	}
}

// drop closes a connection at once. TLS would first say goodbye and wait for the other
// side to read it.
func drop(c net.Conn) {
	if secure, ok := c.(*secureConn); ok {
		secure.link.close(c)
		_ = secure.NetConn().Close()
		return
	}
	_ = c.Close()
}

// connections are those that are open. Where one more comes than there is place for, one
// that is not at work goes, strangers first: so neither silent connections nor leaked ones
// keep anyone out.
type connections struct {
	max        int // 0 for any number, as with perAddress
	perAddress int

	mu struct {
		sync.Mutex
		open      map[net.Conn]*link
		byAddress map[netip.Addr]int // kept only where perAddress counts
	}
}

func newConnections(max, perAddress int) *connections {
	s := &connections{max: max, perAddress: perAddress}
	s.mu.open, s.mu.byAddress = make(map[net.Conn]*link), make(map[netip.Addr]int)
	return s
}

func (s *connections) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mu.open)
}

// add reports whether there is a place for a connection, and makes one where it can.
func (s *connections) add(c net.Conn, l *link) bool {
	victim, ok := s.admit(c, l)
	if victim != nil {
		drop(victim)
	}
	return ok
}

func (s *connections) admit(c net.Conn, l *link) (victim net.Conn, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	counted := s.perAddress > 0 && l.address.IsValid()
	if counted && s.mu.byAddress[l.address] >= s.perAddress {
		return nil, false
	}
	if s.max > 0 && len(s.mu.open) >= s.max {
		if victim = s.idle(); victim == nil {
			return nil, false
		}
	}
	if counted {
		s.mu.byAddress[l.address]++
	}
	s.mu.open[c] = l
	return victim, true
}

// maxLooked bounds how many connections are looked at for one to close.
const maxLooked = 64

// patience is how long one write may take where the place of its connection is wanted. A
// caller that takes no answers must not hold a place for all of Limits.WriteTime.
const patience = time.Second

// stuck reports whether the write that l is in was already seen patience ago. Only here
// is the time taken, so that writes need not. l.set.mu is held.
func (l *link) stuck(now time.Time) bool {
	n := l.writes.Load()
	if n%2 == 0 {
		return false
	}
	if n != l.noted {
		l.noted, l.notedAt = n, now
	}
	return now.Sub(l.notedAt) >= patience
}

// idle chooses a connection that is not at work, and best one on which no client was
// recognized. They come in no order, so that whoever floods is the likeliest hit. A
// request that is still being sent counts as no work, and neither does an answer that is
// not taken. s.mu is held.
func (s *connections) idle() (victim net.Conn) {
	looked, now := 0, time.Now()
	for c, l := range s.mu.open {
		if (!l.busy.Load() || l.stuck(now)) && !l.closed.Load() {
			if !l.known.Load() {
				return c
			}
			victim = c
		}
		if looked++; looked == maxLooked {
			break
		}
	}
	return victim
}

func (s *connections) remove(c net.Conn, address netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.open, c)
	if s.perAddress > 0 && address.IsValid() {
		if s.mu.byAddress[address]--; s.mu.byAddress[address] <= 0 {
			delete(s.mu.byAddress, address)
		}
	}
}

// closeAll closes the connections, or only those on which no request ever came.
func (s *connections) closeAll(onlyUnused bool) {
	s.mu.Lock()
	all := make([]net.Conn, 0, len(s.mu.open))
	for c, l := range s.mu.open {
		if !onlyUnused || !l.used.Load() {
			all = append(all, c)
		}
	}
	s.mu.Unlock() // drop takes it
	for _, c := range all {
		drop(c)
	}
}

// listener gives each connection its link.
type listener struct {
	net.Listener
	set *connections
	tls *tls.Config // nil for none
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if wrapped := l.wrap(c); wrapped != nil {
			return wrapped, nil
		}
		c.Close() // too many
	}
}

func (l *listener) wrap(c net.Conn) net.Conn {
	about := link{set: l.set}
	switch addr := c.RemoteAddr().(type) {
	case *net.TCPAddr:
		about.address = addr.AddrPort().Addr().Unmap()
		if own, ok := c.LocalAddr().(*net.TCPAddr); ok {
			about.local = about.address.IsLoopback() && own.AddrPort().Addr().Unmap().IsLoopback()
		}
	case *net.UnixAddr:
		about.local, about.unix = true, true
	}
	if l.tls != nil {
		secure := &secureConn{Conn: tls.Server(c, l.tls)}
		secure.link.init(&about)
		if !l.set.add(secure, &secure.link) {
			return nil
		}
		return secure
	}
	plain := &plainConn{Conn: c}
	plain.link.init(&about)
	if !l.set.add(plain, &plain.link) {
		return nil
	}
	return plain
}

func (l *link) init(from *link) {
	l.set, l.address, l.local, l.unix = from.set, from.address, from.local, from.unix
}

// TLSConfig reads the files of a TLS listener. With clientCA, certificates of callers
// that it signed identify them; callers without one may still show a token. Sessions are
// not resumed, so that every connection has its certificate verified.
func TLSConfig(certFile, keyFile, clientCA string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{
		Certificates:           []tls.Certificate{pair},
		MinVersion:             tls.VersionTLS12,
		NextProtos:             []string{"http/1.1"},
		SessionTicketsDisabled: true,
	}
	if clientCA == "" {
		return cfg, nil
	}
	pem, err := readFile(clientCA)
	if err != nil {
		return nil, err
	}
	cfg.ClientCAs = x509.NewCertPool()
	if !cfg.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, errors.New(clientCA + ": holds no certificate in PEM")
	}
	cfg.ClientAuth = tls.VerifyClientCertIfGiven
	return cfg, nil
}
