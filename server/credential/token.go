package credential

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"unsafe"
)

// TokenPrefix is how the tokens that NewToken makes begin, so that scanners for leaked
// secrets find them. Other tokens are as good if they are as random.
const TokenPrefix = "vgl_"

// MaxToken is the longest token that is looked at, in bytes.
const MaxToken = 4096

// NewToken makes a bearer token of 32 random bytes.
func NewToken() string {
	var secret [32]byte
	rand.Read(secret[:]) // never fails: it ends the process instead
	return TokenPrefix + base64.RawURLEncoding.EncodeToString(secret[:])
}

// HashToken gives what is stored of a token.
func HashToken(token string) [sha256.Size]byte {
	// Sum256 only reads; a copy would be an allocation for each request.
	return sha256.Sum256(unsafe.Slice(unsafe.StringData(token), len(token)))
}

// ParseBearer gives the token of an Authorization header with the scheme Bearer (RFC 6750
// section 2.1, the scheme in any case). It fails for other schemes, for tokens longer than
// MaxToken and for what is not one token. The token aliases header.
func ParseBearer(header []byte) (token string, ok bool) {
	const scheme = "bearer "
	if len(header) <= len(scheme) || len(header) > len(scheme)+MaxToken {
		return "", false
	}
	for i := range len(scheme) {
		c := header[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != scheme[i] {
			return "", false
		}
	}
	t := header[len(scheme):]
	for _, c := range t {
		if c <= ' ' || c > '~' {
			return "", false
		}
	}
	return unsafe.String(unsafe.SliceData(t), len(t)), true
}
