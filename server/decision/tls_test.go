package decision

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"vigil/authz"
)

// authority signs certificates for tests.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	a := &authority{t: t}
	a.key, a.cert, _ = a.issue(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a *authority) issue(template *x509.Certificate) (*ecdsa.PrivateKey, *x509.Certificate, []byte) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.Subject = pkix.Name{CommonName: "test"}
	template.NotBefore = time.Now().Add(-time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return key, cert, der
}

func (a *authority) caller(id string, until time.Time) tls.Certificate {
	uri, _ := url.Parse(id)
	key, _, der := a.issue(&x509.Certificate{URIs: []*url.URL{uri}, NotAfter: until, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) write(name, kind string, der []byte) string {
	path := filepath.Join(a.t.TempDir(), name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// listenTLS serves with TLS, configured as a port of the program is, until the test ends.
func (p *port) listenTLS(ours *authority) {
	p.t.Helper()
	key, _, der := ours.issue(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		p.t.Fatal(err)
	}
	cfg, err := TLSConfig(ours.write("cert.pem", "CERTIFICATE", der), ours.write("key.pem", "EC PRIVATE KEY", keyDER), ours.write("ca.pem", "CERTIFICATE", ours.cert.Raw))
	if err != nil {
		p.t.Fatal(err)
	}
	ln, err := Listen("127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	p.addr = ln.Addr().String()
	p.serveWith(func() error { return p.ServeTLS(ln, cfg) })
}

// listenEither serves with or without TLS, and gives what connects to it.
func (p *port) listenEither(secure bool) (dial func() (net.Conn, error)) {
	p.t.Helper()
	if !secure {
		p.listen()
		return func() (net.Conn, error) { return net.Dial("tcp", p.addr) }
	}
	ours := newAuthority(p.t)
	p.listenTLS(ours)
	trusted := &tls.Config{RootCAs: ours.pool()}
	return func() (net.Conn, error) { return tls.Dial("tcp", p.addr, trusted) }
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func TestCertificatesIdentifyCallers(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	var ahead atomic.Int64 // of the one clock
	p := newPort(t, func(c *Config) {
		c.Now = func() authz.Instant { return authz.InstantOf(time.Now()) + authz.Instant(ahead.Load()) }
	})
	p.listenTLS(ours)

	roots := ours.pool()
	sessions := tls.NewLRUClientSessionCache(8)
	dial := func(most uint16, certs ...tls.Certificate) (*tls.Conn, error) {
		return tls.Dial("tcp", p.addr, &tls.Config{RootCAs: roots, Certificates: certs, MinVersion: tls.VersionTLS10, MaxVersion: most, ClientSessionCache: sessions})
	}
	none := []string{"Authorization: -"}
	const gateway = "spiffe://prod.example/gw"
	for _, c := range []struct {
		name   string
		certs  []tls.Certificate
		header []string
		status int
	}{
		{"certificate", []tls.Certificate{ours.caller(gateway, time.Time{})}, none, 200},
		{"stranger", []tls.Certificate{ours.caller("spiffe://prod.example/other", time.Time{})}, none, 401},
		{"nothing", nil, none, 401},
		{"token", nil, nil, 200},
		{"certificate and a wrong token", []tls.Certificate{ours.caller(gateway, time.Time{})}, []string{"Authorization: Bearer x"}, 401},
	} {
		for range 2 { // a second connection is not resumed into another identity
			conn, err := dial(0, c.certs...)
			if err != nil {
				t.Fatal(c.name, err)
			}
			r := bufio.NewReader(conn)
			for range 2 {
				if got := p.exchange(conn, r, call{body: goodBody, header: c.header}); got.status != c.status {
					t.Errorf("%s: %+v", c.name, got)
				}
			}
			if conn.ConnectionState().Version != tls.VersionTLS13 || conn.ConnectionState().DidResume {
				t.Error("not TLS 1.3, or resumed")
			}
			conn.Close()
		}
	}

	// A certificate of another authority does not even connect.
	conn, err := dial(0, theirs.caller(gateway, time.Time{}))
	if err == nil {
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err = conn.Read(make([]byte, 1)); err == nil {
			t.Error("a certificate of a foreign authority was taken")
		}
		conn.Close()
	}
	if _, err := dial(tls.VersionTLS11); err == nil {
		t.Error("TLS 1.1 was taken")
	}

	// The connection outlives the certificate: the identity does not.
	// Nor does it outlive that of the authority, which ends after an hour.
	for _, until := range []time.Duration{30 * time.Minute, 24 * time.Hour} {
		ahead.Store(0)
		short, err := dial(0, ours.caller(gateway, time.Now().Add(until)))
		if err != nil {
			t.Fatal(err)
		}
		defer short.Close()
		r := bufio.NewReader(short)
		if got := p.exchange(short, r, call{body: goodBody, header: none}); got.status != 200 {
			t.Fatal(got)
		}
		ahead.Store(int64(min(until, time.Hour) + time.Minute))
		if got := p.exchange(short, r, call{body: goodBody, header: none}); got.status != 401 || !got.last {
			t.Errorf("good for %v: %+v", until, got)
		}
	}
}

func TestTLSConfigNamesWhatIsWrong(t *testing.T) {
	if _, err := TLSConfig("/nowhere.pem", "/nowhere.key", ""); err == nil {
		t.Error("no error")
	}
}

// TestUnfinishedHandshakesKeepNoCallerOut fills a port with handshakes that stop anywhere:
// before the first byte, in the hello, and behind it.
func TestUnfinishedHandshakesKeepNoCallerOut(t *testing.T) {
	hello := []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
	begin := func(p *port, i int) {
		conn, _ := p.dial()
		switch i % 3 {
		case 1:
			_, _ = conn.Write(hello[:1+i%len(hello)])
		case 2: // a hello, and nothing after its answer
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				_, _ = conn.Read(make([]byte, 1))
				cancel()
			}()
			silent := tls.Client(writeOnly{conn, ctx}, &tls.Config{InsecureSkipVerify: true})
			_ = silent.HandshakeContext(ctx)
		}
	}
	ask := func(p *port, dial func() (net.Conn, error)) (reply, error) {
		conn, err := dial()
		if err != nil {
			return reply{}, err
		}
		defer conn.Close()
		return p.tryExchange(conn, bufio.NewReader(conn), call{body: goodBody})
	}

	p := newPort(t, func(c *Config) { c.Limits.Connections = 6 })
	dial := p.listenEither(true)
	gateway, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer gateway.Close()
	r := bufio.NewReader(gateway)
	p.exchange(gateway, r, call{body: goodBody})
	for i := range 30 {
		begin(p, i)
		if got, err := ask(p, dial); err != nil || got.status != 200 {
			t.Fatalf("after %d: %+v, %v", i, got, err)
		}
		if n := p.Stats().Connections; n > 6 {
			t.Fatal(n, "connections")
		}
	}
	if got := p.exchange(gateway, r, call{body: actionBody("deny")}); got.status != 200 {
		t.Error(got)
	}

	// From one address there is no making room, for one is as good as another; but they
	// end in time.
	q := newPort(t, func(c *Config) { c.Limits.PerAddress, c.Limits.ReadTime = 3, 300*time.Millisecond })
	dial = q.listenEither(true)
	for i := range 3 {
		begin(q, i)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		got, err := ask(q, dial)
		if err == nil && got.status == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("unfinished handshakes are not ended: %+v, %v", got, err)
		}
	}
}

// writeOnly is a connection from which nothing comes before ctx ends.
type writeOnly struct {
	net.Conn
	ctx context.Context
}

func (c writeOnly) Read([]byte) (int, error) {
	<-c.ctx.Done()
	return 0, c.ctx.Err()
}

func (writeOnly) Close() error { return nil }
