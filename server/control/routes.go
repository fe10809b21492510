package control

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"vigil/server/credential"
)

const (
	// open marks a route that asks for no credential.
	open credential.Scope = 0
	// anyone marks a route for every client, whatever its scopes.
	anyone credential.Scope = 1 << 7
)

// route is one method of one path.
type route struct {
	method string
	path   string // as in docs/openapi.yaml; a variable part "{…}" is last and takes the rest
	scope  credential.Scope
	body   bool // the request may carry a body
	// furnished: the handler needs Parts.
	furnished bool
	// commits: the request changes something. It is logged, and a crash leaves its outcome
	// unknown.
	commits bool
	handle  handler
}

func (r *route) name() string {
	if r == nil {
		return "none"
	}
	return r.method + " " + r.path
}

// table is every route of the port. docs/openapi.yaml lists the same ones.
func (s *Server) table() []*route {
	table := []*route{
		{method: "POST", path: "/v1/signals", scope: credential.Signal, body: true, furnished: true, commits: true, handle: s.pushSignals},
		{method: "GET", path: "/v1/signals/{id}", scope: credential.Read, furnished: true, handle: s.getSignal},
		{method: "POST", path: "/v1/dry-run", scope: credential.Signal, body: true, furnished: true, handle: s.dryRun},
		{method: "GET", path: "/v1/events", scope: credential.Read, handle: s.getEvents},
		{method: "POST", path: "/v1/events/{issuer}", scope: open, body: true, furnished: true, commits: true, handle: s.pushEvents},
		{method: "GET", path: "/v1/entities", scope: credential.Read, furnished: true, handle: s.listEntities},
		{method: "GET", path: "/v1/entities/{ref}", scope: credential.Read, furnished: true, handle: s.getEntity},
		{method: "GET", path: "/v1/history/{ref}", scope: credential.Read, furnished: true, handle: s.getHistory},
		{method: "GET", path: "/v1/tail", scope: credential.Read, furnished: true, handle: s.follow},
		{method: "GET", path: "/v1/explain", scope: credential.Read, furnished: true, handle: s.explainRecorded},
		{method: "POST", path: "/v1/explain", scope: credential.Read, body: true, furnished: true, handle: s.explainRequest},
		{method: "GET", path: "/v1/decisions", scope: credential.Read, furnished: true, handle: s.listDecisions},
		{method: "GET", path: "/v1/rules", scope: credential.Read, furnished: true, handle: s.getRules},
		{method: "POST", path: "/v1/rules/reload", scope: credential.Admin, body: true, furnished: true, commits: true, handle: s.reloadRules},
		{method: "GET", path: "/v1/whoami", scope: anyone, handle: s.whoami},
		{method: "GET", path: "/v1/position", scope: anyone, furnished: true, handle: s.getPosition},
		{method: "GET", path: "/v1/status", scope: credential.Read, handle: s.getStatus},
		{method: "GET", path: "/v1/snapshot", scope: credential.Admin, furnished: true, handle: s.getSnapshot},
		{method: "GET", path: "/metrics", scope: credential.Read, handle: s.getMetrics},
		{method: "GET", path: "/livez", scope: open, handle: s.livez},
		{method: "GET", path: "/readyz", scope: open, handle: s.readyz},
		{method: "GET", path: "/v1/schemas/signal", scope: anyone, handle: s.getSignalSchema},
		{method: "GET", path: "/openapi.yaml", scope: credential.Read, handle: s.getOpenAPI},
	}
	if s.cfg.Pprof {
		table = append(table,
			&route{method: "GET", path: "/debug/pprof/{profile}", scope: credential.Admin, handle: s.profile})
	}
	return table
}

// router finds the route of a request. Unlike http.ServeMux it never redirects: a POST
// that is redirected may be lost, and an id may hold any character.
type router struct {
	fixed    map[string]map[string]*route // path → method
	prefixes []prefixRoutes
}

type prefixRoutes struct {
	prefix  string
	methods map[string]*route
}

type match struct {
	route *route
	ref   string
}

func newRouter(s *Server) *router {
	r := &router{fixed: make(map[string]map[string]*route)}
	byPrefix := make(map[string]map[string]*route)
	for _, entry := range s.table() {
		into, path := r.fixed, entry.path
		if prefix, _, variable := strings.Cut(entry.path, "{"); variable {
			into, path = byPrefix, prefix
		}
		if into[path] == nil {
			into[path] = make(map[string]*route)
		}
		into[path][entry.method] = entry
	}
	for prefix, methods := range byPrefix {
		r.prefixes = append(r.prefixes, prefixRoutes{prefix, methods})
	}
	return r
}

func (r *router) match(req *http.Request) (match, error) {
	path := req.URL.EscapedPath()
	methods, rest := r.fixed[path], ""
	if methods == nil {
		for _, p := range r.prefixes {
			if tail, ok := strings.CutPrefix(path, p.prefix); ok {
				methods, rest = p.methods, tail
				break
			}
		}
	}
	if methods == nil {
		return match{}, fail(http.StatusNotFound, CodeNotFound, "there is nothing at this path")
	}
	method := req.Method
	if method == http.MethodHead {
		method = http.MethodGet // net/http leaves the body out
	}
	route := methods[method]
	if route == nil {
		return match{}, fail(http.StatusMethodNotAllowed, CodeMethodNotAllowed,
			"this path takes "+allowed(methods)).allowing(allowed(methods))
	}
	ref, err := url.PathUnescape(rest)
	if err != nil {
		return match{route: route}, fail(http.StatusBadRequest, CodeBadReference, err.Error())
	}
	return match{route, ref}, nil
}

func allowed(methods map[string]*route) string {
	var all []string
	for m := range methods {
		all = append(all, m)
		if m == http.MethodGet {
			all = append(all, http.MethodHead)
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// parameters reads the query, which may hold the named parameters, each at most once.
func parameters(r *http.Request, names ...string) (map[string]string, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fail(http.StatusBadRequest, CodeBadParameter, err.Error())
	}
	got := make(map[string]string, len(query))
	for _, name := range slices.Sorted(maps.Keys(query)) {
		switch values := query[name]; {
		case !slices.Contains(names, name):
			p := badParameter(name, "unknown; this path takes "+orNone(names))
			p.Nearest = nearestOf(name, names)
			return nil, p
		case len(values) > 1:
			return nil, badParameter(name, "given more than once")
		default:
			got[name] = values[0]
		}
	}
	return got, nil
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
