package ssf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"vigil/authz"
)

// PollConfig says where SETs are fetched from, and how.
type PollConfig struct {
	// Endpoint is the stream's endpoint_url. Required.
	Endpoint string
	// Web asks it; its Authorize gives the credentials.
	Web *Web
	// MaxEvents is how many SETs are asked for at once; 0 for 100.
	MaxEvents int
	// AtOnce is how many of them are taken at once; 0 for 8.
	AtOnce int
	// Wait is how long the transmitter may hold back an answer that has no SETs; 0 for a
	// minute.
	Wait time.Duration
	// Idle is the least time between two requests where there was nothing, of a
	// transmitter that does not hold back; 0 for 2 s.
	Idle time.Duration
	// MaxBackoff is the longest pause after failures, which begin with a second and double;
	// 0 for a minute.
	MaxBackoff time.Duration
	// MaxAnswer bounds an answer in bytes; 0 for 8 MiB.
	MaxAnswer int64
	// Logger is told when polling begins to fail and when it works again; nil for none.
	Logger *slog.Logger
}

// Poller fetches the SETs of a stream (RFC 8936). A SET is acknowledged only when what it
// says is durable and in force; one that is refused is reported with its error; one that
// cannot be taken now is neither, and comes again.
type Poller struct {
	cfg      PollConfig
	receiver *Receiver
	log      *slog.Logger

	// Of the goroutine of Run.
	acks    []string             // jti of SETs that were taken, and the transmitter may not know
	errs    map[string]errorBody // likewise of those that were refused, by jti
	settled map[string]bool      // both, of the last answer
	backoff time.Duration        // the last; 0 after a success

	mu struct {
		sync.Mutex
		polled authz.Instant
		err    error
	}
}

// NewPoller makes a poller for a receiver.
func NewPoller(receiver *Receiver, cfg PollConfig) (*Poller, error) {
	if cfg.Web == nil {
		cfg.Web = &Web{}
	}
	if err := cfg.Web.CheckURL(cfg.Endpoint); err != nil {
		return nil, fmt.Errorf("poll: %w", err)
	}
	if cfg.MaxEvents < 0 || cfg.AtOnce < 0 || cfg.Wait < 0 || cfg.Idle < 0 || cfg.MaxBackoff < 0 || cfg.MaxAnswer < 0 {
		return nil, errors.New("poll: a negative limit")
	}
	setDefault(&cfg.MaxEvents, 100)
	setDefault(&cfg.AtOnce, 8)
	setDefault(&cfg.Wait, time.Minute)
	setDefault(&cfg.Idle, 2*time.Second)
	setDefault(&cfg.MaxBackoff, time.Minute)
	setDefault(&cfg.MaxAnswer, 8<<20)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Poller{cfg: cfg, receiver: receiver, log: cfg.Logger.With(slog.String("issuer", receiver.issuer.cfg.Name)),
		errs: make(map[string]errorBody)}, nil
}

func setDefault[T int | int64 | time.Duration](v *T, to T) {
	if *v == 0 {
		*v = to
	}
}

// PollStatus is how polling goes.
type PollStatus struct {
	Polled authz.Instant // the last answer that was in order; 0 for none
	Err    error         // of the last request; nil where it was in order
}

// Status says how polling goes. It may be called while Run runs.
func (p *Poller) Status() PollStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	return PollStatus{p.mu.polled, p.mu.err}
}

// pollRequest and pollResponse are RFC 8936 section 2.2 and 2.3.
type pollRequest struct {
	MaxEvents         int                  `json:"maxEvents"`
	ReturnImmediately bool                 `json:"returnImmediately"`
	Ack               []string             `json:"ack,omitempty"`
	SetErrs           map[string]errorBody `json:"setErrs,omitempty"`
}

type pollResponse struct {
	Sets map[string]string `json:"sets"`
}

// Run polls until ctx ends, and returns its error. What was taken and not acknowledged yet
// is acknowledged before, if that takes no longer than 2 s; else it comes again, and is a
// duplicate. One Run at a time.
func (p *Poller) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		began := time.Now()
		n, err := p.poll(ctx)
		if ctx.Err() != nil {
			break
		}
		if errors.Is(err, errNoAnswer) {
			continue
		}
		p.note(err)
		if err == nil {
			p.receiver.alive(ctx, p.receiver.now())
		}
		pause := time.Duration(0)
		switch {
		case err != nil:
			pause = p.failed(err)
		case n == 0:
			p.backoff = 0
			pause = p.cfg.Idle - time.Since(began)
		default:
			p.backoff = 0
		}
		sleep(ctx, pause)
	}
	p.farewell(ctx)
	return ctx.Err()
}

var (
	// errNotTaken: SETs came, and none of them could be taken or refused now.
	errNotTaken = errors.New("none of the events can be taken now")
	// errNoAnswer: the transmitter held back its answer for longer than Wait, or is gone.
	// That is no failure, and no sign of life either.
	errNoAnswer = errors.New("no answer")
)

