package control

import (
	"errors"
	"net/http"
	"strings"

	"vigil/signals/cloudevents"
)

// receiveSignals reads the body of a push: signals, or a CloudEvent that carries some
// (CloudEvents 1.0 over HTTP, structured or binary mode). Whose signals they are is the
// client's business, not the event's source's.
func (s *Server) receiveSignals(c *call) (body []byte, release func(), err error) {
	headers := func(yield func(name, value string) bool) {
		for name, values := range c.r.Header {
			for _, value := range values {
				if !yield(name, value) {
					return
				}
			}
		}
	}
	if !cloudevents.HTTP.Is(headers) {
		return s.receive(c)
	}
	if encoding := c.r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return nil, nil, fail(http.StatusUnsupportedMediaType, CodeMediaType, "the body must not be compressed")
	}
	raw, release, err := s.read(c)
	if err != nil {
		return nil, nil, err
	}
	event, err := cloudevents.HTTP.Decode(headers, raw)
	if err == nil {
		if _, token := event.SET(); token {
			err = fail(http.StatusUnsupportedMediaType, CodeMediaType, "a security event token is pushed to /v1/events/NAME, by its transmitter")
		} else {
			body, err = event.Signals()
		}
	}
	if err != nil {
		release()
		return nil, nil, ofEvent(err)
	}
	return body, release, nil
}

// ofEvent says what an error of an event means. Pointers are into the event in its
// structured form.
func ofEvent(err error) error {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	return ofPush(err)
}
