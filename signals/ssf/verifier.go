package ssf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"vigil/authz"
)

// VerifierConfig says which stream is verified, and how often.
type VerifierConfig struct {
	// Web asks the transmitter; its Authorize gives the credentials. Required.
	Web *Web
	// Discovery is a document of discovery, or the URL of the metadata; see MetadataURL.
	Discovery string
	// Stream is the id of the stream; "" where the transmitter has one for us.
	Stream string
	// Every is the time between two verifications, at least MinVerifyEvery; the
	// transmitter's min_verification_interval where that is longer.
	Every time.Duration
	// Logger is told when asking begins to fail and when it works again; nil for none.
	Logger *slog.Logger
}

// MinVerifyEvery and MaxVerifyEvery bound VerifierConfig.Every.
const (
	MinVerifyEvery = time.Minute
	MaxVerifyEvery = 7 * 24 * time.Hour
)

// firstVerify is how long the first may be put off, so that replicas part.
const firstVerify = 10 * time.Second

// Verifier asks for a verification of a stream again and again (SSF 1.0 section 8.1.4), so
// that a stream which has gone silent is told from one that has nothing to say, and keeps
// what the transmitter says of its status. What it asks for comes to the receiver, or to
// another replica's: Status.Verified says which. It also keeps a stream alive that ends by
// inactivity_timeout.
type Verifier struct {
	cfg      VerifierConfig
	receiver *Receiver
	log      *slog.Logger
	backoff  time.Duration // of the goroutine of Run: the last pause after a failure; 0 after a success

	mu struct {
		sync.Mutex
		status VerifierStatus
	}
}

// VerifierStatus is how asking goes.
type VerifierStatus struct {
	At        authz.Instant // of the last verification that was asked for; 0 for none
	Err       error         // of the last attempt; nil where it was in order
	Asked     uint64
	Throttled uint64 // answered with 429: others of us ask, too
	Failed    uint64
}

// NewVerifier makes a verifier of the stream that comes to receiver.
func NewVerifier(receiver *Receiver, cfg VerifierConfig) (*Verifier, error) {
	if _, err := MetadataURL(receiver.issuer.cfg.Issuer, cfg.Discovery); err != nil {
		return nil, err
	}
	if cfg.Every < MinVerifyEvery || cfg.Every > MaxVerifyEvery {
		return nil, fmt.Errorf("verify: every %v is not between %v and %v", cfg.Every, MinVerifyEvery, MaxVerifyEvery)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Verifier{cfg: cfg, receiver: receiver, log: cfg.Logger.With(slog.String("issuer", receiver.issuer.cfg.Name))}, nil
}

// Status says how asking goes. It may be called while Run runs.
func (v *Verifier) Status() VerifierStatus {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mu.status
}

// Run asks until ctx ends, and returns its error. The first time is within 10 s, and
// what follows is put off by up to a tenth, so that replicas part. One Run at a time.
func (v *Verifier) Run(ctx context.Context) error {
	sleep(ctx, rand.N(firstVerify))
	for ctx.Err() == nil {
		least, err := v.ask(ctx)
		if ctx.Err() != nil {
			break
		}
		sleep(ctx, v.pause(least, err, v.note(err)))
	}
	return ctx.Err()
}

// ask looks at the stream anew, for it may have been made anew, and asks for a verification.
// least is the transmitter's own least time between two.
func (v *Verifier) ask(ctx context.Context) (least time.Duration, err error) {
	meta, err := Discover(ctx, v.cfg.Web, v.receiver.issuer.cfg.Issuer, v.cfg.Discovery)
	if err != nil {
		return 0, err
	}
	t, err := NewTransmitter(v.cfg.Web, meta, v.receiver)
	if err != nil {
		return 0, err
	}
	s, err := t.Find(ctx, v.cfg.Stream)
	if err != nil {
		return 0, err
	}
	least = time.Duration(min(max(s.MinVerification, 0), int64(MaxVerifyEvery/time.Second))) * time.Second
	if meta.Status != "" {
		status, err := t.Status(ctx, s.ID)
		if err != nil {
			return least, err
		}
		if status.Status != "enabled" {
			return least, fmt.Errorf("the stream is %s: %q", status.Status, clip(status.Reason))
		}
	}
	return least, t.Verify(ctx, s.ID)
}

// note keeps how the last attempt went, and says when that changes. A transmitter that was
// asked by another of us a moment ago has not failed.
func (v *Verifier) note(err error) (failed bool) {
	var status *StatusError
	throttled := errors.As(err, &status) && status.Status == http.StatusTooManyRequests
	if throttled {
		err = nil
	}
	v.mu.Lock()
	s := &v.mu.status
	was := s.Err
	s.Err = err
	switch {
	case throttled:
		s.Throttled++
	case err != nil:
		s.Failed++
	default:
		s.Asked++
		s.At = v.receiver.now()
	}
	v.mu.Unlock()
	switch {
	case err != nil && was == nil:
		v.log.Warn("the stream cannot be verified; it is tried again", slog.String("reason", err.Error()))
	case err == nil && was != nil:
		v.log.Info("the stream can be verified again")
	}
	return err != nil
}

// maxVerifyBackoff is the longest pause after failures, unless Every is shorter.
const maxVerifyBackoff = 15 * time.Minute

// pause is the time to the next attempt, which ended with err. It is never sooner than the
// transmitter wants.
func (v *Verifier) pause(least time.Duration, err error, failed bool) time.Duration {
	pause := max(v.cfg.Every, least)
	if failed {
		v.backoff = min(max(2*v.backoff, MinVerifyEvery), maxVerifyBackoff, pause)
		pause = v.backoff
	} else {
		v.backoff = 0
	}
	var status *StatusError
	if errors.As(err, &status) {
		pause = max(pause, status.Retry)
	}
	return pause + rand.N(pause/10+1)
}
