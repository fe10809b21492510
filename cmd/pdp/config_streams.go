package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"vigil/authz"
	"vigil/signals/ssf"
)

// credentialConfig says who we are at a transmitter. The zero value is nobody.
type credentialConfig struct {
	TokenFile string // a bearer token in a file of its own
	// OAuth gets tokens instead: RFC 6749 section 4.4.
	TokenURL, ClientID, SecretFile, Scope string
}

// streamConfig is how a stream is managed at its transmitter. Running engines read no more
// of its files than they need: see node.stateSecret and node.verifier.
type streamConfig struct {
	// Discovery is a document of discovery, or the URL of the metadata.
	Discovery string
	ID        string // "" where the transmitter has one stream for us
	credentialConfig
	// PushEndpoint is where the transmitter is to push to: here, or where its events are put
	// on the issuer's topic; "" for a stream that is polled. PushTokenFile holds the bearer
	// token that it is to send.
	PushEndpoint, PushTokenFile string
	Events                      []string // to be requested; nil for those that say something here
	Description                 string
	// VerificationSecretFile holds what the states of verifications are made with; "" for the
	// secret of the credential.
	VerificationSecretFile string
	VerifyEvery            time.Duration // 0 for never
}

var (
	credentialKeys = []string{"token_file", "token_url", "client_id", "secret_file", "scope"}
	streamKeys     = append([]string{"discovery", "id", "push_endpoint", "push_token_file", "events", "description",
		"verification_secret_file", "verify_every"}, credentialKeys...)
)

// credential reads one of the settings of a credential, and reports whether it is one.
func (r *yamlReader) credential(key, value *yaml.Node, c *credentialConfig) bool {
	dst := map[string]*string{
		"token_file": &c.TokenFile, "token_url": &c.TokenURL, "client_id": &c.ClientID, "secret_file": &c.SecretFile, "scope": &c.Scope,
	}[key.Value]
	if dst == nil {
		return false
	}
	r.textOrFile(key, value, dst)
	return true
}

// textOrFile reads a text, or a path where the key says that it is one.
func (r *yamlReader) textOrFile(key, value *yaml.Node, dst *string) {
	text, ok := r.scalar(value)
	if ok && text == "" {
		r.bad(value, "%s: it is empty", key.Value)
	}
	if strings.HasSuffix(key.Value, "_file") {
		text = relativeTo(r.file, text)
	}
	*dst = text
}

func (r *yamlReader) checkCredential(n *yaml.Node, section string, c *credentialConfig) {
	grant := c.TokenURL != "" || c.ClientID != "" || c.SecretFile != "" || c.Scope != ""
	switch {
	case grant && (c.TokenURL == "" || c.ClientID == "" || c.SecretFile == ""):
		r.bad(n, "%s: client credentials take token_url, client_id and secret_file", section)
	case grant && c.TokenFile != "":
		r.bad(n, "%s: want either token_file or client credentials", section)
	case grant:
		if err := (&ssf.Web{}).CheckURL(c.TokenURL); err != nil {
			r.bad(n, "%s: token_url: %v", section, err)
		}
	}
}

func (r *yamlReader) stream(n *yaml.Node) *streamConfig {
	c := &streamConfig{Discovery: ssf.SSFConfiguration}
	into := map[string]*string{
		"discovery": &c.Discovery, "id": &c.ID, "push_endpoint": &c.PushEndpoint, "push_token_file": &c.PushTokenFile,
		"description": &c.Description, "verification_secret_file": &c.VerificationSecretFile,
	}
	for key, value := range r.pairs(n, "stream") {
		switch dst := into[key.Value]; {
		case dst != nil:
			r.textOrFile(key, value, dst)
		case key.Value == "events":
			if c.Events, _ = r.words(value); len(c.Events) == 0 {
				r.bad(value, "stream.events: want at least one; leave it out for those that say something here")
			}
			for i, name := range c.Events {
				uri, known := ssf.EventURI(name)
				if !known {
					r.bad(value.Content[i], "stream.events: %q is no event of CAEP or RISC, nor a URI", name)
				}
				c.Events[i] = uri
			}
		case key.Value == "verify_every":
			text, _ := r.scalar(value)
			if err := duration(&c.VerifyEvery, text, ssf.MinVerifyEvery, ssf.MaxVerifyEvery); err != nil {
				r.bad(value, "stream.verify_every: %s", err)
			}
		case !r.credential(key, value, &c.credentialConfig):
			r.bad(key, "unknown key %q%s; secrets stand in files of their own", key.Value, didYouMean(key.Value, streamKeys))
		}
	}
	r.checkCredential(n, "stream", &c.credentialConfig)
	return c
}

