package decision

import (
	"errors"
	"log/slog"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"vigil/authz"
	"vigil/authzen"
	"vigil/engine"
	"vigil/server/credential"
	"vigil/server/recent"
)

// The paths of the port. Nothing else is served.
const (
	pathEvaluation  = "/access/v1/evaluation"
	pathEvaluations = "/access/v1/evaluations"
	pathMetadata    = "/.well-known/authzen-configuration"
	pathReady       = "/readyz"
)

var errStopping = errors.New("shutting down")

// state is the memory of one request, kept for the next one. Nothing in it outlives the
// handler: strings in it alias fasthttp's buffers.
type state struct {
	shard   *shard
	headers headers
	id      []byte // request id, where it was generated
	label   []byte // the constant part of generated ids
	made    uint64 // ids generated so far

	decoder    authzen.Decoder
	principal  authz.Principal
	principals []authz.Principal // of a batch
	items      []engine.Item
	answers    []authz.Answer
	out        []byte
	event      recent.Event
	lastHost   []byte // the last Host that was found good

	// What a panic is answered by.
	deciding bool
	batch    *authzen.Batch
	full     bool
	flying   bool // counted in inFlight
	crowded  bool // one too many of those
}

// maxKept is how many bytes of a kind a state keeps for the next request.
const maxKept = 256 << 10

func (s *Server) newState() *state {
	n := s.numStates.Add(1)
	st := &state{shard: &s.shards[n%numShards]}
	st.label = append(st.label, s.prefix...)
	st.label = append(st.label, '-')
	st.label = strconv.AppendUint(st.label, uint64(n), 36)
	st.label = append(st.label, '-')
	st.decoder.MaxItems = s.cfg.Limits.Items
	return st
}

// release gives st back, unless it has grown by a rare request.
func (s *Server) release(st *state) {
	if st.decoder.Retained() > maxKept || cap(st.out) > maxKept || cap(st.principals) > 128 {
		return
	}
	s.states.Put(st)
}

// handle answers one request. It is on the hot path: with a cached decision it must not
// allocate, take a lock or start anything.
func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	started := s.elapsed()
	st := s.states.Get().(*state)
	st.deciding, st.batch, st.full, st.flying, st.crowded = false, nil, false, false, false
	defer s.finish(ctx, st, started)
	if l := linkOf(ctx.Conn()); l != nil {
		l.busy.Store(true)
		if !l.used.Load() {
			l.used.Store(true)
		}
	}
	s.route(ctx, st, started)
}

// finish counts the request, answers it where the handler panicked, and gives st back.
// After a panic nobody knows what st holds, so it is left to the collector.
func (s *Server) finish(ctx *fasthttp.RequestCtx, st *state, started time.Duration) {
	fault := recover()
	if fault != nil {
		s.panicked(ctx, st, fault)
	}
	if st.flying {
		s.inFlight.Add(-1)
	}
	if s.draining.Load() {
		ctx.SetConnectionClose()
	}
	st.shard.responded(ctx.Response.StatusCode())
	if st.deciding {
		st.shard.took(s.elapsed() - started)
	}
	if fault == nil {
		s.release(st)
	}
}

// panicked answers no: a fault must not become an outage, nor a yes.
func (s *Server) panicked(ctx *fasthttp.RequestCtx, st *state, fault any) {
	st.shard.panics.Add(1)
	s.cfg.Logger.Error("panic while answering a request; it was denied",
		slog.Any("panic", fault), slog.String("stack", string(debug.Stack())))
	ctx.Response.Reset()
	if st.headers.requestID != nil {
		ctx.Response.Header.SetCanonical(headerRequestID, st.headers.requestID)
	}
	if !st.deciding {
		text(ctx, fasthttp.StatusInternalServerError, "internal_error: the fault is in the log")
		return
	}
	answer := authz.Answer{Decision: faultDecision}
	st.shard.decided(faultDecision)
	begin(ctx)
	if st.batch == nil || st.batch.Single {
		ctx.SetBody(authzen.AppendDecision(nil, answer, st.full))
		return
	}
	ctx.SetBody(appendSame(nil, answer, st.batch, st.full))
}

// route finds who answers. What is wrong with a call is told in this order: where it was
// sent, what was called, who calls, and only then what it says.
func (s *Server) route(ctx *fasthttp.RequestCtx, st *state, started time.Duration) {
	h := &st.headers
	h.read(&ctx.Request.Header)
	if !s.requestID(ctx, st) {
		text(ctx, fasthttp.StatusBadRequest, "bad_header: X-Request-ID: want at most 200 printable ASCII characters, once")
		return
	}
	path, host := target(ctx)
	link := linkOf(ctx.Conn())
	if !(link != nil && link.unix) && !s.knownHost(st, host) {
		text(ctx, fasthttp.StatusMisdirectedRequest, "foreign_host: this is not a host that the port serves; see the setting decision.hosts")
		return
	}
	if h.origin != nil && !sameOrigin(ctx) {
		text(ctx, fasthttp.StatusForbidden, "foreign_origin: pages of other origins may not call")
		return
	}
	post, get := ctx.IsPost(), ctx.IsGet() || ctx.IsHead()
	switch string(path) {
	case pathEvaluation:
		if post {
			s.evaluation(ctx, st, started)
			return
		}
		ctx.Response.Header.Set(fasthttp.HeaderAllow, "POST")
	case pathEvaluations:
		if post {
			s.evaluations(ctx, st, started)
			return
		}
		ctx.Response.Header.Set(fasthttp.HeaderAllow, "POST")
	case pathMetadata:
		if get {
			s.metadata(ctx)
			return
		}
		ctx.Response.Header.Set(fasthttp.HeaderAllow, "GET, HEAD")
	case pathReady:
		if get {
			s.readyz(ctx)
			return
		}
		ctx.Response.Header.Set(fasthttp.HeaderAllow, "GET, HEAD")
	default:
		text(ctx, fasthttp.StatusNotFound, "not_found: the decision port has "+pathEvaluation+", "+pathEvaluations+", "+pathMetadata+" and "+pathReady)
		return
	}
	text(ctx, fasthttp.StatusMethodNotAllowed, "method_not_allowed: see the header Allow")
}

