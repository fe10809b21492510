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
	// tryAgain is how long after one that failed the next is tried: it would hold up who
	// brings it as long.
	tryAgain = time.Second
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
// issuer and nobody has said as much yet: where what is known is a quarter of the silence
// older, or half of it ago, for else an issuer would look silent before it was. Taking a SET
// does that, too. It is called every second or so: for rules that begin to require an issuer
// that was there before, for what was too early to say when it came, and for what failed.
func (r *Receiver) PassOn(ctx context.Context) {
	every := r.beatEvery()
	r.mu.Lock()
	at, newer := r.mu.shown, r.mu.shown > r.mu.alive
	r.mu.Unlock()
	if every == 0 || !newer {
		return
	}
	now := r.now()
	half := r.issuer.cfg.MaxSilence() / 2
	if r.known(at.Add(-every)+1) && (r.known(now.Add(-half)+1) || r.known(at)) {
		return // another replica has said it, or this one before it was started again
	}
	r.mu.Lock()
	before, last := r.mu.alive, r.mu.beat
	// A backlog comes at once, and its last says most.
	due := at > before && (last == 0 || now >= last.Add(every) || at >= before.Add(every)) &&
		(r.mu.failed == 0 || now >= r.mu.failed.Add(tryAgain))
	if due {
		r.mu.beat, r.mu.alive = now, at
	}
	r.mu.Unlock()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, beatTime)
	defer cancel()
	_, err := r.intake.Push(ctx, r.sender(), r.beat(at))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.failed = 0
	if err != nil {
		r.log.Debug("a sign of life was not passed on", slog.String("reason", err.Error()))
		if r.mu.failed = now; r.mu.alive == at { // else somebody has passed on a later one
			r.mu.beat, r.mu.alive = last, before
		}
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
