package ssf

import (
	"bytes"
	"encoding/base64"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vigil/authz"
)

// Limits of a SET.
const (
	MaxSET    = 64 << 10 // bytes of the compact form
	maxHeader = 8 << 10  // bytes of its header, encoded
	maxClaim  = 1024     // bytes of iss, jti and txn
	maxAud    = 64
	maxEvents = 8
)

// SET is a security event token that was verified: it is of its issuer, and meant for us.
type SET struct {
	Issuer      string
	ID          string // jti
	IssuedAt    authz.Instant
	Occurred    authz.Instant // toe; 0 where it is not stated
	Transaction string        // txn; "" where it is not stated
	Subject     Subject
	Events      []Event // sorted by type
}

// header is what is read of a JOSE header. go-jose reads the algorithm and "crit" again.
type header struct {
	Alg, Typ, Kid string
}

// splitToken holds a token to the compact serialization: three parts of base64url without
// padding, none of them empty but, where that is permitted, the signature. go-jose would pass
// over line breaks in them.
func splitToken(token []byte, unsigned bool) (head []byte, err *Error) {
	if len(token) > MaxSET {
		return nil, refuse(InvalidRequest, "the token has %d bytes, more than %d", len(token), MaxSET)
	}
	dots, last := 0, -1
	for i, c := range token {
		switch {
		case c == '.':
			if i == last+1 {
				return nil, refuse(InvalidRequest, "a part of the token is empty")
			}
			if dots++; dots == 1 {
				head = token[:i]
			}
			last = i
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return nil, refuse(InvalidRequest, "the body is no compact JWS: byte %d is %q", i, c)
		}
	}
	switch {
	case dots != 2 || last == len(token)-1 && !unsigned:
		return nil, refuse(InvalidRequest, "the body is no compact JWS: want header.payload.signature")
	case len(head) > maxHeader:
		return nil, refuse(InvalidRequest, "the header of the token has %d bytes, more than %d", len(head), maxHeader)
	}
	return head, nil
}

// parseHeader reads the JOSE header. Key material in it (jwk, x5c, jku, x5u) is passed
// over: a token does not say whom to trust.
func parseHeader(encoded []byte) (h header, err *Error) {
	raw, e := base64.RawURLEncoding.AppendDecode(nil, encoded)
	if e != nil {
		return h, refuse(InvalidRequest, "the header of the token is no base64url")
	}
	var members map[string]jsontext.Value
	if e := json.Unmarshal(raw, &members); e != nil || members == nil {
		return h, refuse(InvalidRequest, "the header of the token is no JSON object")
	}
	for name, into := range map[string]*string{"alg": &h.Alg, "typ": &h.Typ, "kid": &h.Kid} {
		value, there := members[name]
		if !there {
			continue
		}
		if *into, e = text(value); e != nil || len(*into) > maxKeyID {
			return h, refuse(InvalidRequest, "%q of the token's header is no text that a SET can have", name)
		}
	}
	if _, there := members["crit"]; there {
		return h, refuse(InvalidRequest, `the token's header has "crit": nothing is understood there`)
	}
	if _, there := members["b64"]; there {
		return h, refuse(InvalidRequest, `the token's header has "b64"`)
	}
	return h, nil
}

// payloadOf gives the payload of a token that splitToken let pass, and whose signature nobody
// looks at. Without an algorithm there is no signature either (RFC 7515 appendix A.5).
func payloadOf(token []byte, h header) ([]byte, error) {
	_, rest, _ := bytes.Cut(token, []byte("."))
	encoded, signature, _ := bytes.Cut(rest, []byte("."))
	switch {
	case h.Alg == "":
		return nil, refuse(InvalidRequest, `"alg" of the token's header is missing`)
	case (h.Alg == "none") != (len(signature) == 0):
		return nil, refuse(InvalidRequest, `a token of the algorithm "none" has no signature, and every other has one`)
	}
	payload, err := base64.RawURLEncoding.AppendDecode(nil, encoded)
	if err != nil {
		return nil, refuse(InvalidRequest, "the payload of the token is no base64url")
	}
	return payload, nil
}

// isSET reports whether a typ says that a token is a SET: explicit typing, RFC 8417
// section 2.3. Case and the prefix application/ mean nothing (RFC 7515 section 4.1.9).
func isSET(typ string) bool {
	typ = strings.ToLower(typ)
	return strings.TrimPrefix(typ, "application/") == "secevent+jwt"
}