// target is the path and the host that were called. The usual form of a target, a path
// that the port has, needs no parsing, and then the host is that of its header.
func target(ctx *fasthttp.RequestCtx) (path, host []byte) {
	switch uri := ctx.Request.Header.RequestURI(); string(uri) {
	case pathEvaluation, pathEvaluations:
		return uri, ctx.Request.Header.Host()
	}
	return ctx.URI().PathOriginal(), ctx.Host()
}

// identify says who calls. A call with an Authorization header is judged by it alone,
// else by its certificate; only a local call without either is anonymous. One that came
// through a proxy is not local, whatever its connection: who sent it is elsewhere.
func (s *Server) identify(ctx *fasthttp.RequestCtx, st *state) *credential.Client {
	h := &st.headers
	if h.authorization != nil {
		token, ok := credential.ParseBearer(h.authorization)
		if !ok || h.twice&twiceAuthorization != 0 {
			return nil
		}
		return s.cfg.Credentials.ByToken(token)
	}
	if c, ok := ctx.Conn().(*secureConn); ok {
		if chain := c.certificates(); chain != nil {
			if !credential.InForce(chain, s.cfg.Now().Time()) { // the connection outlived it
				ctx.SetConnectionClose()
				return nil
			}
			return s.cfg.Credentials.ByCertificate(chain[0])
		}
	}
	if l := linkOf(ctx.Conn()); l != nil && l.local && !h.forwarded {
		return s.cfg.Credentials.Anonymous()
	}
	return nil
}

// admit does everything that comes before the body is looked at. It returns nil where it
// has answered.
func (s *Server) admit(ctx *fasthttp.RequestCtx, st *state) *credential.Client {
	client := s.identify(ctx, st)
	if client == nil {
		s.unauthenticated(ctx, st)
		return nil
	}
	if l := linkOf(ctx.Conn()); l != nil && !l.known.Load() {
		l.known.Store(true)
	}
	if !client.May(credential.Decide) {
		ctx.Response.Header.Set(fasthttp.HeaderWWWAuthenticate, `Bearer realm="vigil", error="insufficient_scope", scope="decide"`)
		text(ctx, fasthttp.StatusForbidden, "missing_scope: the client does not hold the scope decide")
		return nil
	}
	st.full = client.Caller.Full
	switch h := &st.headers; {
	case !isJSON(ctx.Request.Header.ContentType()):
		text(ctx, fasthttp.StatusBadRequest, "bad_content_type: want application/json")
	case h.encoded:
		text(ctx, fasthttp.StatusUnsupportedMediaType, "content_encoding: bodies are taken only as they are (identity)")
	case h.twice&twiceAtLeast != 0 || len(h.atLeast) > maxAtLeast:
		text(ctx, fasthttp.StatusBadRequest, "bad_header: Vigil-At-Least: want one as_of of an earlier answer")
	default:
		return client
	}
	return nil
}

func (s *Server) unauthenticated(ctx *fasthttp.RequestCtx, st *state) {
	challenge, message := `Bearer realm="vigil"`, "unauthenticated: send a bearer token or a client certificate"
	if st.headers.authorization != nil {
		challenge += `, error="invalid_token"`
		message = "unauthenticated: the Authorization header does not carry the token of a configured client"
	}
	ctx.Response.Header.Set(fasthttp.HeaderWWWAuthenticate, challenge)
	text(ctx, fasthttp.StatusUnauthorized, message)
}

// unreadable answers what fasthttp could not read as a request.
func (s *Server) unreadable(ctx *fasthttp.RequestCtx, err error) {
	status, message := fasthttp.StatusBadRequest, "bad_request: this is not an HTTP/1.1 request"
	var small *fasthttp.ErrSmallBuffer
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		status = fasthttp.StatusRequestEntityTooLarge
		message = "too_large: want a body of at most " + strconv.Itoa(s.cfg.Limits.Body) + " bytes"
	case errors.As(err, &small):
		status = fasthttp.StatusRequestHeaderFieldsTooLarge
		message = "too_large: want a header of less than " + strconv.Itoa(s.cfg.Limits.Header) + " bytes"
	case errors.As(err, &timeout) && timeout.Timeout():
		status, message = fasthttp.StatusRequestTimeout, "timeout: the request did not come to its end"
	}
	text(ctx, status, message)
	s.shards[0].responded(status)
}
