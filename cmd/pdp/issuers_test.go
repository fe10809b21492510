package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"

	"vigil/server/credential"
)

// identityProvider signs security events with an implementation of others.
type identityProvider struct {
	t   *testing.T
	key *rsa.PrivateKey
	n   int
}

func newIdentityProvider(t *testing.T) *identityProvider {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return &identityProvider{t: t, key: key}
}

// keys is its JWK set.
func (p *identityProvider) keys() string {
	b64 := base64.RawURLEncoding.EncodeToString
	return fmt.Sprintf(`{"keys":[{"kty":"RSA","kid":"k1","use":"sig","n":"%s","e":"%s"}]}`,
		b64(p.key.N.Bytes()), b64(big.NewInt(int64(p.key.E)).Bytes()))
}

func (p *identityProvider) set(event string, members, subject map[string]any) (jti, token string) {
	p.n++
	if members == nil {
		members = map[string]any{}
	}
	jti = fmt.Sprintf("jti-%d", p.n)
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": "https://idp.example.com/", "aud": "https://pdp.example.com/ssf", "jti": jti, "iat": time.Now().Unix(),
		"sub_id": subject, "events": map[string]any{event: members},
	})
	t.Header["typ"], t.Header["kid"] = "secevent+jwt", "k1"
	token, err := t.SignedString(p.key)
	if err != nil {
		p.t.Fatal(err)
	}
	return jti, token
}

// asking asks for the payment of the invoice example, in a session.
type asking struct {
	t     *testing.T
	url   string
	token string
	body  []byte
}

func (g *asking) decides(session string) bool {
	g.t.Helper()
	body := bytes.Replace(g.body, []byte(`"s-1"`), []byte(`"`+session+`"`), 1)
	status, answer := request(g.t, g.url+"/access/v1/evaluation", "application/json", g.token, body)
	var d decided
	if err := json.Unmarshal(answer, &d); err != nil || status != http.StatusOK {
		g.t.Fatalf("%d %s: %v", status, answer, err)
	}
	return d.Decision
}

func request(t *testing.T, url, contentType, token string, body []byte) (int, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, answer
}

