package signals

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
)

// push is the records of one Push on their way through the log. What stands before the
// blank line never changes; the rest is guarded by the applier's lock until done is
// closed, and does not change after.
type push struct {
	first   uint64   // Seq of the first record
	encoded [][]byte // the records
	read    []Signal // what was read of each, before they were encoded
	spooled bool     // the spool has them, not the log

	results []applied
	left    int // records that nothing is known of yet
	asOf    string
	err     error
	done    chan struct{}
}

// expect numbers and encodes records, which were made of the signals in read, and gives the
// push that will hear of them, from the log or from the spool. It must be followed by forget
// when nobody waits any more. Neither may change afterwards.
func (a *Applier) expect(records []Record, read []Signal, spooled bool) (*push, error) {
	n := len(records)
	p := &push{
		first: a.lastSeq.Add(uint64(n)) - uint64(n) + 1, encoded: make([][]byte, n), read: read, spooled: spooled,
		results: make([]applied, n), left: n, done: make(chan struct{}),
	}
	const around = 128 // more than most records have besides the body
	size := 0
	for i := range records {
		size += len(records[i].Body) + around
	}
	all := make([]byte, 0, size)
	for i := range records {
		records[i].Seq = p.first + uint64(i)
		start := len(all)
		all = EncodeRecord(all, &records[i])
		p.encoded[i] = all[start:len(all):len(all)]
	}

	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.acceptingLocked(spooled); err != nil {
		return nil, err
	}
	at, _ := slices.BinarySearchFunc(a.mu.pushes, p.first, (*push).compare)
	a.mu.pushes = slices.Insert(a.mu.pushes, at, p)
	return p, nil
}

// compare tells whether p is of records before or after that of a Seq.
func (p *push) compare(seq uint64) int {
	if seq >= p.first && seq-p.first < uint64(len(p.encoded)) {
		return 0
	}
	return cmp.Compare(p.first, seq)
}

// accepting says why no signal can be accepted now, by the log or by the spool, or nil.
func (a *Applier) accepting(spooled bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.acceptingLocked(spooled)
}

func (a *Applier) acceptingLocked(spooled bool) error {
	if spooled {
		return a.acceptingSpooledLocked()
	}
	switch err := a.Err(); {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case !a.mu.running:
		return fmt.Errorf("%w: nobody follows it", ErrUnavailable)
	case !a.mu.ready:
		return fmt.Errorf("%w: it is still being read", ErrUnavailable)
	}
	return nil
}

// forget drops a push that nobody waits for any more.
func (a *Applier) forget(p *push) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at, there := slices.BinarySearchFunc(a.mu.pushes, p.first, (*push).compare); there {
		a.mu.pushes = slices.Delete(a.mu.pushes, at, at+1)
	}
}

// own gives the push that a record is of, and which of its records it is; nil where this
// process did not append it, or nobody waits. It is for the goroutine that applies.
func (a *Applier) own(rec *Record) (p *push, i int) {
	if rec.Origin != a.origin {
		return nil, 0
	}
	at, there := slices.BinarySearchFunc(a.expected, rec.Seq, (*push).compare)
	if !there {
		return nil, 0
	}
	p = a.expected[at]
	return p, int(rec.Seq - p.first)
}

// signal gives what was read of record i, so that it need not be read again. It reports
// false unless the bytes that came out of the log are those that went in: reading is a pure
// function of them, so a replay of the log reads the same.
func (p *push) signal(i int, record []byte) (*Signal, bool) {
	if p == nil || !bytes.Equal(p.encoded[i], record) {
		return nil, false
	}
	return &p.read[i], true
}

// settleLocked hands a result to whoever pushed the record. The last one of a push ends
// its waiting: asOf is published by then and covers them all.
func (out *applied) settleLocked(asOf string) {
	p := out.push
	if p == nil || p.results[out.index].push != nil {
		return
	}
	p.results[out.index] = *out
	if p.left--; p.left == 0 {
		p.asOf = asOf
		close(p.done)
	}
}

// abandonLocked ends the waiting for a feed that has stopped: the spool's or the log's.
func (a *Applier) abandonLocked(spooled bool) {
	a.mu.pushes = slices.DeleteFunc(a.mu.pushes, func(p *push) bool {
		if p.spooled != spooled {
			return false
		}
		if p.left > 0 {
			p.err = ErrUnknownOutcome
			close(p.done)
		}
		return true
	})
	if spooled {
		return
	}
	for w := range a.mu.waiters {
		delete(a.mu.waiters, w)
		close(w.done)
	}
}
