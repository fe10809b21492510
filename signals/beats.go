package signals

import (
	"context"
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
	done  chan struct{} // closed when asOf is set for good
	asOf  string        // covers it; "" where it came to nothing
}

// at gives the heartbeat of source that one which comes at now can share, or else a new one,
// which the caller leads: it must call finish.
func (b *beats) at(source string, now authz.Instant) (latest *beat, leads bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if latest = b.latest[source]; latest != nil && now < latest.began.Add(beatsApart) {
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
func (b *beat) finish(asOf string) {
	b.asOf = asOf
	close(b.done)
}

// onlyBeats reports whether a batch is one of heartbeats alone by a client, which is heard as
// of when it sends them. An issuer is heard as of what it says.
func onlyBeats(source Source, batch *Batch) bool {
	return source.Kind == "client" && !slices.ContainsFunc(batch.Signals, func(s Signal) bool { return s.Type != TypeHeartbeat })
}

// beat is commit for heartbeats alone: one record says what all of them say, and what those say
// that come shortly after. Each is acknowledged when that record is durable and in force: its
// source is known to have been there beatsApart before at the earliest.
func (in *Intake) beat(ctx context.Context, source Source, batch *Batch, records []Record) (receipt Receipt, err error) {
	one, leads := in.beats.at(source.String(), in.cfg.Now())
	if leads {
		defer func() { one.finish(receipt.AsOf) }() // also when it panics
	} else {
		waiting, cancel := context.WithTimeout(ctx, in.cfg.MaxWait)
		defer cancel()
		select {
		case <-one.done:
		case <-waiting.Done():
			return Receipt{}, unavailable(waiting.Err()) // nothing was written of these
		}
		if one.asOf != "" { // else each goes alone
			return Receipt{AsOf: one.asOf}.shared(batch, records), nil
		}
	}
	first := Batch{Signals: batch.Signals[:1], Bodies: batch.Bodies[:1], IsList: batch.IsList}
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
