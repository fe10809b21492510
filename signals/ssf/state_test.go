package ssf

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"
)

// TestEveryReplicaKnowsAStateThatOneOfThemAskedFor: and another issuer, another stream,
// another secret does not.
func TestEveryReplicaKnowsAStateThatOneOfThemAskedFor(t *testing.T) {
	with := func(change ...func(*Config)) *Issuer {
		return newIssuer(t, append([]func(*Config){func(cfg *Config) { cfg.StateSecret = []byte("shared") }}, change...)...)
	}
	asking, receiving := with(), with()
	state := asking.states.make("s1", start)
	if len(state) > 100 || state == asking.states.make("s1", start) {
		t.Errorf("a state is %d bytes, and perhaps not random: %s", len(state), state)
	}
	for name, c := range map[string]struct {
		issuer *Issuer
		stream string
		after  time.Duration
		want   string
	}{
		"another replica":            {receiving, "s1", 0, ""},
		"as long as a stream pauses": {receiving, "s1", stateLife, ""},
		"too late":                   {receiving, "s1", stateLife + 1, "too long ago"},
		"another stream":             {receiving, "s2", 0, "none that was asked for"},
		"no stream":                  {receiving, "", 0, "none that was asked for"},
		"another secret":             {with(func(cfg *Config) { cfg.StateSecret = []byte("other") }), "s1", 0, "none that was asked for"},
		"another issuer":             {with(func(cfg *Config) { cfg.Issuer = "https://other.example.com/" }), "s1", 0, "none that was asked for"},
		"no secret":                  {newIssuer(t), "s1", 0, "none that was asked for"},
	} {
		got := c.issuer.states.check(state, c.stream, start.Add(c.after))
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if newIssuer(t).states.make("s1", start) != "" {
		t.Error("a state without a secret")
	}
	if forged := (stateKey{}).make("s1", start); newIssuer(t).states.check(forged, "s1", start) == "" {
		t.Error("without a secret, a state of the empty key is ours")
	}
	if asking.cfg.StateSecret != nil {
		t.Error("the secret is kept beside its key")
	}
}

// TestNoBitOfAStateCanBeChanged: nor can it be written in another way.
func TestNoBitOfAStateCanBeChanged(t *testing.T) {
	key := newIssuer(t, func(cfg *Config) { cfg.StateSecret = []byte("shared") }).states
	state := key.make("s1", start)
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(state, stateVersion))
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		for bit := range 8 {
			raw[i] ^= 1 << bit
			if key.check(stateVersion+base64.RawURLEncoding.EncodeToString(raw), "s1", start) == "" {
				t.Errorf("byte %d, bit %d is anybody's", i, bit)
			}
			raw[i] ^= 1 << bit
		}
	}
	// The last of the 75 characters has two bits that say nothing.
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, state[len(state)-1])
	for _, other := range []string{state[:len(state)-1] + alphabet[last+1:last+2], "", "v1.", state[3:], "v2." + state[3:], state + "A", state[:len(state)-1], state + "=", " " + state, state + "\n", state[:10] + "\n" + state[10:],
		stateVersion + strings.Repeat("A", len(state)-3)} {
		if key.check(other, "s1", start) == "" {
			t.Errorf("%q is one", other)
		}
	}
}

// TestAVerificationComesToAnotherReplica: whichever receiver it comes to takes it, and no
// other event passes for it.
func TestAVerificationComesToAnotherReplica(t *testing.T) {
	tr, _, client := newTransmitter(t)
	if _, err := client.Create(t.Context(), Stream{Delivery: &Delivery{Method: MethodPush}}); err != nil {
		t.Fatal(err)
	}
	if err := client.Verify(t.Context(), "st 1"); err != nil || tr.state == nil {
		t.Fatal(err)
	}
	here := func(change func(*Config)) error {
		other := newWorld(t, func(cfg *Config) { cfg.Issuer = tr.base + "/one"; change(cfg) })
		_, err := other.receiver.Take(t.Context(), []byte(signed(t, object{"iss": tr.base + "/one", "sub_id": opaque("st 1"),
			"events": event(verification, object{"state": *tr.state})})))
		if (err == nil) != (other.receiver.Status().Verified != 0) {
			t.Errorf("%v, verified %v", err, other.receiver.Status().Verified)
		}
		return err
	}
	if err := here(func(cfg *Config) { cfg.StateSecret = []byte("of all replicas") }); err != nil {
		t.Error(err)
	}
	var e *Error
	if err := here(func(cfg *Config) { cfg.StateSecret = []byte("of another cluster") }); !errors.As(err, &e) || e.Code != InvalidState {
		t.Errorf("of another cluster: %v", err)
	}
}

// FuzzState: nothing passes that was not made with the key. The seeds are of another one, for
// of a state that is good the fuzzer finds the stream that it is good for.
func FuzzState(f *testing.F) {
	key, err := newStateKey([]byte("shared"), testIssuer)
	if err != nil {
		f.Fatal(err)
	}
	strange, err := newStateKey([]byte("of another cluster"), testIssuer)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(strange.make("s1", start), "s1")
	f.Add("v1."+strings.Repeat("A", 75), "")
	f.Fuzz(func(t *testing.T, state, stream string) {
		if key.check(state, stream, start) == "" {
			t.Errorf("%q passes for %q", state, stream)
		}
	})
}
