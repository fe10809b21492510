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
	// beatAtLeast bounds how much newer a sign of life must be than what is known, whatever
	// silence is allowed: that is how exactly it is known when an issuer was there last.
	beatAtLeast = time.Minute
	// beatTime bounds how long one heartbeat may hold up who brought the sign of life.
	beatTime = 5 * time.Second
)

// beatEvery is how much newer a sign of life must be than what all replicas know of the
// issuer to be passed on, and the least time between two heartbeats of this receiver: a
// quarter of the silence that the rules in use allow. 0 where they do not require the issuer.
func (r *Receiver) beatEvery() time.Duration {
	if r.issuer.cfg.MaxSilence == nil {
		return 0
	}
	return min(r.issuer.cfg.MaxSilence()/4, beatAtLeast)
}

// alive says in the issuer's name that it was there at an instant, for what shows that and
// says nothing else: a SET without a signal, an answer to a poll. at is when a SET was
// issued, not when it came: one that somebody caught and sends again shows nothing new. One
// that is to be issued later than clocks can explain shows nothing at all.
func (r *Receiver) alive(ctx context.Context, at authz.Instant) {
	now := r.now()
	if at > now.Add(maxSkew) {
		return
	}
	r.mu.Lock()
	r.mu.shown = max(r.mu.shown, min(at, now)) // or a clock that is ahead would silence what comes after
	r.mu.Unlock()
	r.PassOn(ctx)
}

// PassOn sends a heartbeat for the newest sign of life, where the rules in use require the
// issuer and nobody has said as much yet. Taking a SET does that, too; it is for rules that
// begin to require an issuer that was there before, and is called every second or so. What
// fails is not tried again, for the next sign of life is as good.
func (r *Receiver) PassOn(ctx context.Context) {
	every := r.beatEvery()
	r.mu.Lock()
	at, newer := r.mu.shown, r.mu.shown > r.mu.alive
	r.mu.Unlock()
	if every == 0 || !newer || r.known(at.Add(-every)+1) {
		return // the last: another replica has said it, or this one before it was started again
	}
	now := r.now()
	r.mu.Lock()
	// A backlog comes at once, and its last says most.
	due := at > r.mu.alive && (r.mu.beat == 0 || now >= r.mu.beat.Add(every) || at >= r.mu.alive.Add(every))
	if due {
		r.mu.beat, r.mu.alive = now, at
	}
	r.mu.Unlock()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, beatTime)
	defer cancel()
	if _, err := r.intake.Push(ctx, r.sender(), r.beat(at)); err != nil {
		r.log.Debug("a sign of life was not passed on", slog.String("reason", err.Error()))
	}
}

// known reports whether the issuer is known to have been there at an instant or later.
func (r *Receiver) known(at authz.Instant) bool { return r.intake.InForce(r.sender(), r.beat(at)) }

// beat is a heartbeat of the issuer as of an instant.
func (r *Receiver) beat(at authz.Instant) []byte {
	var random [10]byte
	rand.Read(random[:]) // never fails
	beat := signals.Signal{
		ID: "alive-" + hex.EncodeToString(random[:]), Type: signals.TypeHeartbeat, Time: at, Expires: authz.Forever,
		Entities: []authz.Ref{{Kind: authz.KindSource, ID: r.issuer.Source().String()}},
	}
	return beat.AppendJSON(nil)
}

func (r *Receiver) sender() signals.Sender {
	return signals.Sender{Source: r.issuer.Source(), Authority: r.issuer.cfg.Authority}
}
