package ssf

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"vigil/authz"
	"vigil/posture"
	"vigil/signals"
)

// world is a receiver in front of a real intake.
type world struct {
	clock    *handClock
	log      *signals.MemoryLog
	store    *posture.Store
	intake   *signals.Intake
	issuer   *Issuer
	receiver *Receiver
	lines    bytes.Buffer // what was logged
}

func newWorld(t testing.TB, change ...func(*Config)) *world {
	t.Helper()
	w := &world{clock: newClock(), store: posture.NewStore()}
	w.log = signals.NewMemoryLog(w.clock.Now)
	applier, err := signals.NewApplier(signals.ApplierConfig{Store: w.store, Now: w.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	w.intake, err = signals.NewIntake(signals.IntakeConfig{Log: w.log, Applier: applier, Store: w.store, Now: w.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = applier.Run(ctx, w.log, nil)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	<-applier.CaughtUp()
	w.issuer = newIssuer(t, append([]func(*Config){func(cfg *Config) {
		cfg.Now, cfg.MaxSilence = w.clock.Now, func() time.Duration { return 40 * time.Second }
	}}, change...)...)
	w.receiver = NewReceiver(w.issuer, w.intake, slog.New(slog.NewTextHandler(&w.lines, nil)))
	return w
}

// status is that of an entity of the tenant default.
func (w *world) status(t testing.TB, ref string) string {
	t.Helper()
	r, err := authz.ParseRef(ref)
	if err != nil {
		t.Fatal(err)
	}
	return w.store.Get(r.In("default")).At(w.clock.Now()).Status.String()
}

func (w *world) count(event, outcome string) uint64 {
	return w.receiver.Status().Counts[Count{event, outcome}]
}

func (w *world) take(t testing.TB, change object) (Taken, error) {
	t.Helper()
	return w.receiver.Take(t.Context(), []byte(signed(t, change)))
}

func TestASETIsInForceWhenItIsTaken(t *testing.T) {
	w := newWorld(t)
	taken, err := w.take(t, nil)
	if err != nil || taken.ID != "jti-1" || taken.Receipt.Results[0].Outcome != posture.Applied || w.status(t, "session:s-1") != "revoked" {
		t.Errorf("%+v, %v, %s", taken, err, w.status(t, "session:s-1"))
	}
	for f := range w.store.Get(authz.Ref{Kind: authz.KindSession, ID: "s-1"}.In("default")).Facts() {
		if f.Source != "issuer:idp" {
			t.Errorf("the source is %s", f.Source)
		}
	}
	// It comes again, and is the same.
	w.clock.advance(time.Minute)
	taken, err = w.take(t, nil)
	if err != nil || taken.Receipt.Results[0].Outcome != posture.Duplicate || w.count("session-revoked", "said") != 2 {
		t.Errorf("again: %+v, %v", taken, err)
	}
	// The same jti, and another event.
	_, err = w.take(t, object{"sub_id": opaque("s-2")})
	var e *Error
	if !errors.As(err, &e) || e.Code != InvalidRequest || w.status(t, "session:s-2") != "active" {
		t.Errorf("a jti for two events: %v", err)
	}
}

// TestRiskFallsAsItRises: the newest of an issuer speaks, whatever the order they come in.
func TestRiskFallsAsItRises(t *testing.T) {
	w := newWorld(t)
	risk := func(jti, level string, at int64) {
		t.Helper()
		members := object{"principal": "USER", "current_level": level, "event_timestamp": int64(start)/1e9 + at}
		if _, err := w.take(t, object{"jti": jti, "sub_id": email("j@x.com"), "events": event(CAEP+"risk-level-change", members)}); err != nil {
			t.Fatal(err)
		}
	}
	now := func() int {
		return w.store.Get(authz.Ref{Kind: authz.KindUser, ID: "j@x.com"}.In("default")).At(w.clock.Now()).Risk
	}
	risk("1", "HIGH", -60)
	if now() != 90 {
		t.Error(now())
	}
	risk("2", "LOW", -10)
	if now() != 20 {
		t.Error(now())
	}
	risk("3", "MEDIUM", -30) // late
	if now() != 20 {
		t.Error(now())
	}
}

func TestAnAccountIsReleasedByItsOpposite(t *testing.T) {
	w := newWorld(t)
	jane := email("j@x.com")
	say := func(jti, name string) {
		t.Helper()
		uri, _ := longURI(name)
		if _, err := w.take(t, object{"jti": jti, "sub_id": jane, "events": event(uri, nil)}); err != nil {
			t.Fatal(err)
		}
		w.clock.advance(time.Second)
	}
	say("1", "account-disabled")
	if got := w.status(t, "user:j@x.com"); got != "quarantined" {
		t.Error(got)
	}
	if _, err := w.take(t, object{"jti": "2", "iat": int64(w.clock.Now()) / 1e9, "sub_id": jane, "events": event(RISC+"account-enabled", nil)}); err != nil {
		t.Fatal(err)
	}
	if got := w.status(t, "user:j@x.com"); got != "active" {
		t.Error(got)
	}
}

func TestWhatAnIssuerMayNotSayIsDenied(t *testing.T) {
	w := newWorld(t, func(cfg *Config) { cfg.Authority.Types = []string{"risk"} })
	_, err := w.take(t, nil)
	var e *Error
	if !errors.As(err, &e) || e.Code != AccessDenied || w.status(t, "session:s-1") != "active" || w.count("", AccessDenied) != 1 {
		t.Errorf("%v", err)
	}
	if strings.Contains(e.Description, "revoke") || !strings.Contains(w.lines.String(), "issuer:idp may not send revoke") {
		t.Errorf("the transmitter is told %q, the operator %s", e.Description, w.lines.String())
	}
}

// TestWhatMeetsNothingIsCountedAndShown: never silently right.
func TestWhatMeetsNothingIsCountedAndShown(t *testing.T) {
	w := newWorld(t, func(cfg *Config) { cfg.Critical = []string{"org_unit"} })
	for i, change := range []object{
		{"sub_id": object{"format": "catalog_item", "catalog_id": "secret-id"}},
		{"events": event("urn:example:new", nil)},
		{"sub_id": complexOf(object{"session": opaque("s"), "org_unit": opaque("o")})},
		{"sub_id": opaque("stranger")},
		{"events": event(CAEP+"session-presented", nil)},
	} {
		change["jti"] = fmt.Sprint("j", i)
		if _, err := w.take(t, change); err != nil {
			t.Errorf("%v: %v", change, err)
		}
	}
	status := w.receiver.Status()
	for label, n := range map[Count]uint64{
		{"session-revoked", "unmatched"}: 1, {"other", "unknown_event"}: 1, {"session-revoked", "discarded"}: 1,
		{"session-revoked", "said"}: 1, {"session-revoked", "unknown_entity"}: 1, {"session-presented", "informational"}: 1,
	} {
		if status.Counts[label] != n {
			t.Errorf("%s: %d, want %d", label, status.Counts[label], n)
		}
	}
	var missed []string
	for _, m := range status.Missed {
		missed = append(missed, m.ID+" "+m.Outcome)
	}
	if got := strings.Join(missed, ", "); got != "j0 unmatched, j1 unknown_event, j2 discarded, j3 unknown_entity" {
		t.Error(got)
	}
	if names := status.Missed[3].Names; len(names) != 1 || names[0] != "session:stranger" {
		t.Error(names)
	}
	if strings.Contains(w.lines.String(), "secret-id") {
		t.Errorf("a log line names a subject: %s", w.lines.String())
	}
	for i := range 3 * keptMissed {
		if _, err := w.take(t, object{"jti": fmt.Sprint("k", i), "events": event(fmt.Sprint("urn:example:", i), nil)}); err != nil {
			t.Fatal(err)
		}
	}
	status = w.receiver.Status()
	if n := len(status.Missed); n != keptMissed || status.Missed[n-1].ID != fmt.Sprint("k", 3*keptMissed-1) || len(status.Counts) > 10 {
		t.Errorf("%d are remembered, the last %+v; %d counters", n, status.Missed[n-1], len(status.Counts))
	}
	if lines := strings.Count(w.lines.String(), "\n"); lines > linesASecond {
		t.Errorf("%d lines in a second", lines)
	}
}

// TestALogThatIsAwayAsksForTheSETAgain: nothing is acknowledged that is not durable.
func TestALogThatIsAwayAsksForTheSETAgain(t *testing.T) {
	w := newWorld(t)
	w.log.SetHealth(errors.New("no broker answers"))
	if _, err := w.take(t, nil); !errors.Is(err, ErrTemporary) || w.count("", "temporary") != 1 {
		t.Error(err)
	}
	w.log.SetHealth(nil)
	if _, err := w.take(t, nil); err != nil || w.status(t, "session:s-1") != "revoked" {
		t.Error(err)
	}
	w.log.FailAppend(errors.New("lost"), true)
	change := object{"jti": "2", "sub_id": opaque("s-2")}
	if _, err := w.take(t, change); !errors.Is(err, ErrTemporary) {
		t.Errorf("an outcome that is not known: %v", err)
	}
	if _, err := w.take(t, change); err != nil || w.status(t, "session:s-2") != "revoked" {
		t.Error(err)
	}
}

// TestAClockAheadIsBoundedAndSaid: a SET of the future waits where it can permit something,
// and is refused where its clock is wrong.
func TestAClockAheadIsBoundedAndSaid(t *testing.T) {
	w := newWorld(t)
	at := func(ahead time.Duration, uri string, subject object) error {
		_, err := w.take(t, object{"jti": ahead.String() + uri, "iat": int64(start.Add(ahead)) / 1e9, "sub_id": subject, "events": event(uri, nil)})
		return err
	}
	if err := at(4*time.Second, RISC+"account-enabled", email("a@x.com")); err != nil {
		t.Errorf("4 s: %v", err)
	}
	if err := at(time.Minute, RISC+"account-enabled", email("a@x.com")); !errors.Is(err, ErrTemporary) || !strings.Contains(err.Error(), "1m0s ahead") {
		t.Errorf("a minute: %v", err)
	}
	var e *Error
	if err := at(time.Hour, RISC+"account-enabled", email("a@x.com")); !errors.As(err, &e) || e.Code != InvalidRequest || !strings.Contains(e.Description, "ahead") {
		t.Errorf("an hour: %v", err)
	}
	// What withdraws is in force at once, dated when it was taken.
	if err := at(time.Hour, RISC+"account-disabled", email("b@x.com")); err != nil || w.status(t, "user:b@x.com") != "quarantined" {
		t.Errorf("a quarantine an hour ahead: %v", err)
	}
	w.clock.advance(time.Minute)
	if err := at(time.Minute, RISC+"account-enabled", email("a@x.com")); err != nil {
		t.Errorf("a minute later: %v", err)
	}
}

func TestAVerificationMustHaveBeenAskedFor(t *testing.T) {
	w := newWorld(t, func(cfg *Config) { cfg.StateSecret = []byte("of all replicas") })
	w.receiver.SetStream("stream-1")
	verify := func(jti string, members object, subject any) error {
		_, err := w.take(t, object{"jti": jti, "sub_id": subject, "events": event(verification, members)})
		return err
	}
	code := func(err error) string {
		var e *Error
		if errors.As(err, &e) {
			return e.Code
		}
		return fmt.Sprint(err)
	}
	if got := code(verify("1", object{"state": "made up"}, opaque("stream-1"))); got != InvalidState {
		t.Error(got)
	}
	if w.receiver.Status().Verified != 0 {
		t.Error("a made-up state verifies")
	}
	asked := w.issuer.states.make("stream-1", w.clock.Now())
	for range 2 { // it may come twice
		if err := verify("2", object{"state": asked}, opaque("stream-1")); err != nil {
			t.Error(err)
		}
	}
	if w.receiver.Status().Verified != w.clock.Now() {
		t.Error("it is not verified")
	}
	if err := verify("3", nil, opaque("stream-1")); err != nil {
		t.Errorf("one that the transmitter sends by itself: %v", err)
	}
	if got := code(verify("4", nil, opaque("stream-2"))); got != InvalidRequest {
		t.Errorf("another stream: %s", got)
	}
	if got := code(verify("5", nil, email("a@x.com"))); got != InvalidRequest {
		t.Errorf("no stream: %s", got)
	}
	w.clock.advance(stateLife + time.Second)
	if got := code(verify("6", object{"state": asked}, opaque("stream-1"))); got != InvalidState {
		t.Errorf("states are good for ever: %s", got)
	}
	if _, err := w.take(t, object{"sub_id": opaque("stream-1"), "events": event(streamUpdated, object{"status": "paused", "reason": "licence"})}); err != nil {
		t.Error(err)
	}
	if s := w.receiver.Status().Stream; s.Status != "paused" || s.Reason != "licence" || s.At != w.clock.Now() {
		t.Errorf("%+v", s)
	}
}

// pushed is one request to a push endpoint.
type pushed struct {
	method, token, contentType, body string
	header                           http.Header
}

func (p pushed) to(t testing.TB, url string) (*http.Response, string) {
	t.Helper()
	if p.method == "" {
		p.method = http.MethodPost
	}
	if p.contentType == "" {
		p.contentType = "application/secevent+jwt"
	}
	r, err := http.NewRequestWithContext(t.Context(), p.method, url, strings.NewReader(p.body))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range p.header {
		r.Header[name] = values
	}
	r.Header.Set("Content-Type", p.contentType)
	r.Header.Set("Accept", "application/json")
	if p.token != "" {
		r.Header.Set("Authorization", "Bearer "+p.token)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

func newPush(t testing.TB, w *world, cfg PushConfig) *httptest.Server {
	t.Helper()
	p, err := NewPush(w.receiver, cfg)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	return server
}

func TestAPushedSETIsAcknowledgedWhenItIsInForce(t *testing.T) {
	w := newWorld(t)
	server := newPush(t, w, PushConfig{Tokens: [][sha256.Size]byte{sha256.Sum256([]byte("old")), sha256.Sum256([]byte("secret"))}})
	response, body := pushed{token: "secret", body: signed(t, nil) + "\n"}.to(t, server.URL)
	if response.StatusCode != http.StatusAccepted || body != "" || w.status(t, "session:s-1") != "revoked" {
		t.Errorf("%d %q", response.StatusCode, body)
	}
	if response.Header.Get("Cache-Control") != "no-store" {
		t.Error("an answer may be cached")
	}
}

func TestAPushIsRefusedAsTheRFCSays(t *testing.T) {
	w := newWorld(t)
	server := newPush(t, w, PushConfig{Tokens: [][sha256.Size]byte{sha256.Sum256([]byte("secret"))}, MaxBody: 8 << 10})
	good := signed(t, nil)
	for name, c := range map[string]struct {
		request pushed
		status  int
		err     string // of the JSON body; "" for none
	}{
		"no token":            {pushed{body: good}, 400, AuthenticationFailed},
		"a wrong token":       {pushed{token: "guess", body: good}, 400, AuthenticationFailed},
		"another scheme":      {pushed{header: http.Header{"Authorization": {"Basic c2VjcmV0"}}, body: good}, 400, AuthenticationFailed},
		"two headers":         {pushed{header: http.Header{"Authorization": {"Bearer secret", "Bearer secret"}}, body: good}, 400, AuthenticationFailed},
		"no SET":              {pushed{token: "secret", body: "hello"}, 400, InvalidRequest},
		"empty":               {pushed{token: "secret"}, 400, InvalidRequest},
		"another issuer":      {pushed{token: "secret", body: signed(t, object{"iss": "https://x/"})}, 400, InvalidIssuer},
		"another audience":    {pushed{token: "secret", body: signed(t, object{"aud": "x"})}, 400, InvalidAudience},
		"another's signature": {pushed{token: "secret", body: sign(t, rs256, otherRSA(), claims(nil), nil)}, 400, AuthenticationFailed},
		"an unknown key":      {pushed{token: "secret", body: sign(t, rs256, rsaKey(), claims(nil), object{"kid": "x"})}, 400, InvalidKey},
		"a made-up state":     {pushed{token: "secret", body: signed(t, object{"events": event(verification, object{"state": "x"})})}, 400, InvalidState},
		"GET":                 {pushed{method: http.MethodGet, token: "secret"}, 405, ""},
		"JSON":                {pushed{token: "secret", contentType: "application/json", body: good}, 415, ""},
		"JWT":                 {pushed{token: "secret", contentType: "application/jwt", body: good}, 415, ""},
		"compressed":          {pushed{token: "secret", header: http.Header{"Content-Encoding": {"gzip"}}, body: good}, 415, ""},
		"large":               {pushed{token: "secret", body: strings.Repeat("a", 8<<10+1)}, 413, ""},
	} {
		t.Run(name, func(t *testing.T) {
			response, body := c.request.to(t, server.URL)
			if response.StatusCode != c.status {
				t.Fatalf("%d %s, want %d", response.StatusCode, body, c.status)
			}
			if c.err == "" {
				return
			}
			var e errorBody
			if json.Unmarshal([]byte(body), &e) != nil || e.Err != c.err || e.Description == "" {
				t.Errorf("%s, want %s", body, c.err)
			}
			if response.Header.Get("Content-Type") != "application/json" || response.Header.Get("Content-Language") != "en" {
				t.Errorf("%v", response.Header)
			}
		})
	}
	if w.status(t, "session:s-1") != "active" {
		t.Error("something that was refused is in force")
	}
	w.log.SetHealth(errors.New("no broker answers"))
	response, body := pushed{token: "secret", body: good}.to(t, server.URL)
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" || strings.Contains(body, "broker") {
		t.Errorf("while the log is away: %d %s", response.StatusCode, body)
	}
	if strings.Contains(w.lines.String(), "guess") || strings.Contains(w.lines.String(), good) {
		t.Error("a credential is in the log")
	}
}

func TestAPushEndpointHasATokenOrTheWordThatItHasNone(t *testing.T) {
	w := newWorld(t)
	for _, bad := range []PushConfig{{}, {Anonymous: true, Tokens: make([][32]byte, 1)}, {Tokens: make([][32]byte, 17)}, {Anonymous: true, MaxBody: -1}} {
		if _, err := NewPush(w.receiver, bad); err == nil {
			t.Errorf("%+v is an endpoint", bad)
		}
	}
	server := newPush(t, w, PushConfig{Anonymous: true})
	if response, _ := (pushed{body: signed(t, nil)}).to(t, server.URL); response.StatusCode != http.StatusAccepted {
		t.Error(response.StatusCode)
	}
}

// holding is an intake that waits.
type holding struct {
	Intake
	entered, leave chan struct{}
}

func (h *holding) Push(ctx context.Context, s signals.Sender, body []byte) (signals.Receipt, error) {
	h.entered <- struct{}{}
	<-h.leave
	return h.Intake.Push(ctx, s, body)
}

// TestPushesAtOnceAreBounded: what is beyond is sent again later, not queued.
func TestPushesAtOnceAreBounded(t *testing.T) {
	w := newWorld(t)
	h := &holding{Intake: w.intake, entered: make(chan struct{}), leave: make(chan struct{})}
	w.receiver.intake = h
	server := newPush(t, w, PushConfig{Anonymous: true, MaxAtOnce: 2})
	var all sync.WaitGroup
	for i := range 2 {
		token := signed(t, object{"jti": fmt.Sprint(i), "sub_id": opaque(fmt.Sprint("s-", i))})
		all.Go(func() {
			if response, body := (pushed{body: token}).to(t, server.URL); response.StatusCode != http.StatusAccepted {
				t.Errorf("%d %s", response.StatusCode, body)
			}
		})
		<-h.entered
	}
	if response, _ := (pushed{body: signed(t, nil)}).to(t, server.URL); response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a third: %d", response.StatusCode)
	}
	if w.status(t, "session:s-0") != "active" {
		t.Error("in force before it is durable")
	}
	close(h.leave)
	all.Wait()
	if w.status(t, "session:s-0") != "revoked" || w.status(t, "session:s-1") != "revoked" {
		t.Error("an acknowledged SET is not in force")
	}
}
