package ssf

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"math/big"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// BenchmarkSET is what it costs to verify a SET and to say what it says, beside the bare
// verification of its signature by the standard library: in one run, for both depend on
// the machine. The bare one has the signature decoded and the key at hand.
func BenchmarkSET(b *testing.B) {
	for _, c := range []struct {
		method  jwt.SigningMethod
		private crypto.Signer
		bare    func(signed string, signature []byte) bool
	}{
		{jwt.SigningMethodRS256, rsaKey(), func(signed string, signature []byte) bool {
			sum := sha256.Sum256([]byte(signed))
			return rsa.VerifyPKCS1v15(rsaKey().Public().(*rsa.PublicKey), crypto.SHA256, sum[:], signature) == nil
		}},
		{jwt.SigningMethodES256, ecKey(), func(signed string, signature []byte) bool {
			sum := sha256.Sum256([]byte(signed))
			r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
			return ecdsa.Verify(ecKey().Public().(*ecdsa.PublicKey), sum[:], r, s)
		}},
		{jwt.SigningMethodEdDSA, edKey(), func(signed string, signature []byte) bool {
			return ed25519.Verify(edKey().Public().(ed25519.PublicKey), []byte(signed), signature)
		}},
	} {
		alg := c.method.Alg()
		i := newIssuer(b, func(cfg *Config) {
			cfg.Algorithms = []string{alg}
			cfg.Keys.Static = jwks(jwk(c.private.Public(), object{"kid": "k1"}))
		})
		token := sign(b, c.method, c.private, claims(object{"sub_id": complexOf(object{"session": opaque("s-1"), "user": email("j@x.com")})}), nil)
		dot := strings.LastIndexByte(token, '.')
		signature, err := base64.RawURLEncoding.DecodeString(token[dot+1:])
		if err != nil {
			b.Fatal(err)
		}
		b.Run(alg+"/bare", func(b *testing.B) {
			for b.Loop() {
				if !c.bare(token[:dot], signature) {
					b.Fatal("the signature is bad")
				}
			}
		})
		b.Run(alg+"/verified", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := i.Verify(b.Context(), []byte(token)); err != nil {
					b.Fatal(err)
				}
			}
			perSecond(b)
		})
		b.Run(alg+"/translated", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				set, err := i.Verify(b.Context(), []byte(token))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := i.Translate(set); err != nil {
					b.Fatal(err)
				}
			}
			perSecond(b)
		})
	}
}

func perSecond(b *testing.B) { b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "SETs/s") }
