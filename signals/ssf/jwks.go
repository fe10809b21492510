package ssf

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// key is a public key that an issuer signs with.
type key struct {
	id     string // "" where it has none
	alg    string // "" where the set does not say which algorithm it is for
	public any    // *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
}

// Limits of a key set.
const (
	maxJWKS    = 256 << 10 // bytes
	maxKeys    = 64
	maxKeyID   = 512
	minRSABits = 2048
	maxRSABits = 8192
)

// parseJWKS reads a JWK set (RFC 7517). Keys that are of no use here are left out, and
// leftOut says why: those for encryption, symmetric ones, those of an unknown type, weak
// ones, and those that show their private half, for anybody may have signed with them.
func parseJWKS(body []byte) (keys []key, leftOut []error, err error) {
	if len(body) > maxJWKS {
		return nil, nil, fmt.Errorf("the key set has %d bytes, more than %d", len(body), maxJWKS)
	}
	var set struct {
		Keys []jsontext.Value `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, nil, fmt.Errorf("the key set is no JWK set: %w", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, nil, fmt.Errorf("the key set has %d keys, more than %d", len(set.Keys), maxKeys)
	}
	for i, raw := range set.Keys {
		k, err := parseJWK(raw)
		if err != nil {
			leftOut = append(leftOut, fmt.Errorf("key %d: %w", i, err))
			continue
		}
		keys = append(keys, k)
	}
	return keys, leftOut, nil
}

func parseJWK(raw jsontext.Value) (k key, err error) {
	var members struct {
		Use  string         `json:"use"`
		Ops  []string       `json:"key_ops"`
		D    jsontext.Value `json:"d"`
		K    jsontext.Value `json:"k"`
		Priv jsontext.Value `json:"priv"`
	}
	if err := json.Unmarshal(raw, &members); err != nil {
		return k, err
	}
	switch {
	case members.D != nil || members.K != nil || members.Priv != nil:
		return k, errors.New("it shows a secret: a symmetric or a private key")
	case members.Use != "" && members.Use != "sig":
		return k, fmt.Errorf("it is for %q, not for signatures", clip(members.Use))
	case members.Ops != nil && !slices.Contains(members.Ops, "verify"):
		return k, errors.New("it is not for verifying")
	}
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON(raw); err != nil {
		return k, err
	}
	if !jwk.IsPublic() || !jwk.Valid() {
		return k, errors.New("it is no public key of a known type")
	}
	if len(jwk.KeyID) > maxKeyID {
		return k, fmt.Errorf("its kid has %d bytes, more than %d", len(jwk.KeyID), maxKeyID)
	}
	if rsaKey, ok := jwk.Key.(*rsa.PublicKey); ok {
		if err := checkRSA(rsaKey); err != nil {
			return k, err
		}
	}
	return key{id: jwk.KeyID, alg: jwk.Algorithm, public: jwk.Key}, nil
}

func checkRSA(k *rsa.PublicKey) error {
	switch bits := k.N.BitLen(); {
	case bits < minRSABits || bits > maxRSABits:
		return fmt.Errorf("an RSA key of %d bits; want %d to %d", bits, minRSABits, maxRSABits)
	case k.E < 3 || k.E%2 == 0:
		return fmt.Errorf("an RSA key with the exponent %d", k.E)
	case k.N.Bit(0) == 0:
		return errors.New("an RSA key with an even modulus")
	case roca(k.N):
		return errors.New("an RSA key that can be factored (ROCA, CVE-2017-15361)")
	}
	return nil
}

// roca reports whether a modulus has the fingerprint of CVE-2017-15361: its primes were
// chosen so that it is a power of 65537 modulo every small prime. One in a hundred million
// of other keys has it too.
func roca(n *big.Int) bool {
	primes := []int64{3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
		101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167}
	for _, p := range primes {
		rest := new(big.Int).Mod(n, big.NewInt(p)).Int64()
		power, found := int64(1), false
		for range p {
			if power == rest {
				found = true
				break
			}
			power = power * 65537 % p
		}
		if !found {
			return false
		}
	}
	return true
}

// algorithms are those that an issuer can be allowed, with the type of key that each takes.
// Symmetric ones are not among them: who can verify could sign.
var algorithms = map[string]func(public any) bool{
	"RS256": isRSA, "RS384": isRSA, "RS512": isRSA,
	"PS256": isRSA, "PS384": isRSA, "PS512": isRSA,
	"ES256": onCurve(256), "ES384": onCurve(384), "ES512": onCurve(521),
	"EdDSA": func(public any) bool { _, ok := public.(ed25519.PublicKey); return ok },
}

func isRSA(public any) bool { _, ok := public.(*rsa.PublicKey); return ok }

func onCurve(bits int) func(any) bool {
	return func(public any) bool {
		k, ok := public.(*ecdsa.PublicKey)
		return ok && k.Curve.Params().BitSize == bits
	}
}

// fits reports whether a token with this kid and algorithm can be of k. A token without a
// kid can be of any key of its algorithm.
func (k *key) fits(kid, alg string) bool {
	return (kid == "" || kid == k.id) && (k.alg == "" || k.alg == alg) && algorithms[alg](k.public)
}
