package ssf

import (
	"errors"
	"fmt"
)

// The codes of an Error. RFC 8935 section 2.4 names them; SSF 1.0 section 8.1.4.1 adds
// the last.
const (
	InvalidRequest       = "invalid_request"       // it is no SET, or not one of this profile
	InvalidKey           = "invalid_key"           // its key or algorithm is not acceptable
	InvalidIssuer        = "invalid_issuer"        // "iss" is another
	InvalidAudience      = "invalid_audience"      // "aud" is somebody else
	AuthenticationFailed = "authentication_failed" // its signature, or its sender, is not authentic
	AccessDenied         = "access_denied"         // its issuer may not say that
	InvalidState         = "invalid_state"         // a verification that was not asked for
)

// Error is why a SET was refused for good: sending it again is in vain.
type Error struct {
	Code        string // one of the codes above
	Description string // for the people of the transmitter; without secrets
	cause       error
}

func (e *Error) Error() string { return e.Code + ": " + e.Description }

func (e *Error) Unwrap() error { return e.cause }

func refuse(code, format string, args ...any) *Error {
	return &Error{Code: code, Description: fmt.Sprintf(format, args...)}
}

func (e *Error) because(err error) *Error {
	e.cause = err
	return e
}

// ErrTemporary: the SET can be neither taken nor refused now. The transmitter keeps it
// and sends it again.
var ErrTemporary = errors.New("the event cannot be taken now")

func temporary(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrTemporary, fmt.Errorf(format, args...))
}

// clip bounds what an error or a log line repeats of what came from outside.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	for i := range s { // at a rune
		if i > most-4 {
			return s[:i] + "…"
		}
	}
	return s
}
