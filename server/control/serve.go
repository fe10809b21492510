package control

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vigil/server/credential"
	"vigil/signals"
)

// call is one request on its way through a handler.
type call struct {
	w      *answerWriter
	r      *http.Request
	id     string
	client *credential.Client // nil on open routes
	parts  *Parts             // nil on routes that do without
	ref    string             // the variable part of the path, unescaped
}

// handler answers a call, or returns an error before it has written anything. An error
// that is not a *problem is a defect.
type handler func(c *call) error

// serve takes every request through the same doors: who may speak to us at all, which
// route, who is asking, is the house furnished; then the handler.
func (s *Server) serve(rw http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	id, fit := requestID(r)
	c := &call{w: &answerWriter{ResponseWriter: rw, patience: s.cfg.Limits.WriteTime}, r: r, id: id}
	h := c.w.Header()
	h.Set("X-Request-ID", c.id)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if disputable(r) {
		h.Set("Connection", "close")
	}

	var match match
	var err error
	defer func() {
		if p := recover(); p != nil {
			err = s.recovered(c, match.route, p)
		}
		s.conclude(c, match.route, err, time.Since(begun))
		connectionOf(r).finished()
		if c.w.broken {
			panic(http.ErrAbortHandler) // the client must see that the answer is not whole
		}
	}()
	if !fit {
		err = fail(http.StatusBadRequest, CodeBadHeader, "X-Request-ID: want at most 200 printable ASCII characters, once")
	} else {
		match, err = s.admit(c)
	}
	if err == nil {
		err = match.route.handle(c)
	}
}

// disputable reports whether somebody in front of us may see another end of r than
// net/http does. That takes chunks and drops a Content-Length beside them, and in HTTP/1.0
// it drops Transfer-Encoding; neither can be seen any more. What follows r on its
// connection may then be part of its body, and must not be read as a request.
func disputable(r *http.Request) bool {
	return len(r.TransferEncoding) > 0 || !r.ProtoAtLeast(1, 1)
}

// admit opens the doors in front of a handler.
func (s *Server) admit(c *call) (match, error) {
	if err := s.checkOrigin(c.r); err != nil {
		return match{}, err
	}
	m, err := s.routes.match(c.r)
	if err != nil {
		return m, err
	}
	c.ref = m.ref
	if m.route.scope != open {
		if c.client, err = s.authenticate(c, m.route); err != nil {
			return m, err
		}
		connectionOf(c.r).recognized()
	}
	if !m.route.body && (c.r.ContentLength != 0 || len(c.r.TransferEncoding) > 0) {
		return m, fail(http.StatusBadRequest, CodeBadBody, "this request takes no body")
	}
	if m.route.furnished {
		if c.parts = s.parts.Load(); c.parts == nil {
			return m, starting("still starting: nothing is known yet")
		}
	}
	if m.route.furnished && !m.route.commits {
		if err := awaitPosition(c); err != nil {
			return m, err
		}
	}
	return m, nil
}

// recovered turns a panic into an answer. The stack goes to the log.
func (s *Server) recovered(c *call, route *route, p any) error {
	if p == http.ErrAbortHandler {
		c.w.broken = true
		return nil
	}
	s.cfg.Log.Error("panic in a handler", "request_id", c.id, "route", route.name(),
		"panic", p, "stack", string(debug.Stack()))
	s.metrics.panics.Inc()
	if route != nil && route.commits {
		return unknownOutcome()
	}
	return fail(http.StatusInternalServerError, CodeInternal, "a defect in Vigil; it is in the log")
}

