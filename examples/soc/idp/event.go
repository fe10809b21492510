package main

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// event is a security event token (RFC 8417) with one event.
type event struct {
	Issuer   string                    `json:"iss"`
	Audience string                    `json:"aud"`
	ID       string                    `json:"jti"`
	IssuedAt int64                     `json:"iat"` // seconds
	Subject  map[string]any            `json:"sub_id"`
	Events   map[string]map[string]any `json:"events"`
}

const (
	caep = "https://schemas.openid.net/secevent/caep/event-type/"
	risc = "https://schemas.openid.net/secevent/risc/event-type/"
)

// isCAEP are the events of CAEP that the example has use for; others are of RISC.
var isCAEP = map[string]bool{
	"session-revoked": true, "token-claims-change": true, "credential-change": true, "assurance-level-change": true,
	"device-compliance-change": true, "risk-level-change": true,
}

// newEvent makes an event about "kind:id"; members are "name=text".
func newEvent(name, about string, members []string, now time.Time) (*event, error) {
	kind, id, ok := strings.Cut(about, ":")
	if !ok || id == "" {
		return nil, fmt.Errorf("%q: want kind:id, as in session:s-1", about)
	}
	subject := map[string]any{"format": "opaque", "id": id}
	if kind == "user" {
		subject = map[string]any{"format": "iss_sub", "iss": issuer, "sub": id}
	}
	said := map[string]any{"event_timestamp": now.Unix()}
	for _, member := range members {
		key, text, ok := strings.Cut(member, "=")
		if !ok {
			return nil, fmt.Errorf("%q: want member=text", member)
		}
		said[key] = text
		if strings.HasPrefix(key, "reason_") { // which is in languages
			said[key] = map[string]string{"en": text}
		}
	}
	base := risc
	if isCAEP[name] {
		base = caep
	}
	return &event{
		Issuer: issuer, Audience: audience, ID: rand.Text(), IssuedAt: now.Unix(),
		Subject: map[string]any{"format": "complex", kind: subject},
		Events:  map[string]map[string]any{base + name: said},
	}, nil
}

// sign makes a compact JWS with RS256 (RFC 7515).
func sign(key *rsa.PrivateKey, set *event) (string, error) {
	header, err := json.Marshal(map[string]string{"alg": "RS256", "typ": "secevent+jwt", "kid": keyID(&key.PublicKey)})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(set)
	if err != nil {
		return "", err
	}
	input := b64(header) + "." + b64(claims)
	digest := sha256.Sum256([]byte(input))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	if err != nil {
		return "", err
	}
	return input + "." + b64(signature), nil
}

// publicKeys is the JWK set (RFC 7517) of one key.
func publicKeys(key *rsa.PublicKey) ([]byte, error) {
	return json.Marshal(map[string]any{"keys": []any{map[string]string{
		"kty": "RSA", "use": "sig", "alg": "RS256", "kid": keyID(key),
		"n": b64(key.N.Bytes()), "e": b64(big.NewInt(int64(key.E)).Bytes()),
	}}})
}

// keyID is the same for the same key, so that a restart changes nothing.
func keyID(key *rsa.PublicKey) string {
	sum := sha256.Sum256(key.N.Bytes())
	return b64(sum[:8])
}

func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

// openKey reads the key of a folder, or makes one.
func openKey(dir string) (*rsa.PrivateKey, error) {
	if dir == "" {
		return nil, errors.New("--dir is needed")
	}
	name := filepath.Join(dir, "key.pem")
	text, err := os.ReadFile(filepath.Clean(name))
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(name)
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: no PEM", name)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: no RSA key", name)
	}
	return key, nil
}

func makeKey(name string) (*rsa.PrivateKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return nil, err
	}
	return key, os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}
