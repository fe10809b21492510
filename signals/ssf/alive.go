package ssf

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"time"

	"vigil/authz"
	"vigil/signals"
)

const (
	// beatEvery is the least time between two heartbeats of one issuer by one receiver, or
	// between the instants that they state: a backlog comes at once, and its last says most.
	beatEvery = 10 * time.Second
	// beatTime bounds how long one may hold up who brought the sign of life.
	beatTime = 5 * time.Second
)

// alive says in the issuer's name that it was there at an instant, for what shows that and
// says nothing else: a SET without a signal, an answer to a poll. at is when a SET was
// issued, not when it came: one that somebody caught and sends again shows nothing new. One
// that is to be issued later than clocks can explain shows nothing at all. It is not tried
// again, for the next sign of life is as good.
func (r *Receiver) alive(ctx context.Context, at authz.Instant) {
	now := r.now()
	if at > now.Add(maxSkew) {
		return
	}
	at = min(at, now) // or a clock that is ahead would silence what comes after
	r.mu.Lock()
	due := at > r.mu.alive && (r.mu.beat == 0 || now >= r.mu.beat.Add(beatEvery) || at >= r.mu.alive.Add(beatEvery))
	if due {
		r.mu.beat, r.mu.alive = now, at
	}
	r.mu.Unlock()
	if !due {
		return
	}
	var random [10]byte
	rand.Read(random[:]) // never fails
	source := r.issuer.Source()
	beat := signals.Signal{
		ID: "alive-" + hex.EncodeToString(random[:]), Type: signals.TypeHeartbeat, Time: at, Expires: authz.Forever,
		Entities: []authz.Ref{{Kind: authz.KindSource, ID: source.String()}},
	}
	sender, body := signals.Sender{Source: source, Authority: r.issuer.cfg.Authority}, beat.AppendJSON(nil)
	if r.intake.InForce(sender, body) {
		return // another replica has said it, or this one before it was started again
	}
	ctx, cancel := context.WithTimeout(ctx, beatTime)
	defer cancel()
	if _, err := r.intake.Push(ctx, sender, body); err != nil {
		r.log.Debug("a sign of life was not passed on", slog.String("reason", err.Error()))
	}
}

// spoke notes that a signal of the issuer, which is in force, shows that it was there at an
// instant: no heartbeat has to say so for a while.
func (r *Receiver) spoke(at authz.Instant) {
	now := r.now()
	if at > now.Add(maxSkew) {
		return
	}
	at = min(at, now)
	r.mu.Lock()
	defer r.mu.Unlock()
	if at > r.mu.alive && at.Add(beatEvery) > now {
		r.mu.beat, r.mu.alive = now, at
	}
}

// newest is the latest time that signals state; 0 where there are none.
func newest(list []signals.Signal) (at authz.Instant) {
	for i := range list {
		at = max(at, list[i].Time)
	}
	return at
}
