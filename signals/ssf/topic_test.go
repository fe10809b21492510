package ssf

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"vigil/authz"
	"vigil/signals"
)

// topicWorld is a topic in front of a world.
type topicWorld struct {
	*world
	topic *Topic

	mu      sync.Mutex
	letters []signals.DeadLetter
}

func newTopicWorld(t testing.TB, authentic bool, change ...func(*Config)) *topicWorld {
	t.Helper()
	w := &topicWorld{world: newWorld(t, change...)}
	var err error
	w.topic, err = NewTopic(w.receiver, TopicConfig{Authentic: authentic, DeadLetter: func(l signals.DeadLetter) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.letters = append(w.letters, l)
	}})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// read hands a token over as a record.
func (w *topicWorld) read(t testing.TB, token string) error {
	t.Helper()
	e := &signals.Entry{Position: signals.Position{Partition: 4096, Offset: 7}, Appended: w.clock.Now(), Record: []byte(token)}
	return w.topic.Take(t.Context(), "events/0", e, w.clock.Now())
}

// letter gives the one dead letter that there is, and forgets it.
func (w *topicWorld) letter(t testing.TB) signals.DeadLetter {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.letters) != 1 {
		t.Fatalf("%d dead letters: %+v", len(w.letters), w.letters)
	}
	l := w.letters[0]
	w.letters = nil
	return l
}

// unsigned makes a token of the algorithm "none", as changed.
func unsigned(t testing.TB, c jwt.MapClaims, header object) string {
	t.Helper()
	h := object{"typ": "secevent+jwt", "alg": "none"}
	for name, value := range header {
		h[name] = value
	}
	b64 := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	return b64(h) + "." + b64(c) + "."
}

// TestWhatATopicSaysOfItsStreamIsOfWhenItWasIssued: it is read in any order, and again from
// its beginning, which must not make a stream that has gone silent look alive.
func TestWhatATopicSaysOfItsStreamIsOfWhenItWasIssued(t *testing.T) {
	w := newTopicWorld(t, true)
	w.clock.advance(time.Hour)
	say := func(jti string, at authz.Instant, uri string, members object) {
		t.Helper()
		if err := w.read(t, signed(t, object{"jti": jti, "iat": int64(at) / 1e9, "sub_id": opaque("stream"), "events": event(uri, members)})); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		say("v-2", start.Add(2*time.Minute), verification, nil)
		say("v-1", start.Add(time.Minute), verification, nil)
		say("u-2", start.Add(2*time.Minute), streamUpdated, object{"status": "enabled"})
		say("u-1", start.Add(time.Minute), streamUpdated, object{"status": "paused"})
		w.clock.advance(time.Hour)
	}
	if s := w.receiver.Status(); s.Verified != start.Add(2*time.Minute) || s.Stream.Status != "enabled" || s.Stream.At != start.Add(2*time.Minute) {
		t.Errorf("%+v", s)
	}
	say("u-3", w.clock.Now().Add(time.Minute), streamUpdated, object{"status": "disabled"}) // by a clock that is ahead
	say("u-4", w.clock.Now(), streamUpdated, object{"status": "enabled"})
	if s := w.receiver.Status().Stream; s.Status != "enabled" {
		t.Errorf("%+v", s)
	}
}

