package control

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"vigil/authz"
)

// answersTo sends all of raw in one piece, ends its side and reads the final answers until
// the port ends the other: their statuses, with "closed" where the last one says so, and
// their request ids.
func answersTo(t *testing.T, address, raw string) (statuses string, ids []string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(conn, raw) // the port may close in the middle of it
	_ = conn.(*net.TCPConn).CloseWrite()
	var words []string
	closed := false
	for r := bufio.NewReader(conn); ; {
		if _, err := r.Peek(1); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("the port did not end the connection")
			}
			break
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("what came after %q is no answer: %v", words, err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatalf("the answer after %q: %v", words, err)
		}
		if resp.StatusCode >= 200 {
			words, ids, closed = append(words, strconv.Itoa(resp.StatusCode)), append(ids, resp.Header.Get("X-Request-ID")), resp.Close
		}
	}
	if closed {
		words = append(words, "closed")
	}
	return strings.Join(words, " "), ids
}

// TestNoBodyIsReadAsASignal sends requests whose end can be disputed, each with a whole
// signal hidden in what follows its head and with an honest request behind. Either the
// port ends the connection, or the honest one gets its own answer; the hidden one gets
// none, and is never in force. Another connection goes on being answered throughout.
func TestNoBodyIsReadAsASignal(t *testing.T) {
	w := newWorld(t)
	address := w.listen()
	lines := func(line, token, id string, more ...string) string {
		return line + " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + token + "\r\nContent-Type: application/json\r\nX-Request-ID: " + id + "\r\n" + strings.Join(append(more, "\r\n"), "\r\n")
	}
	post := func(more ...string) string { return lines("POST /v1/signals", soarToken, "first", more...) }
	get := func(more ...string) string { return lines("GET /livez", kimToken, "first", more...) }
	old := func(s string) string { return strings.Replace(s, "HTTP/1.1", "HTTP/1.0", 1) }
	chunk := func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }
	body := signal("quarantine", "agent:hidden", "")
	hidden := lines("POST /v1/signals", soarToken, "hidden", "Content-Length: "+strconv.Itoa(len(body))) + body
	good := signal("risk", "agent:first", `,"risk":1`)
	size, fill := "Content-Length: "+strconv.Itoa(len(hidden)), "Content-Length: "+strconv.Itoa(len(good))
	after := lines("GET /v1/whoami", kimToken, "after")
	const chunked, last = "Transfer-Encoding: chunked", "0\r\n\r\n"

	beside := dial(t, address)
	_ = beside.SetDeadline(time.Now().Add(60 * time.Second))
	answers := bufio.NewReader(beside)
	for _, c := range []struct{ name, raw, want string }{
		{"length", post(size) + hidden, "400 200"},
		{"chunks", post(chunked) + chunk(hidden) + last, "400 closed"},
		{"chunks in capitals", post("TRANSFER-ENCODING: CHUNKED") + chunk(hidden) + last, "400 closed"},
		{"GET with a length", get(size) + hidden, "400 closed"},
		{"GET with chunks", get(chunked) + chunk(hidden) + last, "400 closed"},
		{"stranger with a length", strings.Replace(post(size), soarToken, "nobody", 1) + hidden, "401 closed"},
		{"stranger with chunks", strings.Replace(post(chunked), soarToken, "nobody", 1) + chunk(hidden) + last, "401 closed"},
		{"unknown path with a length", strings.Replace(post(size), "/v1/signals", "/v1/nowhere", 1) + hidden, "404 closed"},
		{"foreign host with a length", strings.Replace(post(size), "localhost", "evil.example", 1) + hidden, "421 closed"},
		{"wrong type with a length", strings.Replace(post(size), "application/json", "text/plain", 1) + hidden, "415 closed"},
		{"compressed, with a length", post(size, "Content-Encoding: gzip") + hidden, "415 closed"},
		{"expectation", post("Expect: 100-continue", size) + hidden, "400 200"},
		{"expectation of a stranger", strings.Replace(post("Expect: 100-continue", size), soarToken, "nobody", 1) + hidden, "401 closed"},
		{"unknown expectation", post("Expect: 200-ok", size) + hidden, "417 closed"},

		{"length and chunks", post("Content-Length: 5", chunked) + last + hidden, "400 closed"},
		{"chunks and length", post(chunked, size) + last + hidden, "400 closed"},
		{"two lengths", post(fill, "Content-Length: 0") + good + hidden, "400 closed"},
		{"list of lengths", post(fill+", "+fill[16:]) + good + hidden, "400 closed"},
		{"length with plus", post("Content-Length: +5") + good + hidden, "400 closed"},
		{"negative length", post("Content-Length: -1") + hidden, "400 closed"},
		{"length in hex", post("Content-Length: 0x10") + good + hidden, "400 closed"},
		{"length of no digits", post("Content-Length: ") + hidden, "400 closed"},
		{"length past 64 bits", post("Content-Length: 18446744073709551616") + hidden, "400 closed"},
		{"space before the colon of the length", post("Content-Length : 5") + good + hidden, "400 closed"},
		{"chunked, identity", post("Transfer-Encoding: chunked, identity") + chunk(good) + last + hidden, "501 closed"},
		{"identity", post("Transfer-Encoding: identity") + hidden, "501 closed"},
		{"identity on a GET", get("Transfer-Encoding: identity") + hidden, "501 closed"},
		{"chunked twice", post(chunked, chunked) + chunk(good) + last + hidden, "501 closed"},
		{"gzip, chunked", post("Transfer-Encoding: gzip, chunked") + chunk(good) + last + hidden, "501 closed"},
		{"space before the colon of the coding", post("Transfer-Encoding : chunked") + hidden, "400 closed"},
		{"coding behind a vertical tab", post("Transfer-Encoding: \x0bchunked") + hidden, "400 closed"},
		{"HTTP/1.0 that stays", old(post("Content-Length: 2", "Connection: keep-alive")) + "{}" + hidden, "400 closed"},
		{"HTTP/1.0 with chunks", old(post(chunked, "Connection: keep-alive")) + chunk(good) + last + hidden, "400 closed"},
		{"NUL in a value", post("X: a\x00b", size) + hidden, "400 closed"},
		{"CR in a value", post("X: a\rContent-Length: 0", size) + hidden, "400 closed"},
		{"no colon", post("X", size) + hidden, "400 closed"},
		{"two Hosts", post("Host: evil.example", size) + hidden, "400 closed"},
		{"no Host", strings.Replace(post(size), "Host: localhost\r\n", "", 1) + hidden, "400 closed"},
		{"chunk longer than it says", post(chunked) + "5\r\n" + good + "\r\n" + last + hidden, "400 closed"},
		{"chunk shorter than it says", post(chunked) + "ffff\r\n" + good + "\r\n" + last + hidden, "400 closed"},
		{"chunk of negative size", post(chunked) + "-1\r\n" + hidden, "400 closed"},
		{"chunk size past 64 bits", post(chunked) + "10000000000000000\r\n" + hidden, "400 closed"},
		{"LF in a chunk extension", post(chunked) + "5;\n" + good + "\r\n" + last + hidden, "400 closed"},
		{"length over the limit", post("Content-Length: 99999999999") + hidden, "413 closed"},
		{"HTTP/2 with prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + hidden, "421 closed"},
		{"HTTP/0.9", "GET /livez\r\n\r\n" + hidden, "400 closed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ids := answersTo(t, address, c.raw+after)
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			for i, id := range ids {
				if id == "hidden" || id == "after" && (i != 1 || c.want[4:] != "200") {
					t.Errorf("answers to %q", ids)
				}
			}
			if w.store.Get(authz.Key{Tenant: "default", Kind: authz.KindAgent, ID: "hidden"}) != nil {
				t.Error("what is hidden is in force")
			}
			fmt.Fprint(beside, after)
			resp, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatal("beside it:", err)
			}
			if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 || !strings.Contains(string(body), `"kim"`) {
				t.Errorf("beside it: %d %s", resp.StatusCode, body)
			}
		})
	}
}
