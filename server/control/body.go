package control

import (
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// receive reads the JSON body of c, which release gives back to the budget. It holds no
// place in a queue meanwhile, and its size is taken from the budget before the first byte:
// slow and large senders cost themselves.
func (s *Server) receive(c *call) (body []byte, release func(), err error) {
	if err := checkMediaType(c.r.Header); err != nil {
		return nil, nil, err
	}
	return s.read(c)
}

// read is receive whatever the type of the body is.
func (s *Server) read(c *call) (body []byte, release func(), err error) {
	limit := s.cfg.Limits.RequestBytes
	size := c.r.ContentLength
	if size > limit {
		return nil, nil, tooLarge(limit)
	}
	if size < 0 {
		size = limit
	}
	if !s.bodies.take(size) {
		return nil, nil, busy("too many bodies are being read")
	}
	release = func() { s.bodies.give(size) }

	// net/http clears the deadline at the end of the body: it does not strike later.
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Now().Add(s.cfg.Limits.BodyTime))
	body, err = io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, limit))
	if err != nil {
		release()
		var (
			large   *http.MaxBytesError
			network net.Error
		)
		switch {
		case errors.As(err, &large):
			return nil, nil, tooLarge(limit)
		case errors.As(err, &network) && network.Timeout():
			return nil, nil, fail(http.StatusRequestTimeout, CodeTimeout, "the body did not come in time; nothing was done")
		}
		return nil, nil, fail(http.StatusBadRequest, CodeBadBody, "the body could not be read; nothing was done").because(err)
	}
	c.w.bodyRead = true
	return body, release, nil
}

func tooLarge(limit int64) *problem {
	return fail(http.StatusRequestEntityTooLarge, CodeTooLarge, "the body may have "+strconv.FormatInt(limit, 10)+" bytes")
}

// checkMediaType takes application/json in UTF-8, uncompressed.
func checkMediaType(h http.Header) error {
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return fail(http.StatusUnsupportedMediaType, CodeMediaType, "the body must not be compressed")
	}
	mediaType, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || mediaType != "application/json" {
		return fail(http.StatusUnsupportedMediaType, CodeMediaType, "the body must be application/json")
	}
	if charset, ok := params["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return fail(http.StatusUnsupportedMediaType, CodeMediaType, "the body must be in UTF-8")
	}
	return nil
}
