package decision

import (
	"net"
	"strings"
	"testing"
	"time"
)

func TestEveryCallGetsItsStatusAndMessage(t *testing.T) {
	p := newPort(t, func(c *Config) {
		c.Hosts = []string{"pdp.example"}
		c.AtLeast = &waiter{}
		c.Limits.AtLeastTime = time.Millisecond
	}).listen()
	with := func(header ...string) call { return call{body: goodBody, header: header} }
	body := func(b string) call { return call{body: b} }
	for _, c := range []struct {
		name   string
		call   call
		status int
		want   string // the whole body of a text answer, or a part of it
	}{
		{"allow", with(), 200, `{"decision":true,"context":{"effect":"allow","class":"allow","code":"allowed","obligations":[],"as_of":"v1.kQ3x"}}`},
		{"deny", body(actionBody("deny")), 200, `{"decision":false,"context":{"effect":"deny","class":"default","code":"no_allow_rule","obligations":[],"reason_user":"Not permitted.","as_of":"v1.kQ3x"}}`},
		{"full", with("Authorization: Bearer " + p.full), 200, `"rules":["r1"],"bundle":"sha256:9f2c","as_of":"v1.kQ3x","decided_at":"`},
		{"nothing decided", body(actionBody("nothing")), 200, `{"decision":false,"context":{"effect":"deny","class":"error","code":"could_not_evaluate"`},
		{"panic", body(actionBody("panic")), 200, `{"decision":false,"context":{"effect":"deny","class":"error","code":"could_not_evaluate"`},

		{"charset", with("Content-Type: Application/JSON; charset=utf-8"), 200, `"decision":true`},
		{"no content type", with("Content-Type: -"), 400, "bad_content_type: want application/json\n"},
		{"form", with("Content-Type: application/x-www-form-urlencoded"), 400, "bad_content_type: want application/json\n"},
		{"multipart", with("Content-Type: multipart/form-data; boundary=x"), 400, "bad_content_type: want application/json\n"},
		{"json-like", with("Content-Type: application/json-seq"), 400, "bad_content_type: want application/json\n"},
		{"gzip", with("Content-Encoding: gzip"), 415, "content_encoding: bodies are taken only as they are (identity)\n"},
		{"gzip behind identity", with("Content-Encoding: identity", "Content-Encoding: gzip"), 415, ""},
		{"identity", with("Content-Encoding: identity"), 200, `"decision":true`},

		{"empty", body(""), 400, "unexpected_end (byte 0)\n"},
		{"list", body("[]"), 400, "wrong_type: want an object, got list (byte 0)\n"},
		{"not JSON", body("subject=kim"), 400, "syntax (byte 0)\n"},
		{"duplicate", body(`{"subject":{"type":"user","id":"kim"},"action":{"name":"pay"},"resource":{"type":"payment","id":"1","properties":{"amount":1,"amount":2}}}`), 400, "duplicate_member: /resource/properties/amount (byte 125)\n"},
		{"missing", body(`{"subject":{"type":"user"},"action":{"name":"pay"},"resource":{"type":"p","id":"1"}}`), 400, "missing_member: /subject/id\n"},
		{"trailing", body(goodBody + "x"), 400, "trailing_data (byte 150)\n"},

		{"no credential", with("Authorization: -"), 401, "unauthenticated: send a bearer token or a client certificate\n"},
		{"wrong token", with("Authorization: Bearer nobody"), 401, "unauthenticated: the Authorization header does not carry the token of a configured client\n"},
		{"basic", with("Authorization: Basic a2lt"), 401, "unauthenticated: the Authorization header"},
		{"empty authorization", with("Authorization: "), 401, "unauthenticated: the Authorization header"},
		{"two tokens", with("Authorization: Bearer "+p.token, "Authorization: Bearer "+p.full), 401, "unauthenticated: the Authorization header"},
		{"missing scope", with("Authorization: Bearer " + p.signal), 403, "missing_scope: the client does not hold the scope decide\n"},
		{"credentials before the body", call{body: "{", header: []string{"Authorization: -"}}, 401, ""},

		{"unknown path", call{path: "/", body: goodBody}, 404, "not_found: the decision port has /access/v1/evaluation, "},
		{"no normalization", call{path: "/access//v1/evaluation", body: goodBody}, 404, "not_found"},
		{"dots", call{path: "/x/../access/v1/evaluation", body: goodBody}, 404, "not_found"},
		{"encoded path", call{path: "/access/v1/%65valuation", body: goodBody}, 404, "not_found"},
		{"trailing slash", call{path: "/access/v1/evaluation/", body: goodBody}, 404, "not_found"},
		{"search", call{path: "/access/v1/search/subject", body: goodBody}, 404, "not_found"},
		{"query", call{path: "/access/v1/evaluation?x=1", body: goodBody}, 200, `"decision":true`},
		{"get", call{method: "GET"}, 405, "method_not_allowed: see the header Allow\n"},
		{"put", call{method: "PUT", path: pathEvaluations, body: goodBody}, 405, "method_not_allowed"},
		{"options", call{method: "OPTIONS"}, 405, "method_not_allowed"},
		{"post readyz", call{path: pathReady, body: goodBody}, 405, "method_not_allowed"},

		{"foreign host", with("Host: evil.example"), 421, "foreign_host: "},
		{"foreign host with our port", with("Host: evil.example:7070"), 421, "foreign_host: "},
		{"host that begins like ours", with("Host: localhost.evil.example"), 421, "foreign_host: "},
		{"address as user", with("Host: 127.0.0.1@evil.example"), 421, "foreign_host: "},
		{"empty host", with("Host: "), 400, "bad_request: this is not an HTTP/1.1 request\n"},
		{"absolute form", call{path: "http://evil.example" + pathEvaluation, body: goodBody}, 421, "foreign_host: "},
		{"localhost", with("Host: LocalHost:7070"), 200, `"decision":true`},
		{"IPv6", with("Host: [::1]:7070"), 200, `"decision":true`},
		{"IPv6 without port", with("Host: [::1]"), 200, `"decision":true`},
		{"configured host", with("Host: PDP.example."), 200, `"decision":true`},
		{"foreign origin", with("Origin: https://evil.example"), 403, "foreign_origin: pages of other origins may not call\n"},
		{"null origin", with("Origin: null"), 403, "foreign_origin: "},
		{"origin of another port", with("Origin: http://127.0.0.1:1"), 403, "foreign_origin: "},
		{"same origin", with("Origin: http://" + p.addr), 200, `"decision":true`},

		{"request id with a control", with("X-Request-ID: a\tb"), 400, "bad_header: X-Request-ID: want at most 200 printable ASCII characters, once\n"},
		{"request id too long", with("X-Request-ID: " + strings.Repeat("a", 201)), 400, "bad_header: X-Request-ID"},
		{"two request ids", with("X-Request-ID: a", "X-Request-ID: b"), 400, "bad_header: X-Request-ID"},

		{"at least, there", with("Vigil-At-Least: v1.here"), 200, `"decision":true`},
		{"at least, not in time", with("Vigil-At-Least: v1.later"), 200, `{"decision":false,"context":{"effect":"deny","class":"stale","code":"stale","obligations":[],"reason_user":"Not permitted."}}`},
		{"at least, other log", with("Vigil-At-Least: v9.x", "Authorization: Bearer "+p.full), 200, `"reason_admin":"Vigil-At-Least: the position is of another log"`},
		{"at least, empty", with("Vigil-At-Least: "), 200, `"code":"stale"`},
		{"at least, twice", with("Vigil-At-Least: v1.here", "Vigil-At-Least: v1.here"), 400, "bad_header: Vigil-At-Least: want one as_of of an earlier answer\n"},
		{"at least, the longest there is", with("Vigil-At-Least: " + strings.Repeat("a", 8192)), 200, `"code":"stale"`},
		{"at least, too long", with("Vigil-At-Least: " + strings.Repeat("a", 8193)), 400, "bad_header: Vigil-At-Least"},

		{"ready", call{method: "GET", path: pathReady, header: []string{"Authorization: -"}}, 200, "ready\n"},
		{"metadata", call{method: "GET", path: pathMetadata, header: []string{"Authorization: -"}}, 200,
			`{"policy_decision_point":"http://` + p.addr + `","access_evaluation_endpoint":"http://` + p.addr + `/access/v1/evaluation","access_evaluations_endpoint":"http://` + p.addr + `/access/v1/evaluations"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := p.call(c.call)
			whole := strings.HasSuffix(c.want, "\n") || strings.HasSuffix(c.want, "}}")
			if got.status != c.status || whole && got.body != c.want || !strings.Contains(got.body, c.want) {
				t.Fatalf("%d %q, want %d %q", got.status, got.body, c.status, c.want)
			}
			fit := !strings.HasPrefix(got.body, "bad_request") && !strings.HasPrefix(got.body, "bad_header: X-Request-ID")
			if id := got.header.Get("X-Request-ID"); fit != (id != "") {
				t.Errorf("X-Request-ID: %q", id)
			}
			if got.header.Get("Cache-Control") != "no-store" {
				t.Error("an answer that may be stored")
			}
			media := got.header.Get("Content-Type")
			if json := strings.HasPrefix(got.body, "{"); json != (media == "application/json") || !json && media != "text/plain; charset=utf-8" {
				t.Errorf("Content-Type: %q", media)
			}
			if got.header.Get("Server") != "" {
				t.Error("the server names itself")
			}
			switch challenge := got.header.Get("WWW-Authenticate"); c.status {
			case 401:
				if !strings.HasPrefix(challenge, `Bearer realm="vigil"`) {
					t.Errorf("WWW-Authenticate: %q", challenge)
				}
			case 403:
				if strings.HasPrefix(c.want, "missing_scope") && !strings.Contains(challenge, `error="insufficient_scope", scope="decide"`) {
					t.Errorf("WWW-Authenticate: %q", challenge)
				}
			case 405:
				if got.header.Get("Allow") == "" {
					t.Error("no Allow")
				}
			}
		})
	}
	if strings.Contains(p.logs.String(), p.token) {
		t.Error("the log has a credential")
	}
}

func TestRequestIDIsEchoedOrMade(t *testing.T) {
	p := newPort(t, nil).listen()
	for _, c := range []call{{body: goodBody}, {body: "{"}, {path: "/x", body: "x"}, {body: goodBody, header: []string{"Authorization: -"}}, {body: actionBody("panic")}} {
		sent := c
		sent.header = append(sent.header, "X-Request-ID: bfe9eb29 ab87;4ca3")
		if got := p.call(sent); got.header.Get("X-Request-ID") != "bfe9eb29 ab87;4ca3" {
			t.Errorf("%+v: %q", c, got.header)
		}
		one, two := p.call(c).header.Get("X-Request-ID"), p.call(c).header.Get("X-Request-ID")
		if one == "" || one == two {
			t.Errorf("%+v: %q, %q", c, one, two)
		}
	}
}

func TestWhatIsTooLargeIsRefusedByName(t *testing.T) {
	p := newPort(t, func(c *Config) { c.Limits.Body, c.Limits.Header = 2000, 2048 }).listen()
	if got := p.call(call{body: goodBody + strings.Repeat(" ", 2001-len(goodBody))}); got.status != 413 || got.body != "too_large: want a body of at most 2000 bytes\n" {
		t.Error(got)
	}
	if got := p.call(call{body: goodBody + strings.Repeat(" ", 2000-len(goodBody))}); got.status != 200 {
		t.Error(got)
	}
	if got := p.call(call{body: goodBody, header: []string{"X-Filler: " + strings.Repeat("x", 2100)}}); got.status != 431 || got.body != "too_large: want a header of less than 2048 bytes\n" {
		t.Error(got)
	}
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("\x16\x03\x01\x00\x01 not HTTP\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, _ := conn.Read(buf)
	if got := string(buf[:n]); !strings.HasPrefix(got, "HTTP/1.1 400 ") || !strings.HasSuffix(got, "bad_request: this is not an HTTP/1.1 request\n") {
		t.Errorf("%q", got)
	}
}
