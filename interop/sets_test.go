package interop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
	"github.com/lestrrat-go/jwx/v3/jwt"
)

// receiver is a running engine that takes the SETs of a transmitter by push.
type receiver struct {
	*engine
	token secret
}

func newReceiver(tr *transmitter) *receiver {
	token := newSecret()
	return &receiver{token: token, engine: start(tr.t, fmt.Sprintf(`
issuers:
  - name: idp
    issuer: %s
    audience: [%s]
    algorithms: [%s]
    keys: {uri: %q}
    may: {types: [revoke, risk, quarantine, release, narrow, lift], kinds: [session, user, agent]}
    push: {token_sha256: [%q]}
`, issuer, audience, tr.alg, tr.keysURL, token.hash()))}
}

// push sends a SET as RFC 8935 has it.
func (r *receiver) push(set string) (status int, answer []byte) {
	r.t.Helper()
	return r.post(r.control+"/v1/events/idp", r.token, "application/secevent+jwt", set)
}

// TestSETsOfAnotherJOSELibraryAreInForceWhenTheyAreAcknowledged: whatever the algorithm, an
// event of CAEP, of RISC or of our own is in force for the next decision when its push is
// answered, and for nobody whom it is not about.
func TestSETsOfAnotherJOSELibraryAreInForceWhenTheyAreAcknowledged(t *testing.T) {
	for _, alg := range []jwa.SignatureAlgorithm{jwa.RS256(), jwa.PS256(), jwa.ES256(), jwa.EdDSA()} {
		t.Run(alg.String(), func(t *testing.T) {
			tr := newTransmitter(t, alg)
			r := newReceiver(tr)
			r.expect("before", "allowed")
			say := func(uri string, members, subject object, code string) (id string) {
				t.Helper()
				id, set := tr.says(uri, members, subject)
				if status, answer := r.push(set); status != http.StatusAccepted || len(answer) > 0 {
					t.Errorf("%s: %d %s", uri, status, answer)
				}
				r.expect(uri, code)
				return id
			}
			say(risc+"account-disabled", object{"reason": "hijacking"}, userKim, "quarantined")
			say(risc+"account-enabled", object{}, userKim, "issued_before_cutoff")
		})
	}
}

// TestEventsOfCAEPRISCAndOurOwnChangeTheNextDecision: and are taken back where they have an
// opposite.
func TestEventsOfCAEPRISCAndOurOwnChangeTheNextDecision(t *testing.T) {
	tr := newTransmitter(t, jwa.ES256())
	r := newReceiver(tr)
	say := func(uri string, members, subject object, code string) (id string) {
		t.Helper()
		id, set := tr.says(uri, members, subject)
		if status, answer := r.push(set); status != http.StatusAccepted {
			t.Errorf("%s: %d %s", uri, status, answer)
		}
		r.expect(uri, code)
		return id
	}
	say(risc+"account-disabled", object{}, userKim, "quarantined")
	say(risc+"account-enabled", object{}, userKim, "allowed")
	say(caep+"risk-level-change", object{"principal": "AGENT", "current_level": "HIGH"}, agentPayer, "no_allow_rule")
	say(caep+"risk-level-change", object{"principal": "AGENT", "current_level": "LOW", "previous_level": "HIGH"}, agentPayer, "allowed")
	say(own+"quarantine", object{"reason_admin": object{"en": "beaconing"}}, agentPayer, "quarantined")
	say(own+"release", object{}, agentPayer, "allowed")
	narrowed := say(own+"narrow", object{"scopes": []string{"view:invoices"}}, agentPayer, "scope_not_held")
	say(own+"lift", object{"statement": "narrow", "jti": narrowed}, agentPayer, "allowed")
	say(own+"risk", object{"risk": 70, "expires": time.Now().Add(time.Hour).Unix()}, agentPayer, "no_allow_rule")
	say(own+"risk", object{"risk": 0}, agentPayer, "allowed")
	say(caep+"session-presented", object{}, session1, "allowed") // it only informs
	say(caep+"session-revoked", object{"reason_admin": object{"en": "impossible travel"}}, session1, "revoked")
	if got := r.decides("payer", "kim", "s-3"); got != "allowed" {
		t.Errorf("another session: %s", got)
	}
	say(caep+"credential-change", object{"credential_type": "x509", "change_type": "revoke"}, agentPayer, "revoked")
	if got := r.decides("payer", "kim", "s-3"); got != "issued_before_cutoff" {
		t.Errorf("another session of an agent whose credential is revoked: %s", got)
	}
}

