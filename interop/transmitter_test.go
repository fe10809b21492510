package interop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
	"github.com/lestrrat-go/jwx/v3/jwt"
)

const (
	issuer   = "https://idp.example.com/"
	audience = "https://pdp.example.com/ssf"

	caep = "https://schemas.openid.net/secevent/caep/event-type/"
	risc = "https://schemas.openid.net/secevent/risc/event-type/"
	own  = "urn:vigil:secevent:event-type:"
)

// transmitter signs security event tokens (RFC 8417) and publishes its keys with a JOSE
// library that the engine does not use.
type transmitter struct {
	t       *testing.T
	alg     jwa.SignatureAlgorithm
	key     jwk.Key
	keysURL string
	clock   time.Time // of the next event, a second after the one before: iat has whole seconds
}

// newTransmitter makes a key for an algorithm, and serves it among others, as providers do:
// one for encryption, one of an algorithm that few know, and a later one.
func newTransmitter(t *testing.T, alg jwa.SignatureAlgorithm) *transmitter {
	t.Helper()
	tr := &transmitter{t: t, alg: alg, key: newKey(t, alg, "k-1"), clock: time.Now().Add(-10 * time.Minute)}
	encrypting := newKey(t, jwa.RS256(), "k-enc")
	must(t, encrypting.Set(jwk.KeyUsageKey, "enc"))
	must(t, encrypting.Set(jwk.AlgorithmKey, jwa.RSA_OAEP_256()))
	set := jwk.NewSet()
	for _, k := range []jwk.Key{encrypting, newKey(t, jwa.ES512(), "k-512"), tr.key, newKey(t, alg, "k-2")} {
		must(t, set.AddKey(k))
	}
	public, err := jwk.PublicSetOf(set)
	must(t, err)
	text, err := json.Marshal(public)
	must(t, err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/jwk-set+json")
		_, _ = w.Write(text)
	}))
	t.Cleanup(server.Close)
	tr.keysURL = server.URL
	return tr
}

func newKey(t *testing.T, alg jwa.SignatureAlgorithm, id string) jwk.Key {
	t.Helper()
	var private crypto.Signer
	var err error
	switch alg {
	case jwa.ES256():
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jwa.ES512():
		private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case jwa.EdDSA():
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	must(t, err)
	key, err := jwk.Import(private)
	must(t, err)
	must(t, key.Set(jwk.KeyIDKey, id))
	must(t, key.Set(jwk.KeyUsageKey, "sig"))
	must(t, key.Set(jwk.AlgorithmKey, alg))
	return key
}

// claims are those of a SET with one event. change overrides them; nil takes one away.
func (tr *transmitter) claims(uri string, members, subject, change object) (id string, all jwt.Token) {
	tr.t.Helper()
	id, tr.clock = rand.Text(), tr.clock.Add(time.Second)
	claims := object{
		jwt.IssuerKey: issuer, jwt.AudienceKey: audience, jwt.JwtIDKey: id, jwt.IssuedAtKey: tr.clock,
		"sub_id": subject, "events": object{uri: members},
	}
	for name, value := range change {
		claims[name] = value
	}
	b := jwt.NewBuilder()
	for name, value := range claims {
		if value != nil {
			b = b.Claim(name, value)
		}
	}
	all, err := b.Build()
	must(tr.t, err)
	return id, all
}

// signed is a compact JWS with the type of a SET.
func (tr *transmitter) signed(token jwt.Token) string {
	return tr.signedAs("secevent+jwt", tr.alg, tr.key, token)
}

func (tr *transmitter) signedAs(typ string, alg jwa.SignatureAlgorithm, key any, token jwt.Token) string {
	tr.t.Helper()
	headers := jws.NewHeaders()
	must(tr.t, headers.Set(jws.TypeKey, typ))
	set, err := jwt.Sign(token, jwt.WithKey(alg, key, jws.WithProtectedHeaders(headers)))
	must(tr.t, err)
	return string(set)
}

// says is a SET with one event about a subject.
func (tr *transmitter) says(uri string, members, subject object) (id, set string) {
	tr.t.Helper()
	id, token := tr.claims(uri, members, subject, nil)
	return id, tr.signed(token)
}

// The subjects of the tests.
var (
	agentPayer = object{"format": "complex", "agent": object{"format": "opaque", "id": "payer"}}
	userKim    = object{"format": "iss_sub", "iss": issuer, "sub": "kim"}
	session1   = object{"format": "complex", "session": object{"format": "opaque", "id": "s-1"}, "user": userKim}
)
