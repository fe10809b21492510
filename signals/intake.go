package signals

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"vigil/authz"
	"vigil/posture"
)

// The ways a push can fail besides *DecodeError and *RefusedError.
var (
	// ErrUnavailable: nothing was written; try again later.
	ErrUnavailable = errors.New("the signal log is not available")
	// ErrUnknownOutcome: the signal may or may not have been made durable. Sending it
	// again with the same id is safe.
	ErrUnknownOutcome = errors.New("the outcome is unknown: the signal may have been accepted")
	// ErrConflict: the same source used the id for another signal. The error is a
	// *ConflictError, which says which.
	ErrConflict = errors.New("the id was used for another signal")
	// ErrOverloaded: too many pushes are waiting.
	ErrOverloaded = errors.New("too many signals are waiting to be accepted")
)

// IntakeConfig is what an intake needs.
type IntakeConfig struct {
	// Log makes signals durable. Required.
	Log Log
	// Applier follows Log. Required.
	Applier *Applier
	// Spool takes signals that only withdraw while Log cannot. Applier must follow it. nil
	// where there is none: then they fail like all others.
	Spool Spool
	// Store is what Applier joins into. Required.
	Store *posture.Store
	// Now reads the clock. It never goes back. Required.
	Now func() authz.Instant
	// DeclaredClass reports whether the rule set in use has a profile for a class. An
	// agent is not registered with another. Nil accepts every class.
	DeclaredClass func(class string) bool
	// MaxWaiting bounds the pushes under way at once; 0 for 256.
	MaxWaiting int
	// MaxWait bounds each push, whatever its context says; 0 for 30 s.
	MaxWait time.Duration
}

// Intake accepts signals: it decodes, judges, appends to the log, waits until this
// replica has applied them, and says what they did. It is safe for concurrent use.
type Intake struct {
	cfg     IntakeConfig
	waiting atomic.Int64 // pushes under way; orders nothing
	recent  *recentIDs
	beats   beats
}

// NewIntake makes an intake.
func NewIntake(cfg IntakeConfig) (*Intake, error) {
	if cfg.Log == nil || cfg.Applier == nil || cfg.Store == nil || cfg.Now == nil {
		return nil, errors.New("signals: an intake needs a log, its applier, a store and a clock")
	}
	if cfg.MaxWaiting <= 0 {
		cfg.MaxWaiting = 256
	}
	if cfg.MaxWait <= 0 {
		cfg.MaxWait = 30 * time.Second
	}
	return &Intake{cfg: cfg, recent: newRecentIDs()}, nil
}

// Result is what one accepted signal did.
type Result struct {
	ID       string
	Outcome  posture.Outcome // the strongest of its entities'
	Entities []posture.Result
	Tenant   string
	// Detail says why a signal that was accepted had no effect in the end, where the
	// outcomes do not: the log's clock was too far behind its event time. Else "".
	Detail string
}

// Receipt answers a push.
type Receipt struct {
	Results []Result
	// AsOf is a position that the view here has come to. It covers the signals.
	AsOf string
	// Spooled: the log cannot be written now. The signals are durable on this machine and
	// in force on this replica alone; the others have them when the log can be written
	// again. AsOf does not cover them.
	Spooled bool
}

// Push accepts one signal or a batch as JSON. On return without an error every signal
// is durable and in force, and every decision that starts from now on knows it. A
// signal that was there before is answered as a duplicate, and only when the original
// is durable and in force too. A heartbeat of a client that sent one less than 100 ms before
// changes nothing, and no record is written of it: it is answered when that one is durable
// and in force. While the log cannot be written, or nobody follows it, a batch of signals
// that only withdraw goes to the spool, where there is one: quarantine, revoke, narrow,
// taint, require_approval, decommission, a failed attest, and a risk that is higher than
// what is in force; none of them dated ahead of this clock.
//
// On a *DecodeError, a *RefusedError, ErrConflict, ErrOverloaded and ErrUnavailable
// nothing of the batch was written. ErrUnknownOutcome is what is left when ctx ends, or
// the log fails, after it was sent.
func (in *Intake) Push(ctx context.Context, sender Sender, body []byte) (Receipt, error) {
	if in.waiting.Add(1) > int64(in.cfg.MaxWaiting) {
		in.waiting.Add(-1)
		return Receipt{}, ErrOverloaded
	}
	defer in.waiting.Add(-1)
	away := in.away()
	if away != nil && (in.cfg.Spool == nil || in.cfg.Applier.accepting(true) != nil) {
		return Receipt{}, away
	}
	batch, err := Decode(body)
	if err != nil {
		return Receipt{}, err
	}
	records, err := in.prepare(sender, batch)
	if err != nil {
		return Receipt{}, err
	}
	claims, err := in.claim(sender, batch, records)
	if err != nil {
		return Receipt{}, err
	}
	var receipt Receipt
	if away == nil && onlyBeats(sender.Source, batch) {
		receipt, err = in.beat(ctx, sender.Source, batch, records)
	} else {
		receipt, err = in.commit(ctx, batch, records, away)
	}
	if errors.Is(err, ErrUnavailable) {
		for _, key := range claims {
			in.recent.release(key)
		}
	}
	return receipt, err
}

