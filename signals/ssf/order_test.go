package ssf

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"vigil/authz"
)

// TestOrderAndDuplicatesOfSETsMeanNothing: two receivers that are sent the same events in
// other orders, some of them several times and several at once, come to one posture.
func TestOrderAndDuplicatesOfSETsMeanNothing(t *testing.T) {
	ed := func(cfg *Config) {
		cfg.Algorithms = []string{"EdDSA"}
		cfg.Keys.Static = jwks(jwk(edKey().Public(), object{"kid": "k1"}))
		cfg.Subjects = DefaultSubjects()
		cfg.Subjects["device"] = []string{"instance:{id}"}
	}
	for seed := range uint64(25) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			tokens := make([][]byte, 30)
			for n := range tokens {
				tokens[n] = []byte(sign(t, jwt.SigningMethodEdDSA, edKey(), claims(randomSET(rnd, n)), nil))
			}
			var digests [2][32]byte
			for run := range digests {
				w := newWorld(t, ed)
				w.receiver.mu.alive = authz.Forever // no heartbeats: of many that are due few are sent
				sent := append(append([][]byte(nil), tokens...), tokens[:10]...)
				rnd.Shuffle(len(sent), func(i, j int) { sent[i], sent[j] = sent[j], sent[i] })
				var all sync.WaitGroup
				for worker := range 4 {
					all.Go(func() {
						for i := worker; i < len(sent); i += 4 {
							if _, err := w.receiver.Take(t.Context(), sent[i]); err != nil {
								t.Error(err)
							}
						}
					})
				}
				all.Wait()
				digests[run] = w.store.Digest(w.clock.Now())
				if known := w.store.Len(); known[1]+known[2]+known[3]+known[4] == 0 {
					t.Error("nothing was said")
				}
			}
			if digests[0] != digests[1] {
				t.Errorf("two orders of the same events, two postures")
			}
		})
	}
}

// randomSET is a SET about one of a few entities, that happened within the last minute.
func randomSET(rnd *rand.Rand, n int) object {
	pick := func(words ...string) string { return words[rnd.IntN(len(words))] }
	user, agent := email(pick("a", "b")+"@example.com"), opaque(pick("a1", "a2"))
	about := complexOf(object{"agent": agent, "user": user})
	uri, members, subject := "", object{}, user
	switch rnd.IntN(12) {
	case 0:
		uri, subject = CAEP+"session-revoked", opaque(pick("s1", "s2"))
	case 1:
		uri, subject = CAEP+"session-revoked", user
	case 2, 3:
		uri, members = CAEP+"risk-level-change", object{"principal": "USER", "current_level": pick(levels...)}
	case 4:
		uri, members = CAEP+"device-compliance-change", object{"previous_status": "compliant", "current_status": pick("compliant", "not-compliant")}
		subject = opaque(pick("d1", "d2"))
	case 5:
		uri, members = RISC+"account-disabled", object{"reason": pick("hijacking", "bulk-account")}
	case 6:
		uri = RISC + "account-enabled"
	case 7:
		uri, members = RISC+"credential-compromise", object{"credential_type": "password"}
	case 8:
		uri, subject = Vigil+pick("quarantine", "release", "taint", "require-approval"), about
	case 9:
		uri, subject, members = Vigil+"narrow", about, object{"scopes": []string{pick("r", "w"), "x"}}
	case 10:
		uri, subject, members = Vigil+"attest", about, object{"result": pick("pass", "fail")}
	default:
		uri, subject = Vigil+"lift", about
		members = object{"statement": pick("taint", "narrow", "require-approval"), "jti": fmt.Sprint("j", rnd.IntN(30))}
	}
	members["event_timestamp"] = int64(start)/1e9 - rnd.Int64N(60)
	return object{"jti": fmt.Sprint("j", n), "sub_id": subject, "events": event(uri, members)}
}
