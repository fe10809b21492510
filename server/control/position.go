package control

import "net/http"

// PositionResponse answers GET /v1/position.
type PositionResponse struct {
	AsOf string `json:"as_of"` // everything up to it is in force here; fit for Vigil-At-Least
}

// getPosition says how far this replica has come. With Vigil-At-Least it is asked whether
// the replica has come so far: as everywhere, the position was waited for by now.
func (s *Server) getPosition(c *call) error {
	if _, err := parameters(c.r); err != nil {
		return err
	}
	return c.respond(http.StatusOK, &PositionResponse{AsOf: c.parts.Feed.Progress().AsOf})
}
