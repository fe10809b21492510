package ssf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"vigil/authz"
	"vigil/signals"
)

// Intake makes signals durable and in force before it returns, as *signals.Intake does.
type Intake interface {
	Push(ctx context.Context, sender signals.Sender, body []byte) (signals.Receipt, error)
	// InForce reports whether Push would change nothing, for all of it is in force already.
	InForce(sender signals.Sender, body []byte) bool
}

// Channel is what the way that a SET came says of it. The zero Channel says nothing.
type Channel struct {
	// Authentic: none but the issuer can have put it there. Its signature is not looked at,
	// and it may have none ("alg":"none"). Everything else is.
	Authentic bool
	// Since is when it was here at the latest; 0 for now. Keys that were fetched later and
	// lack its own lack it for good.
	Since authz.Instant
	// Shared: other replicas take it too. What is in force here already is not pushed again.
	Shared bool
}

// Receiver takes the SETs of one issuer, however they come, and counts what became of them.
// It is safe for concurrent use, and starts no goroutine.
type Receiver struct {
	issuer *Issuer
	intake Intake
	now    func() authz.Instant
	log    *slog.Logger

	mu struct {
		sync.Mutex
		counts     map[Count]uint64
		missed     []Missed // ring, the oldest at missedNext once it is full
		nextMiss   int
		heard      authz.Instant
		verified   authz.Instant
		stream     StreamStatus
		updated    authz.Instant // when the event was issued that said how the stream is
		streamID   string
		lines      int // log lines since lineFrom
		lineFrom   authz.Instant
		suppressed int           // log lines that were not written
		shown      authz.Instant // as of when the issuer was shown to be there last; 0 for never
		beat       authz.Instant // when the last heartbeat was sent; 0 for never
		alive      authz.Instant // as of when it said that the issuer was there
		failed     authz.Instant // when one was sent last that came to nothing; 0 since one that did not
	}
}

// Count labels a counter of SETs and their events. Event is short ("session-revoked"), one
// of those that are known or in the issuer's table, else "other"; "" where a SET was
// refused as a whole. Outcome is an Outcome, "unknown_entity" beside Said where nobody has
// heard of any of the entities, "temporary", or the code of an Error.
type Count struct{ Event, Outcome string }

const (
	unknownEntity = "unknown_entity"
	notNow        = "temporary"
	other         = "other"
)

// Missed is an event that said nothing because its subject is nothing that is known here.
type Missed struct {
	At      authz.Instant
	ID      string // jti
	Event   string
	Outcome string   // Unmatched, Discarded, Unknown or "unknown_entity"
	Detail  string   // which members were not matched
	Names   []string // of "unknown_entity": the entities that nobody has heard of
}

// StreamStatus is what the transmitter said last of its stream, by an event or when asked.
type StreamStatus struct {
	Status string // enabled, paused, disabled; "" where it has said nothing
	Reason string
	At     authz.Instant
}

// Limits of what a receiver remembers.
const (
	keptMissed   = 64
	linesASecond = 10
)

// maxSkew is how far ahead a clock can be for its SETs to be asked for again; beyond, they
// are refused.
const maxSkew = signals.MaxIssuerSkew

// NewReceiver makes a receiver. log is told of what is refused and of what is not matched;
// nil for none.
func NewReceiver(issuer *Issuer, intake Intake, log *slog.Logger) *Receiver {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := &Receiver{issuer: issuer, intake: intake, now: issuer.cfg.Now, log: log.With(slog.String("issuer", issuer.cfg.Name))}
	r.mu.counts = make(map[Count]uint64)
	return r
}

// Taken is a SET that was taken: what it said is durable and in force.
type Taken struct {
	ID       string // jti
	Readings []Reading
	Receipt  signals.Receipt // zero where it said nothing
}

// Take verifies a SET and puts into force what it says. On return without an error the SET
// may be acknowledged. An *Error is for good; on an ErrTemporary the transmitter must send
// it again.
func (r *Receiver) Take(ctx context.Context, token []byte) (Taken, error) {
	return r.takeFrom(ctx, token, Channel{})
}

// takeFrom is Take for a SET that came by a channel. With an error Taken has the ID, where
// that could be read.
func (r *Receiver) takeFrom(ctx context.Context, token []byte, ch Channel) (Taken, error) {
	taken, err := r.take(ctx, token, ch)
	if err != nil {
		r.refused(taken.ID, err)
		return Taken{ID: taken.ID}, err
	}
	r.count(&taken)
	return taken, nil
}

