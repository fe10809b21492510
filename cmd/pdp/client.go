package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"vigil/server/control"
)

// client calls one port of a running engine.
type client struct {
	http  *http.Client
	base  string // http://host:port
	shown string // the address as the user gave it
	flag  string // with which it is given
	token string
	// found says where the token came from, for the hint when it is refused.
	found string
	cert  string // the file of the certificate that is shown; "" for none
	// atLeast is the position that the answer must be as new as; "" for any.
	atLeast string
}

// maxAnswer bounds what a command reads from an engine, in bytes.
const maxAnswer = 64 << 20

func (a *app) decisionClient(c *connection) (*client, error) {
	return a.dial(c, "--decision-url", c.DecisionURL)
}

func (a *app) controlClient(c *connection) (*client, error) {
	return a.dial(c, "--control-url", c.ControlURL)
}

// dial prepares a client for address, which flag gives; it does not connect yet.
func (a *app) dial(c *connection, flag, address string) (*client, error) {
	timeout, err := parseDuration(c.Timeout)
	if err != nil || timeout <= 0 {
		return nil, badInput("--timeout: want a duration such as 10s, not %q", c.Timeout)
	}
	transport := &http.Transport{DisableCompression: true, TLSHandshakeTimeout: timeout}
	cl := &client{
		// A redirect would carry the token to another place than the one that was named.
		http:  &http.Client{Transport: transport, Timeout: timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		shown: address,
		flag:  flag,
	}
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		path = strings.TrimPrefix(path, "//")
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}
		cl.base = "http://localhost"
	} else {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
			return nil, badInput("%s: want http://host:port, https://host:port or unix:/path, not %q", flag, address)
		}
		cl.base = strings.TrimSuffix(u.Scheme+"://"+u.Host+u.Path, "/")
	}
	if transport.TLSClientConfig, err = c.tls(); err != nil {
		return nil, err
	}
	cl.cert = c.CertFile
	cl.token, cl.found, err = a.findToken(c, address)
	return cl, err
}

// tls reads the certificates to trust and to show.
func (c *connection) tls() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := readBounded(c.CAFile, maxConfig)
		if err != nil {
			return nil, badInput("--ca-file: %s: %s", c.CAFile, plainOSError(err))
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, badInput("--ca-file: %s holds no certificate in PEM", c.CAFile)
		}
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return nil, badInput("--cert-file and --key-file go together")
	}
	if c.CertFile == "" {
		return cfg, nil
	}
	cert, err := readBounded(c.CertFile, maxConfig)
	if err != nil {
		return nil, badInput("--cert-file: %s: %s", c.CertFile, plainOSError(err))
	}
	key, err := readBounded(c.KeyFile, maxConfig)
	if err != nil {
		return nil, badInput("--key-file: %s: %s", c.KeyFile, plainOSError(err))
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, badInput("--cert-file %s, --key-file %s: %s", c.CertFile, c.KeyFile, err)
	}
	cfg.Certificates = []tls.Certificate{pair}
	return cfg, nil
}

// answer is what an engine said.
type answer struct {
	status int
	header http.Header
	body   []byte
	// changes: the request was one that may change something.
	changes bool
}

// call sends one request. Its error says that there was no answer.
func (c *client) call(ctx context.Context, method, path string, body []byte) (*answer, error) {
	resp, err := c.open(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := readAllBounded(resp.Body, maxAnswer)
	if err != nil {
		return nil, c.unreachable(err, method != http.MethodGet)
	}
	return &answer{status: resp.StatusCode, header: resp.Header, body: data, changes: method != http.MethodGet}, nil
}

// open is call without reading the body.
func (c *client) open(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, badInput("%s: %s", c.shown, err)
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.atLeast != "" {
		req.Header.Set("Vigil-At-Least", c.atLeast)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err, method != http.MethodGet)
	}
	return resp, nil
}

// unreachable says that there was no answer, and whether the request may have arrived
// all the same.
func (c *client) unreachable(err error, changes bool) error {
	var urlErr *url.Error
	if errors.As(err, &urlErr) {
		err = urlErr.Err
	}
	f := &failure{code: exitUnreachable, err: fmt.Errorf("no answer from %s: %w", c.shown, err)}
	var op *net.OpError
	switch {
	case errors.As(err, &op) && op.Op == "dial":
		f.hint = "Is the engine running there? Start it with \"pdp serve\", or name another address with " + c.flag + "."
	case changes:
		f.unknown, f.hint = true, "The request may have arrived: its outcome is unknown."
	}
	return f
}

