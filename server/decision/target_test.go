package decision

import (
	"strings"
	"testing"
)

// TestOnlyTheExactTargetOfThisHostIsDecided: whatever a proxy in front may have made of a
// path or a host, nothing but the port's own, spelled as they are, gets a decision.
func TestOnlyTheExactTargetOfThisHostIsDecided(t *testing.T) {
	var w witness
	p := newPort(t, witnessed(&w)).listen()
	_, port, _ := strings.Cut(p.addr, ":")
	at := func(path string) call { return call{path: path, body: goodBody} }
	host := func(lines ...string) call { return call{body: goodBody, header: lines} }
	gateway, r := p.dial()
	for _, c := range []struct {
		name   string
		call   call
		status int
	}{
		{"double slash", at("//access/v1/evaluation"), 404},
		{"double slash before a host", at("//localhost/access/v1/evaluation"), 404},
		{"double slash before a foreign host", at("//evil.example/access/v1/evaluation"), 404},
		{"slash encoded", at("/access%2fv1%2fevaluation"), 404},
		{"slash encoded twice", at("/access%252fv1%252fevaluation"), 404},
		{"dots encoded", at("/x/%2e%2e/access/v1/evaluation"), 404},
		{"dots encoded twice", at("/x/%252e%252e/access/v1/evaluation"), 404},
		{"dots with a parameter", at("/x/..;/access/v1/evaluation"), 404},
		{"dot", at("/./access/v1/evaluation"), 404},
		{"backslash", at(`/access\v1\evaluation`), 404},
		{"parameter", at("/access/v1/evaluation;x=1"), 404},
		{"NUL encoded", at("/access/v1/evaluation%00"), 404},
		{"capitals", at("/Access/v1/Evaluation"), 404},
		{"question mark encoded", at("/access/v1/evaluation%3fx"), 404},
		{"a path like a readiness check", at("/readyz/../access/v1/evaluation"), 404},
		{"control in the path", at("/access/v1/evaluation\x01"), 400},
		{"no slash", at("access/v1/evaluation"), 400},
		{"asterisk", at("*"), 400},
		{"authority form", call{method: "CONNECT", path: p.addr, body: goodBody}, 404},
		{"method in lower case", call{method: "post", body: goodBody}, 405},

		{"absolute form", at("http://" + p.addr + pathEvaluation), 200},
		{"absolute form of a foreign host", at("http://evil.example" + pathEvaluation), 421},
		{"absolute form of a foreign host that names us as its user", at("http://" + p.addr + "@evil.example" + pathEvaluation), 421},
		{"absolute form of no host", at("http://" + pathEvaluation), 421},
		{"absolute form, foreign Host beside it", call{path: "http://evil.example" + pathEvaluation, body: goodBody, header: []string{"Host: " + p.addr}}, 421},
		{"absolute form, path encoded", at("http://" + p.addr + "/access/v1/%65valuation"), 404},

		{"no Host", host("Host: -"), 400},
		{"two Hosts", host("Host: "+p.addr, "Host: evil.example"), 400},
		{"the same Host twice", host("Host: "+p.addr, "Host: "+p.addr), 400},
		{"list of Hosts", host("Host: " + p.addr + ", evil.example"), 400},
		{"user in Host", host("Host: evil.example@" + p.addr), 421},
		{"we as user in Host", host("Host: " + p.addr + "@evil.example"), 421},
		{"path in Host", host("Host: localhost/evil.example"), 400},
		{"port of letters", host("Host: localhost:evil"), 400},
		{"port of letters at an address", host("Host: 127.0.0.1:evil"), 400},
		{"port with a sign", host("Host: localhost:+1"), 400},
		{"two ports", host("Host: localhost:1:2"), 400},
		{"no port behind the colon", host("Host: localhost:"), 200},
		{"another port", host("Host: localhost:1"), 200}, // a port cannot be rebound
		{"address with a zone", host("Host: [fe80::1%25lo]:" + port), 421},
		{"address with a zone, no port", host("Host: [fe80::1%25evil.example]"), 421},
		{"address with a bare zone", host("Host: fe80::1%evil.example"), 400},
		{"address in brackets that do not close", host("Host: [::1"), 400},
		{"address in brackets that do not open", host("Host: ::1]"), 400},
		{"IPv4 in brackets", host("Host: [127.0.0.1]"), 400},
		{"address in octal", host("Host: 0177.0.0.1"), 421},
		{"address of one number", host("Host: 2130706433"), 421},
		{"two dots at the end", host("Host: localhost.."), 421},
		{"NUL in Host", host("Host: localhost\x00.evil.example"), 400},
		{"capitals of another alphabet", host("Host: loca\u017fhost"), 421}, // folds to "localhost" under some rules
	} {
		t.Run(c.name, func(t *testing.T) {
			asked := w.count("pay")
			got := p.call(c.call)
			if got.status != c.status {
				t.Errorf("%d %s, want %d", got.status, got.body, c.status)
			}
			if decided := w.count("pay") > asked; decided != (c.status == 200) {
				t.Error("decided:", decided)
			}
			if got := p.exchange(gateway, r, call{body: actionBody("deny")}); got.status != 200 || !strings.HasPrefix(got.body, `{"decision":false`) {
				t.Errorf("beside it: %+v", got)
			}
		})
	}
}

