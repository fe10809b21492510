package control

import (
	"net/http"
	"net/http/pprof"
	"time"
)

// profile serves net/http/pprof, one at a time and without the limit on the answer's time.
func (s *Server) profile(c *call) error {
	if !s.profiles.enter(c.r.Context()) {
		return busy("a profile is being taken")
	}
	defer s.profiles.leave()
	c.w.patience = 0
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Time{})
	switch c.ref {
	case "cmdline": // may hold secrets, and says nothing that status does not
		return fail(http.StatusNotFound, CodeNotFound, "there is no such profile")
	case "profile":
		pprof.Profile(c.w, c.r)
	case "symbol":
		pprof.Symbol(c.w, c.r)
	case "trace":
		pprof.Trace(c.w, c.r)
	default:
		pprof.Index(c.w, c.r)
	}
	return nil
}
