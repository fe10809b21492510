package control

import (
	"net/http"
	"strconv"
)

// livez says that the process answers.
func (s *Server) livez(c *call) error {
	if _, err := parameters(c.r); err != nil {
		return err
	}
	return c.respond(http.StatusOK, &HealthResponse{Status: "ok"})
}

// readyz says whether this replica decides, and what is wrong though it does. With ?strict it also fails for what may hit
// all replicas at once, a broken feed above all: for alarms, not for load balancers.
func (s *Server) readyz(c *call) error {
	query, err := parameters(c.r, "strict")
	if err != nil {
		return err
	}
	strict := false
	if v, ok := query["strict"]; ok {
		if strict, err = strconv.ParseBool(v); err != nil && v != "" {
			return badParameter("strict", "want it alone, or 1 or 0")
		}
		strict = strict || v == ""
	}
	ready := s.cfg.Ready()
	reasons := ready.Reasons
	if strict {
		reasons = append(reasons[:len(reasons):len(reasons)], ready.Degraded...)
	}
	if ready.Ready && (!strict || len(ready.Degraded) == 0) {
		return c.respond(http.StatusOK, &HealthResponse{Status: "ok", Degraded: ready.Degraded})
	}
	c.w.Header().Set("Retry-After", "1")
	return c.respond(http.StatusServiceUnavailable, &HealthResponse{Status: "not ready", Reasons: reasons})
}

// whoami says as whom the caller is known.
func (s *Server) whoami(c *call) error {
	if _, err := parameters(c.r); err != nil {
		return err
	}
	return c.respond(http.StatusOK, &WhoamiResponse{
		Client: c.client.Name, Source: c.client.Sender.Source.String(),
		Scopes: scopeNames(c.client.Scopes), Tenants: orEmpty(c.client.Caller.Tenants),
	})
}
