package decision

import (
	"bytes"

	"github.com/valyala/fasthttp"
)

// framed ends the connection with a request whose end can be disputed: one that says
// nothing of its length, but names a Transfer-Encoding. fasthttp takes "identity" for no
// body at all. Whoever stands in front of us may take the bytes behind it for one, and
// then somebody's body would be answered as a request. It runs before the body is read;
// requests that say their length cost it one comparison.
func framed(h *fasthttp.RequestHeader) (config fasthttp.RequestConfig) {
	const unsaid = -2 // neither Content-Length nor chunks
	if h.ContentLength() == unsaid && namesEncoding(h.RawHeaders()) {
		h.SetConnectionClose()
	}
	return config // all zero: nothing is changed
}

var transferEncoding = []byte("Transfer-Encoding")

// namesEncoding reports whether one of the lines of a head has the name Transfer-Encoding.
func namesEncoding(lines []byte) bool {
	for len(lines) > 0 {
		var line []byte
		line, lines, _ = bytes.Cut(lines, []byte{'\n'})
		if name, _, _ := bytes.Cut(line, []byte{':'}); bytes.EqualFold(name, transferEncoding) {
			return true
		}
	}
	return false
}
