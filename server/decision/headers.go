package decision

import (
	"bytes"
	"mime"
	"net/netip"
	"strings"

	"github.com/valyala/fasthttp"

	"vigil/signals"
)

const (
	maxRequestID = 200 // bytes
	maxAtLeast   = signals.MaxAsOf
)

// headers are what a request says besides its body. They alias its buffers.
type headers struct {
	authorization, requestID, atLeast, traceparent, origin []byte

	encoded   bool // with a Content-Encoding other than identity
	forwarded bool // a proxy says that it speaks for somebody else
	twice     uint8
}

// Headers that came twice. Which of the two would count is anybody's guess.
const (
	twiceAuthorization uint8 = 1 << iota
	twiceRequestID
	twiceAtLeast
)

// read takes the headers in one pass. Fields of a trailer are not among them.
func (h *headers) read(from *fasthttp.RequestHeader) {
	*h = headers{}
	for name, value := range from.All() {
		switch string(name) {
		case "Authorization":
			if h.authorization != nil {
				h.twice |= twiceAuthorization
			}
			h.authorization = present(value)
		case "X-Request-Id":
			if h.requestID != nil {
				h.twice |= twiceRequestID
			}
			h.requestID = present(value)
		case "Vigil-At-Least":
			if h.atLeast != nil {
				h.twice |= twiceAtLeast
			}
			h.atLeast = present(value)
		case "Traceparent":
			h.traceparent = value
		case "Origin":
			h.origin = present(value)
		case "Forwarded", "X-Forwarded-For":
			h.forwarded = true
		case "Content-Encoding":
			h.encoded = h.encoded || !strings.EqualFold(alias(value), "identity")
		}
	}
}

// present makes an empty value different from an absent one.
func present(value []byte) []byte {
	if value == nil {
		return []byte{}
	}
	return value
}

// traceID gives the trace id of a traceparent (W3C Trace Context), or nothing.
func (h *headers) traceID() []byte {
	t := h.traceparent
	if len(t) < 55 || t[2] != '-' || t[35] != '-' {
		return nil
	}
	for _, c := range t[3:35] {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return nil
		}
	}
	return t[3:35]
}

var headerRequestID = []byte("X-Request-Id")

// requestID puts the request's id, or a new one, into the answer. It reports whether the
// request's is fit: it cannot be echoed otherwise, and the standard demands that it is.
func (s *Server) requestID(ctx *fasthttp.RequestCtx, st *state) bool {
	id := st.headers.requestID
	if len(id) == 0 {
		st.made++
		st.id = append(st.id[:0], st.label...)
		st.id = appendBase36(st.id, st.made)
		id = st.id
	} else if len(id) > maxRequestID || st.headers.twice&twiceRequestID != 0 || !printable(id) {
		st.headers.requestID = nil
		return false
	}
	st.headers.requestID = id
	ctx.Response.Header.SetCanonical(headerRequestID, id)
	return true
}

func appendBase36(dst []byte, n uint64) []byte {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	var buf [13]byte
	i := len(buf)
	for {
		i--
		buf[i] = digits[n%36]
		if n /= 36; n == 0 {
			return append(dst, buf[i:]...)
		}
	}
}

func printable(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

var (
	applicationJSON = []byte("application/json")
	spelledOut      = []byte("application/json; charset=utf-8")
)

// isJSON reports whether a Content-Type is application/json, with or without parameters.
// A charset that is not UTF-8 makes it something else.
func isJSON(contentType []byte) bool {
	if bytes.Equal(contentType, applicationJSON) || bytes.EqualFold(contentType, spelledOut) {
		return true
	}
	media, params, err := mime.ParseMediaType(alias(contentType))
	if err != nil || media != "application/json" {
		return false
	}
	charset, named := params["charset"]
	return !named || strings.EqualFold(charset, "utf-8")
}

func hostSet(names []string) map[string]bool {
	set := map[string]bool{"localhost": true}
	for _, name := range names {
		set[strings.ToLower(strings.TrimSuffix(name, "."))] = true
	}
	return set
}

// knownHost reports whether the request was meant for this port: a page whose name was
// rebound to our address still says its own name. Addresses cannot be rebound.
func (s *Server) knownHost(st *state, host []byte) bool {
	if len(host) > 0 && bytes.Equal(host, st.lastHost) {
		return true // s.hosts does not change
	}
	if len(host) == 0 || len(host) > 255 || !s.allowed(alias(host)) {
		return false
	}
	st.lastHost = append(st.lastHost[:0], host...)
	return true
}

func (s *Server) allowed(host string) bool {
	if address, err := netip.ParseAddrPort(host); err == nil {
		return address.Addr().Zone() == ""
	}
	if address, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")); err == nil {
		return address.Zone() == ""
	}
	name, port, _ := strings.Cut(host, ":")
	for _, c := range []byte(port) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s.hosts[strings.ToLower(strings.TrimSuffix(name, "."))]
}

// sameOrigin reports whether the page that calls came from this very port.
func sameOrigin(ctx *fasthttp.RequestCtx) bool {
	scheme := "http://"
	if ctx.IsTLS() {
		scheme = "https://"
	}
	rest, ok := strings.CutPrefix(alias(ctx.Request.Header.Peek(fasthttp.HeaderOrigin)), scheme)
	return ok && strings.EqualFold(rest, alias(ctx.Host()))
}
