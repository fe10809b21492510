package ssf

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Hub takes SETs of several issuers from one place, such as a topic or an endpoint for
// CloudEvents, where nothing but the SET says whose it is. It is safe for concurrent use.
type Hub struct {
	byIssuer map[string]*Receiver
	byName   map[string]*Receiver
}

// NewHub makes a hub of receivers. No two are of one issuer or have one name.
func NewHub(receivers ...*Receiver) (*Hub, error) {
	h := &Hub{byIssuer: make(map[string]*Receiver), byName: make(map[string]*Receiver)}
	for _, r := range receivers {
		cfg := &r.issuer.cfg
		if other := h.byIssuer[cfg.Issuer]; other != nil {
			return nil, fmt.Errorf("%q and %q are both of the issuer %q", clip(other.issuer.cfg.Name), clip(cfg.Name), clip(cfg.Issuer))
		}
		if h.byName[cfg.Name] != nil {
			return nil, fmt.Errorf("two issuers are named %q", clip(cfg.Name))
		}
		h.byIssuer[cfg.Issuer], h.byName[cfg.Name] = r, r
	}
	return h, nil
}

// Receiver gives that of a name, or nil.
func (h *Hub) Receiver(name string) *Receiver { return h.byName[name] }

// Take hands a SET to the receiver of the issuer that it names, which verifies that it is
// of that issuer: what is read here is believed by nobody.
func (h *Hub) Take(ctx context.Context, token []byte) (Taken, error) {
	if _, err := splitToken(token, false); err != nil {
		return Taken{}, err
	}
	_, rest, _ := strings.Cut(string(token), ".")
	encoded, _, _ := strings.Cut(rest, ".")
	payload, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return Taken{}, refuse(InvalidRequest, "the payload of the token is no base64url")
	}
	var claims map[string]jsontext.Value
	if err := json.Unmarshal(payload, &claims); err != nil {
		return Taken{}, refuse(InvalidRequest, "the payload is no JSON object with distinct members")
	}
	iss, err := text(claims["iss"])
	if err != nil {
		return Taken{}, refuse(InvalidIssuer, `"iss" is missing or no text`)
	}
	r := h.byIssuer[iss]
	if r == nil {
		return Taken{}, refuse(InvalidIssuer, "nothing is taken of %q here", clip(iss))
	}
	return r.Take(ctx, token)
}
