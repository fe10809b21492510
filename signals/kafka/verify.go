package kafka

import (
	"context"
	"errors"
	"fmt"
)

// errBehind says that a leader does not yet show what it must have.
var errBehind = errors.New("the leader does not show all that it has yet")

// markBytes is what is asked for to find the record of a mark: brokers give the first batch
// whole, whatever its size (KIP-74). All replicas ask at once when a leader moves.
const markBytes = 4 << 10

// verify finds whether the last record that was handed over still is what it was, before
// anything that comes after it is. So a log that was cut and has grown again, as an election
// of a replica that lacked records makes it, is noticed even where the offsets fit.
//
// end is where the leader said that it ends.
func (f *follower) verify(ctx context.Context, cn *conn, lead *lead, end int64) error {
	m, ok := f.l.marks.of(f.number)
	if !ok {
		return f.l.marks.loss(f.number)
	}
	if m.topic != f.t.id {
		return f.wrong(m.offset, ErrRecreated, fmt.Sprintf("its id was %x and is %x", m.topic, f.t.id))
	}
	q := f.request(lead, m.offset, 0)
	if q.maxBytes == fetchBytes {
		q.maxBytes = markBytes
	}
	got, err := cn.fetch(ctx, q)
	switch {
	case err != nil:
		return err
	case got.code == errOffsetOutOfRange:
		return f.lost(ctx, cn, lead, m)
	case got.code != errNone:
		return got.code
	case len(got.records) == 0:
		return f.unseen(ctx, cn, lead, m, end)
	}
	if err := f.compare(ctx, got.records, m); err != nil {
		return err
	}
	f.l.marks.lost(f.number, nil) // where a leader without the record was seen, that is over
	return nil
}

// compare looks for the record of a mark among those that a fetch brought.
func (f *follower) compare(ctx context.Context, raw []byte, m mark) error {
	found, same := false, false
	need, err := readBatches(ctx, f.l.turns, raw, m.offset, func(b *batch) error {
		if found || b.base > m.offset {
			return nil
		}
		found, same = true, f.same(b, m)
		return nil
	})
	if err := f.stopped(m.offset, need, err); err != nil {
		return err
	}
	switch {
	case need > 0:
		return errBehind
	case !same:
		return f.wrong(m.offset, ErrDiverged, "brokers lost records that they had acknowledged, and took others: start replicas anew, without their snapshots")
	}
	return nil
}

// same reports whether a batch has the record of a mark.
func (f *follower) same(b *batch, m mark) bool {
	if b.epoch != m.epoch || b.control {
		return false
	}
	if b.refused != "" {
		return b.last == m.offset && b.hash() == m.hash
	}
	for r := range b.records() {
		if r.offset == m.offset {
			return f.hash(&r) == m.hash
		}
	}
	return false
}

// lost finds why the record of the mark is out of range. Retention may have taken it since
// it was delivered; then the topic's id says that this is the same log, unless the record was
// seen to be lost before.
func (f *follower) lost(ctx context.Context, cn *conn, lead *lead, m mark) error {
	start, end, err := f.bounds(ctx, cn, lead)
	switch {
	case err != nil:
		return err
	case start > f.next:
		return f.hole(start, fmt.Sprintf("the partition begins at offset %d", start))
	case end <= m.offset:
		return f.wrong(m.offset, ErrTruncated, fmt.Sprintf("the partition ends at offset %d", end))
	case start > m.offset:
		return f.l.marks.loss(f.number)
	}
	return f.contradicted(start, end)
}

// unseen is for a mark at which the leader shows nothing. Where the log ends exactly there,
// the offset is in range, and the one after it is not.
func (f *follower) unseen(ctx context.Context, cn *conn, lead *lead, m mark, end int64) error {
	if end > m.offset {
		return errBehind
	}
	got, err := cn.fetch(ctx, f.request(lead, m.offset+1, 0))
	switch {
	case err != nil:
		return err
	case got.code == errOffsetOutOfRange:
		return f.lost(ctx, cn, lead, m)
	}
	return errBehind
}
