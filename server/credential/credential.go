// Package credential says which client is calling: bearer tokens, compared by hash in
// constant time, or the name in a verified client certificate.
package credential

import (
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

// Client is one configured client.
type Client struct {
	Name   string
	Scopes Scope
	Caller authz.Caller
	Sender signals.Sender
	// TokenHashes are the SHA-256 of its bearer tokens; several for rotation.
	TokenHashes [][32]byte
	// CertNames are the subject alternative names (DNS or URI) of its certificates.
	CertNames []string
}

// May reports whether c has every scope of s. Admin has all.
func (c *Client) May(s Scope) bool { return c.Scopes&Admin != 0 || c.Scopes&s == s }
