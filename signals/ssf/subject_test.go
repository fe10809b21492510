package ssf

import (
	"fmt"
	"strings"
	"testing"
)

func TestSubjectIdentifiersAreReadAsTheirFormatSays(t *testing.T) {
	for text, want := range map[string]string{
		`{"format":"account","uri":"acct:jane@example.com"}`:                                                 `account uri=acct:jane@example.com`,
		`{"format":"email","email":"jane@example.com","more":"x"}`:                                           `email email=jane@example.com`,
		`{"format":"iss_sub","iss":"https://i/","sub":"s"}`:                                                  `iss_sub iss=https://i/ sub=s`,
		`{"format":"opaque","id":"1"}`:                                                                       `opaque id=1`,
		`{"format":"phone_number","phone_number":"+1 206 555 0100"}`:                                         `phone_number phone_number=+12065550100`,
		`{"format":"did","url":"did:example:1#k"}`:                                                           `did url=did:example:1#k`,
		`{"format":"uri","uri":"urn:uuid:4e851e98-83c4-4743-a5da-150ecb53042f"}`:                             `uri uri=urn:uuid:4e851e98-83c4-4743-a5da-150ecb53042f`,
		`{"format":"jwt_id","iss":"https://i/","jti":"j"}`:                                                   `jwt_id iss=https://i/ jti=j`,
		`{"format":"saml_assertion_id","issuer":"https://i/","assertion_id":"_8"}`:                           `saml_assertion_id assertion_id=_8 issuer=https://i/`,
		`{"format":"ip-addresses","ip-addresses":["10.0.0.1","2001:0db8:0:0:0:0:0:1"]}`:                      `ip-addresses [10.0.0.1 2001:db8::1]`,
		`{"format":"catalog_item","catalog_id":"c/1","n":3}`:                                                 `catalog_item catalog_id=c/1`,
		`{"format":"aliases","identifiers":[{"format":"opaque","id":"1"},{"format":"email","email":"a@b"}]}`: `opaque id=1, email email=a@b`,
		`{"format":"complex","user":{"format":"email","email":"a@b"},"agent":{"format":"opaque","id":"x"}}`:  `agent: opaque id=x; user: email email=a@b`,
		`{"format":"complex","device":{"format":"aliases","identifiers":[{"format":"opaque","id":"1"}]}}`:    `device: opaque id=1`,

		`{}`:                                 `error without "format"`,
		`[]`:                                 `error an object`,
		`null`:                               `error an object`,
		`{"format":7}`:                       `error without "format"`,
		`{"format":""}`:                      `error without "format"`,
		`{"format":"email"}`:                 `error "email" is missing`,
		`{"format":"email","email":""}`:      `error "email" is missing`,
		`{"format":"email","email":["a@b"]}`: `error "email" is missing`,
		`{"format":"email","email":"jane"}`:  `error is not an address`,
		`{"format":"email","email":"@b"}`:    `error is not an address`,
		`{"format":"email","email":"a@b","email":"c@d"}`:      `error duplicate`,
		`{"format":"iss_sub","iss":"i"}`:                      `error "sub" is missing`,
		`{"format":"account","uri":"jane@example.com"}`:       `error acct`,
		`{"format":"phone_number","phone_number":"206555"}`:   `error number such as`,
		`{"format":"phone_number","phone_number":"+1x"}`:      `error number such as`,
		`{"format":"did","url":"example:1"}`:                  `error DID`,
		`{"format":"uri","uri":"nothing"}`:                    `error URI`,
		`{"format":"jwt_id","iss":"i"}`:                       `error "jti" is missing`,
		`{"format":"saml_assertion_id","issuer":"i"}`:         `error "assertion_id" is missing`,
		`{"format":"ip-addresses"}`:                           `error list`,
		`{"format":"ip-addresses","ip-addresses":[]}`:         `error list`,
		`{"format":"ip-addresses","ip-addresses":["10.0.0"]}`: `error no address`,
		`{"format":"aliases"}`:                                `error identifiers`,
		`{"format":"aliases","identifiers":[]}`:               `error identifiers`,
		`{"format":"aliases","identifiers":[{"format":"aliases","identifiers":[{"format":"opaque","id":"1"}]}]}`: `error within aliases`,
		`{"format":"aliases","identifiers":[{"format":"complex","user":{"format":"opaque","id":"1"}}]}`:          `error within aliases`,
		`{"format":"complex"}`:               `error no member`,
		`{"format":"complex","user":"jane"}`: `error no subject identifier`,
		`{"format":"complex","user":{"format":"complex","user":{"format":"email"}}}`: `error within one`,
		`{"format":"complex","user":{"format":"email"}}`:                             `error user: email`,
		`{"format":"opaque","id":"` + strings.Repeat("x", 2049) + `"}`:               `error more than`,
	} {
		s, err := parseSubject([]byte(text), false)
		got := written(&s)
		if err != nil {
			got = "error " + err.Error()
		}
		if wanted, isError := strings.CutPrefix(want, "error "); isError && (err == nil || !strings.Contains(got, wanted)) || !isError && got != want {
			t.Errorf("%s:\n got %s\nwant %s", text, got, want)
		}
	}
	many := `{"format":"complex"`
	for i := range maxMembers + 1 {
		many += fmt.Sprintf(`,"m%d":{"format":"opaque","id":"1"}`, i)
	}
	if _, err := parseSubject([]byte(many+"}"), false); err == nil {
		t.Error("a subject of any number of members")
	}
}