// poll makes one request, with what there is to acknowledge, and takes what it brings. n is
// how many SETs came that the last answer did not have: a transmitter that repeats what was
// acknowledged is not asked again at once.
func (p *Poller) poll(ctx context.Context) (n int, err error) {
	response, err := p.ask(ctx, pollRequest{MaxEvents: p.cfg.MaxEvents}, p.cfg.Wait)
	if err != nil {
		return 0, err
	}
	for jti := range response.Sets {
		if !p.settled[jti] {
			n++
		}
	}
	p.settled = p.takeAll(ctx, response.Sets)
	if len(response.Sets) > 0 && len(p.settled) == 0 {
		return 0, errNotTaken
	}
	return n, nil
}

// maxSettled bounds what one request acknowledges.
const maxSettled = 1000

// ask sends a request. What it acknowledged is forgotten when the transmitter has it.
func (p *Poller) ask(ctx context.Context, q pollRequest, wait time.Duration) (*pollResponse, error) {
	q.Ack = slices.Clone(p.acks[:min(len(p.acks), maxSettled)])
	q.SetErrs = make(map[string]errorBody)
	for jti, e := range p.errs {
		if len(q.SetErrs) < maxSettled {
			q.SetErrs[jti] = e
		}
	}
	body, err := json.Marshal(&q)
	if err != nil {
		return nil, fmt.Errorf("poll: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	_, answer, err := p.cfg.Web.do(ctx, ask{
		method: http.MethodPost, url: p.cfg.Endpoint, body: body, authorized: true, most: p.cfg.MaxAnswer, want: []int{http.StatusOK},
	})
	var status *StatusError
	// A transmitter that refuses the request may do so for what it acknowledges. Without
	// it the SETs come again, are duplicates, and are acknowledged anew.
	if err == nil || errors.As(err, &status) && status.Status == http.StatusBadRequest {
		p.acks = p.acks[len(q.Ack):]
		for jti := range q.SetErrs {
			delete(p.errs, jti)
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, errNoAnswer
	}
	if err != nil {
		return nil, fmt.Errorf("poll: %w", err)
	}
	response := &pollResponse{}
	if err := json.Unmarshal(answer, response); err != nil {
		return nil, fmt.Errorf("poll: the answer: %w", err)
	}
	return response, nil
}

// takeAll takes SETs, some at once, and gives those that were taken or refused for good.
// Their order means nothing: posture is a join.
func (p *Poller) takeAll(ctx context.Context, sets map[string]string) map[string]bool {
	var (
		mu      sync.Mutex // guards settled, p.acks and p.errs
		settled = make(map[string]bool, len(sets))
		all     sync.WaitGroup
		next    = make(chan string)
	)
	for range min(p.cfg.AtOnce, len(sets)) {
		all.Go(func() {
			for jti := range next {
				_, err := p.receiver.Take(ctx, []byte(sets[jti]))
				var e *Error
				mu.Lock()
				switch {
				case err == nil:
					settled[jti] = true
					p.acks = append(p.acks, jti)
				case errors.As(err, &e):
					settled[jti] = true
					p.errs[jti] = errorBody{e.Code, e.Description}
				}
				mu.Unlock()
			}
		})
	}
	for _, jti := range slices.Sorted(maps.Keys(sets)) {
		next <- jti
	}
	close(next)
	all.Wait()
	return settled
}

// failed gives the pause after a failure: what the transmitter asks for, up to five times
// MaxBackoff, else twice the last one, less up to a quarter of it so that replicas part.
func (p *Poller) failed(err error) time.Duration {
	p.backoff = min(max(2*p.backoff, time.Second), p.cfg.MaxBackoff)
	var status *StatusError
	if errors.As(err, &status) && status.Retry > 0 {
		return min(max(status.Retry, p.backoff), 5*p.cfg.MaxBackoff)
	}
	return p.backoff - rand.N(p.backoff/4+1)
}

// note keeps how the last request went, and says when that changes.
func (p *Poller) note(err error) {
	p.mu.Lock()
	was := p.mu.err
	p.mu.err = err
	if err == nil {
		p.mu.polled = p.receiver.now()
	}
	p.mu.Unlock()
	switch {
	case err != nil && was == nil:
		p.log.Warn("polling fails; it is tried again", slog.String("reason", err.Error()))
	case err == nil && was != nil:
		p.log.Info("polling works again")
	}
}

// farewell acknowledges what is left, and asks for nothing.
func (p *Poller) farewell(ctx context.Context) {
	const most = 2 * time.Second
	deadline := time.Now().Add(most)
	for (len(p.acks) > 0 || len(p.errs) > 0) && time.Now().Before(deadline) {
		before := len(p.acks) + len(p.errs)
		_, err := p.ask(context.WithoutCancel(ctx), pollRequest{ReturnImmediately: true}, time.Until(deadline))
		if err != nil || len(p.acks)+len(p.errs) == before {
			return
		}
	}
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