// conclude writes the error, if there is one, and says in metrics and log how the call
// ended.
func (s *Server) conclude(c *call, route *route, err error, took time.Duration) {
	var p *problem
	if err != nil {
		switch known := errors.As(err, &p); {
		case known:
		case route != nil && route.commits:
			p = unknownOutcome().because(err)
		default:
			p = fail(http.StatusInternalServerError, CodeInternal, "a defect in Vigil; it is in the log").because(err)
		}
		if c.w.status != 0 {
			c.w.broken = true
		} else {
			if c.r.ContentLength != 0 && !c.w.bodyRead {
				c.w.Header().Set("Connection", "close") // do not wait for a body that nobody wants
			}
			p.write(c.w, c.id)
		}
	}
	s.metrics.request(route.name(), c.w.status)
	level := slog.LevelDebug
	if route != nil && route.commits {
		level = slog.LevelInfo
	}
	attrs := []slog.Attr{
		slog.String("request_id", c.id), slog.String("route", route.name()),
		slog.Int("status", c.w.status), slog.Int64("duration_us", took.Microseconds()),
	}
	if c.client != nil {
		attrs = append(attrs, slog.String("client", c.client.Name))
	}
	if p != nil {
		attrs = append(attrs, slog.String("code", p.Code))
		if p.Status >= 500 && p.cause != nil {
			level = slog.LevelError
			attrs = append(attrs, slog.String("error", p.cause.Error()))
		}
	}
	s.cfg.Log.LogAttrs(c.r.Context(), level, "control request", attrs...)
}

// encoding is how answers are written. Names come from outside and, in a broken bundle's
// messages, may be anything: what is not UTF-8 is replaced, not a reason for no answer.
var encoding = json.JoinOptions(json.Deterministic(true), jsontext.AllowInvalidUTF8(true))

// respond sends v as JSON.
func (c *call) respond(status int, v any) error {
	var buf bytes.Buffer
	if err := json.MarshalWrite(&buf, v, encoding); err != nil {
		return err
	}
	return c.send(status, "application/json", buf.Bytes())
}

// send sends a whole body.
func (c *call) send(status int, mediaType string, body []byte) error {
	h := c.w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	c.w.WriteHeader(status)
	_, _ = c.w.Write(body) // who no longer listens misses the answer, nothing else
	return nil
}

// answerWriter remembers what was sent.
type answerWriter struct {
	http.ResponseWriter
	status   int
	broken   bool // an answer was begun that cannot be finished
	bodyRead bool
	// patience is how long the client may take the answer, from its first byte on: the
	// server's own limit counts from the request, and slow work may have used it up. 0
	// leaves the limit as it is.
	patience time.Duration
}

func (w *answerWriter) WriteHeader(status int) {
	w.begin(status)
	w.ResponseWriter.WriteHeader(status)
}

func (w *answerWriter) Write(b []byte) (int, error) {
	w.begin(http.StatusOK)
	return w.ResponseWriter.Write(b)
}

func (w *answerWriter) begin(status int) {
	if w.status != 0 {
		return
	}
	w.status = status
	if w.patience > 0 {
		_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(w.patience))
	}
}

// Unwrap lets http.ResponseController find the deadlines and Flush.
func (w *answerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// maxRequestID bounds a request id, in bytes. It is that of the decision port.
const maxRequestID = 200

// requestID gives the client's X-Request-ID, or a random one where there is none. It
// reports false, beside a random one, where the client's is not fit to be repeated in a
// header and a log line.
func requestID(r *http.Request) (id string, ok bool) {
	ids := r.Header.Values("X-Request-Id")
	if len(ids) == 1 && printable(ids[0]) && len(ids[0]) <= maxRequestID {
		return ids[0], true
	}
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:]), len(ids) == 0
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

// awaitPosition waits until this replica is as new as the caller demands.
func awaitPosition(c *call) error {
	positions := c.r.Header.Values("Vigil-At-Least")
	switch {
	case len(positions) == 0:
		return nil
	case len(positions) > 1 || len(positions[0]) > signals.MaxAsOf:
		return fail(http.StatusBadRequest, CodeBadHeader, "Vigil-At-Least: want one as_of of an earlier answer")
	}
	if err := c.parts.Feed.WaitApplied(c.r.Context(), positions[0]); err != nil {
		return ofAtLeast(err)
	}
	return nil
}
