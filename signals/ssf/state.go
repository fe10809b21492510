package ssf

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"vigil/authz"
)

// stateKey authenticates the states of verifications (SSF 1.0 section 8.1.4). A state proves
// by itself that one of us asked for it, and of which stream:
//
//	"v1." base64url( expiry, 8 bytes | random, 16 bytes | HMAC-SHA256, 32 bytes )
//
// The expiry is an authz.Instant, big-endian. The MAC is over what stands before it and the
// id of the stream, under a key that is made of Config.StateSecret and the issuer. So whoever
// asks, a replica or a person at a command line, has nothing to tell the replica that the
// event will come to. nil where there is no secret: then no state is sent, and none is ours.
type stateKey []byte

const (
	stateVersion = "v1."
	stateLife    = 7 * 24 * time.Hour // a transmitter may keep an event for as long as a stream is paused
	stateHead    = 8 + 16
)

func newStateKey(secret []byte, issuer string) (stateKey, error) {
	if len(secret) == 0 {
		return nil, nil
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "vigil: states of verifications v1 "+issuer, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("the key of the states of verifications: %w", err)
	}
	return key, nil
}

// make gives a state for a verification of a stream that is asked for now; "" without a key.
func (k stateKey) make(stream string, now authz.Instant) string {
	if k == nil {
		return ""
	}
	state := binary.BigEndian.AppendUint64(nil, uint64(now.Add(stateLife)))
	state = append(state, make([]byte, stateHead-len(state))...)
	_, _ = rand.Read(state[8:]) // which never fails
	return stateVersion + base64.RawURLEncoding.EncodeToString(k.sum(state, stream))
}

// sum appends the MAC.
func (k stateKey) sum(head []byte, stream string) []byte {
	mac := hmac.New(sha256.New, k)
	mac.Write(head) // of one length, so that nothing of the stream can pass for it
	mac.Write([]byte(stream))
	return mac.Sum(head)
}

// check says why a state is none that was asked for of this stream, or "".
func (k stateKey) check(state, stream string, now authz.Instant) string {
	const strange = `verification: "state" is none that was asked for`
	encoded, ok := strings.CutPrefix(state, stateVersion)
	if !ok || k == nil || len(encoded) != base64.RawURLEncoding.EncodedLen(stateHead+sha256.Size) {
		return strange
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || !hmac.Equal(k.sum(raw[:stateHead:stateHead], stream), raw) {
		return strange
	}
	if authz.Instant(binary.BigEndian.Uint64(raw)) < now {
		return `verification: "state" was asked for too long ago`
	}
	return ""
}
