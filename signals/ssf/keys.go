package ssf

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"vigil/authz"
)

// KeysConfig says where the keys of an issuer come from.
type KeysConfig struct {
	// URI is the issuer's jwks_uri. Either it or Static is required.
	URI string
	// Static is a JWK set that is used for ever.
	Static []byte
	// Refresh is how old a fetched set may be before it is fetched anew, and so how long
	// a key that the issuer withdrew may still be used; 0 for an hour.
	Refresh time.Duration
	// Survive is how long the last set is used while it cannot be fetched anew; 0 for
	// 24 h. A SET that comes later is neither taken nor refused (ErrTemporary).
	Survive time.Duration
	// Retry is the least time between two fetches, whatever comes; 0 for 30 s.
	Retry time.Duration
}

func (c *KeysConfig) ensureDefaults() {
	if c.Refresh == 0 {
		c.Refresh = time.Hour
	}
	if c.Survive == 0 {
		c.Survive = 24 * time.Hour
	}
	if c.Retry == 0 {
		c.Retry = 30 * time.Second
	}
}

func (c *KeysConfig) check(web *Web) error {
	switch {
	case (c.URI == "") == (c.Static == nil):
		return errors.New("keys: want either a jwks_uri or a key set")
	case c.Refresh < 0 || c.Survive < 0 || c.Retry < 0:
		return errors.New("keys: a negative time")
	case c.Survive < c.Refresh:
		return fmt.Errorf("keys: they survive for %v, which is less than %v, when they are fetched anew", c.Survive, c.Refresh)
	case c.URI != "":
		if err := web.CheckURL(c.URI); err != nil {
			return fmt.Errorf("keys: %w", err)
		}
	}
	return nil
}

// fetchTime bounds one fetch of keys, and so how long a SET can wait for it.
const fetchTime = 10 * time.Second

// errUnknownKey: the issuer has no such key, as far as it says now.
var errUnknownKey = errors.New("the issuer has no such key")

// keyCache holds the keys of one issuer. It fetches in the goroutine of whoever needs
// them, one fetch at a time, and starts none of its own. It is safe for concurrent use.
type keyCache struct {
	cfg KeysConfig
	web *Web
	now func() authz.Instant

	mu struct {
		sync.Mutex
		keys    []key         // nil before the first fetch
		leftOut []error       // of that set
		fetched authz.Instant // when keys were; 0 before the first
		tried   authz.Instant // when the last fetch began; 0 before the first
		failed  error         // of the last fetch, or nil
		flight  *flight       // the fetch that is under way, or nil
	}
}

// flight is one fetch that several may wait for. err is written before done is closed.
type flight struct {
	done chan struct{}
	err  error
}

func newKeyCache(cfg KeysConfig, web *Web, now func() authz.Instant) (*keyCache, error) {
	c := &keyCache{cfg: cfg, web: web, now: now}
	if cfg.Static == nil {
		return c, nil
	}
	keys, leftOut, err := parseJWKS(cfg.Static)
	if err == nil && len(keys) == 0 {
		err = fmt.Errorf("the key set holds no key that can be used: %w", errors.Join(leftOut...))
	}
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	c.mu.keys, c.mu.leftOut = keys, leftOut
	return c, nil
}

// lookup gives the keys that a token can be signed with. The error is errUnknownKey where
// the issuer has none, and an ErrTemporary where that cannot be known now. since is when the
// token was here at the latest: a set that was fetched after it and lacks the key lacks it
// for good, and is not fetched again for it. 0 is now.
func (c *keyCache) lookup(ctx context.Context, kid, alg string, since authz.Instant) ([]key, error) {
	if c.cfg.Static != nil {
		return orUnknown(match(c.mu.keys, kid, alg), c.mu.leftOut)
	}
	began := c.now()
	keys, usable, fresh := c.current(began)
	found := match(keys, kid, alg)
	if fresh && len(found) > 0 {
		return found, nil
	}
	if fresh && since != 0 && c.fetchedAfter(since) {
		return c.unknown()
	}
	// The set is old, or does not know the key: it may know it now. Of several that find
	// it old, one fetches, and the others go on with what there is.
	err := c.refresh(ctx, began, !usable || len(found) == 0)
	keys, usable, _ = c.current(c.now())
	switch found = match(keys, kid, alg); {
	case usable && len(found) > 0:
		return found, nil
	case err == nil:
		return c.unknown()
	}
	return nil, temporary("the keys of the issuer: %w", err)
}

