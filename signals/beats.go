package signals

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"vigil/authz"
	"vigil/posture"
)

// beatsApart is how long after a heartbeat another one of the same client says nothing new: a
// tenth of the shortest silence that rules can allow, so that ten thousand machines with one
// credential write ten records a second.
const beatsApart = 100 * time.Millisecond

// maxBeats bounds the sources whose last heartbeat is remembered. Clients are configured, so
// there are far fewer; forgetting them costs a record each.
const maxBeats = 4096

// beats are the last heartbeats of clients. It is safe for concurrent use.
type beats struct {
	mu     sync.Mutex
	latest map[string]*beat // by source
}

// beat is a heartbeat on its way through the log, or one that is in force.
type beat struct {
	began authz.Instant
	done  chan struct{} // closed when what follows is set for good
	err   error         // what became of it; nil where it is durable and in force
}

// errUnfinished is what became of a heartbeat whose leader panicked.
var errUnfinished = errors.New("signals: a heartbeat came to nothing")

// at gives the heartbeat of source that one which comes at now can share, or else a new one,
// which the caller leads: it must call finish. One that came to nothing is shared by nobody
// who comes after.
func (b *beats) at(source string, now authz.Instant) (latest *beat, leads bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if latest = b.latest[source]; latest != nil && now < latest.began.Add(beatsApart) && !latest.failed() {
		return latest, false
	}
	if len(b.latest) >= maxBeats || b.latest == nil {
		b.latest = make(map[string]*beat)
	}
	latest = &beat{began: now, done: make(chan struct{})}
	b.latest[source] = latest
	return latest, true
}

// finish tells those who share a heartbeat what became of it.
func (b *beat) finish(err error) {
	b.err = err
	close(b.done)
}

// failed reports whether it is known to have come to nothing.
func (b *beat) failed() bool {
	select {
	case <-b.done:
		return b.err != nil
	default:
		return false
	}
}

// onlyBeats reports whether a batch is one of heartbeats alone by a client, which is heard as
// of when it sends them. An issuer is heard as of what it says.
func onlyBeats(source Source, batch *Batch) bool {
	return source.Kind == "client" && !slices.ContainsFunc(batch.Signals, func(s Signal) bool { return s.Type != TypeHeartbeat })
}

// beat is commit for heartbeats alone: one record says what all of them say, and what those say
// that come shortly after. Each is acknowledged when that record is durable and in force: its
// source is known to have been there beatsApart before at the earliest. Where the one that
// leads comes to nothing, one of those who waited for it leads the others.
func (in *Intake) beat(ctx context.Context, source Source, batch *Batch, records []Record) (Receipt, error) {
	ctx, cancel := context.WithTimeout(ctx, in.cfg.MaxWait) // for all of the waiting together
	defer cancel()
	for {
		one, leads := in.beats.at(source.String(), in.cfg.Now())
		if leads {
			return in.lead(ctx, one, batch, records)
		}
		select {
		case <-one.done:
		case <-ctx.Done():
			return Receipt{}, unavailable(ctx.Err()) // nothing was written of these
		}
		switch {
		case one.err == nil:
			// The newest position covers it, and whatever else was acknowledged since: what a
			// client is told never goes back.
			return Receipt{AsOf: in.cfg.Applier.reached.Load().asOf}.shared(batch, records), nil
		case errors.Is(one.err, ErrUnavailable) && !errors.Is(one.err, context.Canceled) && !errors.Is(one.err, context.DeadlineExceeded):
			return Receipt{}, one.err // the log would take none of these either
		}
	}
}

// lead writes the first of the heartbeats for all of them.
func (in *Intake) lead(ctx context.Context, one *beat, batch *Batch, records []Record) (Receipt, error) {
	err := errUnfinished
	defer func() { one.finish(err) }() // also when it panics
	first := Batch{Signals: batch.Signals[:1], Bodies: batch.Bodies[:1], IsList: batch.IsList}
	var receipt Receipt
	if receipt, err = in.commit(ctx, &first, records[:1], nil); err != nil {
		return Receipt{}, err
	}
	return receipt.shared(batch, records), nil
}

// shared adds to the receipt of the first heartbeats of a batch, or of one before it, those
// that it speaks for.
func (r Receipt) shared(batch *Batch, records []Record) Receipt {
	for i := len(r.Results); i < len(records); i++ {
		ref := authz.Ref{Kind: authz.KindSource, ID: records[i].Source.String()}
		r.Results = append(r.Results, Result{
			ID: batch.Signals[i].ID, Outcome: posture.NoChange, Tenant: records[i].Tenant,
			Entities: []posture.Result{{Key: ref.In(records[i].Tenant), Outcome: posture.NoChange, Known: true}},
		})
	}
	return r
}
