package decision

import (
	"strings"

	"github.com/valyala/fasthttp"

	"vigil/authzen"
)

// metadata answers with the PDP's metadata (section 9 of the standard). Without a public
// URL it is that of the request, whose Host was checked.
func (s *Server) metadata(ctx *fasthttp.RequestCtx) {
	base := s.cfg.PublicURL
	if base == "" {
		scheme := "http://"
		if ctx.IsTLS() {
			scheme = "https://"
		}
		base = scheme + strings.ToLower(string(ctx.Host()))
	}
	out := append([]byte(nil), `{"policy_decision_point":`...)
	out = authzen.AppendString(out, base)
	out = append(out, `,"access_evaluation_endpoint":`...)
	out = authzen.AppendString(out, base+pathEvaluation)
	out = append(out, `,"access_evaluations_endpoint":`...)
	out = authzen.AppendString(out, base+pathEvaluations)
	out = append(out, '}')
	h := &ctx.Response.Header
	h.SetContentTypeBytes(valueJSON)
	h.SetCanonical(headerCacheControl, valueNoStore)
	ctx.SetBody(out)
}

// readyz says whether requests for decisions should come here. With ?strict it also fails
// for what hits all replicas alike.
func (s *Server) readyz(ctx *fasthttp.RequestCtx) {
	why := s.unavailable()
	if why == nil && s.draining.Load() {
		why = errStopping
	}
	if why == nil && ctx.QueryArgs().Has("strict") {
		why = s.cfg.Strict()
	}
	if why != nil {
		noDecision(ctx, "not ready: "+why.Error())
		return
	}
	text(ctx, fasthttp.StatusOK, "ready")
}
