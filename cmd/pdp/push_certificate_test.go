package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"vigil/authz"
	"vigil/server/credential"
)

// certificateAuthority issues certificates for an hour.
type certificateAuthority struct {
	t    *testing.T
	pair tls.Certificate
}

func newCertificateAuthority(t *testing.T) *certificateAuthority {
	a := &certificateAuthority{t: t}
	a.pair = a.issue(x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a *certificateAuthority) issue(template x509.Certificate) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(a.t, err)
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := &template, any(key)
	if a.pair.Leaf != nil {
		parent, signer = a.pair.Leaf, a.pair.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, parent, &key.PublicKey, signer)
	must(a.t, err)
	leaf, err := x509.ParseCertificate(der)
	must(a.t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func (a *certificateAuthority) client(names ...string) *tls.Certificate {
	pair := a.issue(x509.Certificate{DNSNames: names, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return &pair
}

// TestAPushIsKnownByItsCertificate: of the authority that the control port trusts, with a
// name that is configured; a token is needed by nobody who shows it, and everybody else.
func TestAPushIsKnownByItsCertificate(t *testing.T) {
	ours, theirs := newCertificateAuthority(t), newCertificateAuthority(t)
	server := ours.issue(x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	key, err := x509.MarshalECPrivateKey(server.PrivateKey.(*ecdsa.PrivateKey))
	must(t, err)
	idp := newIdentityProvider(t)
	folder := folderWith(t, map[string]string{
		"keys.json": idp.keys(),
		"ca.pem":    string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ours.pair.Certificate[0]})),
		"cert.pem":  string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate[0]})),
		"key.pem":   string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key})),
	})
	rules, err := filepath.Abs("../../examples/invoice/rules")
	must(t, err)
	transmitter := credential.NewToken()
	config := filepath.Join(folder, "vigil.yaml")
	must(t, os.WriteFile(config, fmt.Appendf(nil, `vigil: 1
data_dir: %s
rules: {dir: %s}
decision: {listen: "127.0.0.1:0"}
control: {listen: "127.0.0.1:0", tls: {cert: cert.pem, key: key.pem, client_ca: ca.pem}}
issuers:
  - name: idp
    issuer: https://idp.example.com/
    audience: [https://pdp.example.com/ssf]
    algorithms: [RS256]
    keys: {file: keys.json}
    may: {types: [revoke], kinds: [session]}
    push: {token_sha256: ["%x"], cert_names: [push.idp.example.com, "spiffe://idp/push"]}
`, filepath.Join(folder, "data"), rules, credential.HashToken(transmitter)), 0o600))
	_, control := startServeAt(t, "--config", config)

	pool := x509.NewCertPool()
	pool.AddCert(ours.pair.Leaf)
	push := func(cert *tls.Certificate, token string) int {
		t.Helper()
		secure := &tls.Config{RootCAs: pool}
		if cert != nil {
			secure.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
		}
		transport := &http.Transport{TLSClientConfig: secure}
		defer transport.CloseIdleConnections()
		_, set := idp.set("https://schemas.openid.net/secevent/caep/event-type/session-revoked", nil, map[string]any{"format": "opaque", "id": "s-1"})
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, control+"/v1/events/idp", bytes.NewReader([]byte(set)))
		must(t, err)
		r.Header.Set("Content-Type", "application/secevent+jwt")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		response, err := (&http.Client{Transport: transport}).Do(r)
		if err != nil {
			return 0 // the handshake
		}
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body)
		return response.StatusCode
	}
	uri, err := url.Parse("spiffe://idp/push")
	must(t, err)
	byURI := ours.issue(x509.Certificate{URIs: []*url.URL{uri}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	for name, c := range map[string]struct {
		cert  *tls.Certificate
		token string
		want  int
	}{
		"its certificate":          {ours.client("push.idp.example.com"), "", http.StatusAccepted},
		"one of two names":         {ours.client("other.example.com", "push.idp.example.com"), "", http.StatusAccepted},
		"by URI":                   {&byURI, "", http.StatusAccepted},
		"its token":                {nil, transmitter, http.StatusAccepted},
		"its token beside another": {ours.client("other.example.com"), transmitter, http.StatusAccepted},
		"another name":             {ours.client("other.example.com"), "", http.StatusBadRequest},
		"below its name":           {ours.client("a.push.idp.example.com"), "", http.StatusBadRequest},
		"another authority":        {theirs.client("push.idp.example.com"), "", 0},
		"neither":                  {nil, "", http.StatusBadRequest},
		"another token":            {nil, credential.NewToken(), http.StatusBadRequest},
	} {
		if got := push(c.cert, c.token); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// TestACertificateForPushesEndsWithItsTime: a connection may outlive it. What TLS has not
// verified counts for nothing.
func TestACertificateForPushesEndsWithItsTime(t *testing.T) {
	a := newCertificateAuthority(t)
	cert := a.client("push.idp.example.com").Leaf
	now := authz.InstantOf(time.Now())
	certified := (&issuerConfig{PushCerts: []string{"push.idp.example.com"}}).certified(func() authz.Instant { return now })
	verified := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert, a.pair.Leaf}}}
	if !certified(verified) {
		t.Error("a good one is refused")
	}
	if certified(nil) || certified(&tls.ConnectionState{}) || certified(&tls.ConnectionState{PeerCertificates: verified.PeerCertificates}) {
		t.Error("what was not verified counts")
	}
	if now = now.Add(2 * time.Hour); certified(verified) {
		t.Error("one that is over counts")
	}
}
