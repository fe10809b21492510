package ssf

import (
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

func TestASETOfAnotherLibraryIsVerified(t *testing.T) {
	for _, c := range []struct {
		method  jwt.SigningMethod
		private crypto.Signer
	}{
		{jwt.SigningMethodRS256, rsaKey()}, {jwt.SigningMethodRS384, rsaKey()}, {jwt.SigningMethodRS512, rsaKey()},
		{jwt.SigningMethodPS256, rsaKey()}, {jwt.SigningMethodES256, ecKey()}, {jwt.SigningMethodEdDSA, edKey()},
	} {
		alg := c.method.Alg()
		t.Run(alg, func(t *testing.T) {
			i := newIssuer(t, func(cfg *Config) {
				cfg.Algorithms = []string{alg}
				cfg.Keys.Static = jwks(jwk(c.private.Public(), object{"kid": "k1"}))
			})
			for name, header := range map[string]object{
				"as it is": nil, "without a kid": {"kid": nil}, "a media type": {"typ": "application/SECEVENT+JWT"},
			} {
				set, err := i.Verify(t.Context(), []byte(sign(t, c.method, c.private, claims(nil), header)))
				if err != nil {
					t.Errorf("%s: %v", name, err)
				} else if set.Issuer != testIssuer || set.ID != "jti-1" || set.IssuedAt != start || len(set.Events) != 1 {
					t.Errorf("%s: %+v", name, set)
				}
			}
		})
	}
}

// refusedWith asserts that a token is refused for good, for this reason.
func refusedWith(t *testing.T, i *Issuer, token, code, description string) {
	t.Helper()
	_, err := i.Verify(t.Context(), []byte(token))
	var e *Error
	if !errors.As(err, &e) {
		t.Errorf("got %v, want %s", err, code)
		return
	}
	if e.Code != code || !strings.Contains(e.Description, description) {
		t.Errorf("got %v, want %s: %s", err, code, description)
	}
}

func TestAViolationIsRefusedWithTheErrorThatNamesIt(t *testing.T) {
	i := newIssuer(t)
	for name, c := range map[string]struct {
		change            object
		code, description string
	}{
		"another issuer":          {object{"iss": "https://evil.example.com/"}, InvalidIssuer, "evil.example.com"},
		"an issuer but for a /":   {object{"iss": strings.TrimSuffix(testIssuer, "/")}, InvalidIssuer, `"iss" is`},
		"no issuer":               {object{"iss": nil}, InvalidIssuer, "missing"},
		"an issuer of numbers":    {object{"iss": 7}, InvalidIssuer, "no text"},
		"another audience":        {object{"aud": "https://sp.example.com"}, InvalidAudience, "does not name"},
		"several others":          {object{"aud": []string{"a", "b"}}, InvalidAudience, "does not name"},
		"no audience":             {object{"aud": nil}, InvalidAudience, "does not name"},
		"an empty audience":       {object{"aud": []string{}}, InvalidAudience, "does not name"},
		"no jti":                  {object{"jti": nil}, InvalidRequest, `"jti"`},
		"an empty jti":            {object{"jti": ""}, InvalidRequest, `"jti"`},
		"a long jti":              {object{"jti": strings.Repeat("j", 1025)}, InvalidRequest, `"jti"`},
		"no iat":                  {object{"iat": nil}, InvalidRequest, `"iat"`},
		"an iat of text":          {object{"iat": "1615305159"}, InvalidRequest, `"iat"`},
		"an iat of milliseconds":  {object{"iat": 1615305159000000}, InvalidRequest, "milliseconds"},
		"an iat before 1970":      {object{"iat": -1}, InvalidRequest, `"iat"`},
		"a toe of text":           {object{"toe": "now"}, InvalidRequest, `"toe"`},
		"a txn of numbers":        {object{"txn": 7}, InvalidRequest, `"txn"`},
		"an exp":                  {object{"exp": 4102444800}, InvalidRequest, `"exp" has no place`},
		"a sub":                   {object{"sub": "jane"}, InvalidRequest, `"sub" has no place`},
		"no subject":              {object{"sub_id": nil}, InvalidRequest, `"sub_id" is missing`},
		"a subject of text":       {object{"sub_id": "jane"}, InvalidRequest, `"sub_id"`},
		"a subject of no format":  {object{"sub_id": object{"email": "a@b"}}, InvalidRequest, `without "format"`},
		"no events":               {object{"events": nil}, InvalidRequest, `"events"`},
		"empty events":            {object{"events": object{}}, InvalidRequest, `"events"`},
		"a list of events":        {object{"events": []string{"a"}}, InvalidRequest, `"events"`},
		"an event that is a text": {object{"events": object{CAEP + "session-revoked": "yes"}}, InvalidRequest, "an event is an object"},
		"two events": {object{"events": object{CAEP + "session-revoked": object{}, RISC + "sessions-revoked": object{}}},
			InvalidRequest, "2 events, more than 1"},
	} {
		t.Run(name, func(t *testing.T) { refusedWith(t, i, signed(t, c.change), c.code, c.description) })
	}
}

func TestAMemberThatAnEventMustHaveIsDemanded(t *testing.T) {
	i := newIssuer(t)
	good := map[string]object{
		CAEP + "token-claims-change":      {"claims": object{"role": "ro"}},
		CAEP + "credential-change":        {"credential_type": "password", "change_type": "update"},
		CAEP + "assurance-level-change":   {"namespace": "NIST-AAL", "current_level": "nist-aal1"},
		CAEP + "device-compliance-change": {"previous_status": "compliant", "current_status": "not-compliant"},
		CAEP + "risk-level-change":        {"principal": "USER", "current_level": "HIGH"},
		RISC + "credential-compromise":    {"credential_type": "password"},
		Vigil + "risk":                    {"risk": 70},
		Vigil + "narrow":                  {"scopes": []string{"read"}},
		Vigil + "attest":                  {"result": "fail"},
		Vigil + "lift":                    {"statement": "taint", "jti": "j"},
		streamUpdated:                     {"status": "paused"},
	}
	for _, spec := range specs {
		for _, m := range spec.members {
			if m.required && good[spec.uri][m.name] == nil {
				t.Errorf("no case for %s of %s", m.name, spec.uri)
			}
		}
	}
	subject := object{"format": "email", "email": "jane@example.com"}
	for uri, members := range good {
		if _, err := i.Verify(t.Context(), []byte(signed(t, object{"sub_id": subject, "events": event(uri, members)}))); err != nil {
			t.Errorf("%s: %v", short(uri), err)
		}
		for name := range members {
			without := object{}
			for n, v := range members {
				if n != name {
					without[n] = v
				}
			}
			refusedWith(t, i, signed(t, object{"sub_id": subject, "events": event(uri, without)}), InvalidRequest, `"`+name+`" is missing`)
			without[name] = false // is the type of none
			refusedWith(t, i, signed(t, object{"sub_id": subject, "events": event(uri, without)}), InvalidRequest, `"`+name+`": want`)
		}
	}
	for name, c := range map[string]struct {
		uri     string
		members object
	}{
		"change_type":          {CAEP + "credential-change", object{"credential_type": "pin", "change_type": "steal"}},
		"current_level":        {CAEP + "risk-level-change", object{"principal": "USER", "current_level": "EXTREME"}},
		"current_status":       {CAEP + "device-compliance-change", object{"previous_status": "compliant", "current_status": "fine"}},
		"initiating_entity":    {CAEP + "session-revoked", object{"initiating_entity": "ghost"}},
		"event_timestamp":      {CAEP + "session-revoked", object{"event_timestamp": "yesterday"}},
		"reason_admin":         {CAEP + "session-revoked", object{"reason_admin": object{}}},
		"reason_user":          {CAEP + "session-revoked", object{"reason_user": "because"}},
		"claims":               {CAEP + "token-claims-change", object{"claims": object{}}},
		"change_direction":     {CAEP + "assurance-level-change", object{"namespace": "n", "current_level": "l", "change_direction": "up"}},
		"status":               {streamUpdated, object{"status": "gone"}},
		"credential_type":      {CAEP + "credential-change", object{"credential_type": "", "change_type": "update"}},
		"amr":                  {CAEP + "session-established", object{"amr": "otp"}},
		"risk":                 {Vigil + "risk", object{"risk": -1}},
		"result":               {Vigil + "attest", object{"result": "maybe"}},
		"statement":            {Vigil + "lift", object{"statement": "revoke", "jti": "j"}},
		"scopes":               {Vigil + "narrow", object{"scopes": "read"}},
		"expires":              {Vigil + "taint", object{"expires": "tomorrow"}},
		"previous_level":       {CAEP + "risk-level-change", object{"principal": "USER", "current_level": "LOW", "previous_level": "none"}},
		"previous_status":      {CAEP + "device-compliance-change", object{"previous_status": "?", "current_status": "compliant"}},
		"actions":              {Vigil + "require-approval", object{"actions": object{}}},
		"reason_admin, a text": {CAEP + "session-revoked", object{"reason_admin": "x"}},
	} {
		member, _, _ := strings.Cut(name, ",")
		refusedWith(t, i, signed(t, object{"sub_id": subject, "events": event(c.uri, c.members)}), InvalidRequest, `"`+member+`"`)
	}
}

func TestTheInteroperabilityProfileIsHeldTo(t *testing.T) {
	i := newIssuer(t, func(cfg *Config) { cfg.Interop = true })
	if _, err := i.Verify(t.Context(), []byte(signed(t, nil))); err != nil {
		t.Error(err)
	}
	refusedWith(t, i, signed(t, object{"events": event(CAEP+"session-revoked", nil)}), InvalidRequest, `"reason_admin" is missing`)
	refusedWith(t, i, signed(t, object{"events": event(CAEP+"session-revoked", object{"reason_admin": object{"en": ""}})}), InvalidRequest, `"reason_admin" is missing`)
	if _, err := New(testConfig(func(cfg *Config) { cfg.Interop, cfg.Algorithms = true, []string{"RS256", "ES256"} })); err == nil {
		t.Error("an interoperable issuer may sign with ES256")
	}
}

func TestATokenThatIsNotASETIsRefused(t *testing.T) {
	i := newIssuer(t)
	good := signed(t, nil)
	parts := strings.Split(good, ".")
	b64 := base64.RawURLEncoding.EncodeToString
	header := func(text string) string { return b64([]byte(text)) + "." + parts[1] + "." + parts[2] }
	for name, c := range map[string]struct{ token, code, description string }{
		"typ JWT":             {sign(t, jwt.SigningMethodRS256, rsaKey(), claims(nil), object{"typ": "JWT"}), InvalidRequest, `"typ"`},
		"typ at+jwt":          {sign(t, jwt.SigningMethodRS256, rsaKey(), claims(nil), object{"typ": "at+jwt"}), InvalidRequest, `"typ"`},
		"no typ":              {sign(t, jwt.SigningMethodRS256, rsaKey(), claims(nil), object{"typ": nil}), InvalidRequest, `"typ"`},
		"crit":                {sign(t, jwt.SigningMethodRS256, rsaKey(), claims(nil), object{"crit": []string{"exp"}}), InvalidRequest, `"crit"`},
		"b64":                 {sign(t, jwt.SigningMethodRS256, rsaKey(), claims(nil), object{"b64": false}), InvalidRequest, `"b64"`},
		"two algs":            {header(`{"alg":"RS256","alg":"none","typ":"secevent+jwt"}`), InvalidRequest, "header"},
		"a header of null":    {header(`null`), InvalidRequest, "header"},
		"a kid of numbers":    {header(`{"alg":"RS256","typ":"secevent+jwt","kid":1}`), InvalidRequest, `"kid"`},
		"empty":               {"", InvalidRequest, "compact"},
		"four parts":          {good + ".x", InvalidRequest, "compact"},
		"a padded part":       {good + "=", InvalidRequest, "compact"},
		"a line break":        {parts[0] + ".\n" + parts[1] + "." + parts[2], InvalidRequest, "compact"},
		"JSON serialization":  {`{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, InvalidRequest, "compact"},
		"too large":           {good + strings.Repeat("A", MaxSET), InvalidRequest, "more than"},
		"a large header":      {sign(t, jwt.SigningMethodRS256, rsaKey(), claims(nil), object{"x": strings.Repeat("x", maxHeader)}), InvalidRequest, "header"},
		"changed payload":     {parts[0] + "." + b64([]byte(`{"iss":"x"}`)) + "." + parts[2], AuthenticationFailed, "signature"},
		"another's signature": {sign(t, jwt.SigningMethodRS256, otherRSA(), claims(nil), nil), AuthenticationFailed, "signature"},
		"unknown kid":         {sign(t, jwt.SigningMethodRS256, rsaKey(), claims(nil), object{"kid": "k2"}), InvalidKey, "k2"},
		"RS512":               {sign(t, jwt.SigningMethodRS512, rsaKey(), claims(nil), nil), InvalidKey, "RS512"},
		"ES256":               {sign(t, jwt.SigningMethodES256, ecKey(), claims(nil), nil), InvalidKey, "ES256"},
	} {
		t.Run(name, func(t *testing.T) { refusedWith(t, i, c.token, c.code, c.description) })
	}
}

// TestAlgorithmsAreNotConfused tries what a verifier that believes "alg" falls for: the
// public key as the secret of an HMAC, no signature at all, and a key that the token brings.
func TestAlgorithmsAreNotConfused(t *testing.T) {
	der, err := x509.MarshalPKIXPublicKey(rsaKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	i := newIssuer(t, func(cfg *Config) {
		cfg.Algorithms = []string{"RS256", "PS256", "ES256"}
		cfg.Keys.Static = jwks(jwk(rsaKey().Public(), object{"kid": "k1", "alg": "RS256"}), jwk(ecKey().Public(), object{"kid": "k2"}))
	})
	refusedWith(t, i, sign(t, jwt.SigningMethodHS256, public, claims(nil), nil), InvalidKey, "HS256")
	refusedWith(t, i, sign(t, jwt.SigningMethodHS256, der, claims(nil), nil), InvalidKey, "HS256")
	refusedWith(t, i, sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims(nil), nil)+"AA", InvalidKey, "none")
	// A key that is for RS256 signs nothing else, though it could.
	refusedWith(t, i, sign(t, jwt.SigningMethodPS256, rsaKey(), claims(nil), nil), InvalidKey, "PS256")
	// A kid of one type, an algorithm of another.
	refusedWith(t, i, sign(t, jwt.SigningMethodRS256, rsaKey(), claims(nil), object{"kid": "k2"}), InvalidKey, "k2")
	refusedWith(t, i, sign(t, jwt.SigningMethodES256, ecKey(), claims(nil), object{"kid": "k1"}), InvalidKey, "k1")
	// A key that comes with the token.
	refusedWith(t, i, sign(t, jwt.SigningMethodRS256, otherRSA(), claims(nil), object{"jwk": jwk(otherRSA().Public(), nil)}),
		AuthenticationFailed, "signature")

	for _, alg := range []string{"HS256", "none", "RS1", "dir", ""} {
		if _, err := New(testConfig(func(cfg *Config) { cfg.Algorithms = []string{alg} })); err == nil {
			t.Errorf("an issuer may sign with %q", alg)
		}
	}
	if _, err := New(testConfig(func(cfg *Config) { cfg.Algorithms = nil })); err == nil {
		t.Error("an issuer may sign with anything")
	}
}

// TestWycheproofMustRejectsAreRejected runs the JWS groups of Wycheproof's JsonWebCrypto
// past the check of "typ", which none of them has. Symmetric keys are refused as such, so
// the valid cases of theirs are too.
func TestWycheproofMustRejectsAreRejected(t *testing.T) {
	body, err := os.ReadFile("testdata/wycheproof-json_web_crypto_test.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		TestGroups []struct {
			Comment         string
			Private, Public object
			Tests           []struct {
				TcID    int
				Comment string
				JWS     any
				Result  string
			}
		}
	}
	if err := json.Unmarshal(body, &file); err != nil {
		t.Fatal(err)
	}
	rejected, accepted := 0, 0
	for _, g := range file.TestGroups {
		if !strings.HasPrefix(g.Comment, "jws_") {
			continue
		}
		symmetric := g.Public == nil
		keys := []any{g.Public}
		if symmetric {
			if keys = []any{g.Private}; g.Private["keys"] != nil {
				keys = g.Private["keys"].([]any)
			}
		}
		set, err := json.Marshal(object{"keys": keys})
		if err != nil {
			t.Fatal(err)
		}
		i, unfit := New(testConfig(func(cfg *Config) {
			cfg.Algorithms = []string{"RS256", "ES256", "PS256", "RS512", "ES384"}
			cfg.Keys.Static = set
		}))
		if unfit != nil && !symmetric && g.Comment != "jws_rsa_roca_key" {
			t.Fatalf("%s: %v", g.Comment, unfit)
		}
		for _, c := range g.Tests {
			token, compact := c.JWS.(string)
			if !compact {
				asJSON, err := json.Marshal(c.JWS)
				if err != nil {
					t.Fatal(err)
				}
				token = string(asJSON)
			}
			good := unfit == nil && opens(t, i, token)
			switch {
			case c.Result == "invalid" && good, symmetric && good:
				t.Errorf("%s %d %s was accepted", g.Comment, c.TcID, c.Comment)
			case c.Result == "valid" && !good && !symmetric:
				t.Errorf("%s %d %s was rejected", g.Comment, c.TcID, c.Comment)
			case good:
				accepted++
			default:
				rejected++
			}
		}
	}
	if accepted != 2 || rejected != 47 {
		t.Errorf("%d accepted, %d rejected", accepted, rejected)
	}
}

// opens is Issuer.verify without the check of typ.
func opens(t *testing.T, i *Issuer, token string) bool {
	head, refused := splitToken([]byte(token), false)
	if refused != nil {
		return false
	}
	h, refused := parseHeader(head)
	if refused != nil {
		return false
	}
	_, err := i.signed(t.Context(), []byte(token), h, 0)
	return err == nil
}

func TestWeakAndSecretKeysAreLeftOut(t *testing.T) {
	small := newRSA(1024)
	secret := jwk(rsaKey().Public(), object{"kid": "d", "d": base64.RawURLEncoding.EncodeToString(rsaKey().D.Bytes())})
	keys, leftOut, err := parseJWKS(jwks(
		jwk(small.Public(), object{"kid": "small"}), secret, object{"kty": "oct", "k": "c2VjcmV0"},
		jwk(rsaKey().Public(), object{"use": "enc"}), jwk(rsaKey().Public(), object{"key_ops": []string{"encrypt"}}),
		object{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}, object{"kty": "magic"}, object{},
		jwk(rsaKey().Public(), object{"kid": "good"}),
	))
	if err != nil || len(keys) != 1 || keys[0].id != "good" || len(leftOut) != 8 {
		t.Errorf("%v, %v, %v", keys, leftOut, err)
	}
	for _, e := range leftOut {
		if strings.Contains(e.Error(), base64.RawURLEncoding.EncodeToString(rsaKey().D.Bytes())) {
			t.Error("an error repeats a private key")
		}
	}
	for _, body := range []string{"", "[]", `{"keys":1}`, `{"keys":[],"keys":[]}`, `{"keys":[{"kty":"RSA","kty":"EC"}]}x`, strings.Repeat(" ", maxJWKS+1)} {
		if _, _, err := parseJWKS([]byte(body)); err == nil {
			t.Errorf("%.40q was read", body)
		}
	}
}
