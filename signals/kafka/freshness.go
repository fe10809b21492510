package kafka

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	"vigil/authz"
)

// freshness keeps the instant as of which the view is known to be complete: whatever was
// acknowledged in any partition before it has been applied here. It rests on no clock but
// this process's own, and on no answer about the present: only on when the questions were
// asked, for an answer may have been held up for any time.
//
// A partition is known up to the smaller of two instants:
//
//   - reached: when the latest question was asked whose answer named an end of the log that
//     has been applied since. It says that nothing is missing of what this leader has.
//   - confirmed: the latest instant at or after which a quorum of the partition's replicas
//     were asked, and named the leader and the epoch that its follower fetches from. It
//     says that no other leader had acknowledged anything by then (see confirmedAt).
//
// Both are about one leader in one epoch, and begin anew with the next.
//
// at is the smallest of all partitions, and never goes back: what was complete stays so.
// Decisions load it and nothing else. The store follows the applying of what it vouches
// for, so whoever loads it sees a store that has that.
type freshness struct {
	at atomic.Int64

	mu    sync.Mutex
	parts map[int32]*part // by number; every partition that is known to exist
	// begun is when the present Follow began, and caughtUp is closed when all partitions
	// are known up to there. nil while nobody follows, and once it is closed.
	begun    authz.Instant
	caughtUp chan struct{}
}

// part is what is known of a partition.
type part struct {
	leader, epoch      int32 // that its follower fetches from; nobody is noLeader
	minISR             int
	reached, confirmed authz.Instant
	answers            map[int32]claim // the latest of each broker that was asked directly
}

const noLeader = -1

// claim is what one broker said of a partition in answer to one request.
type claim struct {
	leader, epoch int32
	replicas      []int32
	asked         authz.Instant // read before the request was written
}

// known is up to when the partition is known.
func (p *part) known() authz.Instant { return min(p.reached, p.confirmed) }

// confirmedAt is the guard that leaders are confirmed by a quorum: the latest instant at or after which so many replicas were asked and named
// this leader and epoch that nothing can have been acknowledged under a later one by then;
// 0 where too few did.
//
// A record is acknowledged only when minISR replicas have it, the leader among them. A
// replica has a record of an epoch only if it knows of the epoch: brokers publish a new
// leader in what they answer before they act on it. So of all replicas but minISR-1, at
// least one would have named the later epoch. A broker that names an earlier epoch is
// behind, and says nothing about this one.
//
// While replicas are being moved, brokers may name different ones. All that were named in
// this epoch count as replicas, so that the quorum is the larger.
func confirmedAt(leader, epoch int32, minISR int, answers map[int32]claim) authz.Instant {
	var replicas []int32
	for _, a := range answers {
		if a.leader == leader && a.epoch == epoch {
			replicas = append(replicas, a.replicas...)
		}
	}
	slices.Sort(replicas)
	replicas = slices.Compact(replicas)
	var asked []authz.Instant
	for _, id := range replicas {
		if a, there := answers[id]; there && a.leader == leader && a.epoch == epoch {
			asked = append(asked, a.asked)
		}
	}
	quorum := max(1, len(replicas)-max(1, minISR)+1)
	if len(asked) < quorum {
		return 0
	}
	slices.SortFunc(asked, func(a, b authz.Instant) int { return cmp.Compare(b, a) })
	return asked[quorum-1]
}

// add makes a partition known. Nothing is fresh any more until it is followed, has reached
// its end and was confirmed. It reports false for one that was known.
func (f *freshness) add(number int32, minISR int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.parts[number] != nil {
		return false
	}
	if f.parts == nil {
		f.parts = make(map[int32]*part)
	}
	f.parts[number] = &part{leader: noLeader, minISR: minISR, answers: make(map[int32]claim)}
	return true
}

// setMinISR sets how many replicas have what is acknowledged.
func (f *freshness) setMinISR(number int32, minISR int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.parts[number]; p != nil {
		p.minISR = minISR
	}
}

// begin starts a Follow at now: what the last one had reached counts no more. The channel
// is closed when everything that was there at now has been applied.
func (f *freshness) begin(now authz.Instant) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.parts {
		p.leader, p.reached, p.confirmed = noLeader, 0, 0
	}
	f.begun, f.caughtUp = now, make(chan struct{})
	return f.caughtUp
}

// answered takes what a broker that was asked directly says of all partitions. An answer
// that lacks one which is known to exist is behind, and counts for nothing: a broker which
// does not know of all partitions cannot vouch that there is no other.
func (f *freshness) answered(broker int32, claims map[int32]claim) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for number := range f.parts {
		if _, listed := claims[number]; !listed {
			return
		}
	}
	for number, c := range claims {
		p := f.parts[number]
		if p == nil || p.answers[broker].asked > c.asked {
			continue
		}
		p.answers[broker] = c
		p.confirmed = max(p.confirmed, confirmedAt(p.leader, p.epoch, p.minISR, p.answers))
	}
	f.publishLocked()
}

// follows says whom a partition is fetched from now. What was reached under another leader
// or in another epoch says nothing about this one.
func (f *freshness) follows(number, leader, epoch int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.parts[number]
	if p == nil || p.leader == leader && p.epoch == epoch {
		return
	}
	p.leader, p.epoch, p.reached = leader, epoch, 0
	p.confirmed = confirmedAt(leader, epoch, p.minISR, p.answers)
	f.publishLocked()
}

// reachedAt says that everything below an end which the leader named in answer to a
// request that was written after asked has been applied.
func (f *freshness) reachedAt(number int32, asked authz.Instant) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.parts[number]
	if p == nil || p.leader == noLeader || asked <= p.reached {
		return
	}
	p.reached = asked
	f.publishLocked()
}

// publishLocked stores the smallest of what is known of all partitions. Guard: FreshAt is a
// minimum, over partitions that nobody follows yet, too.
func (f *freshness) publishLocked() {
	if len(f.parts) == 0 {
		return
	}
	at := authz.Forever
	for _, p := range f.parts {
		if at = min(at, p.known()); at == 0 {
			return
		}
	}
	f.at.Store(max(f.at.Load(), int64(at)))
	if f.caughtUp != nil && at >= f.begun {
		close(f.caughtUp)
		f.caughtUp = nil
	}
}

// freshAt is the instant as of which the view is complete; 0 before it ever was.
func (f *freshness) freshAt() authz.Instant { return authz.Instant(f.at.Load()) }
