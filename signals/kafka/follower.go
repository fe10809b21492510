package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"vigil/authz"
	"vigil/signals"
)

const (
	// fetchBytes is how much one answer brings, but for a single batch that is larger.
	fetchBytes = 1 << 20
	// pauseLimit is how long after the wait of a fetch the next one may begin without the
	// records being looked at anew: a process that stood still longer may wake to another log.
	pauseLimit = 15 * time.Second
	// corruptLimit is how often bytes may fail their checksum at one offset.
	corruptLimit = 5
	// oddLimit is how often a broker may say that an offset is out of a range which it is in.
	oddLimit = 5
)

// follower reads one partition. Its methods belong to one goroutine, but for progress.
type follower struct {
	l         *feed
	t         *topic
	partition int32
	number    int32 // that positions have
	deliver   func([]signals.Entry) error
	progress  *progress

	next     int64 // the offset that is delivered next
	maxBytes int32
	corrupt  int // answers in a row whose bytes were damaged
	odd      int // answers in a row that contradict each other
	pause    backoff
	told     said
	taken    taken
}

// progress is what others may know of a follower.
type progress struct {
	lag, reconnects, errors atomic.Int64
	last                    atomic.Pointer[string] // the last error
	failing                 atomic.Pointer[string] // the same, but nil from the next answer on
}

// promise is an end of the partition that its leader named in answer to a request which was
// written after asked: whatever was acknowledged until then lies below.
type promise struct {
	end   int64
	asked authz.Instant
}

// errDelivery marks an error of whoever the entries were delivered to.
type errDelivery struct{ err error }

func (e errDelivery) Error() string { return e.err.Error() }
func (e errDelivery) Unwrap() error { return e.err }

// errMoved says that another leader or epoch is known. It is nothing to be sorry about.
var errMoved = errors.New("the partition has another leader")

// errPaused says that the process stood still, or the clock was set.
var errPaused = errors.New("there was a pause")

func (l *feed) newFollower(number int32, next int64, deliver func([]signals.Entry) error) *follower {
	t, p := topicOf(l.topics, number)
	return &follower{l: l, t: t, partition: p, number: number, next: next, deliver: deliver,
		maxBytes: fetchBytes, progress: l.progressOf(number)}
}

// run follows the partition from leader to leader. It returns an error that is final: of
// ctx, of the delivery, or a *PartitionError.
func (f *follower) run(ctx context.Context) error {
	for {
		lead, address, err := f.l.cluster.leader(ctx, f.number)
		if err != nil {
			return err
		}
		err = f.session(ctx, lead, address)
		var delivery errDelivery
		var partition *PartitionError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &delivery):
			return delivery.err
		case errors.As(err, &partition):
			if partition.What == ErrTruncated || partition.What == ErrDiverged {
				f.l.marks.lost(f.number, partition)
			}
			return err
		case lead.over.Err() != nil, err == errAnew:
			err = errMoved
		default:
			f.progress.errors.Add(1)
			text := err.Error()
			f.progress.last.Store(&text)
			f.progress.failing.Store(&text)
			if f.told.news(err) {
				f.l.log.Warn("a partition cannot be read just now", slog.String("partition", f.l.PartitionName(f.number)),
					slog.Int("broker", int(lead.leader)), slog.Any("error", err))
			}
		}
		f.progress.reconnects.Add(1)
		if err == errMoved {
			continue
		}
		f.l.cluster.ask()
		if !f.pause.wait(ctx) {
			return ctx.Err()
		}
	}
}

// session reads from one leader in one epoch, over one connection, until something goes
// wrong or another leader is known. The order is that of the contract: the leader names its
// end; the mark is verified; then records are fetched, remembered, delivered; and only what
// was delivered counts as reached.
func (f *follower) session(ctx context.Context, lead *lead, address string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(lead.over, cancel)
	defer stop()
	cn, err := f.l.cluster.dialer.dial(ctx, address)
	if err != nil {
		return err
	}
	defer cn.close()

	// From here on only this leader and epoch count: what was reached under another does not.
	f.l.fresh.follows(f.number, lead.leader, lead.epoch)

	// Guard: the end that the leader names in this epoch is reached first. It does not name one
	// before it knows all that was acknowledged before its time (KIP-207); what it names in
	// answers to fetches may be less until then.
	first := promise{asked: f.l.cfg.Now()}
	var code errorCode
	if first.end, code, err = cn.offset(ctx, f.t.name, f.partition, lead.epoch, latest); err != nil || code != errNone {
		return fmt.Errorf("where it ends: %w", cmpErr(err, code))
	}
	f.progress.lag.Store(max(0, first.end-f.next))
	// Guard: the mark is verified before anything is delivered.
	if err := f.verify(ctx, cn, lead, first.end); err != nil {
		return err
	}
	return f.fetchAll(ctx, cn, lead, first)
}