// TestAnIdentityProvidersEventIsInForceWhenItIsAcknowledged: pushed, the next decision
// knows it; polled, it is acknowledged after. What it is not about is not touched.
func TestAnIdentityProvidersEventIsInForceWhenItIsAcknowledged(t *testing.T) {
	idp := newIdentityProvider(t)
	stream := &pollStream{t: t, sets: map[string]string{}}
	poll := httptest.NewServer(stream)
	t.Cleanup(poll.Close)
	folder := t.TempDir()
	for name, text := range map[string]string{"keys.json": idp.keys(), "poll.token": "poll-token\n"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rules, err := filepath.Abs("../../examples/invoice/rules")
	if err != nil {
		t.Fatal(err)
	}
	gate, transmitter := credential.NewToken(), credential.NewToken()
	config := filepath.Join(folder, "vigil.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `vigil: 1
data_dir: %s
rules: {dir: %s}
decision: {listen: "127.0.0.1:0", anonymous: none}
control: {listen: "127.0.0.1:0"}
clients:
  - {name: gateway, token_sha256: ["%x"], scopes: [decide, read]}
issuers:
  - name: idp
    issuer: https://idp.example.com/
    audience: [https://pdp.example.com/ssf]
    algorithms: [RS256]
    keys: {file: keys.json}
    may: {types: [revoke, quarantine, release, risk], kinds: [session, user, agent]}
    push: {token_sha256: ["%x"]}
    poll: {endpoint: "%s/events", token_file: poll.token}
`, filepath.Join(folder, "data"), rules, credential.HashToken(gate), credential.HashToken(transmitter), poll.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	decision, control := startServeAt(t, "--config", config, "--seed", "../../examples/invoice/registrations.json")
	pay, err := os.ReadFile("../../examples/invoice/requests/pay.json")
	if err != nil {
		t.Fatal(err)
	}
	g := &asking{t: t, url: decision, token: gate, body: pay}
	if !g.decides("s-1") || !g.decides("s-2") {
		t.Fatal("the example is not allowed")
	}
	push := func(token, set string) (int, []byte) {
		return request(t, control+"/v1/events/idp", "application/secevent+jwt", token, []byte(set))
	}

	const revoked = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"
	_, set := idp.set(revoked, map[string]any{"reason_admin": map[string]any{"en": "impossible travel"}},
		map[string]any{"format": "opaque", "id": "s-1"})
	// Neither a gateway's token nor a forger's key says it.
	if status, answer := push(gate, set); status != http.StatusBadRequest || !bytes.Contains(answer, []byte("authentication_failed")) || !g.decides("s-1") {
		t.Errorf("with the gateway's token: %d %s", status, answer)
	}
	_, forged := newIdentityProvider(t).set(revoked, nil, map[string]any{"format": "opaque", "id": "s-1"})
	if status, answer := push(transmitter, forged); status != http.StatusBadRequest || !bytes.Contains(answer, []byte("authentication_failed")) || !g.decides("s-1") {
		t.Errorf("a forged one: %d %s", status, answer)
	}
	if status, answer := push(transmitter, set); status != http.StatusAccepted || g.decides("s-1") {
		t.Errorf("pushed: %d %s", status, answer)
	}
	if !g.decides("s-2") {
		t.Error("another session is touched")
	}

	// What hits nothing is acknowledged, and shown.
	_, set = idp.set(revoked, nil, map[string]any{"format": "opaque", "id": "s-unheard-of"})
	if status, answer := push(transmitter, set); status != http.StatusAccepted {
		t.Errorf("a session that nobody has heard of: %d %s", status, answer)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, control+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+gate)
	shown, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer shown.Body.Close()
	if text, err := io.ReadAll(shown.Body); err != nil || !bytes.Contains(text, []byte(`"refs":["session:s-unheard-of"]`)) || !bytes.Contains(text, []byte(`"polled"`)) {
		t.Errorf("%s, %v", text, err)
	}

	// Over the poll, with an event of our own: all of the agent, until it is released.
	jti, set := idp.set("urn:vigil:secevent:event-type:quarantine", map[string]any{},
		map[string]any{"format": "complex", "agent": map[string]any{"format": "opaque", "id": "invoice-agent"}})
	stream.offer(jti, set, func() {
		if g.decides("s-2") {
			t.Error("acknowledged before it is in force")
		}
	})
	_, set = idp.set("urn:vigil:secevent:event-type:release", map[string]any{},
		map[string]any{"format": "complex", "agent": map[string]any{"format": "opaque", "id": "invoice-agent"}})
	if status, answer := push(transmitter, set); status != http.StatusAccepted {
		t.Errorf("the release: %d %s", status, answer)
	}
}

// pollStream is a transmitter's poll endpoint with one reader.
type pollStream struct {
	t     *testing.T
	mu    sync.Mutex
	sets  map[string]string
	onAck map[string]chan struct{}
}

// offer has a SET fetched, and returns when it was acknowledged. inForce is called in
// between, before the acknowledgement is answered.
func (s *pollStream) offer(jti, set string, inForce func()) {
	s.t.Helper()
	acked := make(chan struct{})
	s.mu.Lock()
	s.sets[jti], s.onAck = set, map[string]chan struct{}{jti: acked}
	s.mu.Unlock()
	select {
	case <-acked:
		inForce()
	case <-time.After(patience):
		s.t.Fatal("it was not acknowledged")
	}
}

func (s *pollStream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Ack     []string       `json:"ack"`
		SetErrs map[string]any `json:"setErrs"`
	}
	if err := json.UnmarshalRead(r.Body, &q); err != nil || r.Header.Get("Authorization") != "Bearer poll-token" {
		s.t.Errorf("%v %v", err, r.Header)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(q.SetErrs) > 0 {
		s.t.Errorf("refused: %v", q.SetErrs)
	}
	for _, jti := range q.Ack {
		if _, there := s.sets[jti]; there {
			delete(s.sets, jti)
			close(s.onAck[jti])
		}
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.MarshalWrite(w, map[string]any{"sets": s.sets}); err != nil {
		s.t.Error(err)
	}
}

// goodIssuer is a configuration with every setting of an issuer.
const goodIssuer = `vigil: 1
rules: {dir: rules}
data_dir: data
issuers:
  - name: idp
    issuer: https://idp.example.com/
    audience: [a]
    algorithms: [RS256]
    keys: {uri: "https://idp.example.com/keys", refresh: 10m, survive: 48h}
    interop: true
    legacy: false
    max_events: 1
    tenants: [default]
    may: {types: ["*"], kinds: [user]}
    subjects: {user: ["{email|lower}"], device: ["instance:{sub}"]}
    subject_issuers: [https://other.example.com/]
    simple: {iss_sub: user}
    critical: [tenant]
    scores: {LOW: 0, MEDIUM: 50, HIGH: 95}
    table: [{event: recovery-activated, about: user, say: "require_approval for 24h"}]
    push: {anonymous: true}
    poll: {endpoint: "https://idp.example.com/poll", token_url: "https://idp.example.com/token", client_id: c, secret_file: s, scope: x}
    stream:
      discovery: risc-configuration
      id: st-1
      token_url: https://idp.example.com/token
      client_id: m
      secret_file: manage.secret
      scope: ssf.manage
      events: [session-revoked, "https://schemas.openid.net/secevent/risc/event-type/account-disabled", "vigil:risk"]
      description: of production
      verification_secret_file: verify.secret
      verify_every: 1h
`

func TestWhatIsWrongWithAnIssuerIsSaidWithItsPlace(t *testing.T) {
	cfg, err := load(t, goodIssuer, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := cfg.Issuers[0]
	if c.SSF.Scores["HIGH"] != 95 || c.SSF.Subjects["user"][0] != "{email|lower}" || !c.SSF.Interop || c.SSF.Keys.Survive != 48*time.Hour ||
		c.SSF.Table[0].Say != "require_approval for 24h" || !filepath.IsAbs(c.Poll.SecretFile) || c.SSF.Authority.Tenants[0] != "default" {
		t.Errorf("%+v", c)
	}
	if s := c.Stream; s.Discovery != "risc-configuration" || s.ID != "st-1" || s.ClientID != "m" || !filepath.IsAbs(s.SecretFile) || s.Scope != "ssf.manage" ||
		s.Events[0] != "https://schemas.openid.net/secevent/caep/event-type/session-revoked" || s.Events[2] != "urn:vigil:secevent:event-type:risk" ||
		s.Description != "of production" || !filepath.IsAbs(s.VerificationSecretFile) || s.VerifyEvery != time.Hour {
		t.Errorf("%+v", s)
	}
	for _, bad := range []struct{ from, to, want string }{
		{"algorithms: [RS256]", "algorithms: [HS256]", `no algorithm "HS256"`},
		{"    algorithms: [RS256]\n", "", "algorithms are needed"},
		{"audience: [a]", "audiences: [a]", `unknown key "audiences"; did you mean "audience"?`},
		{"keys: {uri: \"https://idp", "keys: {uri: \"http://idp", "plain http"},
		{"keys: {uri: \"https://idp.example.com/keys\"", "keys: {file: k, uri: x", "either uri"},
		{"{email|lower}", "{email|upper}", `no filter "upper"`},
		{"say: \"require_approval for 24h\"", "say: \"revok\"", `nothing can say "revok"`},
		{"event: recovery-activated", "event: recovery-activatd", "no event"},
		{"push: {anonymous: true}", "push: {}", "a token is needed"},
		{"push: {anonymous: true}", "push: {cert_names: [idp.example.com]}", "no tls.client_ca"},
		{"push: {anonymous: true}", "push: {cert_names: []}", "push.cert_names: want"},
		{"push: {anonymous: true}", "push: {cert_names: [a], anonymous: true}", "anybody may push"},
		{"    push: {anonymous: true}\n", "    push: {token: x}\n", `unknown key "token"`},
		{"HIGH: 95", "HIGH: 195", "scores: HIGH"},
		{"max_events: 1", "max_events: 2", "one where the interoperability profile"},
		{"secret_file: s, ", "", "client credentials take"},
		{"kinds: [user]}", "kinds: [user], overrule: true}", "overrules nobody"},
		{"    may: {types: [\"*\"], kinds: [user]}\n", "", "does not say what its events may say"},
		{"name: idp", "name: \"i d p\"", "want a name"},
		{"discovery: risc-configuration", "discovery: openid-configuration", "want ssf-configuration, risc-configuration or a URL"},
		{"discovery: risc-configuration", "discovery: http://idp.example.com/ssf", "plain http"},
		{"discovery: risc-configuration", "discovery: \"\"", "discovery: it is empty"},
		{"scope: ssf.manage", "scope: ssf.manage\n      token_file: t", "stream: want either token_file or client credentials"},
		{"      client_id: m\n", "", "stream: client credentials take"},
		{"token_url: https://idp.example.com/token\n", "token_url: http://idp.example.com/token\n", "stream: token_url"},
		{"secret_file: manage.secret", "secret: x", `unknown key "secret"`},
		{"events: [session-revoked", "events: [session-revokd", `"session-revokd" is no event of CAEP or RISC`},
		{"events: [session-revoked, \"https://schemas.openid.net/secevent/risc/event-type/account-disabled\", \"vigil:risk\"]", "events: []", "want at least one"},
		{"\"vigil:risk\"]", "\"vigil:risc\"]", `"vigil:risc" is no event`},
		{"verify_every: 1h", "verify_every: 1s", "stream.verify_every: want 1m0s"},
		{"id: st-1", "push_endpoint: http://pdp.example.com/v1/events/idp", "plain http"},
		{"id: st-1", "push_token_file: t", "its hash stands in push.token_sha256"},
		{"    push: {anonymous: true}\n", "", "nothing may be pushed"},
	} {
		text := strings.Replace(goodIssuer, bad.from, bad.to, 1)
		if bad.want == "nothing may be pushed" {
			text = strings.Replace(text, "id: st-1", "push_endpoint: https://pdp.example.com/v1/events/idp", 1)
		}
		if text == goodIssuer {
			t.Fatalf("%q is not there", bad.from)
		}
		if _, err := load(t, text, nil, nil); err == nil || !strings.Contains(err.Error(), bad.want) || !strings.Contains(err.Error(), ".yaml:") {
			t.Errorf("%s: %v, want %s", bad.to, err, bad.want)
		}
	}
}

// TestAnEventThatWithdrawsIsSpooledWhileKafkaIsAway: it is acknowledged, in force where it was
// pushed, and everywhere once Kafka is back; what permits is to come again.
func TestAnEventThatWithdrawsIsSpooledWhileKafkaIsAway(t *testing.T) {
	k := newGatedKafka(t)
	k.topics(1)
	idp := newIdentityProvider(t)
	transmitter := credential.NewToken()
	start := func(name string) *served {
		folder := t.TempDir()
		rules, err := filepath.Abs("../../examples/invoice/rules")
		must(t, err)
		must(t, os.WriteFile(filepath.Join(folder, "keys.json"), []byte(idp.keys()), 0o600))
		config := filepath.Join(folder, "vigil.yaml")
		must(t, os.WriteFile(config, fmt.Appendf(nil, `vigil: 1
data_dir: %s
rules: {dir: %s}
decision: {listen: "127.0.0.1:0", drain: 0s}
control: {listen: "127.0.0.1:0"}
logging: {level: info, decisions: "off"}
log: {kind: kafka, kafka: {brokers: [%q], topic: log, allow_weak: [all]}}
issuers:
  - name: idp
    issuer: https://idp.example.com/
    audience: [https://pdp.example.com/ssf]
    algorithms: [RS256]
    keys: {file: keys.json}
    may: {types: [revoke, release], kinds: [session, user]}
    push: {token_sha256: ["%x"]}
`, filepath.Join(folder, name), rules, strings.Join(k.ListenAddrs(), ","), credential.HashToken(transmitter)), 0o600))
		return launchWith(t, filepath.Join(folder, name), "--config", config)
	}
	one, two := start("one"), start("two")
	at := one.ready().know()
	if said := two.ready().decide("s-1", "Vigil-At-Least", at); said != "allow" {
		t.Fatal(said)
	}
	push := func(set string) int {
		status, _ := request(t, one.control+"/v1/events/idp", "application/secevent+jwt", transmitter, []byte(set))
		return status
	}
	k.set(false, true)
	defer k.set(false, false)
	_, set := idp.set("https://schemas.openid.net/secevent/caep/event-type/session-revoked",
		map[string]any{"reason_admin": map[string]any{"en": "impossible travel"}}, map[string]any{"format": "opaque", "id": "s-1"})
	// The first may have an unknown outcome; the transmitter pushes it again as it was.
	one.until("it is acknowledged", func() bool { return push(set) == http.StatusAccepted })
	if said := one.decide("s-1"); said != "revoked" {
		t.Errorf("acknowledged, and %s", said)
	}
	if st := one.status(); st.Feed.Spool == nil || st.Feed.Spool.Waiting == 0 {
		t.Errorf("nothing waits: %+v", st.Feed.Spool)
	}
	_, permits := idp.set("https://schemas.openid.net/secevent/risc/event-type/account-enabled", nil,
		map[string]any{"format": "iss_sub", "iss": "https://idp.example.com/", "sub": "kim"})
	if status := push(permits); status != http.StatusServiceUnavailable {
		t.Errorf("what permits: %d", status)
	}
	k.set(false, false)
	two.until("the other learns of it", func() bool { return two.decide("s-1") == "revoked" })
	one.until("what permits is taken", func() bool { return push(permits) == http.StatusAccepted })
}
