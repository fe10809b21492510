package decision

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"vigil/authz"
)

// witness is an engine that remembers which actions it was asked about.
type witness struct {
	*fakeEngine
	mu    sync.Mutex
	asked map[string]int // by action; guarded by mu
}

func (w *witness) Decide(c *authz.Caller, req *authz.Request, p *authz.Principal) authz.Answer {
	w.mu.Lock()
	w.asked[strings.Clone(req.Action.Name)]++
	w.mu.Unlock()
	return w.fakeEngine.Decide(c, req, p)
}

func (w *witness) count(action string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked[action]
}

func witnessed(w *witness) func(*Config) {
	return func(c *Config) {
		w.fakeEngine, w.asked = c.Engine.(*fakeEngine), make(map[string]int)
		c.Engine = w
	}
}

// answersTo sends all of raw in one piece, ends its side and reads until the port ends the
// other. What the port does not read when it closes may reset the connection: then the
// answers are those that came before.
func (p *port) answersTo(raw string) []reply {
	p.t.Helper()
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(conn, raw) // the port may close in the middle of it
	_ = conn.(*net.TCPConn).CloseWrite()
	all, err := replies(conn)
	if err != nil {
		p.t.Fatal(err)
	}
	return all
}

// replies are the final answers on conn until its end.
func replies(conn net.Conn) ([]reply, error) {
	var all []reply
	for r := bufio.NewReader(conn); ; {
		if _, err := r.Peek(1); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return all, errors.New("the port did not end the connection")
			}
			return all, nil
		}
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			return all, fmt.Errorf("what came after %d answers is none: %w", len(all), err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return all, err
		}
		if res.StatusCode >= 200 {
			all = append(all, reply{res.StatusCode, res.Header, string(body), res.Close})
		}
	}
}

// outcome is the statuses of all answers, with "closed" where the last one says so.
func outcome(all []reply) string {
	var words []string
	for i, r := range all {
		words = append(words, itoa(r.status))
		if r.last && i == len(all)-1 {
			words = append(words, "closed")
		}
	}
	return strings.Join(words, " ")
}

