// Package credential says which client is calling: bearer tokens, found by hash, or the
// name in a verified client certificate.
package credential

import (
	"crypto/sha256"

	"vigil/authz"
	"vigil/signals"
)

// Scope is something that a client may do.
type Scope uint8

// The scopes.
const (
	Decide Scope = 1 << iota
	Signal
	Read
	Admin
)

// Client is one configured client. It is not changed once it is in a Registry.
type Client struct {
	Name   string
	Scopes Scope
	Caller authz.Caller
	Sender signals.Sender
	// TokenHashes are the SHA-256 of its bearer tokens; several for rotation.
	TokenHashes [][sha256.Size]byte
	// CertNames are the subject alternative names (DNS or URI) of its certificates.
	CertNames []string
	// Anonymous makes it the client of whoever calls the decision port over loopback or
	// a Unix socket without a credential. It has the scope Decide, no credential of its
	// own, and there is at most one.
	Anonymous bool
}

// May reports whether c has every scope of s. Admin has all.
func (c *Client) May(s Scope) bool { return c.Scopes&Admin != 0 || c.Scopes&s == s }