func (r *Receiver) take(ctx context.Context, token []byte, ch Channel) (taken Taken, err error) {
	set, err := r.issuer.verifyFrom(ctx, token, ch)
	if err != nil {
		return taken, err
	}
	taken.ID = set.ID
	r.mu.Lock()
	r.mu.heard = r.now()
	r.mu.Unlock()
	translation, err := r.issuer.Translate(set)
	if err != nil {
		return taken, err
	}
	taken.Readings = translation.Readings
	if len(translation.Signals) > 0 {
		if taken.Receipt, err = r.push(ctx, set, translation.Signals, ch.Shared); err != nil {
			return taken, err
		}
	}
	// Last: only a SET that is acknowledged verifies a stream or says how it is.
	for i := range set.Events {
		if err := r.control(set, &set.Events[i], ch); err != nil {
			return taken, err
		}
	}
	if !taken.Receipt.Spooled { // else the log is away
		r.alive(ctx, set.IssuedAt)
	}
	return taken, nil
}

// push hands signals to the intake, all or none. The receipt is zero where they are shared and
// were in force.
func (r *Receiver) push(ctx context.Context, set *SET, list []signals.Signal, shared bool) (signals.Receipt, error) {
	body := []byte{'['}
	for i := range list {
		if i > 0 {
			body = append(body, ',')
		}
		body = list[i].AppendJSON(body)
	}
	sender := r.sender()
	body = append(body, ']')
	if shared && r.intake.InForce(sender, body) {
		return signals.Receipt{}, nil
	}
	receipt, err := r.intake.Push(ctx, sender, body)
	if err == nil {
		return receipt, nil
	}
	var (
		decode *signals.DecodeError
		denied *signals.RefusedError
	)
	switch {
	case errors.As(err, &denied):
		// What it may say, and of which class an entity is, is not the transmitter's business.
		return receipt, refuse(AccessDenied, "this issuer may not say that here").because(err)
	case errors.As(err, &decode):
		ahead := time.Duration(set.IssuedAt - r.now())
		if (strings.HasSuffix(decode.Pointer, "/time") || strings.HasSuffix(decode.Pointer, "/issued_before")) && ahead > 0 && ahead <= maxSkew {
			return receipt, temporary(`"iat" is %v ahead of this clock: what it permits counts when the clock has come to it`, ahead.Round(time.Second))
		}
		return receipt, refuse(InvalidRequest, "what it says is no signal: %s: %s", decode.Pointer, decode.Detail).because(err)
	case errors.Is(err, signals.ErrConflict):
		return receipt, refuse(InvalidRequest, `its "jti" was that of another event`).because(err)
	}
	return receipt, temporary("%w", err)
}