func written(s *Subject) string {
	one := func(ids []Identifier) string {
		var parts []string
		for i := range ids {
			part := ids[i].Format
			for _, name := range sortedNames(ids[i].Values) {
				part += " " + name + "=" + ids[i].Values[name]
			}
			if ids[i].Addresses != nil {
				part += fmt.Sprint(" ", ids[i].Addresses)
			}
			parts = append(parts, part)
		}
		return strings.Join(parts, ", ")
	}
	if s.Members == nil {
		return one(s.Simple)
	}
	var parts []string
	for _, m := range s.Members {
		parts = append(parts, m.Name+": "+one(m.Identifiers))
	}
	return strings.Join(parts, "; ")
}

func TestLegacySubjectsAreTakenWhereTheyAreAllowed(t *testing.T) {
	inEvent := object{"sub_id": nil, "events": event(RISC+"account-enabled",
		object{"subject": object{"subject_type": "iss-sub", "iss": testIssuer, "sub": "jane"}})}
	refusedWith(t, newIssuer(t), signed(t, inEvent), InvalidRequest, `"sub_id" is missing`)
	legacy := newIssuer(t, func(cfg *Config) { cfg.Legacy = true })
	if got := sayings(t, legacy, inEvent); got != "release user:jane" {
		t.Error(got)
	}
	inEvent["sub_id"] = object{"format": "email", "email": "kim@example.com"}
	if got := sayings(t, legacy, inEvent); got != "release user:kim@example.com" {
		t.Errorf("sub_id does not win: %s", got)
	}
}

func FuzzSubject(f *testing.F) {
	for _, seed := range []string{
		`{"format":"complex","user":{"format":"email","email":"a@b"},"tenant":{"format":"opaque","id":"1"}}`,
		`{"format":"aliases","identifiers":[{"format":"opaque","id":"1"}]}`,
		`{"subject_type":"iss-sub","iss":"i","sub":"s"}`, `{"format":"ip-addresses","ip-addresses":["::1"]}`,
		`{"format":"phone_number","phone_number":"+1 206"}`, `{"format":"x","\u0000":"y"}`, `{"format":"did","url":"did:x"}`,
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	i := newIssuer(f, func(cfg *Config) {
		cfg.Subjects = DefaultSubjects()
		cfg.Subjects["device"] = []string{"instance:{ip-addresses}/{id}", "instance:{ip-addresses}"}
	})
	f.Fuzz(func(t *testing.T, raw []byte, legacy bool) {
		s, err := parseSubject(raw, legacy)
		if err != nil {
			return
		}
		if (s.Simple == nil) == (s.Members == nil) || len(s.Simple) > maxAliases || len(s.Members) > maxMembers {
			t.Fatalf("%+v", s)
		}
		members := s.Members
		if members == nil {
			members = []Member{{Name: "device", Identifiers: s.Simple}}
		}
		for j := range members {
			for _, ref := range i.entities(&members[j]) {
				// Whatever the subject, an entity of it is one that a signal can name.
				if _, err := parseRef(ref.String()); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