// away says why the log can take nothing now, or nil. It is an ErrUnavailable.
func (in *Intake) away() error {
	if err := in.cfg.Log.Health(); err != nil {
		return unavailable(err)
	}
	return in.cfg.Applier.accepting(false)
}

func unavailable(err error) error {
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// prepare judges a batch and makes its records, which lack only their Seq.
func (in *Intake) prepare(sender Sender, batch *Batch) ([]Record, error) {
	if err := Judge(sender, batch.Signals, in.classOf); err != nil {
		var refused *RefusedError
		if errors.As(err, &refused) {
			refused.Pointer = batch.Pointer(refused.Index, refused.Pointer)
		}
		return nil, err
	}
	now := in.cfg.Now()
	records := make([]Record, len(batch.Signals))
	for i := range batch.Signals {
		s := &batch.Signals[i]
		rec := &records[i]
		*rec = Record{
			Origin:  in.cfg.Applier.origin,
			Source:  sender.Source,
			Tenant:  s.Tenant,
			Target:  s.Line,
			Body:    batch.Bodies[i],
			Verdict: sender.verdict(s, in.classOf),
		}
		e := in.admit(s, now)
		if e == nil && s.Line != "" {
			e = in.date(rec, batch.Signals, i)
		}
		if e != nil {
			e.Pointer = batch.Pointer(i, e.Pointer)
			return nil, e
		}
	}
	return records, nil
}

// classOf gives the class that an entity was registered with last. A registration that has
// expired still says whose the entity is: else its end would open it to every source.
func (in *Intake) classOf(key authz.Key) string {
	if r := in.cfg.Store.Get(key).Registered(); r != nil {
		return r.Class
	}
	return ""
}

// admit checks what depends on the moment. Its pointers are within the signal.
func (in *Intake) admit(s *Signal, now authz.Instant) *DecodeError {
	if source, borrowed := borrowedID(s.ID); borrowed {
		return &DecodeError{Code: CodeBadValue, Pointer: "/id",
			Detail: fmt.Sprintf("begins with %q: such ids are those of what %s says in other sources' lines", clip(source+"/"), clip(source))}
	}
	latest := now.Add(MaxAhead)
	if s.Time > latest && s.permissive() {
		return &DecodeError{Code: CodeBadValue, Pointer: "/time",
			Detail: fmt.Sprintf("is %v ahead of this clock: %s may be %v ahead at most", ahead(s.Time, now), s.Type.withArticle(), MaxAhead)}
	}
	if s.IssuedBefore > latest {
		return &DecodeError{Code: CodeBadValue, Pointer: "/issued_before",
			Detail: fmt.Sprintf("is %v ahead of this clock: what is yet to be issued cannot be revoked", ahead(s.IssuedBefore, now))}
	}
	if s.Type == TypeRegister && in.cfg.DeclaredClass != nil && !in.cfg.DeclaredClass(s.Class) {
		for _, ref := range s.Entities {
			if ref.Kind == authz.KindAgent {
				return &DecodeError{Code: CodeBadValue, Pointer: "/class",
					Detail: fmt.Sprintf("the rules declare no class %q", clip(s.Class))}
			}
		}
	}
	return nil
}

func ahead(t, now authz.Instant) time.Duration {
	return time.Duration(t - now).Round(time.Second)
}

// date finds when a signal in another source's line counts from: just after the newest
// that the line says on its facet, so that it overrules what is there and nothing that
// comes later. What the line dates after the signal itself, and more than MaxAhead after,
// its sender had not seen. A signal that was there before keeps the date it had, though
// the line may have made it redundant: sent again it overrules nothing anew. Of several
// in one batch, those of a later time are dated later: which of them speaks must not
// depend on which says the worse.
func (in *Intake) date(rec *Record, batch []Signal, i int) *DecodeError {
	s := &batch[i]
	if len(s.Entities) > 1 {
		return &DecodeError{Code: CodeBadValue, Pointer: "/entities",
			Detail: "a signal in another source's line is about one entity"}
	}
	if rec.Dated = in.recent.dated(rec.Source.String(), s.ID); rec.Dated != 0 {
		return nil
	}
	facet, id := s.Type.facet(), OverrulingID(rec.Source, s.ID)
	newest, unseen := authz.Instant(0), false
	for f := range in.cfg.Store.Get(s.Entities[0].In(s.Tenant)).Facts() {
		if f.Facet != facet || f.Source != s.Line {
			continue
		}
		if f.ID == id {
			rec.Dated = f.Time
			return nil
		}
		if f.Time > s.Time.Add(MaxAhead) {
			unseen = true
			continue
		}
		newest = max(newest, f.Time)
	}
	switch {
	case newest == 0 && unseen:
		return &DecodeError{Code: CodeBadValue, Pointer: "/time",
			Detail: fmt.Sprintf("is before all that %s says about %s: a %s overrules what was known then", clip(s.Line), clip(s.Entities[0].String()), s.Type)}
	case newest == 0:
		return &DecodeError{Code: CodeBadValue, Pointer: "/source",
			Detail: fmt.Sprintf("%s has said nothing about %s that a %s could overrule", clip(s.Line), clip(s.Entities[0].String()), s.Type)}
	}
	dated := newest + 1
	for j := range batch {
		if batch[j].precedes(s) {
			dated++
		}
	}
	if s.Expires <= dated {
		return &DecodeError{Code: CodeBadValue, Pointer: "/expires",
			Detail: fmt.Sprintf("is before what it would overrule, which is of %s", newest)}
	}
	rec.Dated = dated
	return nil
}

// precedes reports whether other speaks on the same matter in the same line about the same
// entity, and s is of the earlier time. s or other speaks in another source's line, so it
// is about one entity.
func (s *Signal) precedes(other *Signal) bool {
	return s.Line == other.Line && s.Time < other.Time && s.Tenant == other.Tenant &&
		s.Type.facet() == other.Type.facet() && s.Entities[0] == other.Entities[0]
}

// commit makes the records durable, in the log or else in the spool, and waits until they
// are in force. away is why the log is not to be tried, or nil.
func (in *Intake) commit(ctx context.Context, batch *Batch, records []Record, away error) (Receipt, error) {
	if ctx.Err() != nil {
		return Receipt{}, unavailable(ctx.Err())
	}
	ctx, cancel := context.WithTimeout(ctx, in.cfg.MaxWait)
	defer cancel()
	if away == nil {
		receipt, err := in.through(ctx, batch, records, false)
		if in.cfg.Spool == nil || !errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
			return receipt, err
		}
		away = err // and nothing of it is in the log
	}
	if err := in.spoolable(batch, records); err != nil {
		return Receipt{}, fmt.Errorf("%w (%w)", away, err)
	}
	return in.through(ctx, batch, records, true)
}

// through takes the records through the log or through the spool.
func (in *Intake) through(ctx context.Context, batch *Batch, records []Record, spooled bool) (Receipt, error) {
	p, err := in.cfg.Applier.expect(records, batch.Signals, spooled)
	if err != nil {
		return Receipt{}, err
	}
	defer in.cfg.Applier.forget(p)
	if spooled {
		err = in.cfg.Spool.Append(ctx, p.encoded)
	} else {
		_, err = in.cfg.Log.Append(ctx, p.encoded)
	}
	if err != nil {
		if errors.Is(err, ErrUnavailable) {
			return Receipt{}, err
		}
		return Receipt{}, fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return Receipt{}, fmt.Errorf("%w: %w", ErrUnknownOutcome, ctx.Err())
	}
	if p.err != nil {
		return Receipt{}, p.err
	}
	receipt := Receipt{Results: make([]Result, len(records)), AsOf: p.asOf, Spooled: spooled}
	for i := range records {
		out := &p.results[i]
		receipt.Results[i] = Result{
			ID:       batch.Signals[i].ID,
			Outcome:  strongest(out.results),
			Entities: out.results,
			Tenant:   batch.Signals[i].Tenant,
			Detail:   out.detail,
		}
	}
	return receipt, nil
}