// fetchAll fetches and delivers until something goes wrong.
func (f *follower) fetchAll(ctx context.Context, cn *conn, lead *lead, first promise) error {
	owed := first // the end that is on the way to be reached
	wait := time.Duration(0)
	seen := first.asked
	for {
		if cn.ending() {
			return errAnew
		}
		asked := f.l.cfg.Now() // Guard: the send time is taken before the request is written.
		began := time.Now()
		got, err := cn.fetch(ctx, f.request(lead, f.next, wait))
		if err != nil {
			return err
		}
		now := f.l.cfg.Now()
		if now-seen > authz.Instant(wait+pauseLimit) {
			return errPaused // the log may be another now
		}
		seen = now
		if got.code != errNone {
			return f.refused(ctx, cn, lead, got.code)
		}
		f.progress.failing.Store(nil)
		f.progress.lag.Store(max(0, got.highWatermark-f.next)) // while it is delivered, too
		before := f.next
		if err := f.take(ctx, &got); err != nil {
			return err
		}
		if f.l.skip != nil {
			seen = f.l.cfg.Now() // a delivery may take long, and is no pause
		}
		f.corrupt, f.odd = 0, 0
		// Guard: applied before reached. Everything below next has been delivered. An end that was
		// named is reached when next has come to it; under a flood that is one which was named
		// some answers ago, so that the view is never long without.
		named := promise{max(first.end, got.highWatermark), asked}
		switch {
		case f.next > got.highWatermark: // a leader that does not show what it must have
		case f.next >= named.end:
			f.l.fresh.reachedAt(f.number, named.asked)
			owed = promise{end: -1}
		case owed.end < 0:
			owed = named
		case f.next >= owed.end:
			f.l.fresh.reachedAt(f.number, owed.asked)
			owed = named
		}
		f.progress.lag.Store(max(0, got.highWatermark-f.next))
		f.pause.reset()
		if f.next == before && wait > 0 && time.Since(began) < wait/2 && !sleep(ctx, firstPause) {
			return ctx.Err() // it had nothing for us, and did not wait: it is not asked at full speed
		}
		wait = f.l.cfg.Poll
	}
}

func (f *follower) request(lead *lead, offset int64, wait time.Duration) fetchRequest {
	return fetchRequest{id: f.t.id, partition: f.partition, epoch: lead.epoch, offset: offset, wait: wait, maxBytes: f.maxBytes}
}

// refused finds what it means that a broker does not fetch.
func (f *follower) refused(ctx context.Context, cn *conn, lead *lead, code errorCode) error {
	if code != errOffsetOutOfRange {
		return code
	}
	start, end, err := f.bounds(ctx, cn, lead)
	switch {
	case err != nil:
		return err
	case start > f.next:
		if err := f.hole(start, fmt.Sprintf("the partition begins at offset %d", start)); err != nil {
			return err
		}
		return errAnew
	case end < f.next:
		return f.wrong(f.next, ErrTruncated, fmt.Sprintf("the partition ends at offset %d", end))
	}
	return f.contradicted(start, end)
}

// bounds asks where the partition begins and ends.
func (f *follower) bounds(ctx context.Context, cn *conn, lead *lead) (start, end int64, err error) {
	var code errorCode
	if start, code, err = cn.offset(ctx, f.t.name, f.partition, lead.epoch, earliest); err != nil || code != errNone {
		return 0, 0, fmt.Errorf("where it begins: %w", cmpErr(err, code))
	}
	if end, code, err = cn.offset(ctx, f.t.name, f.partition, lead.epoch, latest); err != nil || code != errNone {
		return 0, 0, fmt.Errorf("where it ends: %w", cmpErr(err, code))
	}
	return start, end, nil
}

// contradicted is for an offset that is out of a range which it is in. The log may have
// changed between the questions; if it goes on, records are there that the leader does not
// vouch for.
func (f *follower) contradicted(start, end int64) error {
	if f.odd++; f.odd < oddLimit {
		return errOffsetOutOfRange
	}
	return f.wrong(f.next, ErrDiverged, fmt.Sprintf("the broker has no offset %d although it has %d to %d", f.next, start, end))
}

// hole is for the records from next to another offset, which are not there. Who has to have
// every record stops there.
func (f *follower) hole(to int64, detail string) error {
	if f.l.skip == nil {
		return f.wrong(f.next, ErrHole, detail)
	}
	f.l.skip(f.number, f.next, to)
	f.next, f.taken.next = to, to
	return nil
}

func (f *follower) wrong(offset int64, what error, detail string) error {
	return &PartitionError{Partition: f.t.partitionName(f.partition), Offset: offset, What: what, Detail: detail}
}

// cmpErr is the error of a question that has failed.
func cmpErr(err error, code errorCode) error {
	if err != nil {
		return err
	}
	return code.err()
}