// TestBodiesAreTakenOnlyAsUncompressedUTF8JSON: nothing that could be read as another text
// than the caller meant.
func TestBodiesAreTakenOnlyAsUncompressedUTF8JSON(t *testing.T) {
	var w witness
	p := newPort(t, witnessed(&w)).listen()
	with := func(lines ...string) call { return call{body: goodBody, header: lines} }
	wide := func(s string, order ...int) string { // UTF-16
		b := make([]byte, 2*len(s))
		for i := range len(s) {
			b[2*i+order[0]] = s[i]
		}
		return string(b)
	}
	for _, c := range []struct {
		name   string
		call   call
		status int
	}{
		{"as it is", with(), 200},
		{"charset", with("Content-Type: application/json;charset=UTF-8"), 200},
		{"charset in quotes", with(`Content-Type: application/json; charset="utf-8"`), 200},
		{"another parameter", with("Content-Type: application/json; profile=x"), 200},
		{"charset of UTF-16", with("Content-Type: application/json; charset=utf-16"), 400},
		{"charset of UTF-7", with(`Content-Type: application/json; Charset="utf-7"`), 400},
		{"charset behind another parameter", with("Content-Type: application/json; q=1; charset=ibm500"), 400},
		{"two charsets", with("Content-Type: application/json; charset=utf-8; charset=utf-16"), 400},
		{"two media types in one", with("Content-Type: application/json, text/plain"), 400},
		{"two media types", with("Content-Type: application/json", "Content-Type: text/plain"), 400},
		{"two media types, the other first", with("Content-Type: text/plain", "Content-Type: application/json"), 200}, // the last one counts
		{"form", with("Content-Type: application/x-www-form-urlencoded"), 400},
		{"plain text", with("Content-Type: text/plain"), 400},
		{"byte order mark", call{body: "\xef\xbb\xbf" + goodBody}, 400},
		{"UTF-16", call{body: wide(goodBody, 0)}, 400},
		{"UTF-16, the other way", call{body: wide(goodBody, 1)}, 400},
		{"gzip", call{body: "\x1f\x8b\x08\x00", header: []string{"Content-Encoding: gzip"}}, 415},
		{"gzip that is not named", call{body: "\x1f\x8b\x08\x00"}, 400},
		{"two encodings", with("Content-Encoding: gzip, identity"), 415},
		{"encoding in capitals", with("Content-Encoding: IDENTITY"), 200},
		{"empty encoding", with("Content-Encoding: "), 415},
		{"NUL behind the body", call{body: goodBody + "\x00"}, 400},
		{"two documents", call{body: goodBody + goodBody}, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked := w.count("pay")
			if got := p.call(c.call); got.status != c.status {
				t.Errorf("%d %s, want %d", got.status, got.body, c.status)
			}
			if decided := w.count("pay") > asked; decided != (c.status == 200) {
				t.Error("decided:", decided)
			}
		})
	}
}

// TestFieldsOfATrailerAreNoHeaders: what comes after the body says nothing about it.
func TestFieldsOfATrailerAreNoHeaders(t *testing.T) {
	p := newPort(t, nil).listen()
	for _, declared := range []bool{false, true} {
		for _, c := range []struct{ trailer, missing string }{
			{"Authorization: Bearer " + p.token, "Authorization"},
			{"Content-Type: application/json", "Content-Type"},
			{"X-Request-ID: from-the-trailer", "X-Request-ID"},
		} {
			name, _, _ := strings.Cut(c.trailer, ":")
			text := p.text(call{header: []string{c.missing + ": -", "Transfer-Encoding: chunked"}})
			text = strings.Replace(text, "Content-Length: 0\r\n", "", 1)
			if declared {
				text = strings.Replace(text, "Transfer-Encoding", "Trailer: "+name+"\r\nTransfer-Encoding", 1)
			}
			text += inHex(len(goodBody)) + "\r\n" + goodBody + "\r\n0\r\n" + c.trailer + "\r\n\r\n"
			all := p.answersTo(text)
			if len(all) != 1 {
				t.Fatalf("%s: %d answers", c.trailer, len(all))
			}
			if got := all[0]; got.status == 200 && name != "X-Request-ID" || got.header.Get("X-Request-ID") == "from-the-trailer" {
				t.Errorf("%s, declared %v: %+v", c.trailer, declared, got)
			}
		}
	}
}
