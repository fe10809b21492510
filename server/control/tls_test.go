package control

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vigil/authz"
	"vigil/server/decision"
)

// authority signs certificates of the day of the tests' clock.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	pair := a.issue(x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, 24*time.Hour)
	a.cert, a.key = pair.Leaf, pair.PrivateKey.(*ecdsa.PrivateKey)
	return a
}

func (a *authority) issue(template x509.Certificate, good time.Duration) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(1)
	template.NotBefore, template.NotAfter = start.Time().Add(-time.Hour), start.Time().Add(good)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = &template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func (a *authority) client(name string) *tls.Certificate {
	pair := a.issue(x509.Certificate{DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, time.Hour)
	return &pair
}

// config is that of a port of the program, with the tests' clock.
func (a *authority) config(now func() authz.Instant) *tls.Config {
	a.t.Helper()
	pair := a.issue(x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, 24*time.Hour)
	key, err := x509.MarshalECPrivateKey(pair.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		a.t.Fatal(err)
	}
	folder := a.t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			a.t.Fatal(err)
		}
		return path
	}
	cfg, err := decision.TLSConfig(write("cert.pem", "CERTIFICATE", pair.Certificate[0]), write("key.pem", "EC PRIVATE KEY", key), write("ca.pem", "CERTIFICATE", a.cert.Raw))
	if err != nil {
		a.t.Fatal(err)
	}
	cfg.Time = func() time.Time { return now().Time() }
	return cfg
}

// TestACertificateCountsOnlyWhileItIsGood: over real connections, also those that outlive
// it.
func TestACertificateCountsOnlyWhileItIsGood(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	w := newWorld(t, func(c *Config, _ *Parts) { c.TLS = ours.config(c.Now) })
	address := w.listen()
	pool := x509.NewCertPool()
	pool.AddCert(ours.cert)
	sessions := tls.NewLRUClientSessionCache(8)
	connect := func(cert *tls.Certificate, most uint16) (*tls.Conn, error) {
		cfg := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS10, MaxVersion: most, ClientSessionCache: sessions, Time: func() time.Time { return start.Time() }}
		if cert != nil {
			cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
		}
		return tls.Dial("tcp", address, cfg)
	}
	ask := func(conn net.Conn, r *bufio.Reader) (*http.Response, string, error) {
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprint(conn, "GET /v1/whoami HTTP/1.1\r\nHost: localhost\r\n\r\n")
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return nil, "", err
		}
		body, err := io.ReadAll(resp.Body)
		return resp, string(body), err
	}
	kim := ours.client("kim.example")
	long, err := connect(kim, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer long.Close()
	longReader := bufio.NewReader(long)
	for _, c := range []struct {
		name   string
		cert   *tls.Certificate
		most   uint16
		status int // 0 for no connection at all
	}{
		{"a client's", kim, 0, 200},
		{"a client's, TLS 1.2", kim, tls.VersionTLS12, 200},
		{"a client's, TLS 1.1", kim, tls.VersionTLS11, 0},
		{"of nobody", ours.client("eve.example"), 0, 401},
		{"none", nil, 0, 401},
		{"a client's name by another authority", theirs.client("kim.example"), 0, 0},
		{"an expired one", func() *tls.Certificate {
			pair := ours.issue(x509.Certificate{DNSNames: []string{"kim.example"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, -time.Minute)
			return &pair
		}(), 0, 0},
		{"one for servers", func() *tls.Certificate {
			pair := ours.issue(x509.Certificate{DNSNames: []string{"kim.example"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, time.Hour)
			return &pair
		}(), 0, 0},
	} {
		status := 0
		if conn, err := connect(c.cert, c.most); err == nil {
			if resp, _, err := ask(conn, bufio.NewReader(conn)); err == nil {
				status = resp.StatusCode
			} else if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: %v", c.name, err)
			}
			if conn.ConnectionState().DidResume {
				t.Errorf("%s: a session was resumed", c.name)
			}
			conn.Close()
		}
		if status != c.status {
			t.Errorf("%s: %d, want %d", c.name, status, c.status)
		}
		if resp, body, err := ask(long, longReader); err != nil || resp.StatusCode != 200 || !strings.Contains(body, `"kim"`) {
			t.Fatalf("beside %s: %v, %v", c.name, resp, err)
		}
	}

	w.advance(time.Hour + time.Minute) // the authority is still good, the certificate is not
	resp, body, err := ask(long, longReader)
	if err != nil || resp.StatusCode != 401 || !resp.Close || !strings.Contains(body, "expired") {
		t.Errorf("a connection that outlived its certificate: %v %s, %v", resp, body, err)
	}
	if _, err := longReader.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("it is still open:", err)
	}
	if conn, err := connect(kim, 0); err == nil { // nothing is resumed past the end
		if resp, _, err := ask(conn, bufio.NewReader(conn)); err == nil {
			t.Error("an expired certificate got an answer:", resp.StatusCode)
		}
		conn.Close()
	}
}

// TestUnfinishedHandshakesKeepNobodyOut fills the port with handshakes that stop before
// their first byte or in their hello.
func TestUnfinishedHandshakesKeepNobodyOut(t *testing.T) {
	ours := newAuthority(t)
	w := newWorld(t, func(c *Config, _ *Parts) {
		c.TLS, c.Limits.Connections, c.Limits.HeaderTime = ours.config(c.Now), 3, time.Hour
	})
	address := w.listen()
	pool := x509.NewCertPool()
	pool.AddCert(ours.cert)
	hello := "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
	for i := range 20 {
		fmt.Fprint(dial(t, address), hello[:i%len(hello)])
		conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: pool, Time: func() time.Time { return start.Time() }})
		if err != nil {
			t.Fatal(i, err)
		}
		fmt.Fprintf(conn, "GET /v1/whoami HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n", kimToken)
		if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != 200 {
			t.Fatal(i, resp, err)
		}
		conn.Close()
	}
}