// TestASETOfATopicIsVerifiedAndInForceWhenItIsTaken, and what is refused for good is a dead
// letter with its place and reason, which says nothing.
func TestASETOfATopicIsVerifiedAndInForceWhenItIsTaken(t *testing.T) {
	w := newTopicWorld(t, false)
	for name, c := range map[string]struct{ token, reason string }{
		"another's key":   {sign(t, rs256, otherRSA(), claims(nil), nil), "authentication_failed"},
		"no signature":    {unsigned(t, claims(nil), nil), "invalid_request"},
		"none, signed":    {unsigned(t, claims(nil), nil) + "AA", "invalid_key"},
		"another issuer":  {signed(t, object{"iss": "https://other/"}), "invalid_issuer"},
		"somebody else's": {signed(t, object{"aud": "https://other/"}), "invalid_audience"},
		"no SET":          {"hello", "no compact JWS"},
		"nothing":         {"", "no compact JWS"},
		"too large":       {strings.Repeat("a", MaxSET+1), "more than 65536"},
		"another token":   {sign(t, rs256, rsaKey(), claims(nil), object{"typ": "JWT"}), `"typ" is "JWT"`},
	} {
		if err := w.read(t, c.token); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		l := w.letter(t)
		if !strings.Contains(l.Reason, c.reason) || l.Partition != "events/0" || l.Position.Offset != 7 || l.Source != "issuer:idp" || l.Size != len(c.token) || l.Appended == 0 {
			t.Errorf("%s: %+v", name, l)
		}
	}
	if w.status(t, "session:s-1") != "active" {
		t.Fatal("a SET that was refused is in force")
	}
	refused := &signals.Entry{Refused: "it carries no token", Record: []byte("x")}
	if err := w.topic.Take(t.Context(), "events/0", refused, 0); err != nil || !strings.Contains(w.letter(t).Reason, "it carries no token") {
		t.Error(err)
	}
	if n := w.count("", InvalidRequest); n < 5 {
		t.Errorf("%d are counted", n)
	}
	if err := w.read(t, signed(t, nil)); err != nil || w.status(t, "session:s-1") != "revoked" {
		t.Errorf("%v, %s", err, w.status(t, "session:s-1"))
	}
	if len(w.letters) != 0 || w.count("session-revoked", "said") != 1 {
		t.Errorf("%+v, %v", w.letters, w.receiver.Status().Counts)
	}
}

// TestATopicMayBeAuthenticByItself: then signatures alone are not looked at, and nobody but it
// may bring a SET without one.
func TestATopicMayBeAuthenticByItself(t *testing.T) {
	none := func(cfg *Config) { cfg.Unsigned, cfg.Algorithms, cfg.Keys = true, nil, KeysConfig{} }
	for name, change := range map[string][]func(*Config){"without keys": {none}, "with keys": nil} {
		w := newTopicWorld(t, true, change...)
		for _, c := range []struct{ token, reason string }{
			{unsigned(t, claims(object{"iss": "https://other/"}), nil), "invalid_issuer"},
			{unsigned(t, claims(object{"aud": "https://other/"}), nil), "invalid_audience"},
			{unsigned(t, claims(object{"jti": nil}), nil), `"jti"`},
			{unsigned(t, claims(object{"exp": 1}), nil), `"exp"`},
			{unsigned(t, claims(object{"sub_id": nil}), nil), `"sub_id"`},
			{unsigned(t, claims(nil), object{"typ": "JWT"}), `"typ"`},
			{unsigned(t, claims(nil), object{"alg": ""}), `"alg"`},
			{unsigned(t, claims(nil), object{"crit": []string{"x"}}), `"crit"`},
			{unsigned(t, claims(nil), nil) + "AA", "has no signature"},
			{unsigned(t, claims(nil), object{"alg": "RS256"}), "every other has one"},
			{unsigned(t, nil, nil), "no JSON object"},
		} {
			if err := w.read(t, c.token); err != nil || !strings.Contains(w.letter(t).Reason, c.reason) {
				t.Errorf("%s: %s: %v", name, c.reason, err)
			}
		}
		if w.status(t, "session:s-1") != "active" {
			t.Fatal("a SET that was refused is in force")
		}
		if err := w.read(t, unsigned(t, claims(nil), nil)); err != nil || w.status(t, "session:s-1") != "revoked" {
			t.Errorf("%s, not signed: %v", name, err)
		}
		other := claims(object{"jti": "j-2", "sub_id": opaque("s-2")})
		if err := w.read(t, sign(t, rs256, otherRSA(), other, nil)); err != nil || w.status(t, "session:s-2") != "revoked" {
			t.Errorf("%s, signed by whom nobody knows: %v", name, err)
		}
		// By any other way that proves nothing.
		var e *Error
		_, err := w.receiver.Take(t.Context(), []byte(unsigned(t, claims(object{"jti": "j-3", "sub_id": opaque("s-3")}), nil)))
		if !errors.As(err, &e) || w.status(t, "session:s-3") != "active" {
			t.Errorf("%s, pushed: %v", name, err)
		}
		_, err = w.receiver.Take(t.Context(), []byte(sign(t, rs256, otherRSA(), claims(object{"jti": "j-3", "sub_id": opaque("s-3")}), nil)))
		if !errors.As(err, &e) || e.Code != AuthenticationFailed || w.status(t, "session:s-3") != "active" {
			t.Errorf("%s, pushed and signed: %v", name, err)
		}
	}
	if _, err := NewTopic(newWorld(t, none).receiver, TopicConfig{}); err == nil {
		t.Error("a topic without keys, whose SETs are to be verified")
	}
	if _, err := New(testConfig(func(cfg *Config) { cfg.Unsigned = true })); err == nil || !strings.Contains(err.Error(), "no meaning") {
		t.Error(err)
	}
}

