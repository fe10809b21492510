package control

import (
	"net/http"

	"vigil/docs"
	"vigil/signals"
)

// getOpenAPI gives the document of both ports.
func (s *Server) getOpenAPI(c *call) error {
	if _, err := parameters(c.r); err != nil {
		return err
	}
	return c.send(http.StatusOK, "application/yaml", docs.OpenAPI)
}

// getSignalSchema gives the JSON Schema of what POST /v1/signals takes.
func (s *Server) getSignalSchema(c *call) error {
	if _, err := parameters(c.r); err != nil {
		return err
	}
	return c.send(http.StatusOK, "application/schema+json", signals.Schema())
}
