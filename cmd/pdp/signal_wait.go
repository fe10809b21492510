package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"vigil/server/control"
)

// A pushed signal is in force on the replica that has acknowledged it. The others follow
// the same log, and have it a moment later; --wait-all is for whoever has to know when.

// waitFlags name the replicas that must have a signal in force before the command ends.
type waitFlags struct {
	WaitAll       []string `help:"Wait until these replicas have it in force, too: control ports, at each address of each name. Exit 4 where one does not say so in time." placeholder:"URL,..." group:"Signal:"`
	WaitTimeout   string   `help:"How long to wait for them." default:"10s" group:"Signal:"`
	WaitTokenFile string   `help:"File that holds the bearer token for them. By default that of --token-file, or the local token of each." env:"VIGIL_WAIT_TOKEN_FILE" group:"Signal:"`
}

// maxReplicas bounds the addresses that are asked.
const maxReplicas = 4096

// replicaCalls are the replicas to ask, before their names are resolved.
type replicaCalls struct {
	clients []*client // one for each URL
	timeout time.Duration
	// lookup gives the addresses of a name. "localhost" is not looked up: it is this machine.
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// replicas prepares the calls, so that what is wrong with a flag is said before anything
// is sent.
func (a *app) replicas(c *connection, w *waitFlags) (*replicaCalls, error) {
	calls := &replicaCalls{lookup: net.DefaultResolver.LookupNetIP}
	var err error
	if calls.timeout, err = parseDuration(w.WaitTimeout); err != nil || calls.timeout <= 0 {
		return nil, badInput("--wait-timeout: want a duration such as 10s, not %q", w.WaitTimeout)
	}
	for _, address := range w.WaitAll {
		own := *c
		own.ControlURL = address // the local token is found by it
		own.TokenFile = cmp.Or(w.WaitTokenFile, c.TokenFile)
		cl, err := a.dial(&own, "--wait-all", address)
		if err != nil {
			return nil, err
		}
		calls.clients = append(calls.clients, cl)
	}
	return calls, nil
}

// inForce is what became of a signal at one address.
type inForce struct {
	URL     string `json:"url"`
	Address string `json:"address,omitzero"` // "" where the name has none
	Reached bool   `json:"reached"`
	// Seconds from the acknowledgement to the answer that it is in force, or to the end
	// of the wait.
	Seconds float64 `json:"seconds"`
	Error   string  `json:"error,omitzero"` // the last
}

// wait asks every replica, at every address that its name has now, until it has come to
// the position or the time is over. All are asked at once.
func (r *replicaCalls) wait(ctx context.Context, asOf string) []inForce {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	var (
		mu  sync.Mutex
		all []inForce // guarded by mu
		wg  sync.WaitGroup
	)
	report := func(cl *client, address string, err error) {
		in := inForce{URL: cl.shown, Address: address, Reached: err == nil, Seconds: time.Since(begun).Seconds()}
		if err != nil {
			in.Error = err.Error()
		}
		mu.Lock()
		all = append(all, in)
		mu.Unlock()
	}
	for _, cl := range r.clients {
		wg.Go(func() {
			addresses, err := r.addresses(ctx, cl)
			if err != nil {
				report(cl, "", err)
				return
			}
			for _, address := range addresses {
				at := cl.at(address)
				wg.Go(func() { report(cl, address, at.reached(ctx, asOf)) })
			}
		})
	}
	wg.Wait()
	sortReplicas(all)
	return all
}

func sortReplicas(all []inForce) {
	slices.SortFunc(all, func(x, y inForce) int {
		return cmp.Or(cmp.Compare(x.URL, y.URL), cmp.Compare(x.Address, y.Address))
	})
}

// addresses are those of a client's host, as host:port: one for each replica, where many
// have one name. A Unix socket has its path.
func (r *replicaCalls) addresses(ctx context.Context, c *client) ([]string, error) {
	if path, ok := strings.CutPrefix(c.shown, "unix:"); ok {
		return []string{path}, nil
	}
	u, err := url.Parse(c.base)
	if err != nil {
		return nil, err
	}
	port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	host := u.Hostname()
	if _, err := netip.ParseAddr(host); err == nil || host == "localhost" {
		return []string{net.JoinHostPort(host, port)}, nil
	}
	found, err := r.lookup(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, ip := range found {
		all = append(all, net.JoinHostPort(ip.Unmap().String(), port))
	}
	slices.Sort(all)
	all = slices.Compact(all)
	if len(all) > maxReplicas {
		return nil, fmt.Errorf("%s has %d addresses, more than %d", host, len(all), maxReplicas)
	}
	return all, nil
}

// at is the client for one address of its host. The name stays what it was: that is what
// a certificate is checked against, and what the Host header says.
func (c *client) at(address string) *client {
	one := *c
	transport := c.http.Transport.(*http.Transport).Clone()
	if !strings.HasPrefix(c.shown, "unix:") {
		transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}
	}
	one.http = &http.Client{Transport: transport, CheckRedirect: c.http.CheckRedirect, Timeout: c.http.Timeout}
	return &one
}

// The pause between two questions to a replica that cannot be reached, or has not come so
// far in the time that it waits by itself.
const (
	askAgainFirst = 20 * time.Millisecond
	askAgainLast  = time.Second
)

// reached returns nil once the replica has come to the position. What waiting does not
// mend, such as another log, ends it at once.
func (c *client) reached(ctx context.Context, asOf string) error {
	defer c.http.CloseIdleConnections()
	c.atLeast = asOf
	var last error // of a question that was not cut short
	for pause := askAgainFirst; ; pause = min(2*pause, askAgainLast) {
		var at control.PositionResponse
		_, err := c.get(ctx, "/v1/position", &at)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return cmp.Or(last, err)
		case !passing(err):
			return err
		}
		last = err
		select {
		case <-ctx.Done():
			return last
		case <-time.After(pause):
		}
	}
}