// TestWhatIsInForceIsNotPushedAgain: each replica reads a topic, and reads it again.
func TestWhatIsInForceIsNotPushedAgain(t *testing.T) {
	w := newTopicWorld(t, false)
	pushes := &counting{Intake: w.intake}
	w.receiver.intake = pushes
	take := func(change object) {
		t.Helper()
		if err := w.read(t, signed(t, change)); err != nil {
			t.Fatal(err)
		}
	}
	agent := complexOf(object{"agent": opaque("a")})
	statements := []object{
		nil,
		{"jti": "j-2", "sub_id": agent, "events": event(Vigil+"quarantine", nil)},
		{"jti": "j-3", "sub_id": agent, "events": event(Vigil+"taint", nil)},
		{"jti": "j-4", "sub_id": agent, "events": event(Vigil+"risk", object{"risk": 30})},
		{"jti": "j-5", "sub_id": agent, "events": event(Vigil+"lift", object{"statement": "taint", "jti": "j-3"})},
	}
	for _, s := range statements {
		take(s)
	}
	if pushes.n != len(statements) {
		t.Fatalf("%d pushes", pushes.n)
	}
	before := w.store.Digest(w.clock.Now())
	w.clock.advance(time.Minute)
	for _, again := range []int{0, 1, 3, 4} {
		take(statements[again])
	}
	if pushes.n != len(statements) {
		t.Errorf("%d pushes of what is in force", pushes.n-len(statements))
	}
	take(statements[2]) // was lifted: it is not there any more, and pushing it changes nothing
	if pushes.n != len(statements)+1 || w.store.Digest(w.clock.Now()) != before {
		t.Errorf("%d pushes, and another posture: %t", pushes.n, w.store.Digest(w.clock.Now()) != before)
	}
	// The same jti with something else is another event, and refused as ever.
	take(object{"jti": "j-4", "sub_id": agent, "events": event(Vigil+"risk", object{"risk": 99})})
	if l := w.letter(t); !strings.Contains(l.Reason, `"jti" was that of another event`) || l.ID != "j-4" {
		t.Errorf("%+v", l)
	}
	// What comes by another way is pushed as ever: it is the log that knows duplicates.
	if _, err := w.receiver.Take(t.Context(), []byte(signed(t, nil))); err != nil || pushes.n != len(statements)+3 {
		t.Errorf("%d, %v", pushes.n, err)
	}
}

