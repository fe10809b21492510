package ssf

import (
	"encoding/json"
	"errors"
	"testing"

	"vigil/signals"
)

// FuzzSET reads payloads as if their signatures were good: whatever an issuer signs, it is
// refused with a code, or says things that anybody could send, under ids of its own.
func FuzzSET(f *testing.F) {
	for _, name := range []string{"caep", "risc", "ssf"} {
		sets, _ := examples(f, name)
		for _, x := range sets {
			f.Add([]byte(x.JSON))
		}
	}
	for _, uri := range []string{"risk", "narrow", "lift", "attest", "require-approval"} {
		body, err := json.Marshal(claims(object{"sub_id": complexOf(object{"agent": opaque("a")}), "events": event(Vigil+uri, object{
			"risk": 1, "scopes": []string{"a"}, "statement": "taint", "jti": "j", "result": "pass", "expires": 1e10})}))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	i := newIssuer(f, func(cfg *Config) {
		cfg.Issuer = "https://idp.example.com/123456789/"
		cfg.Audience = []string{"https://sp.example.com/caep"}
		cfg.Legacy, cfg.MaxEvents = true, maxEvents
		cfg.SubjectIssuers = []string{testIssuer}
	})
	ours := newIssuer(f, func(cfg *Config) { cfg.MaxEvents = 2 })
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, i := range []*Issuer{i, ours} {
			set, refused := i.parseClaims(payload)
			if refused != nil {
				if set != nil || refused.Code == "" || refused.Description == "" {
					t.Fatalf("%+v, %+v", set, refused)
				}
				continue
			}
			tr, err := i.Translate(set)
			if err != nil {
				var e *Error
				if !errors.As(err, &e) || e.Code != InvalidRequest {
					t.Fatal(err)
				}
				continue
			}
			if len(tr.Readings) != len(set.Events) {
				t.Fatalf("%d readings of %d events", len(tr.Readings), len(set.Events))
			}
			ids := map[string]bool{}
			for k := range tr.Signals {
				s := &tr.Signals[k]
				if ids[s.ID] || len(s.Entities) == 0 || len(s.Entities) > signals.MaxEntities || s.Time > set.IssuedAt {
					t.Fatalf("%+v", s)
				}
				ids[s.ID] = true
				body := s.AppendJSON(nil)
				if _, err := signals.ReadEnvelope(body); err != nil && tooLate(s) == "" {
					t.Fatalf("%s: %v", body, err)
				}
			}
		}
	})
}

// tooLate says that a signal is of a year that no signal can be of.
func tooLate(s *signals.Signal) string {
	if y := s.Time.Time().Year(); y < 1971 || y > 2261 {
		return "too late"
	}
	return ""
}

// FuzzToken reads tokens that anybody may send.
func FuzzToken(f *testing.F) {
	f.Add([]byte("eyJhbGciOiJSUzI1NiIsInR5cCI6InNlY2V2ZW50K2p3dCJ9.e30.AA"))
	f.Add([]byte(sign(f, rs256, rsaKey(), claims(nil), nil)))
	f.Add([]byte("eyJhbGciOiJub25lIn0.e30."))
	f.Add([]byte(unsigned(f, claims(nil), nil)))
	f.Add([]byte("..."))
	i := newIssuer(f)
	f.Fuzz(func(t *testing.T, token []byte) {
		for _, ch := range []Channel{{}, {Authentic: true}} {
			set, err := i.verifyFrom(t.Context(), token, ch)
			var e *Error
			if err != nil && !errors.As(err, &e) {
				t.Fatal(err)
			}
			if err == nil && (set.Issuer != testIssuer || set.ID == "") {
				t.Fatalf("%+v", set)
			}
		}
	})
}
