package credential

import (
	"crypto/sha256"
	"crypto/x509"
	"net/url"
	"strings"
	"testing"

	"vigil/authz"
)

func client(name string, more ...func(*Client)) Client {
	c := Client{Name: name, Scopes: Decide, Caller: authz.Caller{Name: name, Tenants: []string{"default"}}}
	for _, f := range more {
		f(&c)
	}
	return c
}

func withToken(tokens ...string) func(*Client) {
	return func(c *Client) {
		for _, t := range tokens {
			c.TokenHashes = append(c.TokenHashes, HashToken(t))
		}
	}
}

func withCert(names ...string) func(*Client) { return func(c *Client) { c.CertNames = names } }

func TestTokensFindTheirClientAndNoOther(t *testing.T) {
	old, current, other := NewToken(), NewToken(), NewToken()
	r, err := New([]Client{client("envoy", withToken(old, current)), client("soar", withToken(other))})
	if err != nil {
		t.Fatal(err)
	}
	for token, want := range map[string]string{
		old: "envoy", current: "envoy", other: "soar",
		"": "", "vgl_": "", NewToken(): "", old[:len(old)-1]: "", old + "A": "", strings.ToLower(old): "",
	} {
		got := ""
		if c := r.ByToken(token); c != nil {
			got = c.Name
		}
		if got != want {
			t.Errorf("token found %q, want %q", got, want)
		}
	}
}

func TestHashesThatShareTheirFirstBytesAreToldApart(t *testing.T) {
	// Two hashes in one slot of the map: only the whole hash counts.
	token := NewToken()
	near := HashToken(token)
	near[31] ^= 1
	c := client("near")
	c.TokenHashes = [][sha256.Size]byte{near}
	r, err := New([]Client{c})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.ByToken(token); got != nil {
		t.Fatalf("found %q by a token that is not its own", got.Name)
	}
	r, err = New([]Client{c, client("exact", withToken(token))})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.ByToken(token); got == nil || got.Name != "exact" {
		t.Fatalf("found %v", got)
	}
}

func TestRegistryRefuses(t *testing.T) {
	token := NewToken()
	anonymous := func(c *Client) { c.Anonymous = true }
	for want, clients := range map[string][]Client{
		`client 1 has no name`:                       {client("", withToken(token))},
		`client "a" is there twice`:                  {client("a", withToken(token)), client("a", withToken(NewToken()))},
		`client "b" has a token of client "a"`:       {client("a", withToken(token)), client("b", withToken(token))},
		`client "a" has a token of client "a"`:       {client("a", withToken(token, token))},
		`client "a" has no credential`:               {client("a")},
		`the empty token`:                            {client("a", withToken(""))},
		`has the certificate name "x" of client "a"`: {client("a", withCert("x")), client("b", withCert("x"))},
		`an empty certificate name`:                  {client("a", withCert(""))},
		`about no tenant`:                            {client("a", withToken(token), func(c *Client) { c.Caller.Tenants = nil })},
		`the scopes are none`:                        {client("a", withToken(token), func(c *Client) { c.Scopes = 0 })},
		`is anonymous and has a credential`:          {client("a", anonymous, withToken(token))},
		`may do more than ask`:                       {client("a", anonymous, func(c *Client) { c.Scopes |= Signal })},
		`"a" and "b" are both anonymous`:             {client("a", anonymous), client("b", anonymous)},
	} {
		if _, err := New(clients); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := New([]Client{client(""), client("b")}); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("the errors are not gathered: %v", err)
	}
}

func TestCertificatesFindTheirClient(t *testing.T) {
	const id = "spiffe://prod.example/ns/gw/sa/envoy"
	r, err := New([]Client{client("envoy", withCert(id)), client("soar", withCert("soar.example"))})
	if err != nil {
		t.Fatal(err)
	}
	spiffe, _ := url.Parse(id)
	stranger, _ := url.Parse(id + "2")
	for _, c := range []struct {
		cert *x509.Certificate
		want string
	}{
		{&x509.Certificate{URIs: []*url.URL{spiffe}}, "envoy"},
		{&x509.Certificate{DNSNames: []string{"elsewhere.example", "soar.example"}}, "soar"},
		{&x509.Certificate{URIs: []*url.URL{stranger}}, ""},
		{&x509.Certificate{DNSNames: []string{"soar.example"}, URIs: []*url.URL{spiffe}}, ""},
		{&x509.Certificate{}, ""},
		{nil, ""},
	} {
		got := ""
		if found := r.ByCertificate(c.cert); found != nil {
			got = found.Name
		}
		if got != c.want {
			t.Errorf("found %q, want %q", got, c.want)
		}
	}
	cert := &x509.Certificate{}
	cert.Subject.CommonName = "soar.example"
	if r.ByCertificate(cert) != nil {
		t.Error("a common name identified a client")
	}
}

func TestParseBearer(t *testing.T) {
	for header, want := range map[string]string{
		"Bearer abc": "abc", "bearer abc": "abc", "BEARER a.b~c+/=": "a.b~c+/=",
		"": "", "Bearer": "", "Bearer ": "", "Bearer  abc": "", "Bearer a b": "", "Bearer a\tb": "", "Bearer é": "",
		"Basic abc": "", "Bearerabc": "", "Bearer a,Bearer b": "",
	} {
		token, ok := ParseBearer([]byte(header))
		if token != want || ok != (want != "") {
			t.Errorf("%q: %q, %v", header, token, ok)
		}
	}
	if _, ok := ParseBearer([]byte("Bearer " + strings.Repeat("a", MaxToken+1))); ok {
		t.Error("a token without end is accepted")
	}
}

func TestTokensAreLongAndUnlike(t *testing.T) {
	a, b := NewToken(), NewToken()
	if a == b || len(a) != len(TokenPrefix)+43 || !strings.HasPrefix(a, TokenPrefix) {
		t.Fatal(len(a), len(b))
	}
}

func TestLookingUpAllocatesNothing(t *testing.T) {
	header := []byte("Bearer " + NewToken())
	r, err := New([]Client{client("a", withToken(string(header[7:])))})
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(1000, func() {
		token, ok := ParseBearer(header)
		if !ok || r.ByToken(token) == nil {
			t.Fatal("not found")
		}
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
