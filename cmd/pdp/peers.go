package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"vigil/signals/snapshot"
)

// bootstrapConfig names the replicas that a start may take a snapshot from.
type bootstrapConfig struct {
	From      []string // control ports, in the order in which they are asked
	TokenFile string   // of a client that is an administrator there; "" for a local token
	CA        string   // certificates to trust for https; "" for what the machine trusts
}

const (
	// maxBootstrap bounds the snapshot of a peer, in bytes of its file.
	maxBootstrap = 16 << 30
	// peerSilence bounds how long a peer may send nothing.
	peerSilence = 30 * time.Second
	// peerPatience bounds how long peers are asked that may be starting themselves.
	peerPatience = 2 * time.Minute
	// The pauses between two rounds.
	firstRound, longestRound = time.Second, 15 * time.Second
)

// peers are other replicas of the same log.
type peers struct {
	all      []*client
	log      *slog.Logger
	patience time.Duration // how long those are asked again that may answer otherwise soon
	silence  time.Duration // how long one may send nothing
}

// peers prepares the replicas that are configured; nil where there are none.
func (n *node) peers() (*peers, error) {
	b := &n.cfg.Log.Bootstrap
	if len(b.From) == 0 {
		return nil, nil
	}
	p := &peers{log: n.log, patience: peerPatience, silence: peerSilence}
	for _, address := range b.From {
		cl, err := n.app.controlClient(&connection{ControlURL: address, TokenFile: b.TokenFile, CAFile: b.CA, Timeout: peerSilence.String()})
		if err != nil {
			return nil, &failure{code: exitInput, err: fmt.Errorf("%s: %w", n.cfg.where("log.bootstrap_from"), err)}
		}
		cl.http.Timeout = 0 // a large one takes its time; silence is what ends it
		p.all = append(p.all, cl)
	}
	return p, nil
}

// take puts a snapshot of a peer that accept takes into dir. Peers that may be starting
// themselves are asked again for a while.
func (p *peers) take(ctx context.Context, dir snapshot.Dir, accept snapshot.Accept) error {
	for pause, deadline := firstRound, time.Now().Add(p.patience); ; pause = min(2*pause, longestRound) {
		err, again := p.round(ctx, dir, accept)
		if err == nil || !again || time.Now().Add(pause).After(deadline) || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// round asks each peer once. again says whether one may answer otherwise soon.
func (p *peers) round(ctx context.Context, dir snapshot.Dir, accept snapshot.Accept) (all error, again bool) {
	for _, cl := range p.all {
		begun := time.Now()
		path, meta, err := p.takeFrom(ctx, cl, dir, accept)
		if err == nil {
			p.log.Info("took a snapshot from another replica", "from", cl.shown, "file", path, "of", meta.String(), "took", time.Since(begun).Round(time.Millisecond))
			return nil, false
		}
		p.log.Warn("no snapshot from another replica", "from", cl.shown, "error", err)
		all = errors.Join(all, fmt.Errorf("%s: %w", cl.shown, err))
		var f *failure
		again = again || errors.As(err, &f) && f.code == exitUnreachable
	}
	if again {
		all = &failure{code: exitUnreachable, err: all}
	}
	return all, again
}

func (p *peers) takeFrom(ctx context.Context, cl *client, dir snapshot.Dir, accept snapshot.Accept) (string, snapshot.Meta, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(p.silence, func() { cancel(errSilent) })
	defer silence.Stop()
	path, meta, err := p.receive(ctx, cl, silence, dir, accept)
	if err != nil && errors.Is(context.Cause(ctx), errSilent) {
		err = &failure{code: exitUnreachable, err: errSilent}
	}
	return path, meta, err
}

var errSilent = errors.New("it sends nothing")

func (p *peers) receive(ctx context.Context, cl *client, silence *time.Timer, dir snapshot.Dir, accept snapshot.Accept) (string, snapshot.Meta, error) {
	resp, err := cl.open(ctx, http.MethodGet, "/v1/snapshot", nil)
	if err != nil {
		return "", snapshot.Meta{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := readAllBounded(resp.Body, maxConfig)
		err := cl.problem(&answer{status: resp.StatusCode, header: resp.Header, body: body})
		if resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests {
			err = &failure{code: exitInput, err: err} // it will say the same again
		}
		return "", snapshot.Meta{}, err
	}
	return dir.Receive(&heard{resp.Body, silence, p.silence}, maxBootstrap, accept)
}

// heard is a body whose every byte puts off the end of patience.
type heard struct {
	r       io.Reader
	silence *time.Timer
	after   time.Duration
}

func (h *heard) Read(b []byte) (int, error) {
	n, err := h.r.Read(b)
	if n > 0 {
		h.silence.Reset(h.after)
	}
	return n, err
}

// controlURLs takes the addresses of control ports, separated by commas.
func controlURLs(dst *[]string, v string) error {
	var all []string
	for address := range strings.SplitSeq(v, ",") {
		address = strings.TrimSpace(address)
		u, err := url.Parse(address)
		if unix := strings.HasPrefix(address, "unix:/"); !unix && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "") {
			return fmt.Errorf("want control ports as https://host:port, http://host:port or unix:/path, not %q", address)
		}
		all = append(all, address)
	}
	if len(all) > maxPeers {
		return fmt.Errorf("%d replicas; name at most %d", len(all), maxPeers)
	}
	*dst = all
	return nil
}

const maxPeers = 100

// warnings are things about the peers that are allowed and that somebody may not have meant.
func (b *bootstrapConfig) warnings() []string {
	for _, address := range b.From {
		if u, err := url.Parse(address); err == nil && u.Scheme == "http" && !loopback(u.Host) {
			return []string{"log.bootstrap_from: " + address + " is not https: the token of an administrator crosses the network in the clear, and whoever is on the way can change what this replica believes"}
		}
	}
	return nil
}