// get asks the control port and decodes its answer into to.
func (c *client) get(ctx context.Context, path string, to any) ([]byte, error) {
	got, err := c.call(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	return got.body, c.decode(got, to)
}

// decode reads an answer of the control port, which is a problem unless its status is 200.
func (c *client) decode(got *answer, to any) error {
	if got.status != http.StatusOK {
		return c.problem(got)
	}
	if err := json.Unmarshal(got.body, to); err != nil {
		return &failure{code: exitUnreachable, err: fmt.Errorf("%s does not answer as Vigil's control port does: %w", c.shown, err)}
	}
	return nil
}

// refusal is an error that the control port answered with.
type refusal struct {
	control.Problem
}

func (r *refusal) Error() string {
	text := r.Detail
	if text == "" {
		text = r.Title
	}
	if r.Pointer != "" {
		text = r.Pointer + ": " + text
	}
	return fmt.Sprintf("%s (%s)", printable(text), r.Code)
}

const mayBeDone = "It may or may not have been done."

// nothingDone are the codes of answers with a status of 500 or more that say so.
var nothingDone = []string{control.CodeStarting, control.CodeUnavailable, control.CodeNotReached}

// problem turns an answer that is no success into an error with its exit code.
func (c *client) problem(got *answer) error {
	r := &refusal{}
	unknown := got.changes && got.status >= 500
	if err := json.Unmarshal(got.body, &r.Problem); err != nil || r.Code == "" {
		f := &failure{code: exitUnreachable, err: fmt.Errorf("%s answered %d: %s", c.shown, got.status, printable(firstLine(got.body)))}
		switch {
		case unknown:
			f.unknown, f.hint = true, mayBeDone
		case got.status == http.StatusNotFound:
			f.hint = c.otherPortHint()
		}
		return f
	}
	f := &failure{code: exitInput, err: r}
	switch {
	case got.status == http.StatusUnauthorized:
		f.hint = c.credentialHint()
	case r.Code == control.CodeForbiddenScope:
		f.hint = "The token is that of a client without the scope for this."
	case r.Code == control.CodeNotFound:
		f.hint = c.otherPortHint()
	case unknown && !slices.Contains(nothingDone, r.Code):
		f.code, f.unknown, f.hint = exitUnreachable, true, mayBeDone
	case got.status >= 500 || got.status == http.StatusTooManyRequests || got.status == http.StatusRequestTimeout:
		f.code, f.hint = exitUnreachable, "Nothing was done; try again."
	}
	for _, e := range r.Errors {
		f.err = fmt.Errorf("%w\n%s", f.err, ruleProblem(e))
	}
	return f
}

func ruleProblem(e control.RuleProblem) string {
	text := e.Message
	if e.Rule != "" {
		text = e.Rule + ": " + text
	}
	if e.File != "" {
		text = fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, text)
	}
	if e.Caret != "" {
		text += "\n" + e.Caret
	}
	return text
}

func (c *client) credentialHint() string {
	if c.token == "" && c.cert != "" {
		return "The certificate of " + c.cert + " is none of a client there."
	}
	if c.token == "" {
		return "No token was found. Name one with --token-file, show a certificate with --cert-file and --key-file, or run this as the user who runs the engine."
	}
	return "The token of " + c.found + " is not known there. Name another with --token-file."
}

// otherPortHint is for an address at which there is no such path.
func (c *client) otherPortHint() string {
	return "Is " + c.shown + " the other port of the engine, or another server? " + c.flag + " names the right one."
}

func firstLine(body []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(body), []byte("\n"))
	if len(line) > 200 {
		line = line[:200]
	}
	return string(line)
}

// errNothing is for an input in which nothing is.
var errNothing = errors.New("it is empty")

// readInput reads a file, or standard input for "-".
func (a *app) readInput(name string, limit int64) ([]byte, error) {
	if name == "-" {
		data, err := readAllBounded(a.stdin, limit)
		if err == nil && len(data) == 0 {
			err = errNothing
		}
		if err != nil {
			return nil, badInput("standard input: %s", err)
		}
		return data, nil
	}
	data, err := readBounded(name, limit)
	if errors.Is(err, os.ErrNotExist) {
		return nil, badInput("%s: no such file", name)
	}
	if err == nil && len(data) == 0 {
		err = errNothing
	}
	if err != nil {
		return nil, badInput("%s: %s", name, plainOSError(err))
	}
	return data, nil
}