// passing reports whether what kept a replica from answering may be over soon.
func passing(err error) bool {
	var (
		f         *failure
		untrusted *tls.CertificateVerificationError
	)
	return errors.As(err, &f) && f.code == exitUnreachable && !errors.As(err, &untrusted)
}

// awaitOthers says what signals did, and when the other replicas had them in force.
func (a *app) awaitOthers(ctx context.Context, f *signalFlags, others *replicaCalls, drafts []draft, r *control.SignalsResponse, again string) error {
	if !f.json() {
		a.printResults(drafts, r)
	}
	effect := a.judgeResults(f, drafts, r)
	var all []inForce
	if r.Spooled {
		for _, cl := range others.clients {
			all = append(all, inForce{URL: cl.shown, Error: "the log cannot be written now: only the replica that took it has it"})
		}
		sortReplicas(all)
	} else {
		all = others.wait(ctx, r.AsOf)
	}
	if f.json() {
		if err := a.printJSON(struct {
			*control.SignalsResponse
			Replicas []inForce `json:"replicas"`
		}{r, all}); err != nil {
			return err
		}
	} else {
		printReplicas(a.stdout, all)
	}
	missing := 0
	for _, in := range all {
		if !in.Reached {
			missing++
		}
	}
	if missing == 0 {
		return effect
	}
	miss := &failure{code: exitUnreachable,
		err:  fmt.Errorf("%d of %d replicas have not said that it is in force there", missing, len(all)),
		hint: "It is durable: each applies it as soon as it comes to it, and one that starts does so before it decides."}
	if len(drafts) == 1 {
		miss.hint += fmt.Sprintf(" To wait again, send it again with %s: that is safe.", again)
	}
	return miss
}

func printReplicas(w io.Writer, all []inForce) {
	rows := [][]string{{"REPLICA", "ADDRESS", "IN FORCE"}}
	for _, in := range all {
		said := "after " + time.Duration(in.Seconds*float64(time.Second)).Round(time.Millisecond).String()
		if !in.Reached {
			said = "NOT KNOWN: " + in.Error
		}
		rows = append(rows, []string{in.URL, orDash(in.Address), said})
	}
	table(w, rows)
}
