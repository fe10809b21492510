package control

import (
	"net/http"
	"time"
)

// getSnapshot streams what a peer or a backup needs to start from here. It holds every
// tenant's posture, so it asks for an administrator.
func (s *Server) getSnapshot(c *call) error {
	if _, err := parameters(c.r); err != nil {
		return err
	}
	if c.parts.Snapshot == nil {
		return fail(http.StatusServiceUnavailable, CodeUnavailable, "this engine gives no snapshots")
	}
	if !s.snapshots.enter(c.r.Context()) {
		return busy("a snapshot is being taken")
	}
	defer s.snapshots.leave()
	h := c.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", `attachment; filename="vigil.snapshot"`)
	w := &patientWriter{w: c.w, control: http.NewResponseController(c.w), patience: s.cfg.Limits.WriteTime}
	if err := c.parts.Snapshot(c.r.Context(), w); err != nil {
		// After the first byte, serve breaks the connection: the reader must not take a
		// part for the whole.
		h.Del("Content-Disposition")
		return fail(http.StatusServiceUnavailable, CodeUnavailable, "the snapshot could not be taken").
			retryAfter(5).because(err)
	}
	return nil
}

// patientWriter gives the reader a time for each part instead of one for all of it.
type patientWriter struct {
	w        *answerWriter
	control  *http.ResponseController
	patience time.Duration
}

func (p *patientWriter) Write(b []byte) (int, error) {
	_ = p.control.SetWriteDeadline(time.Now().Add(p.patience))
	return p.w.Write(b)
}