// control takes in an event about the stream. What comes by a shared channel may be old, in
// any order and read again: it counts as of when it was issued.
func (r *Receiver) control(set *SET, e *Event, ch Channel) error {
	if e.Type != verification && e.Type != streamUpdated {
		return nil
	}
	ids := set.Subject.Simple
	if len(ids) != 1 || ids[0].Format != "opaque" {
		return refuse(InvalidRequest, "%s: the subject of a stream is opaque", short(e.Type))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.streamID != "" && ids[0].Values["id"] != r.mu.streamID {
		return refuse(InvalidRequest, "%s: of another stream", short(e.Type))
	}
	now := r.now()
	at := now
	if ch.Shared {
		at = min(at, set.IssuedAt)
	}
	if e.Type == streamUpdated {
		if at >= r.mu.updated {
			r.mu.updated, r.mu.stream = at, StreamStatus{Status: e.texts["status"], Reason: printable(e.texts["reason"]), At: at}
		}
		return nil
	}
	if state, there := e.texts["state"]; there {
		if problem := r.issuer.states.check(state, ids[0].Values["id"], now); problem != "" {
			return refuse(InvalidState, "%s", problem)
		}
	}
	r.mu.verified = max(r.mu.verified, at)
	return nil
}

// SetStream says which stream the SETs come on. Events about another one are refused.
func (r *Receiver) SetStream(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.streamID = id
}

// noteStatus keeps what the transmitter answered when it was asked.
func (r *Receiver) noteStatus(s StreamStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.stream = s
}

// label is an event as it is counted: few of them, whatever a transmitter sends.
func (r *Receiver) label(uri string) string {
	if specByURI[uri] == nil && r.issuer.table[uri] == nil {
		return other
	}
	return short(uri)
}

// count counts a SET that was taken, and remembers what of it met nothing.
func (r *Receiver) count(taken *Taken) {
	r.mu.Lock()
	defer r.mu.Unlock()
	stranger := taken.strangers()
	for i := range taken.Readings {
		reading := &taken.Readings[i]
		r.mu.counts[Count{r.label(reading.Event), string(reading.Outcome)}]++
		m := Missed{At: r.now(), ID: taken.ID, Event: reading.Event, Outcome: string(reading.Outcome), Detail: reading.Detail}
		switch reading.Outcome {
		case Said:
			if reading.Detail != "" {
				r.warnLocked("the time of an event was changed", slog.String("id", clip(taken.ID)),
					slog.String("event", clip(reading.Event)), slog.String("reason", reading.Detail))
			}
			if len(stranger) == 0 {
				continue
			}
			m.Outcome, m.Detail, m.Names = unknownEntity, "nobody has heard of them before", stranger
			r.mu.counts[Count{r.label(reading.Event), unknownEntity}]++
		case Informational, Control:
			continue
		}
		r.missLocked(m)
	}
}

// strangers are the entities of a SET, where nobody has heard of any.
func (t *Taken) strangers() (names []string) {
	for i := range t.Receipt.Results {
		for _, e := range t.Receipt.Results[i].Entities {
			if e.Known {
				return nil
			}
			if name := e.Key.Ref().String(); len(names) < 8 && (len(names) == 0 || names[len(names)-1] != name) {
				names = append(names, name)
			}
		}
	}
	return names
}

func (r *Receiver) missLocked(m Missed) {
	if len(r.mu.missed) < keptMissed {
		r.mu.missed = append(r.mu.missed, m)
	} else {
		r.mu.missed[r.mu.nextMiss] = m
		r.mu.nextMiss = (r.mu.nextMiss + 1) % keptMissed
	}
	r.warnLocked("an event met nothing that is known here", slog.String("id", clip(m.ID)),
		slog.String("event", clip(m.Event)), slog.String("outcome", m.Outcome), slog.String("reason", m.Detail))
}

// refused counts a SET that was not taken.
func (r *Receiver) refused(id string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	code := notNow
	var e *Error
	if errors.As(err, &e) {
		code = e.Code
	}
	r.mu.counts[Count{"", code}]++
	attrs := []any{slog.String("id", clip(id)), slog.String("code", code), slog.String("reason", err.Error())}
	if e != nil && e.cause != nil {
		attrs = append(attrs, slog.String("cause", e.cause.Error()))
	}
	r.warnLocked("a security event token was not taken", attrs...)
}

// warnLocked writes a line, ten in a second at most.
func (r *Receiver) warnLocked(msg string, attrs ...any) {
	now := r.now()
	if time.Duration(now-r.mu.lineFrom) >= time.Second {
		r.mu.lineFrom, r.mu.lines = now, 0
	}
	if r.mu.lines == linesASecond {
		r.mu.suppressed++
		return
	}
	r.mu.lines++
	if r.mu.suppressed > 0 {
		attrs = append(attrs, slog.Int("suppressed", r.mu.suppressed))
		r.mu.suppressed = 0
	}
	r.log.Warn(msg, attrs...)
}

// Status is how a receiver is doing.
type Status struct {
	Counts   map[Count]uint64
	Missed   []Missed      // the latest 64, oldest first
	Heard    authz.Instant // the last SET that was authentic, whatever it said; 0 for none
	Verified authz.Instant // when the last verification came that was in order, or was issued if by a topic; 0 for none
	Stream   StreamStatus
}

// Status copies it.
func (r *Receiver) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{Counts: maps.Clone(r.mu.counts), Heard: r.mu.heard, Verified: r.mu.verified, Stream: r.mu.stream}
	s.Missed = append(append(s.Missed, r.mu.missed[r.mu.nextMiss:]...), r.mu.missed[:r.mu.nextMiss]...)
	return s
}

// String is for logs and tests.
func (c Count) String() string { return strings.TrimPrefix(fmt.Sprint(c.Event, " ", c.Outcome), " ") }