// TestNoBodyIsReadAsARequest sends requests whose end can be disputed, each with a whole
// request hidden in what follows its head and with an honest one behind. Either the port
// ends the connection, or the honest one gets its own answer; the hidden one gets none.
// Another connection goes on deciding throughout.
func TestNoBodyIsReadAsARequest(t *testing.T) {
	var w witness
	p := newPort(t, witnessed(&w)).listen()
	request := func(action, id string) string {
		return p.text(call{body: actionBody(action), header: []string{"X-Request-ID: " + id}})
	}
	hidden, after := request("hidden", "hidden"), request("deny", "after")
	size := itoa(len(hidden))
	chunk := func(s string) string { return inHex(len(s)) + "\r\n" + s + "\r\n" }
	fill := itoa(len(goodBody))
	// A head of the honest form, with lines added.
	head := func(lines ...string) string {
		return "POST " + pathEvaluation + " HTTP/1.1\r\nHost: " + p.addr + "\r\nAuthorization: Bearer " + p.token +
			"\r\nContent-Type: application/json\r\nX-Request-ID: first\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
	}
	get := func(lines ...string) string {
		return "GET " + pathReady + " HTTP/1.1\r\nHost: " + p.addr + "\r\nX-Request-ID: first\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
	}
	old := func(s string) string { return strings.Replace(s, "HTTP/1.1", "HTTP/1.0", 1) }

	gateway, r := p.dial()
	for _, c := range []struct {
		name, raw, want string
	}{
		// Whose end is clear: the hidden one is the body, and no JSON.
		{"length", head("Content-Length: "+size) + hidden, "400 200"},
		{"length with leading zeros", head("Content-Length: 000"+size) + hidden, "400 200"},
		{"length in lower case", head("content-length: "+size) + hidden, "400 200"},
		{"chunks", head("Transfer-Encoding: chunked") + chunk(hidden) + "0\r\n\r\n", "400 200"},
		{"chunks in capitals", head("TRANSFER-ENCODING: CHUNKED") + chunk(hidden) + "0\r\n\r\n", "400 200"},
		{"chunk of a good body", head("Transfer-Encoding: chunked") + chunk(goodBody) + "0\r\n\r\n", "200 200"},
		{"many chunks", head("Transfer-Encoding: chunked") + chunk(goodBody[:1]) + chunk(goodBody[1:70]) + chunk(goodBody[70:]) + "0\r\n\r\n", "200 200"},
		{"chunk extension", head("Transfer-Encoding: chunked") + inHex(len(goodBody)) + ";a=\"b;c\"\r\n" + goodBody + "\r\n0;last\r\n\r\n", "200 200"},
		{"trailer", head("Transfer-Encoding: chunked", "Trailer: X-Sum") + chunk(goodBody) + "0\r\nX-Sum: 1\r\n\r\n", "200 200"},
		{"undeclared trailer", head("Transfer-Encoding: chunked") + chunk(goodBody) + "0\r\nX-Sum: 1\r\n\r\n", "200 200"},
		{"GET with a length", get("Content-Length: "+size) + hidden, "200 200"},
		{"GET with chunks", get("Transfer-Encoding: chunked") + chunk(hidden) + "0\r\n\r\n", "200 200"},
		{"HEAD with a length", strings.Replace(get("Content-Length: "+size), "GET", "DELETE", 1) + hidden, "405 200"},
		{"unknown path with a length", strings.Replace(head("Content-Length: "+size), pathEvaluation, "/x", 1) + hidden, "404 200"},
		{"stranger with a length", strings.Replace(head("Content-Length: "+size), "Bearer ", "Bearer x", 1) + hidden, "401 200"},
		{"foreign host with a length", strings.Replace(head("Content-Length: "+size), "Host: ", "Host: x", 1) + hidden, "421 200"},
		{"expectation", head("Expect: 100-continue", "Content-Length: "+size) + hidden, "400 200"},
		{"expectation with chunks", head("Expect: 100-continue", "Transfer-Encoding: chunked") + chunk(hidden) + "0\r\n\r\n", "400 200"},
		{"unknown expectation", head("Expect: 200-ok", "Content-Length: "+size) + hidden, "400 200"},
		{"form", head("Content-Type: multipart/form-data; boundary=x", "Content-Length: "+size) + hidden, "400 200"},

		// Two ends: the connection goes no further.
		{"length and chunks", head("Content-Length: 5", "Transfer-Encoding: chunked") + "0\r\n\r\n" + hidden, "400 closed"},
		{"chunks and length", head("Transfer-Encoding: chunked", "Content-Length: "+size) + "0\r\n\r\n" + hidden, "400 closed"},
		{"two lengths", head("Content-Length: "+fill, "Content-Length: 0") + goodBody + hidden, "400 closed"},
		{"the same length twice", head("Content-Length: "+fill, "Content-Length: "+fill) + goodBody + hidden, "400 closed"},
		{"list of lengths", head("Content-Length: "+fill+", "+fill) + goodBody + hidden, "400 closed"},
		{"length with plus", head("Content-Length: +"+fill) + goodBody + hidden, "400 closed"},
		{"negative length", head("Content-Length: -1") + hidden, "400 closed"},
		{"length in hex", head("Content-Length: 0x96") + goodBody + hidden, "400 closed"},
		{"length with a fraction", head("Content-Length: 1.0") + hidden, "400 closed"},
		{"length with a space inside", head("Content-Length: 1 5") + hidden, "400 closed"},
		{"length of no digits", head("Content-Length: ") + hidden, "400 closed"},
		{"length past 64 bits", head("Content-Length: 18446744073709551616") + hidden, "400 closed"},
		{"space before the colon of the length", head("Content-Length : "+fill) + goodBody + hidden, "400 closed"},
		{"chunked, identity", head("Transfer-Encoding: chunked, identity") + chunk(goodBody) + "0\r\n\r\n" + hidden, "400 closed"},
		{"identity, chunked", head("Transfer-Encoding: identity, chunked") + chunk(goodBody) + "0\r\n\r\n" + hidden, "400 closed"},
		{"identity", head("Transfer-Encoding: identity") + hidden, "400 closed"},
		{"identity in capitals, folded", head("TRANSFER-ENCODING:\r\n IDENTITY") + hidden, "400 closed"},
		{"identity on a GET", get("Transfer-Encoding: identity") + hidden, "200 closed"},
		{"identity and length", head("Transfer-Encoding: identity", "Content-Length: "+fill) + goodBody + hidden, "200 closed"},
		{"chunked twice", head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + chunk(goodBody) + "0\r\n\r\n" + hidden, "400 closed"},
		{"chunked and identity apart", head("Transfer-Encoding: chunked", "Transfer-Encoding: identity") + chunk(goodBody) + "0\r\n\r\n" + hidden, "400 closed"},
		{"gzip, chunked", head("Transfer-Encoding: gzip, chunked") + chunk(goodBody) + "0\r\n\r\n" + hidden, "400 closed"},
		{"unknown coding", head("Transfer-Encoding: xchunked") + hidden, "400 closed"},
		{"empty coding", head("Transfer-Encoding: ") + hidden, "400 closed"},
		{"quoted coding", head(`Transfer-Encoding: "chunked"`) + hidden, "400 closed"},
		{"coding behind a vertical tab", head("Transfer-Encoding: \x0bchunked") + hidden, "400 closed"},
		{"coding with NUL", head("Transfer-Encoding: chunked\x00") + hidden, "400 closed"},
		{"space before the colon of the coding", head("Transfer-Encoding : chunked") + hidden, "400 closed"},
		{"HTTP/1.0 with chunks", old(head("Transfer-Encoding: chunked", "Connection: keep-alive")) + chunk(goodBody) + "0\r\n\r\n" + hidden, "400 closed"},
		{"HTTP/1.0", old(head("Content-Length: "+size)) + hidden + after, "400 closed"},

		// Lines that are none.
		{"NUL in a value", head("X: a\x00b", "Content-Length: "+size) + hidden, "400 closed"},
		{"NUL in a name", head("X\x00: a", "Content-Length: "+size) + hidden, "400 closed"},
		{"CR in a value", head("X: a\rContent-Length: 0", "Content-Length: "+size) + hidden, "400 closed"},
		{"no colon", head("X", "Content-Length: "+size) + hidden, "400 closed"},
		{"no name", head(": x", "Content-Length: "+size) + hidden, "400 closed"},
		{"first line folded", strings.Replace(head("Content-Length: "+size), "\r\nHost", "\r\n Host", 1) + hidden, "400 closed"},
		{"folded length is the value before it", head("X: a\r\n Content-Length: 0", "Content-Length: "+size) + hidden, "400 200"},
		{"line of LF alone", head("X: a\nContent-Length: "+size) + hidden, "400 200"},

		// Chunks that lie.
		{"chunk longer than it says", head("Transfer-Encoding: chunked") + "5\r\n" + goodBody + "\r\n0\r\n\r\n" + hidden, "400 closed"},
		{"chunk shorter than it says", head("Transfer-Encoding: chunked") + "fff\r\n" + goodBody + "\r\n0\r\n\r\n" + hidden, "400 closed"},
		{"chunk of negative size", head("Transfer-Encoding: chunked") + "-1\r\n" + hidden, "400 closed"},
		{"chunk size with 0x", head("Transfer-Encoding: chunked") + "0x96\r\n" + goodBody + "\r\n0\r\n\r\n" + hidden, "400 closed"},
		{"chunk size with plus", head("Transfer-Encoding: chunked") + "+96\r\n" + goodBody + "\r\n0\r\n\r\n" + hidden, "400 closed"},
		{"chunk size of no digits", head("Transfer-Encoding: chunked") + "\r\n" + hidden, "400 closed"},
		{"chunk size past 64 bits", head("Transfer-Encoding: chunked") + "10000000000000000\r\n" + hidden, "400 closed"},
		{"chunk size ended by LF", head("Transfer-Encoding: chunked") + "96\n" + goodBody + "\r\n0\r\n\r\n" + hidden, "400 closed"},
		{"LF in a chunk extension", head("Transfer-Encoding: chunked") + "96;\n" + goodBody + "\r\n0\r\n\r\n" + hidden, "400 closed"},
		{"chunk ended by LF", head("Transfer-Encoding: chunked") + inHex(len(goodBody)) + "\r\n" + goodBody + "\n0\r\n\r\n" + hidden, "400 closed"},
		{"length in a trailer", head("Transfer-Encoding: chunked", "Trailer: Content-Length") + chunk(goodBody) + "0\r\nContent-Length: " + size + "\r\n\r\n" + hidden, "400 closed"},
		{"trailer that is no line", head("Transfer-Encoding: chunked") + chunk(goodBody) + "0\r\nX\r\n\r\n" + hidden, "400 closed"},

		// Other protocols.
		{"HTTP/2 with prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + hidden, "400 closed"},
		{"upgrade to HTTP/2", get("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"), "200 200"},
		{"HTTP/0.9", "GET " + pathReady + "\r\n\r\n" + hidden, "400 closed"},
		{"not a version", strings.Replace(head("Content-Length: "+size), "HTTP/1.1", "HTTP/1.1x", 1) + hidden, "400 closed"},
		{"two spaces", strings.Replace(head("Content-Length: "+size), " HTTP/1.1", "  HTTP/1.1", 1) + hidden, "400 closed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			honest, asked := w.count("deny"), w.count("hidden")
			all := p.answersTo(c.raw + after)
			if got := outcome(all); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			for i, r := range all {
				switch id := r.header.Get("X-Request-ID"); {
				case id == "after" && (i != len(all)-1 || !strings.HasPrefix(r.body, `{"decision":false`) || w.count("deny") != honest+1):
					t.Errorf("the honest request was answered %+v", r)
				case id == "hidden":
					t.Errorf("what is hidden was answered: %+v", r)
				}
			}
			if w.count("hidden") != asked {
				t.Error("what is hidden was decided")
			}
			if got := p.exchange(gateway, r, call{body: goodBody}); got.status != 200 || !strings.HasPrefix(got.body, `{"decision":true`) {
				t.Errorf("beside it: %+v", got)
			}
		})
	}
}

func inHex(n int) string {
	const digits = "0123456789abcdef"
	if n < 16 {
		return digits[n : n+1]
	}
	return inHex(n/16) + inHex(n%16)
}
