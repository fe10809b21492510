package control

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"vigil/authz"
	"vigil/server/credential"
)

// checkOrigin refuses what a browser sends on behalf of another site. A page can make
// names resolve to us (DNS rebinding), but then the Host header carries that name; and it
// cannot hide its Origin.
func (s *Server) checkOrigin(r *http.Request) error {
	if !s.ourHost(r.Host) {
		return fail(http.StatusMisdirectedRequest, CodeForbiddenHost,
			"this host name is not configured for the control port")
	}
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	for _, origin := range r.Header.Values("Origin") {
		if !strings.EqualFold(origin, scheme+r.Host) && !slices.Contains(s.cfg.Origins, origin) {
			return fail(http.StatusForbidden, CodeForbiddenOrigin, "requests from other sites are refused")
		}
	}
	return nil
}

// ourHost reports whether host, from a Host header, is an IP address, localhost or a
// configured name, with or without a port.
func (s *Server) ourHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return host == "localhost" || slices.ContainsFunc(s.cfg.Hosts, func(h string) bool {
		return strings.EqualFold(h, host)
	})
}

// authenticate says who is calling and whether they may call route. A request that
// carries an Authorization header is judged by it alone; else by its verified certificate.
func (s *Server) authenticate(c *call, route *route) (*credential.Client, error) {
	client, reason := s.identify(c.r)
	if client == nil {
		s.metrics.authFailures.WithLabelValues(reason).Inc()
		s.refused.warn("authentication failed", slog.String("reason", reason),
			slog.String("request_id", c.id), slog.String("route", route.name()),
			slog.String("remote", c.r.RemoteAddr))
		if reason == expiredCert {
			c.w.Header().Set("Connection", "close") // nothing more can come of it
		}
		p := fail(http.StatusUnauthorized, CodeUnauthenticated, authAdvice[reason])
		p.challenge = `Bearer realm="vigil"`
		if reason != noCredential {
			p.challenge += `, error="invalid_token"`
		}
		return nil, p
	}
	if route.scope != anyone && !client.May(route.scope) {
		s.metrics.authFailures.WithLabelValues("scope").Inc()
		s.refused.warn("client lacks a scope", slog.String("client", client.Name),
			slog.String("request_id", c.id), slog.String("route", route.name()))
		name := scopeName(route.scope)
		p := fail(http.StatusForbidden, CodeForbiddenScope,
			"client "+client.Name+" does not hold the scope "+name)
		p.challenge = `Bearer realm="vigil", error="insufficient_scope", scope="` + name + `"`
		return client, p
	}
	return client, nil
}

// Why nobody was recognized; also a label of vigil_control_auth_failures_total.
const (
	noCredential  = "missing"
	badCredential = "malformed"
	strangeToken  = "unknown_token"
	strangeCert   = "unknown_certificate"
	expiredCert   = "expired_certificate"
)

var authAdvice = map[string]string{
	noCredential:  "send a bearer token or a client certificate",
	badCredential: `the Authorization header is not "Bearer" and one token`,
	strangeToken:  "the token is not that of a configured client",
	expiredCert:   "the certificate has expired since the connection was opened",
	strangeCert:   "the certificate does not name a configured client",
}

func (s *Server) identify(r *http.Request) (client *credential.Client, reason string) {
	headers := r.Header.Values("Authorization")
	if len(headers) == 0 {
		// VerifiedChains is set only where the TLS configuration had the chain checked.
		if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.PeerCertificates) == 0 {
			return nil, noCredential
		}
		if !credential.InForce(r.TLS.VerifiedChains[0], s.cfg.Now().Time()) {
			return nil, expiredCert
		}
		return s.cfg.Clients.ByCertificate(r.TLS.PeerCertificates[0]), strangeCert
	}
	token, ok := credential.ParseBearer([]byte(headers[0]))
	if len(headers) > 1 || !ok {
		return nil, badCredential
	}
	return s.cfg.Clients.ByToken(token), strangeToken
}

// scopes in the words of the configuration.
var scopes = []struct {
	scope credential.Scope
	name  string
}{
	{credential.Decide, "decide"}, {credential.Signal, "signal"},
	{credential.Read, "read"}, {credential.Admin, "admin"},
}

func scopeName(s credential.Scope) string { return strings.Join(scopeNames(s), " ") }

func scopeNames(s credential.Scope) []string {
	names := []string{}
	for _, known := range scopes {
		if s&known.scope != 0 {
			names = append(names, known.name)
		}
	}
	return names
}

// tenants are those that c may read: the one of the query parameter, or all of its
// client's.
func (c *call) tenants(asked string) ([]string, error) {
	own := c.client.Caller.Tenants
	if asked == "" {
		return own, nil
	}
	if !slices.Contains(own, asked) {
		return nil, fail(http.StatusForbidden, CodeForbiddenTenant,
			"client "+c.client.Name+" may not see this tenant")
	}
	return []string{asked}, nil
}

// throttled logs at most ten lines a second, and how many it left out.
type throttled struct {
	log *slog.Logger
	now func() authz.Instant

	mu      sync.Mutex
	second  int64 // guarded by mu, as are the others; Unix time
	lines   int
	omitted int
}

const linesPerSecond = 10

func (t *throttled) warn(message string, attrs ...slog.Attr) {
	t.mu.Lock()
	second := int64(t.now()) / 1e9
	omitted := 0
	if second != t.second {
		omitted, t.second, t.lines, t.omitted = t.omitted, second, 0, 0
	}
	t.lines++
	write := t.lines <= linesPerSecond
	if !write {
		t.omitted++
	}
	t.mu.Unlock()
	if omitted > 0 {
		attrs = append(attrs, slog.Int("lines_omitted_before", omitted))
	}
	if write {
		t.log.LogAttrs(context.Background(), slog.LevelWarn, message, attrs...)
	}
}