// TestARecordThatCannotBeTakenNowComesAgain: it is no dead letter, whatever is away.
func TestARecordThatCannotBeTakenNowComesAgain(t *testing.T) {
	w := newTopicWorld(t, false)
	w.log.SetHealth(errors.New("the brokers are away"))
	token := signed(t, nil)
	for range 3 {
		if err := w.read(t, token); !errors.Is(err, ErrTemporary) {
			t.Errorf("%v", err)
		}
	}
	w.log.SetHealth(nil)
	if err := w.read(t, token); err != nil || w.status(t, "session:s-1") != "revoked" || len(w.letters) != 0 {
		t.Errorf("%v, %+v", err, w.letters)
	}
	ahead := signed(t, object{"jti": "j-2", "iat": int64(start)/1e9 + 60, "sub_id": complexOf(object{"agent": opaque("a")}), "events": event(Vigil+"release", nil)})
	if err := w.read(t, ahead); !errors.Is(err, ErrTemporary) {
		t.Errorf("ahead of the clock: %v", err)
	}
	w.clock.advance(time.Minute)
	if err := w.read(t, ahead); err != nil {
		t.Errorf("%v", err)
	}
	// What its issuer may not say is said to people here, with the cause.
	w = newTopicWorld(t, false, func(cfg *Config) { cfg.Authority.Types = []string{"risk"} })
	if err := w.read(t, token); err != nil {
		t.Error(err)
	}
	if l := w.letter(t); !strings.Contains(l.Reason, "access_denied") || !strings.Contains(l.Reason, "may not send revoke") || l.ID != "jti-1" {
		t.Errorf("%+v", l)
	}
}

// TestAPanicWhileASETIsTakenIsADeadLetter: given again it would panic again.
func TestAPanicWhileASETIsTakenIsADeadLetter(t *testing.T) {
	w := newTopicWorld(t, false)
	w.receiver.intake = nil
	if err := w.read(t, signed(t, nil)); err != nil || !strings.Contains(w.letter(t).Reason, "panic while taking it") {
		t.Error(err)
	}
}

// counting counts what is pushed.
type counting struct {
	Intake
	n int
}

func (c *counting) Push(ctx context.Context, s signals.Sender, body []byte) (signals.Receipt, error) {
	c.n++
	return c.Intake.Push(ctx, s, body)
}

// TestKeysThatAreAwayAreWaitedFor, for a SET of theirs and for none that they were seen to lack
// when it was here already: a flood of made-up kids costs one fetch and not one each.
func TestKeysThatAreAwayAreWaitedFor(t *testing.T) {
	server := &keyServer{}
	server.set(nil, errors.New("no route to host"))
	w := newTopicWorld(t, false, func(cfg *Config) {
		cfg.Keys = KeysConfig{URI: keysURI}
		cfg.Web.Transport = server
	})
	token := signed(t, nil)
	if err := w.read(t, token); !errors.Is(err, ErrTemporary) {
		t.Errorf("%v", err)
	}
	server.set(jwks(jwk(rsaKey().Public(), object{"kid": "k1"})), nil)
	w.clock.advance(time.Minute)
	if err := w.read(t, token); err != nil || w.status(t, "session:s-1") != "revoked" || len(w.letters) != 0 {
		t.Errorf("%v, %+v", err, w.letters)
	}
	// Rotated: the new key is fetched once, although the last fetch was a moment ago.
	arrived := w.clock.Now() + 1
	var flood []*signals.Entry
	for i := range 100 {
		token := sign(t, rs256, rsaKey(), claims(nil), object{"kid": fmt.Sprint("made-up-", i)})
		flood = append(flood, &signals.Entry{Record: []byte(token)})
	}
	w.clock.advance(time.Second)
	waits := func() (n int) {
		for _, e := range flood {
			if err := w.topic.Take(t.Context(), "events/0", e, arrived); errors.Is(err, ErrTemporary) {
				n++
			} else if err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	if n := waits(); n != len(flood) {
		t.Errorf("%d of %d wait, and the issuer was asked %d times", n, len(flood), server.asked.Load())
	}
	w.clock.advance(time.Minute)
	if n := waits(); n != 0 || server.asked.Load() != 3 || len(w.letters) != len(flood) {
		t.Errorf("%d of %d wait, and the issuer was asked %d times", n, len(flood), server.asked.Load())
	}
}
