package kafka

import (
	"context"
	"errors"
	"fmt"

	"vigil/signals"
)

const (
	// deliverAtOnce bounds the entries of one delivery.
	deliverAtOnce = 1024
	// maxFetchBytes is the largest single batch that is fetched.
	maxFetchBytes = maxBatch - 1<<20
)

// taken is what was read of a fetch and not delivered yet.
type taken struct {
	entries []signals.Entry
	// last is the latest of them, in a batch of an epoch.
	last  record
	epoch int32
	next  int64 // the offset after what was read
}

// take delivers what a fetch brought. Only what was delivered moves next.
func (f *follower) take(ctx context.Context, got *fetched) error {
	f.taken.next = f.next
	need, err := readBatches(ctx, f.l.turns, got.records, f.next, f.takeBatch)
	if late := f.hand(); late != nil {
		return late
	}
	return f.stopped(f.next, need, err)
}

// stopped says what it means that an answer was read no further, at an offset: nil where it
// was read to its end, or where the next one has the room that was missing.
func (f *follower) stopped(at int64, need int, err error) error {
	switch {
	case errors.Is(err, errCorrupt):
		if f.corrupt++; f.corrupt >= corruptLimit {
			return f.wrong(at, ErrDamaged, err.Error())
		}
		return err
	case err != nil:
		return err
	case need > maxFetchBytes:
		return f.tooLarge(need)
	case need > 0:
		f.maxBytes = max(f.maxBytes, int32(need))
	}
	return nil
}

func (f *follower) tooLarge(need int) error {
	return f.wrong(f.next, ErrDamaged, fmt.Sprintf("a batch of %d bytes, more than the %d that can be read", need, maxFetchBytes))
}

// takeBatch reads the records of one batch from next on. Those of a packed batch are
// delivered before it returns, for their memory is the batch's; others with what comes next
// in the same fetch, for most batches are small and a delivery has its price.
func (f *follower) takeBatch(b *batch) error {
	k := &f.taken
	if b.base > k.next {
		if err := f.gap(b.base, fmt.Sprintf("the next records are at offset %d", b.base)); err != nil {
			return err
		}
	}
	switch {
	case b.control: // it has an offset, and is nobody's
	case b.refused != "":
		if err := f.hand(); err != nil {
			return err
		}
		f.l.marks.set(mark{partition: f.number, topic: f.t.id, offset: b.last, epoch: b.epoch, hash: b.hash()})
		return f.give([]signals.Entry{{
			Position: signals.Position{Partition: f.number, Offset: b.last}, Input: f.t.input, Refused: b.refused,
		}}, b.last+1)
	default:
		for r := range b.records() {
			if r.offset < k.next {
				continue
			}
			if r.offset > k.next {
				if err := f.lacking(b, r.offset); err != nil {
					return err
				}
			}
			k.entries = append(k.entries, f.entry(b, &r))
			k.last, k.epoch, k.next = r, b.epoch, r.offset+1
			if len(k.entries) == deliverAtOnce {
				if err := f.hand(); err != nil {
					return err
				}
			}
		}
		if k.next <= b.last {
			if err := f.lacking(b, b.last+1); err != nil {
				return err
			}
		}
	}
	k.next = max(k.next, b.last+1)
	if b.codec != 0 {
		return f.hand()
	}
	return nil
}

// lacking is for a batch that has no record from the next of its offsets to another. Brokers
// write batches without gaps; compaction makes them, and what it took may have been a
// revocation.
func (f *follower) lacking(b *batch, to int64) error {
	return f.gap(to, fmt.Sprintf("the batch of the offsets %d to %d lacks it, as after compaction", b.base, b.last))
}

// gap is for an answer that has no records from the next offset to another: what was read
// before it is delivered.
func (f *follower) gap(to int64, detail string) error {
	if err := f.hand(); err != nil {
		return err
	}
	return f.hole(to, detail)
}

// hand delivers what was read.
//
// Guard: the mark is set before deliver is called. A snapshot's mark may be of a later record
// than its position, and never of an earlier one, for then a record between the two could
// change unnoticed.
func (f *follower) hand() error {
	k := &f.taken
	if len(k.entries) == 0 {
		f.next = max(f.next, k.next)
		return nil
	}
	f.l.marks.set(mark{partition: f.number, topic: f.t.id, offset: k.last.offset, epoch: k.epoch, hash: f.hash(&k.last)})
	err := f.give(k.entries, k.next)
	clear(k.entries) // the room for them must keep no record alive
	k.entries, k.last = k.entries[:0], record{}
	return err
}

// give delivers entries, and moves next past them.
func (f *follower) give(entries []signals.Entry, next int64) error {
	if err := f.deliver(entries); err != nil {
		return errDelivery{err}
	}
	f.next, f.taken.next = next, next
	return nil
}

// entry makes the entry of a record. What its reader could not take is refused here.
func (f *follower) entry(b *batch, r *record) signals.Entry {
	e := signals.Entry{
		Position: signals.Position{Partition: f.number, Offset: r.offset},
		Appended: r.appended,
		Record:   r.value,
		Input:    f.t.input,
	}
	most := signals.MaxRecord
	if f.t.input != nil || f.t.decode != nil {
		most = signals.MaxSignal
	}
	switch {
	case b.transactional:
		e.Refused = "it is part of a transaction, and whether that was committed is not followed"
	case f.t.decode != nil:
		var decoded []byte
		if decoded, e.Refused = f.t.decoded(r); e.Refused == "" {
			e.Record = decoded
		}
	case r.noValue:
		e.Refused = "it has no value"
	case len(r.value) > most:
		e.Refused = fmt.Sprintf("it has %d bytes, more than %d", len(r.value), most)
	}
	if len(e.Record) > most {
		e.Record = e.Record[:most:most]
	}
	return e
}
