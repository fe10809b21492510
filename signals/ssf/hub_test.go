package ssf

import (
	"errors"
	"testing"
)

func TestAHubFindsWhoseASETIs(t *testing.T) {
	w := newWorld(t)
	elsewhere := NewReceiver(newIssuer(t, func(cfg *Config) {
		cfg.Name, cfg.Issuer = "other", "https://other.example.com/"
		cfg.Keys.Static = jwks(jwk(otherRSA().Public(), object{"kid": "k1"}))
	}), w.intake, nil)
	hub, err := NewHub(w.receiver, elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hub.Take(t.Context(), []byte(signed(t, nil))); err != nil || w.status(t, "session:s-1") != "revoked" {
		t.Error(err)
	}
	other := object{"iss": "https://other.example.com/", "sub_id": opaque("s-2")}
	if _, err := hub.Take(t.Context(), []byte(sign(t, rs256, otherRSA(), claims(other), nil))); err != nil || w.status(t, "session:s-2") != "revoked" {
		t.Error(err)
	}
	for name, c := range map[string]struct{ token, code string }{
		// One issuer's key signs for no other.
		"another's key": {sign(t, rs256, rsaKey(), claims(object{"iss": "https://other.example.com/", "sub_id": opaque("s-3")}), nil), AuthenticationFailed},
		"a stranger":    {signed(t, object{"iss": "https://x/"}), InvalidIssuer},
		"no issuer":     {signed(t, object{"iss": nil}), InvalidIssuer},
		"junk":          {"a.b.c", InvalidRequest},
		"no token":      {"junk", InvalidRequest},
	} {
		_, err := hub.Take(t.Context(), []byte(c.token))
		var e *Error
		if !errors.As(err, &e) || e.Code != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
	if hub.Receiver("other") != elsewhere || hub.Receiver("none") != nil {
		t.Error("a receiver is not found by its name")
	}
	if _, err := NewHub(w.receiver, w.receiver); err == nil {
		t.Error("two receivers of one issuer")
	}
}
