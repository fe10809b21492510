package ssf

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"vigil/authz"
)

// ClientCredentials gets access tokens by the grant of RFC 6749 section 4.4, as the CAEP
// interoperability profile has it, and keeps each until shortly before it ends. Its
// Authorize is for Web.Authorize. It is safe for concurrent use; the fields do not change.
type ClientCredentials struct {
	TokenURL string
	ID       string
	Secret   string // never logged, nor repeated by an error
	Scope    string // space-separated, as "ssf.manage ssf.read"; "" for what the server gives
	Web      *Web   // how the token endpoint is asked; its Authorize is not used
	Now      func() authz.Instant

	mu     sync.Mutex // held while a token is fetched: one at a time
	header string
	until  authz.Instant
}

const (
	maxToken    = 64 << 10         // bytes of an answer of the token endpoint
	tokenMargin = 30 * time.Second // a token is not used in its last moments
	unstated    = 5 * time.Minute  // the life of a token whose answer does not say
)

// Authorize gives the Authorization header with a token that is good now.
func (c *ClientCredentials) Authorize(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.Now()
	if c.header != "" && now < c.until {
		return c.header, nil
	}
	form := url.Values{"grant_type": {"client_credentials"}}
	if c.Scope != "" {
		form.Set("scope", c.Scope)
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	_, body, err := c.Web.do(ctx, ask{
		method: http.MethodPost, url: c.TokenURL, body: []byte(form.Encode()), user: c.ID, pass: c.Secret,
		most: maxToken, want: []int{http.StatusOK},
	})
	if err != nil {
		return "", fmt.Errorf("access token: %w", err)
	}
	var answer struct {
		Token string `json:"access_token"`
		Type  string `json:"token_type"`
		Life  int64  `json:"expires_in"` // seconds
	}
	if json.Unmarshal(body, &answer) != nil { // whose error may repeat the token
		return "", errors.New("access token: the answer is not that of RFC 6749")
	}
	if answer.Token == "" || !strings.EqualFold(answer.Type, "Bearer") || strings.ContainsFunc(answer.Token, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return "", errors.New("access token: the answer holds no bearer token")
	}
	life := unstated
	if answer.Life > 0 {
		life = time.Duration(min(answer.Life, 24*3600)) * time.Second
	}
	c.header, c.until = "Bearer "+answer.Token, now.Add(max(life-tokenMargin, life/2))
	return c.header, nil
}

// Forget drops the token, for one that the transmitter no longer takes.
func (c *ClientCredentials) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.header = ""
}
