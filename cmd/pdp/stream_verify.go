package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"vigil/server/control"
	"vigil/signals/ssf"
)

type streamVerifyCmd struct {
	Wait          []string `help:"Wait until the event has come to one of these replicas: control ports, at each address of each name. Exit 4 where it does not in time." placeholder:"URL"`
	WaitTimeout   string   `help:"How long to wait for it." default:"30s"`
	WaitTokenFile string   `help:"File that holds a bearer token for them, of a client with the scope read. By default the local token of each." env:"VIGIL_WAIT_TOKEN_FILE"`
	WaitCAFile    string   `name:"wait-ca-file" help:"Certificates to trust for https." env:"VIGIL_CA_FILE"`
	streamFlags
}

func (c *streamVerifyCmd) Run(ctx context.Context, a *app) error {
	calls, err := a.replicas(&connection{CAFile: c.WaitCAFile, Timeout: "10s"},
		&waitFlags{WaitAll: c.Wait, WaitTimeout: c.WaitTimeout, WaitTokenFile: c.WaitTokenFile})
	if err != nil {
		return renamed(err, "--wait-all", "--wait")
	}
	waiting := ctx // which has a bound of its own
	return c.with(ctx, a, func(ctx context.Context, m *managed, s *ssf.Stream) error {
		seen, err := calls.watch(ctx, c.Issuer)
		if err != nil {
			return err
		}
		if err := m.Transmitter.Verify(ctx, s.ID); err != nil {
			seen.close()
			err = ofTransmitter(err, true)
			var f *failure
			if errors.As(err, &f) && f.hint == "" {
				f.hint = fmt.Sprintf("Is it enabled? pdp stream status %s", c.Issuer)
			}
			return err
		}
		if len(c.Wait) == 0 {
			return a.streamDone(c.json(), s.ID, "a verification was asked for; GET /v1/events of the replica that it comes to says so")
		}
		came, err := seen.wait(waiting, calls.timeout)
		if err != nil {
			return err
		}
		if c.json() {
			return a.printJSON(came)
		}
		fmt.Fprintln(a.stdout, printable(fmt.Sprintf("%s: verified, at %s after %v", s.ID, came.URL, time.Duration(came.Seconds*float64(time.Second)).Round(time.Millisecond))))
		return nil
	})
}

// watching are replicas that a verification may come to, and when one came to each before.
type watching struct {
	issuer   string
	replicas []*client
	before   []string // of those that are known; "" for never
	known    []bool
	last     []error // of the last question to each
}

// watch asks all replicas when they were verified last. What is new after is what was asked
// for, or another of that moment: it came the same way.
func (r *replicaCalls) watch(ctx context.Context, issuer string) (*watching, error) {
	w := &watching{issuer: issuer}
	for _, cl := range r.clients {
		addresses, err := r.addresses(ctx, cl)
		if err != nil {
			return nil, &failure{code: exitUnreachable, err: fmt.Errorf("--wait: %s: %w", cl.shown, err)}
		}
		for _, address := range addresses {
			at := cl.at(address)
			if len(addresses) > 1 {
				at.shown += " (" + address + ")"
			}
			w.replicas = append(w.replicas, at)
		}
	}
	w.before, w.known, w.last = make([]string, len(w.replicas)), make([]bool, len(w.replicas)), make([]error, len(w.replicas))
	var all sync.WaitGroup
	for i := range w.replicas {
		all.Go(func() { _ = w.look(ctx, i) })
	}
	all.Wait()
	for _, err := range w.last {
		// What is wrong with a token or a name is said before anything is asked for.
		if err != nil && !passing(err) {
			w.close()
			return nil, err
		}
	}
	return w, nil
}

func (w *watching) close() {
	for _, cl := range w.replicas {
		cl.http.CloseIdleConnections()
	}
}

// look asks a replica, and gives when it was verified if that is later than it was known to
// be; "" if not. One that could not be asked before counts from now on.
func (w *watching) look(ctx context.Context, i int) (later string) {
	at, err := w.verified(ctx, i)
	w.last[i] = err
	switch {
	case err != nil:
		return ""
	case w.known[i] && at != w.before[i]:
		return at
	}
	w.before[i], w.known[i] = at, true
	return ""
}

// verified is when the issuer's stream was verified last at a replica; "" for never.
func (w *watching) verified(ctx context.Context, i int) (string, error) {
	var events control.EventsResponse
	if _, err := w.replicas[i].get(ctx, "/v1/events", &events); err != nil {
		return "", err
	}
	at := slices.IndexFunc(events.Issuers, func(s control.IssuerStatus) bool { return s.Name == w.issuer })
	if at < 0 {
		return "", badInput("%s shows this client no issuer %q", w.replicas[i].shown, w.issuer)
	}
	return events.Issuers[at].Verified, nil
}

