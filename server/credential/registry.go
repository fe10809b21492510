package credential

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"time"
)

// Registry finds a client by what it shows. It is immutable and safe for concurrent use.
type Registry struct {
	clients   []*Client
	byHash    map[uint64][]holder // by the first eight bytes of the hash
	byName    map[string]*Client  // by name in a certificate
	anonymous *Client
}

type holder struct {
	hash   [sha256.Size]byte
	client *Client
}

// New makes a registry of clients, which it copies. The error gathers everything that
// is wrong with them.
func New(clients []Client) (*Registry, error) {
	r := &Registry{byHash: make(map[uint64][]holder), byName: make(map[string]*Client)}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	names := make(map[string]bool)
	for i := range clients {
		c := clients[i]
		if c.Name == "" {
			bad("client %d has no name", i+1)
		} else if names[c.Name] {
			bad("client %q is there twice", c.Name)
		}
		names[c.Name] = true
		if c.Scopes == 0 || c.Scopes > Decide|Signal|Read|Admin {
			bad("client %q: the scopes are none, or unknown ones", c.Name)
		}
		if c.May(Decide) && len(c.Caller.Tenants) == 0 {
			bad("client %q may ask for decisions but about no tenant", c.Name)
		}
		switch {
		case !c.Anonymous && len(c.TokenHashes) == 0 && len(c.CertNames) == 0:
			bad("client %q has no credential", c.Name)
		case c.Anonymous && (len(c.TokenHashes) > 0 || len(c.CertNames) > 0):
			bad("client %q is anonymous and has a credential", c.Name)
		case c.Anonymous && c.Scopes != Decide:
			bad("client %q is anonymous and may do more than ask for decisions", c.Name)
		case c.Anonymous && r.anonymous != nil:
			bad("clients %q and %q are both anonymous", r.anonymous.Name, c.Name)
		case c.Anonymous:
			r.anonymous = &c
		}
		for _, hash := range c.TokenHashes {
			if hash == sha256.Sum256(nil) {
				bad("client %q: a token hash is that of the empty token", c.Name)
			}
			if owner := r.find(&hash); owner != nil {
				bad("client %q has a token of client %q: whoever holds it would be either", c.Name, owner.Name)
				continue
			}
			slot := slotOf(&hash)
			r.byHash[slot] = append(r.byHash[slot], holder{hash, &c})
		}
		for _, name := range c.CertNames {
			if owner := r.byName[name]; owner != nil {
				bad("client %q has the certificate name %q of client %q", c.Name, name, owner.Name)
				continue
			}
			if name == "" {
				bad("client %q has an empty certificate name", c.Name)
			}
			r.byName[name] = &c
		}
		r.clients = append(r.clients, &c)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return r, nil
}

// Clients lists the clients in the order in which they were configured.
func (r *Registry) Clients() []*Client { return append([]*Client(nil), r.clients...) }

// Anonymous gives the client of callers without a credential, or nil. Whether a caller
// is local enough for it is for the server to say.
func (r *Registry) Anonymous() *Client { return r.anonymous }

// ByToken gives the client that holds a bearer token, or nil.
//
// The time it takes tells nothing of use: everything here depends on the SHA-256 of the
// token, and who could choose tokens so that their hashes come near a stored one would
// have broken SHA-256. The comparison is of fixed length and in constant time all the
// same. Tokens are random, so that a plain hash, without salt or stretching, cannot be
// turned back.
//
// It is on the hot path and does not allocate.
func (r *Registry) ByToken(token string) *Client {
	hash := HashToken(token)
	return r.find(&hash)
}

func (r *Registry) find(hash *[sha256.Size]byte) *Client {
	holders := r.byHash[slotOf(hash)]
	for i := range holders {
		if subtle.ConstantTimeCompare(holders[i].hash[:], hash[:]) == 1 {
			return holders[i].client
		}
	}
	return nil
}

func slotOf(hash *[sha256.Size]byte) uint64 { return binary.LittleEndian.Uint64(hash[:8]) }

// ByCertificate gives the client that a verified certificate names, or nil. It trusts
// cert: the chain must have been verified, and that it is still valid is for the caller
// to see to. A certificate that names two clients is nobody's. The subject's common name
// does not count.
func (r *Registry) ByCertificate(cert *x509.Certificate) *Client {
	if cert == nil {
		return nil
	}
	var found *Client
	for name := range Names(cert) {
		if c := r.byName[name]; c != nil {
			if found != nil && found != c {
				return nil
			}
			found = c
		}
	}
	return found
}

// Names are those that a certificate can be known by: its subject alternative names that
// are DNS names or URIs.
func Names(cert *x509.Certificate) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, name := range cert.DNSNames {
			if !yield(name) {
				return
			}
		}
		for _, uri := range cert.URIs {
			if !yield(uri.String()) {
				return
			}
		}
	}
}

// InForce reports whether every certificate of a verified chain is valid at an instant: a
// connection may outlive the certificate that it was opened with.
func InForce(chain []*x509.Certificate, at time.Time) bool {
	for _, c := range chain {
		if at.Before(c.NotBefore) || at.After(c.NotAfter) {
			return false
		}
	}
	return true
}