// parseClaims reads the payload of a token of this issuer, whose signature is good.
func (i *Issuer) parseClaims(payload []byte) (*SET, *Error) {
	var claims map[string]jsontext.Value
	if err := json.Unmarshal(payload, &claims); err != nil || claims == nil {
		return nil, refuse(InvalidRequest, "the payload is no JSON object with distinct members").because(err)
	}
	s := &SET{}
	if err := i.checkParties(s, claims); err != nil {
		return nil, err
	}
	var err error
	if s.ID, err = text(claims["jti"]); err != nil || s.ID == "" || len(s.ID) > maxClaim {
		return nil, refuse(InvalidRequest, `"jti": want a text of 1 to %d bytes`, maxClaim)
	}
	if s.IssuedAt, err = numericDate(claims["iat"]); err != nil {
		return nil, refuse(InvalidRequest, `"iat": %v`, err)
	}
	if raw, there := claims["toe"]; there {
		if s.Occurred, err = numericDate(raw); err != nil {
			return nil, refuse(InvalidRequest, `"toe": %v`, err)
		}
	}
	if raw, there := claims["txn"]; there {
		if s.Transaction, err = text(raw); err != nil || len(s.Transaction) > maxClaim {
			return nil, refuse(InvalidRequest, `"txn": want a text of at most %d bytes`, maxClaim)
		}
	}
	for _, name := range []string{"exp", "sub"} {
		if _, there := claims[name]; there {
			return nil, refuse(InvalidRequest, `"%s" has no place in a SET (SSF 1.0 section 4.1): it may be another token`, name)
		}
	}
	if err := i.parseEvents(s, claims["events"]); err != nil {
		return nil, err
	}
	if err := i.parseSubjectOf(s, claims); err != nil {
		return nil, err
	}
	return s, nil
}

// checkParties checks who sends the SET and to whom.
func (i *Issuer) checkParties(s *SET, claims map[string]jsontext.Value) *Error {
	var err error
	if s.Issuer, err = text(claims["iss"]); err != nil {
		return refuse(InvalidIssuer, `"iss" is missing or no text`)
	}
	if s.Issuer != i.cfg.Issuer {
		return refuse(InvalidIssuer, `"iss" is %q, not %q`, clip(s.Issuer), clip(i.cfg.Issuer))
	}
	raw, audience := claims["aud"], []string(nil)
	if raw.Kind() == '"' {
		audience = make([]string, 1)
		audience[0], err = text(raw)
	} else if err = json.Unmarshal(raw, &audience); len(audience) > maxAud {
		return refuse(InvalidAudience, `"aud" has more than %d members`, maxAud)
	}
	if err != nil || !slices.ContainsFunc(audience, func(a string) bool { return slices.Contains(i.cfg.Audience, a) }) {
		return refuse(InvalidAudience, `"aud" does not name this receiver`)
	}
	return nil
}

func (i *Issuer) parseEvents(s *SET, raw jsontext.Value) *Error {
	var events map[string]jsontext.Value
	if raw.Kind() != '{' || json.Unmarshal(raw, &events) != nil || len(events) == 0 {
		return refuse(InvalidRequest, `"events": want an object with an event`)
	}
	if len(events) > i.cfg.MaxEvents {
		return refuse(InvalidRequest, `"events" has %d events, more than %d`, len(events), i.cfg.MaxEvents)
	}
	for uri, body := range events {
		e, err := parseEvent(uri, body)
		if err != nil {
			return refuse(InvalidRequest, "%v", err)
		}
		if i.cfg.Interop && (uri == CAEP+"session-revoked" || uri == CAEP+"credential-change") && e.texts["reason_admin"] == "" {
			return refuse(InvalidRequest, `%s: "reason_admin" is missing or empty (CAEP interoperability profile, section 3)`, short(uri))
		}
		s.Events = append(s.Events, e)
	}
	slices.SortFunc(s.Events, func(a, b Event) int { return strings.Compare(a.Type, b.Type) })
	return nil
}

// parseSubjectOf reads sub_id or, of a legacy transmitter and where there is none, the
// subject within the event.
func (i *Issuer) parseSubjectOf(s *SET, claims map[string]jsontext.Value) *Error {
	raw, there := claims["sub_id"]
	if !there && i.cfg.Legacy {
		for j := range s.Events {
			if s.Events[j].subject != nil {
				raw, there = s.Events[j].subject, true
				break
			}
		}
	}
	if !there {
		return refuse(InvalidRequest, `"sub_id" is missing`)
	}
	var err error
	if s.Subject, err = parseSubject(raw, i.cfg.Legacy); err != nil {
		return refuse(InvalidRequest, `"sub_id": %v`, err)
	}
	return nil
}

// numericDate reads a NumericDate (RFC 7519 section 2) up to the year 9999.
func numericDate(raw jsontext.Value) (authz.Instant, error) {
	f, err := number(raw)
	if err != nil {
		return 0, err
	}
	if f > lastSecond {
		return 0, errNotSeconds
	}
	return instantOf(f), nil
}

const lastSecond = 253402300799

type notSeconds struct{}

func (notSeconds) Error() string { return "it is after the year 9999; are these milliseconds?" }

var errNotSeconds = notSeconds{}

// instantOf gives the instant of seconds since 1970, to the microsecond, for a float64 of
// today's seconds holds no more.
func instantOf(seconds float64) authz.Instant {
	whole, fraction := math.Modf(min(seconds, lastSecond))
	return authz.InstantOf(time.Unix(int64(whole), int64(fraction*1e6)*1000))
}
