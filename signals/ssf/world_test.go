package ssf

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/big"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"

	"vigil/authz"
	"vigil/signals"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testIssuer   = "https://idp.example.com/"
	testAudience = "https://pdp.example.com/ssf"
)

// handClock moves by hand.
type handClock struct{ now atomic.Int64 }

func (c *handClock) Now() authz.Instant { return authz.Instant(c.now.Load()) }

func (c *handClock) advance(d time.Duration) { c.now.Add(int64(d)) }

// start is the now of tests.
var start = authz.InstantOf(time.Date(2026, 11, 23, 3, 4, 10, 0, time.UTC))

func newClock() *handClock {
	c := &handClock{}
	c.now.Store(int64(start))
	return c
}

// Keys of the tests, made once.
var (
	rsaKey   = sync.OnceValue(func() *rsa.PrivateKey { return newRSA(2048) })
	otherRSA = sync.OnceValue(func() *rsa.PrivateKey { return newRSA(2048) })
	ecKey    = sync.OnceValue(func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(err)
		}
		return k
	})
	edKey = sync.OnceValue(func() ed25519.PrivateKey {
		_, k, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			panic(err)
		}
		return k
	})
)

func newRSA(bits int) *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return k
}

type object = map[string]any

// jwk writes a public key as RFC 7518 section 6 says, without the help of a library.
func jwk(public any, more object) object {
	b64 := base64.RawURLEncoding.EncodeToString
	var k object
	switch p := public.(type) {
	case *rsa.PublicKey:
		k = object{"kty": "RSA", "n": b64(p.N.Bytes()), "e": b64(big.NewInt(int64(p.E)).Bytes())}
	case *ecdsa.PublicKey:
		raw, err := p.Bytes() // 4, x, y
		if err != nil {
			panic(err)
		}
		size := len(raw) / 2
		k = object{"kty": "EC", "crv": p.Curve.Params().Name, "x": b64(raw[1 : 1+size]), "y": b64(raw[1+size:])}
	case ed25519.PublicKey:
		k = object{"kty": "OKP", "crv": "Ed25519", "x": b64(p)}
	}
	maps.Copy(k, more)
	return k
}

func jwks(keys ...object) []byte {
	body, err := json.Marshal(object{"keys": keys})
	if err != nil {
		panic(err)
	}
	return body
}

// testConfig is of an issuer that may say anything in the tenant default.
func testConfig(change ...func(*Config)) Config {
	cfg := Config{
		Name: "idp", Issuer: testIssuer, Audience: []string{testAudience}, Algorithms: []string{"RS256"},
		Keys:      KeysConfig{Static: jwks(jwk(rsaKey().Public(), object{"kid": "k1", "use": "sig", "alg": "RS256"}))},
		Authority: signals.Authority{Types: []string{"*"}, Kinds: []string{"*"}, Tenants: []string{"default"}},
		Now:       newClock().Now,
	}
	for _, c := range change {
		c(&cfg)
	}
	return cfg
}

func newIssuer(t testing.TB, change ...func(*Config)) *Issuer {
	t.Helper()
	i, err := New(testConfig(change...))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// claims are those of a SET that is in order, as changed. A nil value takes a claim out.
func claims(change object) jwt.MapClaims {
	c := jwt.MapClaims{
		"iss": testIssuer, "aud": testAudience, "jti": "jti-1", "iat": int64(start) / 1e9,
		"sub_id": object{"format": "opaque", "id": "s-1"},
		"events": object{CAEP + "session-revoked": object{"reason_admin": object{"en": "impossible travel"}}},
	}
	for name, value := range change {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}
	return c
}

// sign makes a token with an independent JOSE library.
func sign(t testing.TB, method jwt.SigningMethod, private crypto.PrivateKey, c jwt.MapClaims, header object) string {
	t.Helper()
	token := jwt.NewWithClaims(method, c)
	token.Header["typ"], token.Header["kid"] = "secevent+jwt", "k1"
	for name, value := range header {
		if token.Header[name] = value; value == nil {
			delete(token.Header, name)
		}
	}
	signed, err := token.SignedString(private)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// signed is a SET of the test issuer with these claims.
func signed(t testing.TB, change object) string {
	t.Helper()
	return sign(t, jwt.SigningMethodRS256, rsaKey(), claims(change), nil)
}

// event is the events claim of one event.
func event(uri string, members object) object {
	if members == nil {
		members = object{}
	}
	return object{uri: members}
}

var rs256 = jwt.SigningMethodRS256
