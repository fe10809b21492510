package decision

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"vigil/authz"
	"vigil/engine"
	"vigil/server/credential"
	"vigil/server/recent"
)

// Engine is engine.Engine. Neither method keeps what it is given, but for the answers.
type Engine interface {
	Decide(caller *authz.Caller, req *authz.Request, p *authz.Principal) authz.Answer
	DecideBatch(caller *authz.Caller, items []engine.Item, answers []authz.Answer, stop func(authz.Answer) bool) []authz.Answer
}

// Mapper is *identity.Mapping.
type Mapper interface {
	Principal(caller *authz.Caller, req *authz.Request, p *authz.Principal)
}

// Waiter waits until this replica's view is as new as a caller demands.
type Waiter interface {
	// WaitFor returns nil once the view is at least as new as token, which is an as_of of
	// an earlier answer. It returns an error when it cannot know that: ctx or its own bound
	// ended, too many wait already, token is past the end of the log or of another log, or it
	// is no token at all. It does not wait where it knows that nothing can come.
	// token is valid only during the call.
	WaitFor(ctx context.Context, token string) error
}

// Unavailable says what is answered when no decision can be made.
type Unavailable uint8

const (
	// UnavailableError answers 503 with Retry-After.
	UnavailableError Unavailable = iota
	// UnavailableDeny answers 200 with decision false, for gateways that let calls pass
	// when their check fails.
	UnavailableDeny
)

// Config is what a decision port is made of. Members without a default are required.
type Config struct {
	Engine      Engine
	Mapping     Mapper
	Credentials *credential.Registry

	// Now is the engine's clock, for denials that the engine is not asked for. Nil for the
	// wall clock.
	Now func() authz.Instant
	// Ready says why no decision can be made, or nil. It is asked for each request and
	// must be quick. What it says is open to all.
	Ready func() error
	// Strict says what else is wrong, for /readyz?strict. Nil says nothing.
	Strict func() error
	// AtLeast serves the header Vigil-At-Least. Nil: whoever sends it is denied as stale.
	AtLeast Waiter

	Recent *recent.Ring // nil remembers nothing
	Log    *recent.Log  // nil logs no decision
	Logger *slog.Logger // faults of the server itself; nil discards

	Unavailable Unavailable
	// Hosts are names that the Host header may carry besides IP addresses and localhost.
	// An address cannot be rebound by DNS; a name can.
	Hosts []string
	// PublicURL is the PDP's identifier in the metadata: https, without query or fragment.
	// Empty: the scheme and host of the request. Its host is one of Hosts.
	PublicURL string
	// Drain is how long Shutdown goes on deciding while /readyz already fails, so that
	// load balancers turn away before connections do. 0 is not at all.
	Drain time.Duration

	Limits Limits
}

// DefaultConnections is Limits.Connections where nothing else is said. Each may hold a
// body, read before anybody knows whose it is: with the default Body they are 256 MiB.
const DefaultConnections = 4096

// Limits bound what callers can take. Zero members have the defaults named.
type Limits struct {
	Body        int           // 64 KiB of body
	Header      int           // 16 KiB of request line and header; an as_of alone may have 8
	Items       int           // 1,000 requests in a batch, which is also the most
	Connections int           // 4,096; one more ends one that is not at work, or is refused
	PerAddress  int           // connections from one IP address; 0 is any number
	InFlight    int           // 1,024 requests at work at one time; more get 503 at once
	Waiting     int           // 256 of them waiting for Vigil-At-Least
	AtLeastTime time.Duration // 2 s to wait for Vigil-At-Least
	ReadTime    time.Duration // 30 s from a request's first byte to its last, and for a TLS handshake
	WriteTime   time.Duration // 30 s for the caller to take an answer
	IdleTime    time.Duration // 30 s between requests
}

func (c *Config) validate() error {
	var errs []error
	for _, m := range []struct {
		name    string
		missing bool
	}{
		{"Engine", c.Engine == nil}, {"Mapping", c.Mapping == nil},
		{"Credentials", c.Credentials == nil}, {"Ready", c.Ready == nil},
	} {
		if m.missing {
			errs = append(errs, errors.New("decision: Config."+m.name+" is required"))
		}
	}
	if c.PublicURL != "" {
		u, err := url.Parse(c.PublicURL)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil ||
			strings.ContainsAny(c.PublicURL, "?#") || strings.HasSuffix(c.PublicURL, "/") {
			errs = append(errs, fmt.Errorf("decision: the public URL %q is not an https URL without query, fragment and trailing slash", c.PublicURL))
		} else {
			c.Hosts = append(append([]string(nil), c.Hosts...), u.Hostname())
		}
	}
	for _, host := range c.Hosts {
		if host == "" || strings.ContainsAny(host, "/@ ") {
			errs = append(errs, fmt.Errorf("decision: %q is no host name", host))
		}
	}
	if c.Unavailable > UnavailableDeny {
		errs = append(errs, fmt.Errorf("decision: unavailable(%d) is unknown", c.Unavailable))
	}
	return errors.Join(errs...)
}

func (c *Config) setDefaults() {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = func() authz.Instant { return authz.InstantOf(time.Now()) }
	}
	if c.Strict == nil {
		c.Strict = func() error { return nil }
	}
	l := &c.Limits
	orDefault(&l.Body, 64<<10)
	orDefault(&l.Header, 16<<10)
	orDefault(&l.Items, 1000)
	orDefault(&l.Connections, DefaultConnections)
	orDefault(&l.InFlight, 1024)
	orDefault(&l.Waiting, 256)
	orDefault(&l.AtLeastTime, 2*time.Second)
	orDefault(&l.ReadTime, 30*time.Second)
	orDefault(&l.WriteTime, 30*time.Second)
	orDefault(&l.IdleTime, 30*time.Second)
}

func orDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}