// TestASETThatIsNotInOrderIsRefusedWithTheErrorOfRFC8935: it says what is wrong, and nothing is
// other than before.
func TestASETThatIsNotInOrderIsRefusedWithTheErrorOfRFC8935(t *testing.T) {
	tr := newTransmitter(t, jwa.RS256())
	r := newReceiver(tr)
	quarantine := func(change object) jwt.Token {
		_, token := tr.claims(own+"quarantine", object{}, agentPayer, change)
		return token
	}
	good := tr.signed(quarantine(nil))
	parts := strings.Split(good, ".")
	sameID := newKey(t, tr.alg, "k-1")
	otherID := newKey(t, tr.alg, "k-9")
	public, err := tr.key.PublicKey()
	must(t, err)
	asSecret, err := json.Marshal(public)
	must(t, err)
	symmetric, err := jwk.Import(asSecret)
	must(t, err)
	must(t, symmetric.Set(jwk.KeyIDKey, "k-1"))
	unsigned, err := jwt.Sign(quarantine(nil), jwt.WithInsecureNoSignature())
	must(t, err)
	payload, err := json.Marshal(quarantine(nil))
	must(t, err)
	inJSON, err := jws.Sign(payload, jws.WithJSON(), jws.WithKey(tr.alg, tr.key))
	must(t, err)
	_, purge := tr.claims(risc+"account-purged", object{}, userKim, nil)

	for name, c := range map[string]struct{ set, err string }{
		"another payload":               {parts[0] + "." + strings.Split(tr.signed(quarantine(nil)), ".")[1] + "." + parts[2], "authentication_failed"},
		"another header":                {strings.Split(tr.signedAs("application/secevent+jwt", tr.alg, tr.key, quarantine(nil)), ".")[0] + "." + parts[1] + "." + parts[2], "authentication_failed"},
		"a signature of another's key":  {tr.signedAs("secevent+jwt", tr.alg, sameID, quarantine(nil)), "authentication_failed"},
		"an algorithm that is not ours": {tr.signedAs("secevent+jwt", jwa.RS384(), tr.key, quarantine(nil)), "invalid_key"},
		"the public key as a secret":    {tr.signedAs("secevent+jwt", jwa.HS256(), symmetric, quarantine(nil)), "invalid_key"},
		"no signature":                  {string(unsigned), "invalid_request"},
		"a JWT of another type":         {tr.signedAs("JWT", tr.alg, tr.key, quarantine(nil)), "invalid_request"},
		"an access token":               {tr.signedAs("at+jwt", tr.alg, tr.key, quarantine(nil)), "invalid_request"},
		"the JSON serialization":        {string(inJSON), "invalid_request"},
		"an end":                        {tr.signed(quarantine(object{"exp": time.Now().Add(time.Hour)})), "invalid_request"},
		"a sub":                         {tr.signed(quarantine(object{"sub": "payer"})), "invalid_request"},
		"no jti":                        {tr.signed(quarantine(object{"jti": nil})), "invalid_request"},
		"no events":                     {tr.signed(quarantine(object{"events": nil})), "invalid_request"},
		"another audience":              {tr.signed(quarantine(object{"aud": "https://other.example.com/"})), "invalid_audience"},
		"another issuer":                {tr.signed(quarantine(object{"iss": "https://other.example.com/"})), "invalid_issuer"},
		"what the issuer may not say":   {tr.signed(purge), "access_denied"},
		"not a token":                   {"quarantine the payer", "invalid_request"},
		"a token with something behind": {good + "\n" + good, "invalid_request"},
	} {
		status, answer := r.push(c.set)
		var said struct{ Err, Description string }
		if err := json.Unmarshal(answer, &said); status != http.StatusBadRequest || err != nil || said.Err != c.err || said.Description == "" {
			t.Errorf("%s: %d %s %v, want %s", name, status, answer, err, c.err)
		}
	}
	if status, answer := r.post(r.control+"/v1/events/idp", newSecret(), "application/secevent+jwt", good); status != http.StatusBadRequest || !bytes.Contains(answer, []byte("authentication_failed")) {
		t.Errorf("another's token: %d %s", status, answer)
	}
	// Its key may be one that the issuer has only just published: neither taken nor refused, until
	// the keys may be fetched again.
	if status, answer := r.push(tr.signedAs("secevent+jwt", tr.alg, otherID, quarantine(nil))); status != http.StatusServiceUnavailable {
		t.Errorf("a key that is not published: %d %s", status, answer)
	}
	r.expect("what was refused", "allowed")

	// And the good one, which was there all along.
	if status, answer := r.push(good); status != http.StatusAccepted {
		t.Errorf("%d %s", status, answer)
	}
	r.expect("a good one", "quarantined")
	_, release := tr.says(own+"release", object{}, agentPayer)
	if status, answer := r.push(release); status != http.StatusAccepted {
		t.Errorf("%d %s", status, answer)
	}
	if status, answer := r.push(good); status != http.StatusAccepted {
		t.Errorf("replayed: %d %s", status, answer)
	}
	r.expect("an old one that is sent again", "allowed")
}
