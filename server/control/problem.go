package control

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json"

	"vigil/rules"
	"vigil/signals"
)

// problem is an error on its way to the client.
type problem struct {
	Problem
	// retry is the Retry-After in seconds; 0 for none.
	retry int
	// challenge is the WWW-Authenticate of a 401 or 403.
	challenge string
	// allow is the Allow of a 405.
	allow string
	// cause is for the log, never for the client.
	cause error
}

func (p *problem) Error() string { return p.Code + ": " + p.Detail }

func (p *problem) Unwrap() error { return p.cause }

func fail(status int, code, detail string) *problem {
	return &problem{Problem: Problem{Status: status, Title: http.StatusText(status), Code: code, Detail: detail}}
}

func (p *problem) because(err error) *problem {
	p.cause = err
	return p
}

func (p *problem) retryAfter(seconds int) *problem {
	p.retry = seconds
	return p
}

func (p *problem) allowing(methods string) *problem {
	p.allow = methods
	return p
}

func badParameter(name, detail string) *problem {
	return fail(http.StatusBadRequest, CodeBadParameter, name+": "+detail)
}

func busy(what string) *problem {
	return fail(http.StatusTooManyRequests, CodeBusy, what+"; nothing was done, try again").retryAfter(1)
}

func starting(what string) *problem {
	return fail(http.StatusServiceUnavailable, CodeStarting, what).retryAfter(1)
}

// write sends p. Whatever the handler had put in the header of an answer stays out of it,
// but for the request id.
func (p *problem) write(w http.ResponseWriter, requestID string) {
	body := p.Problem
	body.RequestID = requestID
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	if p.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retry))
	}
	if p.allow != "" {
		h.Set("Allow", p.allow)
	}
	if p.challenge != "" {
		h.Set("WWW-Authenticate", p.challenge)
	}
	encoded, err := json.Marshal(&body, encoding)
	if err != nil { // not with these types
		encoded = []byte(`{"status":` + strconv.Itoa(p.Status) + `,"title":"","code":"` + p.Code + `"}`)
	}
	h.Set("Content-Length", strconv.Itoa(len(encoded)))
	w.WriteHeader(p.Status)
	_, _ = w.Write(encoded)
}

// ofPush says what an error of Intake.Push means for the sender: above all whether
// anything was written.
func ofPush(err error) *problem {
	var (
		decode  *signals.DecodeError
		refused *signals.RefusedError
		used    *signals.ConflictError
	)
	switch {
	case errors.As(err, &decode):
		status := http.StatusBadRequest
		if decode.Code == CodeTooLarge && decode.Pointer == "" { // the body, not a member of it
			status = http.StatusRequestEntityTooLarge
		}
		p := fail(status, decode.Code, decode.Detail)
		p.Pointer = decode.Pointer
		return p
	case errors.As(err, &refused):
		p := fail(http.StatusForbidden, CodeRefused, refused.Detail)
		p.Pointer = refused.Pointer
		return p
	case errors.As(err, &used):
		p := fail(http.StatusConflict, CodeConflict, err.Error())
		p.Pointer = used.Pointer
		return p
	case errors.Is(err, signals.ErrConflict):
		return fail(http.StatusConflict, CodeConflict, err.Error())
	case errors.Is(err, signals.ErrOverloaded):
		return busy(signals.ErrOverloaded.Error()).because(err)
	case errors.Is(err, signals.ErrUnavailable):
		return fail(http.StatusServiceUnavailable, CodeUnavailable,
			signals.ErrUnavailable.Error()+"; nothing was written").retryAfter(1).because(err)
	}
	// Of any other error, a cancelled context included, it is not known how far the push
	// had come. The sender must not take it for a no.
	return unknownOutcome().because(err)
}

// ofAtLeast says what an error of Feed.WaitApplied means.
func ofAtLeast(err error) *problem {
	switch {
	case errors.Is(err, signals.ErrBadAsOf):
		return fail(http.StatusBadRequest, CodeBadAsOf, "Vigil-At-Least: "+err.Error())
	case errors.Is(err, signals.ErrOtherLog):
		return fail(http.StatusConflict, CodeOtherLog, "Vigil-At-Least: "+err.Error())
	case errors.Is(err, signals.ErrOverloaded):
		return busy("too many requests wait for a position").because(err)
	}
	return fail(http.StatusServiceUnavailable, CodeNotReached, "Vigil-At-Least: "+err.Error()).
		retryAfter(1).because(err)
}

func unknownOutcome() *problem {
	return fail(http.StatusGatewayTimeout, CodeUnknownOutcome,
		signals.ErrUnknownOutcome.Error()+"; sending it again with the same id is safe")
}

// ofReload says what an error of Rules.Reload means. digest is that of the rules in use.
func ofReload(err error, digest string) *problem {
	var (
		broken   rules.Errors
		mismatch *DigestError
		p        *problem
	)
	switch {
	case errors.As(err, &broken):
		p = fail(http.StatusUnprocessableEntity, CodeBrokenBundle,
			strconv.Itoa(len(broken))+" errors in the bundle; the rules in use stay")
		if len(broken) == 1 {
			p.Detail = "1 error in the bundle; the rules in use stay"
		}
		p.Errors = ruleProblems(broken)
	case errors.As(err, &mismatch):
		p = fail(http.StatusConflict, CodeDigestMismatch, mismatch.Error()+"; the rules in use stay")
		p.Pointer = "/expect"
	default:
		p = fail(http.StatusServiceUnavailable, CodeUnavailable, err.Error()+"; the rules in use stay")
	}
	p.Digest = digest
	return p.because(err)
}

func ruleProblems(errs rules.Errors) []RuleProblem {
	out := make([]RuleProblem, len(errs))
	for i, e := range errs {
		out[i] = RuleProblem{
			File: e.Pos.File, Line: e.Pos.Line, Column: e.Pos.Column,
			Rule: e.Rule, Message: e.Message, Caret: e.Caret,
		}
	}
	return out
}