// cameTo is the replica that a verification came to.
type cameTo struct {
	URL      string  `json:"url"`
	Verified string  `json:"verified"`
	Seconds  float64 `json:"seconds"` // since it was asked for
}

// wait asks all replicas, again and again, until a verification has come to one, or the time
// is over.
func (w *watching) wait(ctx context.Context, most time.Duration) (*cameTo, error) {
	defer w.close()
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	came := make(chan *cameTo, len(w.replicas))
	var all sync.WaitGroup
	for i, cl := range w.replicas {
		all.Go(func() {
			for pause := askAgainFirst; ctx.Err() == nil; pause = min(2*pause, askAgainLast) {
				if at := w.look(ctx, i); at != "" {
					came <- &cameTo{cl.shown, at, time.Since(begun).Seconds()}
					return
				}
				select {
				case <-ctx.Done():
				case <-time.After(pause):
				}
			}
		})
	}
	var found *cameTo
	select {
	case found = <-came:
	case <-ctx.Done():
	}
	cancel()
	all.Wait()
	select { // one that came as the time ended
	case last := <-came:
		found = cmp.Or(found, last)
	default:
	}
	if found != nil {
		return found, nil
	}
	err := fmt.Errorf("no verification came to any of %d replicas within %v", len(w.replicas), most)
	for i, last := range w.last {
		if last != nil {
			err = fmt.Errorf("%w\n%s: %w", err, w.replicas[i].shown, last)
		}
	}
	return nil, &failure{code: exitUnreachable, err: err,
		hint: "The transmitter took the request. Can it reach push_endpoint, and does it send the token there? The log of the replicas says what was refused."}
}

// renamed puts the name of a flag of this command for that of another.
func renamed(err error, from, to string) error {
	text := strings.ReplaceAll(err.Error(), from, to)
	return badInput("%s", text)
}

type addSubjectCmd struct {
	streamFlags
	Subject    string `arg:"" help:"As FORMAT:VALUE (email:kim@example.com, opaque:4711, iss_sub:SUB of this issuer), or a subject identifier in JSON."`
	Unverified bool   `help:"Say that nobody has verified that the subject is who it is meant to be."`
}

func (c *addSubjectCmd) Run(ctx context.Context, a *app) error {
	return c.with(ctx, a, func(ctx context.Context, m *managed, s *ssf.Stream) error {
		subject, err := m.subject(c.Subject)
		if err != nil {
			return err
		}
		if err := m.AddSubject(ctx, s.ID, subject, !c.Unverified); err != nil {
			return ofTransmitter(err, true)
		}
		return a.streamDone(c.json(), s.ID, "events about "+c.Subject+" were asked for; whether there will be any is for the transmitter to say")
	})
}

type removeSubjectCmd struct {
	streamFlags
	Subject string `arg:"" help:"As for add-subject."`
}

func (c *removeSubjectCmd) Run(ctx context.Context, a *app) error {
	return c.with(ctx, a, func(ctx context.Context, m *managed, s *ssf.Stream) error {
		subject, err := m.subject(c.Subject)
		if err != nil {
			return err
		}
		if err := m.RemoveSubject(ctx, s.ID, subject); err != nil {
			return ofTransmitter(err, true)
		}
		return a.streamDone(c.json(), s.ID, "no more events about "+c.Subject+" were asked for; some may still come")
	})
}

// subject is a subject identifier (RFC 9493) in JSON.
func (m *managed) subject(text string) ([]byte, error) {
	subject := []byte(text)
	if !strings.HasPrefix(text, "{") {
		format, value, _ := strings.Cut(text, ":")
		members := map[string]string{"format": format}
		member, known := map[string]string{
			"email": "email", "opaque": "id", "phone_number": "phone_number", "account": "uri", "uri": "uri", "did": "url", "iss_sub": "sub",
		}[format]
		if !known || value == "" {
			return nil, badInput("%q: want FORMAT:VALUE, with email, opaque, phone_number, account, uri, did or iss_sub, or a subject identifier in JSON", text)
		}
		if members[member] = value; format == "iss_sub" {
			members["iss"] = m.issuer.SSF.Issuer
		}
		var err error
		if subject, err = json.Marshal(members, json.Deterministic(true)); err != nil {
			return nil, badInput("%s", err)
		}
	}
	if err := ssf.CheckSubject(subject); err != nil {
		return nil, badInput("%s", err)
	}
	return subject, nil
}
