package decision

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// link is what the port knows of one connection. fasthttp serves a connection by one
// goroutine, which alone reads and writes what is not atomic here.
type link struct {
	set     *connections
	address netip.Addr // of the caller, where it has one
	// local: the caller is on this machine, over loopback or a Unix socket.
	local bool
	unix  bool
	// used: a request came. Shutdown closes connections on which none did.
	used   atomic.Bool
	closed atomic.Bool // so that it is counted out once

	looked bool              // the certificate was looked at
	cert   *x509.Certificate // verified, or nil
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

// certificate gives the caller's certificate, verified during the handshake, or nil. The
// handshake is over once a request is there, and sessions are not resumed (see
// TLSConfig), so that once per connection is enough.
func (c *secureConn) certificate() *x509.Certificate {
	if !c.link.looked {
		c.link.looked = true
		state := c.Conn.ConnectionState()
		if len(state.VerifiedChains) > 0 && len(state.PeerCertificates) > 0 {
			c.link.cert = state.PeerCertificates[0]
		}
	}
	return c.link.cert
}

func (l *link) close(c net.Conn) {
	if !l.closed.Swap(true) {
		l.set.remove(c, l.address)
	}
}

// connections are those that are open.
type connections struct {
	perAddress int

	mu struct {
		sync.Mutex
		open      map[net.Conn]*link
		byAddress map[netip.Addr]int // kept only where perAddress counts
	}
}

func newConnections(perAddress int) *connections {
	s := &connections{perAddress: perAddress}
	s.mu.open, s.mu.byAddress = make(map[net.Conn]*link), make(map[netip.Addr]int)
	return s
}

func (s *connections) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mu.open)
}

// add reports whether there is a place for a connection from address.
func (s *connections) add(c net.Conn, l *link) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.perAddress > 0 && l.address.IsValid() {
		if s.mu.byAddress[l.address] >= s.perAddress {
			return false
		}
		s.mu.byAddress[l.address]++
	}
	s.mu.open[c] = l
	return true
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
	s.mu.Unlock() // Close takes it
	for _, c := range all {
		c.Close()
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
		c.Close() // too many from one address
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