// unknown says that the set that there is lacks a key.
func (c *keyCache) unknown() ([]key, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return orUnknown(nil, c.mu.leftOut)
}

func (c *keyCache) fetchedAfter(since authz.Instant) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.fetched > since
}

func orUnknown(found []key, leftOut []error) ([]key, error) {
	if len(found) > 0 {
		return found, nil
	}
	if len(leftOut) > 0 {
		return nil, fmt.Errorf("%w; of its set, %w", errUnknownKey, leftOut[0])
	}
	return nil, errUnknownKey
}

// maxTries bounds the keys that one signature is tried with.
const maxTries = 8

func match(keys []key, kid, alg string) (found []key) {
	for i := range keys {
		if keys[i].fits(kid, alg) && len(found) < maxTries {
			found = append(found, keys[i])
		}
	}
	return found
}

// current gives the set that there is. usable: it has not outlived Survive. fresh: nor
// Refresh. The set is not modified any more.
func (c *keyCache) current(now authz.Instant) (keys []key, usable, fresh bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.fetched == 0 {
		return nil, false, false
	}
	age := time.Duration(now - c.mu.fetched)
	if age > c.cfg.Survive {
		return nil, false, false
	}
	return c.mu.keys, true, age <= c.cfg.Refresh
}

// errTooSoon: the last fetch was less than Retry ago.
var errTooSoon = errors.New("they were fetched a moment ago, and will be again")

// refresh fetches the set, or waits for the fetch that is under way, if it is to wait. It
// returns nil when a set that was fetched after this call began, or was being fetched then,
// is in place.
func (c *keyCache) refresh(ctx context.Context, now authz.Instant, wait bool) error {
	c.mu.Lock()
	if c.mu.fetched > now { // another did while this one looked
		c.mu.Unlock()
		return nil
	}
	f := c.mu.flight
	if f != nil {
		c.mu.Unlock()
		if !wait {
			return errTooSoon
		}
		select {
		case <-f.done:
			return f.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if c.mu.tried != 0 && time.Duration(now-c.mu.tried) < c.cfg.Retry {
		defer c.mu.Unlock()
		if c.mu.failed != nil {
			return c.mu.failed
		}
		return errTooSoon
	}
	f = &flight{done: make(chan struct{})}
	c.mu.flight, c.mu.tried = f, now
	c.mu.Unlock()

	// Others wait for this fetch, so it does not end with the request that began it; and it
	// ends for them however it ends here, by a panic, too.
	fetching, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTime)
	defer cancel()
	var (
		keys    []key
		leftOut []error
	)
	err := errNotFetched
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if err == nil {
			c.mu.keys, c.mu.leftOut, c.mu.fetched = keys, leftOut, c.now()
		}
		c.mu.failed, c.mu.flight = err, nil
		f.err = err
		close(f.done)
	}()
	keys, leftOut, err = c.fetch(fetching)
	return err
}

// errNotFetched is what a fetch leaves that did not come back.
var errNotFetched = errors.New("fetching them met a defect")

// fetch asks for the set. One without a single usable key is an error: the last one stays,
// for a set that a mistake emptied is more likely than an issuer that has stopped signing.
func (c *keyCache) fetch(ctx context.Context) ([]key, []error, error) {
	_, body, err := c.web.do(ctx, ask{method: http.MethodGet, url: c.cfg.URI, most: maxJWKS, want: []int{http.StatusOK}})
	if err != nil {
		return nil, nil, err
	}
	keys, leftOut, err := parseJWKS(body)
	if err == nil && len(keys) == 0 {
		err = fmt.Errorf("the key set holds no key that can be used: %w", errors.Join(leftOut...))
	}
	return keys, leftOut, err
}
