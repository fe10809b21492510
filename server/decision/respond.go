package decision

import (
	"unsafe"

	"github.com/valyala/fasthttp"

	"vigil/authz"
	"vigil/authzen"
)

// What is answered where the engine could not be asked. They are immutable.
var (
	faultDecision = &authz.Decision{
		Effect: authz.Deny, Class: authz.ClassError, Code: authz.CouldNotEvaluate,
		ReasonUser: "Not permitted.", ReasonAdmin: "a fault in the engine; its log has the stack",
	}
	unavailableDecision = &authz.Decision{
		Effect: authz.Deny, Class: authz.ClassError, Code: Unavailability,
		ReasonUser: "Not permitted.", ReasonAdmin: "no decision can be made now: starting, stopping or overloaded",
	}
)

// Unavailability is the code of answers that only stand in for a decision (see
// UnavailableDeny).
const Unavailability authz.Code = "unavailable"

// staleDecision denies because the view is not as new as the caller demands.
func staleDecision(why string) *authz.Decision {
	return &authz.Decision{
		Effect: authz.Deny, Class: authz.ClassStale, Code: authz.StaleView,
		ReasonUser: "Not permitted.", ReasonAdmin: "Vigil-At-Least: " + why,
	}
}

var (
	headerCacheControl = []byte("Cache-Control")
	valueNoStore       = []byte("no-store")
	valueJSON          = []byte("application/json")
)

// begin sets what every answer with a decision has besides its request id.
func begin(ctx *fasthttp.RequestCtx) {
	h := &ctx.Response.Header
	h.SetContentTypeBytes(valueJSON)
	h.SetCanonical(headerCacheControl, valueNoStore)
}

// text answers with a message: AuthZEN wants "an error message string".
func text(ctx *fasthttp.RequestCtx, status int, message string) {
	ctx.SetStatusCode(status)
	h := &ctx.Response.Header
	h.SetContentType("text/plain; charset=utf-8")
	h.SetCanonical(headerCacheControl, valueNoStore)
	h.Set(fasthttp.HeaderXContentTypeOptions, "nosniff")
	ctx.SetBodyString(message)
	ctx.Response.AppendBodyString("\n")
}

// noDecision answers that none can be made now.
func noDecision(ctx *fasthttp.RequestCtx, message string) {
	ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, "1")
	text(ctx, fasthttp.StatusServiceUnavailable, message)
}

// appendSame answers every item of a batch alike.
func appendSame(dst []byte, answer authz.Answer, batch *authzen.Batch, full bool) []byte {
	n := len(batch.Items)
	if batch.Semantic == authzen.DenyOnFirstDeny {
		n = min(n, 1)
	}
	dst = authzen.OpenBatch(dst)
	for i := range n {
		dst = authzen.AppendDecision(authzen.Separate(dst, i), answer, full)
	}
	return authzen.CloseBatch(dst)
}

// alias makes a string of b without copying. It lives as long as b.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
