package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json"

	"vigil/server/control"
	"vigil/server/credential"
	"vigil/signals/ssf"
)

// transmitterServer manages one stream, and pushes its verifications with an implementation
// of others.
type transmitterServer struct {
	t      *testing.T
	idp    *identityProvider
	url    string
	pushes sync.WaitGroup

	mu      sync.Mutex
	streams []map[string]any
	status  map[string]any
	seen    []string       // "METHOD path body"
	fail    map[string]int // by "METHOD path"
	pushTo  string         // in the place of the stream's endpoint; "" for that
	lost    bool           // verifications are not pushed
	spoil   string         // stands for the issuer of a stream that is made
}

const (
	manageToken = "manage-secret-0123456789"
	pushToken   = "push-secret-0123456789"
)

func newTransmitterServer(t *testing.T) *transmitterServer {
	s := &transmitterServer{t: t, idp: newIdentityProvider(t), fail: map[string]int{}, status: map[string]any{"stream_id": "st-1", "status": "enabled"}}
	server := httptest.NewServer(s)
	s.url = server.URL
	t.Cleanup(func() {
		server.Close()
		s.pushes.Wait()
	})
	return s
}

func (s *transmitterServer) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *transmitterServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Error(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	request := r.Method + " " + r.URL.Path
	reply := func(status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if err := json.MarshalWrite(w, v); err != nil {
			s.t.Error(err)
		}
	}
	if request == "GET /metadata" {
		reply(http.StatusOK, map[string]any{
			"issuer": "https://idp.example.com/", "jwks_uri": s.url + "/keys", "configuration_endpoint": s.url + "/stream", "status_endpoint": s.url + "/status",
			"verification_endpoint": s.url + "/verify", "add_subject_endpoint": s.url + "/add", "remove_subject_endpoint": s.url + "/remove",
			"default_subjects": "NONE",
		})
		return
	}
	s.seen = append(s.seen, request+" "+string(body))
	var q map[string]any
	_ = json.Unmarshal(body, &q)
	switch status := s.fail[request]; {
	case status != 0:
		w.WriteHeader(status)
		_, _ = io.WriteString(w, manageToken) // which an error must not repeat
		return
	case r.Header.Get("Authorization") != "Bearer "+manageToken:
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	switch request {
	case "GET /stream":
		if !r.URL.Query().Has("stream_id") {
			reply(http.StatusOK, append([]map[string]any{}, s.streams...))
			return
		}
		i := slices.IndexFunc(s.streams, func(m map[string]any) bool { return m["stream_id"] == r.URL.Query().Get("stream_id") })
		if i < 0 {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		reply(http.StatusOK, s.streams[i])
	case "POST /stream":
		q["stream_id"], q["iss"], q["aud"] = "st-1", "https://idp.example.com/", "https://pdp.example.com/ssf"
		q["events_delivered"] = q["events_requested"].([]any)[:1]
		if d := q["delivery"].(map[string]any); d["method"] == ssf.MethodPoll {
			d["endpoint_url"] = s.url + "/poll"
		}
		if s.spoil != "" {
			q["iss"] = s.spoil
		}
		s.streams = append(s.streams, q)
		reply(http.StatusCreated, q)
	case "PATCH /stream", "PUT /stream":
		for name, value := range q {
			s.streams[0][name] = value
		}
		reply(http.StatusOK, s.streams[0])
	case "DELETE /stream":
		s.streams = nil
		w.WriteHeader(http.StatusNoContent)
	case "GET /status":
		reply(http.StatusOK, s.status)
	case "POST /status":
		s.status = q
		reply(http.StatusOK, q)
	case "POST /verify":
		w.WriteHeader(http.StatusNoContent)
		if s.lost {
			return
		}
		said := map[string]any{}
		if state, there := q["state"]; there {
			said["state"] = state
		}
		_, set := s.idp.set(ssf.SSF+"verification", said, map[string]any{"format": "opaque", "id": q["stream_id"]})
		delivery := s.streams[0]["delivery"].(map[string]any)
		to := s.pushTo
		if to == "" {
			to = delivery["endpoint_url"].(string)
		}
		token, _ := strings.CutPrefix(fmt.Sprint(delivery["authorization_header"]), "Bearer ")
		s.pushes.Go(func() {
			if status, answer := pushSET(s.t, to, token, set); status != http.StatusAccepted {
				s.t.Logf("the verification: %d %s", status, answer)
			}
		})
	case "POST /add":
		w.WriteHeader(http.StatusOK)
	case "POST /remove":
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusTeapot)
	}
}

// pushSET pushes a SET.
func pushSET(t *testing.T, to, token, set string) (int, []byte) {
	return request(t, to, "application/secevent+jwt", token, []byte(set))
}

// configured writes a configuration with the stream of s, changed by pairs of texts.
func (s *transmitterServer) configured(change ...string) string {
	s.t.Helper()
	rules, err := filepath.Abs("../../examples/invoice/rules")
	must(s.t, err)
	dir := folderWith(s.t, map[string]string{
		"manage.token": manageToken + "\n", "push.token": pushToken + "\n", "keys.json": s.idp.keys(), "verify.secret": "verify-secret-0123456789",
		"short.secret": "short", "other.token": "other-secret-0123456789", "two.token": "a b",
	})
	text := strings.NewReplacer(change...).Replace(fmt.Sprintf(`vigil: 1
data_dir: %s
rules: {dir: %s}
decision: {listen: "127.0.0.1:0"}
control: {listen: "127.0.0.1:0"}
clients:
  - {name: reader, token_sha256: ["%x"], scopes: [read]}
issuers:
  - name: idp
    issuer: https://idp.example.com/
    audience: [https://pdp.example.com/ssf]
    algorithms: [RS256]
    keys: {file: keys.json}
    may: {types: [revoke], kinds: [session, user]}
    push: {token_sha256: ["%x"]}
    stream:
      discovery: %s/metadata
      token_file: manage.token
      push_endpoint: https://pdp.example.com/v1/events/idp
      push_token_file: push.token
      verification_secret_file: verify.secret
`, filepath.Join(dir, "data"), rules, credential.HashToken("reader-0123456789abcdef"), credential.HashToken(pushToken), s.url))
	must(s.t, os.WriteFile(filepath.Join(dir, "reader.token"), []byte("reader-0123456789abcdef"), 0o600))
	must(s.t, os.WriteFile(filepath.Join(dir, "vigil.yaml"), []byte(text), 0o600))
	return filepath.Join(dir, "vigil.yaml")
}

// run runs `pdp stream`, whose output holds none of the secrets.
func (s *transmitterServer) run(config string, args ...string) (code int, stdout, stderr string) {
	s.t.Helper()
	code, stdout, stderr = run(s.t, append([]string{"stream", args[0], "idp", "--config", config}, args[1:]...)...)
	for _, secret := range []string{manageToken, pushToken, "verify-secret", "other-secret"} {
		if strings.Contains(stdout+stderr, secret) {
			s.t.Errorf("%v gives away a secret:\n%s%s", args, stdout, stderr)
		}
	}
	return code, stdout, stderr
}

// TestAStreamIsManagedFromTheCommandLine: made as the configuration has it, changed, and
// ended; the secret of its pushes goes to the transmitter and nowhere else.
func TestAStreamIsManagedFromTheCommandLine(t *testing.T) {
	s := newTransmitterServer(t)
	config := s.configured()
	want := func(code int, says string, args ...string) string {
		t.Helper()
		got, out, said := s.run(config, args...)
		if got != code || !strings.Contains(out+said, says) {
			t.Errorf("%v: exit %d, want %d and %q\n%s%s", args, got, code, says, out, said)
		}
		return out
	}
	sent := func(request string) {
		t.Helper()
		s.mu.Lock()
		defer s.mu.Unlock()
		if !slices.ContainsFunc(s.seen, func(got string) bool { return strings.HasPrefix(got, request) }) {
			t.Errorf("no %s in\n%s", request, strings.Join(s.seen, "\n"))
		}
	}
	want(exitInput, "pdp stream create idp", "show")
	out := want(exitOK, "pdp stream add-subject idp", "create", "-o", "json")
	var made ssf.Stream
	must(t, json.Unmarshal([]byte(out), &made))
	// It asks for what says a revoke, which is what this issuer may say, and for nothing else.
	for _, event := range []string{ssf.CAEP + "session-revoked", ssf.RISC + "identifier-changed"} {
		if !slices.Contains(made.Requested, event) {
			t.Errorf("%s was not asked for: %v", event, made.Requested)
		}
	}
	for _, event := range made.Requested {
		if strings.HasSuffix(event, "risk-level-change") || strings.HasSuffix(event, "account-disabled") || strings.HasPrefix(event, ssf.Vigil) {
			t.Errorf("%s was asked for", event)
		}
	}
	s.change(func() {
		if d := s.streams[0]["delivery"].(map[string]any); d["authorization_header"] != "Bearer "+pushToken || d["endpoint_url"] != "https://pdp.example.com/v1/events/idp" {
			t.Errorf("the transmitter was told %v", d)
		}
	})
	want(exitOK, "requested, and not delivered", "show")
	want(exitOK, "push", "list")
	s.change(func() {
		s.streams = append(s.streams, map[string]any{"stream_id": "hers", "iss": "https://idp.example.com/", "aud": "her"})
	})
	want(exitOK, "hers: list streams: the stream is for \"her\"", "list")
	var listed []listedStream
	must(t, json.Unmarshal([]byte(want(exitOK, "", "list", "-o", "json")), &listed))
	if len(listed) != 2 || listed[0].ID != "st-1" || listed[0].Problem != "" || !strings.Contains(listed[1].Problem, "not this receiver") {
		t.Errorf("%+v", listed)
	}
	s.change(func() { s.streams = s.streams[:1] })
	want(exitOK, "push to https://pdp.example.com/v1/events/idp", "update")
	sent(`PATCH /stream {"stream_id":"st-1","events_requested":[`)
	want(exitOK, "st-1", "update", "--replace")
	sent(`PUT /stream {"stream_id":"st-1","events_requested":[`)
	want(exitOK, "st-1: paused (a move)", "pause", "--reason", "a move")
	sent(`POST /status {"stream_id":"st-1","status":"paused","reason":"a move"}`)
	want(exitDeny, "st-1: paused (a move)", "status")
	want(exitOK, "st-1: enabled", "enable")
	if out := want(exitOK, "", "status", "-o", "json"); !strings.Contains(out, `"status": "enabled"`) {
		t.Error(out)
	}
	want(exitInput, "is lost", "disable")
	want(exitOK, "st-1: disabled", "disable", "--yes")
	want(exitOK, "were asked for", "add-subject", "iss_sub:4711")
	sent(`POST /add {"stream_id":"st-1","subject":{"format":"iss_sub","iss":"https://idp.example.com/","sub":"4711"},"verified":true}`)
	want(exitOK, "were asked for", "add-subject", `{"format":"email","email":"kim@example.com"}`, "--unverified")
	sent(`POST /add {"stream_id":"st-1","subject":{"format":"email","email":"kim@example.com"},"verified":false}`)
	want(exitOK, "some may still come", "remove-subject", "email:kim@example.com")
	sent(`POST /remove {"stream_id":"st-1","subject":{"email":"kim@example.com","format":"email"}}`)
	for _, bad := range []string{"kim", "email:", "saml:x", "{}", `{"format":"email"}`} {
		want(exitInput, "", "add-subject", bad)
	}
	s.change(func() { s.lost = true })
	want(exitOK, "a verification was asked for", "verify", "--stream", "st-1")
	want(exitInput, "404", "show", "--stream", "st-2")
	want(exitInput, "nothing more is heard", "delete")
	want(exitOK, "st-1: deleted", "delete", "--yes")
	want(exitOK, "critical members", "discover")

	// One that is polled has its endpoint from the transmitter.
	config = s.configured("      push_endpoint: https://pdp.example.com/v1/events/idp\n      push_token_file: push.token\n", "")
	want(exitInput, "stream.push_endpoint does not say where to", "create")
	config = s.configured("      push_endpoint: https://pdp.example.com/v1/events/idp\n      push_token_file: push.token\n", "",
		"    push: {", "    poll: {endpoint: \"https://idp.example.com/poll\"}\n    # push: {")
	want(exitOK, fmt.Sprintf("Set poll.endpoint of this issuer to %q", s.url+"/poll"), "create")
	// A second is made only for who says so.
	want(exitInput, "there is a stream already: st-1", "create")
	want(exitOK, "st-1", "create", "--another")
	s.change(func() { s.streams = s.streams[:1] })
	// Two are told apart by their ids.
	s.change(func() {
		other := map[string]any{}
		for name, value := range s.streams[0] {
			other[name] = value
		}
		other["stream_id"] = "st-2"
		s.streams = append(s.streams, other)
	})
	want(exitInput, "--stream", "show")
	want(exitOK, "st-2", "show", "--stream", "st-2")
	config = s.configured("      token_file: manage.token\n", "      token_file: manage.token\n      id: st-2\n")
	want(exitOK, "st-2", "show")
}

// TestAStreamWithoutADeliveryIsWarnedOf: it can be made, and the transmitter says then where
// it is polled.
func TestAStreamWithoutADeliveryIsWarnedOf(t *testing.T) {
	s := newTransmitterServer(t)
	config := s.configured("      push_endpoint: https://pdp.example.com/v1/events/idp\n      push_token_file: push.token\n", "", "    push: {", "    # push: {")
	if code, _, said := run(t, "config", "check", "--config", config, "--no-rules"); code != exitOK || !strings.Contains(said, "neither push nor poll nor topic is set") {
		t.Errorf("exit %d, %s", code, said)
	}
}

// TestTheStreamOfAnIssuerWhoseEventsComeByATopicIsManaged: it is pushed to whoever puts them
// there, whose token is not known here, and never made one that is polled.
func TestTheStreamOfAnIssuerWhoseEventsComeByATopicIsManaged(t *testing.T) {
	s := newTransmitterServer(t)
	byTopic := []string{
		"clients:\n", "log: {kind: kafka, kafka: {brokers: [\"127.0.0.1:9\"], topic: log}}\nclients:\n",
		"    algorithms: [RS256]\n    keys: {file: keys.json}\n", "", "    push: {", "    topic: {name: events, authentic: acl}\n    # push: {",
		"      push_token_file: push.token\n", "      push_token_file: other.token\n      verify_every: 1h\n",
	}
	config := s.configured(byTopic...)
	if code, _, said := run(t, "config", "check", "--config", config, "--no-rules"); code != exitOK || strings.Contains(said, "nothing is taken") || !strings.Contains(said, "not looked at") {
		t.Errorf("exit %d, %s", code, said)
	}
	if code, out, said := s.run(config, "create"); code != exitOK || !strings.Contains(out, "push to https://pdp.example.com/v1/events/idp") {
		t.Errorf("exit %d, %s%s", code, out, said)
	}
	s.change(func() {
		for _, made := range s.streams {
			if header := made["delivery"].(map[string]any)["authorization_header"]; header != "Bearer other-secret-0123456789" {
				t.Errorf("it is to send %q", header)
			}
		}
	})
	config = s.configured(append(byTopic, "      push_endpoint: https://pdp.example.com/v1/events/idp\n", "")...)
	if code, out, said := s.run(config, "create", "--another"); code != exitInput || !strings.Contains(said, "push_token_file") {
		t.Errorf("exit %d, %s%s", code, out, said)
	}
	byTopic[len(byTopic)-1] = ""
	config = s.configured(append(byTopic, "      push_endpoint: https://pdp.example.com/v1/events/idp\n", "")...)
	if code, out, said := s.run(config, "create", "--another"); code != exitInput || !strings.Contains(said, "come by a topic") {
		t.Errorf("exit %d, %s%s", code, out, said)
	}
}

func TestWhatATransmitterRefusesIsSaidWithWhatToDo(t *testing.T) {
	s := newTransmitterServer(t)
	config := s.configured()
	for _, c := range []struct {
		request string
		status  int
		args    []string
		code    int
		says    string
	}{
		{"GET /stream", 401, []string{"list"}, exitInput, "does not know the credential"},
		{"GET /stream", 403, []string{"list"}, exitInput, "ssf.read"},
		{"POST /stream", 409, []string{"create"}, exitInput, "pdp stream update"},
		{"POST /stream", 500, []string{"create"}, exitUnreachable, mayBeDone},
		{"POST /stream", 202, []string{"create"}, exitInput, "202"},
		{"POST /stream", 307, []string{"create"}, exitInput, "redirects are not followed"},
		{"GET /stream", 429, []string{"list"}, exitUnreachable, "try again later"},
		{"GET /stream", 503, []string{"list"}, exitUnreachable, "503"},
	} {
		s.change(func() { s.fail = map[string]int{c.request: c.status} })
		if code, out, said := s.run(config, c.args...); code != c.code || !strings.Contains(said, c.says) {
			t.Errorf("%s %d: exit %d, want %d and %q\n%s%s", c.request, c.status, code, c.code, c.says, out, said)
		}
	}
	s.change(func() { s.fail = nil })
	for _, c := range []struct {
		config, says string
		code         int
		args         []string
	}{
		{s.configured("token_file: manage.token", "token_file: other.token"), "does not know the credential", exitInput, []string{"list"}},
		{s.configured("token_file: manage.token", "token_file: two.token"), "more than one token", exitInput, []string{"list"}},
		{s.configured("token_file: manage.token", "token_file: none.token"), "none.token", exitInput, []string{"list"}},
		{s.configured("push_token_file: push.token", "push_token_file: other.token"), "its hash is not in push.token_sha256", exitInput, []string{"create"}},
		{s.configured("verification_secret_file: verify.secret", "verification_secret_file: short.secret"), "fewer than 16 bytes", exitInput, []string{"verify"}},
		{s.configured(s.url, "http://127.0.0.1:1"), "127.0.0.1:1", exitUnreachable, []string{"list"}},
		{s.configured("may: {types: [revoke]", "may: {types: [decommission]"), "account-purged", exitOK, []string{"create", "--another"}},
		{s.configured("may: {types: [revoke]", "may: {types: [register]"), "no event says anything", exitInput, []string{"create"}},
		{s.configured("issuer: https://idp.example.com/", "issuer: https://other.example.com/"), "those of \"https://idp.example.com/\"", exitInput, []string{"list"}},
		{config, "--stream: a new stream", exitInput, []string{"create", "--stream", "x"}},
		{config, "--wait-timeout", exitInput, []string{"verify", "--wait-timeout", "soon"}},
		{config, "--wait: ", exitInput, []string{"verify", "--wait", "nowhere"}},
	} {
		if code, out, said := s.run(c.config, c.args...); code != c.code || !strings.Contains(out+said, c.says) {
			t.Errorf("%v: exit %d, want %d and %q\n%s%s", c.args, code, c.code, c.says, out, said)
		}
	}
	// What was made and cannot be believed is said to be there, perhaps.
	s.change(func() { s.streams, s.spoil = nil, "https://evil.example.com/" })
	if code, _, said := s.run(config, "create"); code != exitInput || !strings.Contains(said, "evil.example.com") || !strings.Contains(said, mayBeDone) {
		t.Errorf("another issuer: exit %d\n%s", code, said)
	}
	if code, _, said := run(t, "stream", "list", "ipd", "--config", config); code != exitInput || !strings.Contains(said, `did you mean "idp"?`) {
		t.Errorf("exit %d, %s", code, said)
	}
	if code, _, said := run(t, "stream", "list", "idp", "--config", topicsConfig(t, []string{"127.0.0.1:1"}, "")); code != exitInput || !strings.Contains(said, "no issuers") {
		t.Errorf("exit %d, %s", code, said)
	}
}

// TestAVerificationIsSeenAtWhicheverReplicaItComesTo: it was asked for by neither of them, or
// by the other one; where it comes to none, that is said.
func TestAVerificationIsSeenAtWhicheverReplicaItComesTo(t *testing.T) {
	s := newTransmitterServer(t)
	asking := s.configured("verification_secret_file: verify.secret", "verification_secret_file: verify.secret\n      verify_every: 1m\n      id: st-1")
	config := s.configured()
	s.change(func() {
		s.streams = []map[string]any{{"stream_id": "st-1", "iss": "https://idp.example.com/", "aud": "https://pdp.example.com/ssf",
			"delivery": map[string]any{"method": ssf.MethodPush, "endpoint_url": "http://127.0.0.1:1/", "authorization_header": "Bearer " + pushToken}}}
	})
	_, one := startServeAt(t, "--config", config)
	s.change(func() { s.pushTo = one + "/v1/events/idp" })
	_, two := startServeAt(t, "--config", asking) // it asks by itself, and the other one is answered
	token := filepath.Join(filepath.Dir(config), "reader.token")
	shown := func(replica string) control.IssuerStatus {
		t.Helper()
		cl, err := (&app{}).controlClient(&connection{ControlURL: replica, TokenFile: token, Timeout: "10s"})
		must(t, err)
		var events control.EventsResponse
		_, err = cl.get(t.Context(), "/v1/events", &events)
		must(t, err)
		cl.http.CloseIdleConnections()
		return events.Issuers[0]
	}
	(&served{t: t, stderr: new(buffer)}).until("the replica that asks is seen by the one that is answered", func() bool {
		return shown(two).Asked != "" && shown(one).Verified != ""
	})
	if at := shown(two); at.Verified != "" || at.Asking != "" || at.Stream != "enabled" {
		t.Errorf("the replica that asked: %+v", at)
	}

	wait := []string{"verify", "--wait", one + "," + two, "--wait-token-file", token}
	s.change(func() { s.pushTo = two + "/v1/events/idp" })
	if code, out, said := s.run(config, wait...); code != exitOK || !strings.Contains(out, "verified, at "+two) {
		t.Errorf("exit %d\n%s%s", code, out, said)
	}
	if shown(two).Verified == "" {
		t.Error("the replica that it came to does not show it")
	}
	if code, out, said := s.run(config, append(wait, "-o", "json")...); code != exitOK || !strings.Contains(out, `"url": "`+two) {
		t.Errorf("exit %d\n%s%s", code, out, said)
	}
	// One that somebody else's secret was used for is refused, as is none at all waited for in vain.
	other := s.configured("verification_secret_file: verify.secret", "verification_secret_file: other.token")
	if code, _, said := s.run(other, append(wait, "--wait-timeout", "500ms")...); code != exitUnreachable || !strings.Contains(said, "no verification came to any of 2 replicas") {
		t.Errorf("with another secret: exit %d\n%s", code, said)
	}
	s.change(func() { s.lost = true })
	if code, _, said := s.run(config, append(wait, "--wait-timeout", "300ms")...); code != exitUnreachable || !strings.Contains(said, "no verification came") {
		t.Errorf("a lost one: exit %d\n%s", code, said)
	}
	// Events about another stream than the configured one are refused.
	_, strange := s.idp.set(ssf.SSF+"verification", nil, map[string]any{"format": "opaque", "id": "st-9"})
	if status, answer := pushSET(t, two+"/v1/events/idp", pushToken, strange); status != http.StatusBadRequest || !strings.Contains(string(answer), "another stream") {
		t.Errorf("of another stream: %d %s", status, answer)
	}
	// What is wrong with who waits is said before anything is asked for.
	before := len(s.seen)
	if code, _, said := s.run(config, "verify", "--wait", one, "--wait-token-file", filepath.Join(filepath.Dir(config), "push.token")); code != exitInput ||
		slices.ContainsFunc(s.seen[before:], func(r string) bool { return strings.HasPrefix(r, "POST /verify") }) {
		t.Errorf("with a token that nobody knows: exit %d\n%s", code, said)
	}
}

// TestAReplicaThatFailsForAMomentIsAskedAgain: and what came meanwhile is seen.
func TestAReplicaThatFailsForAMomentIsAskedAgain(t *testing.T) {
	answers := make(chan string, 8)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		verified := <-answers
		if verified == "" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintf(w, `{"issuers":[{"name":"idp","issuer":"i","missed":[],"verified":%q}]}`, verified)
	}))
	defer server.Close()
	watch := func(sequence ...string) (*cameTo, error) {
		t.Helper()
		for _, answer := range sequence {
			answers <- answer
		}
		calls, err := (&app{}).replicas(&connection{Timeout: "10s"}, &waitFlags{WaitAll: []string{server.URL}, WaitTimeout: "10s"})
		must(t, err)
		w, err := calls.watch(t.Context(), "idp")
		must(t, err)
		return w.wait(t.Context(), patience)
	}
	if came, err := watch("1", "", "2"); err != nil || came.Verified != "2" {
		t.Errorf("%+v, %v", came, err)
	}
	// One that could not be asked at first counts from when it could.
	if came, err := watch("", "2", "2", "3"); err != nil || came.Verified != "3" {
		t.Errorf("%+v, %v", came, err)
	}
}