// checkStream checks what concerns the stream and the rest of its issuer.
func (r *yamlReader) checkStream(n *yaml.Node, c *issuerConfig, receiver *ssf.Receiver) {
	web, s := &ssf.Web{}, c.Stream
	where, err := ssf.MetadataURL(c.SSF.Issuer, s.Discovery)
	if err == nil {
		err = web.CheckURL(where)
	}
	if err != nil {
		r.bad(n, "stream: %v", err)
	}
	if s.PushEndpoint != "" {
		if err := web.CheckURL(s.PushEndpoint); err != nil {
			r.bad(n, "stream: push_endpoint: %v", err)
		}
		if c.Push == nil && c.Topic == nil {
			r.bad(n, "stream: push_endpoint, and nothing may be pushed: set push, too")
		}
	}
	elsewhere := c.Push == nil && c.Topic != nil // whose tokens are not known here
	if s.PushTokenFile != "" && (s.PushEndpoint == "" || !elsewhere && (c.Push == nil || len(c.Push.Tokens) == 0)) {
		r.bad(n, "stream: push_token_file is what the transmitter sends to push_endpoint; its hash stands in push.token_sha256")
	}
	if s.VerifyEvery != 0 && err == nil {
		if _, err := ssf.NewVerifier(receiver, ssf.VerifierConfig{Web: web, Discovery: s.Discovery, Stream: s.ID, Every: s.VerifyEvery}); err != nil {
			r.bad(n, "stream: %v", err)
		}
	}
}

// web reads the credential and makes what asks the transmitter with it.
func (c *credentialConfig) web(now func() authz.Instant) (*ssf.Web, error) {
	web := &ssf.Web{}
	if c.file() == "" {
		return web, nil
	}
	secret, err := readSecret(c.file())
	if err != nil {
		return nil, err
	}
	if c.TokenFile != "" {
		if strings.ContainsFunc(secret, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, fmt.Errorf("%s: it holds more than one token", c.TokenFile)
		}
		web.Authorize = func(context.Context) (string, error) { return "Bearer " + secret, nil }
		return web, nil
	}
	grant := &ssf.ClientCredentials{TokenURL: c.TokenURL, ID: c.ClientID, Secret: secret, Scope: c.Scope, Web: &ssf.Web{}, Now: now}
	web.Authorize, web.Refused = grant.Authorize, grant.Forget
	return web, nil
}

// file is the one that holds the secret of the credential; "" for none.
func (c *credentialConfig) file() string { return cmp.Or(c.TokenFile, c.SecretFile) }

// minVerificationSecret bounds from below, in bytes, what a file of its own may hold: nobody
// should guess it who sees a state.
const minVerificationSecret = 16

// stateSecret reads what the states of verifications are made with; nil where there is nothing.
func (c *streamConfig) stateSecret() ([]byte, error) {
	name := cmp.Or(c.VerificationSecretFile, c.file())
	if name == "" {
		return nil, nil
	}
	secret, err := readSecret(name)
	if err == nil && c.VerificationSecretFile != "" && len(secret) < minVerificationSecret {
		err = fmt.Errorf("%s: it holds fewer than %d bytes; `pdp token new` makes a good one", name, minVerificationSecret)
	}
	return []byte(secret), err
}

// authorization is the header that the transmitter is to send with each push; "" for none
// that it is to be told.
func (c *issuerConfig) authorization() (string, error) {
	s := c.Stream
	if s.PushTokenFile == "" {
		return "", nil
	}
	token, err := readSecret(s.PushTokenFile)
	if err != nil {
		return "", err
	}
	if c.Push != nil && !slices.Contains(c.Push.Tokens, sha256.Sum256([]byte(token))) {
		return "", fmt.Errorf("%s: %w", s.PushTokenFile, errors.New("its hash is not in push.token_sha256, so that what is pushed with it would be refused"))
	}
	return "Bearer " + token, nil
}

// warnings are things that are allowed and that somebody may not have meant.
func (c *issuerConfig) warnings() []string {
	if c.Push == nil && c.Poll == nil && c.Topic == nil {
		return []string{fmt.Sprintf("issuer %q: nothing is taken of it: its stream can be managed, and neither push nor poll nor topic is set", c.SSF.Name)}
	}
	return nil
}
