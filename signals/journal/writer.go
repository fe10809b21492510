package journal

import (
	"errors"
	"fmt"
	"os"
	"time"

	"vigil/disk"
	"vigil/signals"
)

// writer is the state of the writer goroutine; nothing else touches it once that runs.
type writer struct {
	j      *Journal
	chain  chainer
	marks  watermarkWriter
	group  []*request
	buffer []byte

	file    disk.File // the active segment; nil: it is final, and the next must be begun
	header  header    // of the active segment, or of the final one
	salted  uint32
	head    int64  // the next offset
	end     int64  // the byte behind the last durable record
	running digest // at head

	// carried are whole records that Open found past the watermark. The segment that
	// makes them void where they stood holds them from its first instant on, for they
	// may have been acknowledged.
	carried *request

	// trouble is why appends are refused, or nil. While it is set, retry will fire.
	trouble error
	pause   time.Duration // the last pause before a retry; 0 once a group was durable
	lost    int           // bytes that did not fit and must fit before trouble is over
	retry   *time.Timer

	// unmarked: the watermark in its file is behind head. While it is set, idle will fire.
	unmarked    bool
	markTrouble error
	idle        *time.Timer
}

// run is the writer goroutine.
func (w *writer) run() {
	defer close(w.j.ended)
	for {
		select {
		case <-w.j.wake:
		case <-w.idle.C:
			w.mark()
		case <-w.retry.C:
			w.tryAgain()
		}
		for {
			w.group = w.j.takeGroup(w.group[:0])
			if len(w.group) == 0 {
				break
			}
			w.answer(w.commit())
			clear(w.group) // it is the follower that keeps entries alive
		}
		if w.j.drained() {
			w.j.closed = w.shutDown()
			return
		}
	}
}

// commit makes the group durable. With an error that is signals.ErrUnavailable nothing of
// it is in the log.
func (w *writer) commit() error {
	if w.trouble == nil && w.end >= w.j.opt.SegmentBytes {
		// From the first attempt on nothing more may go to the old segment: the new
		// header may be there although an error was reported, and makes it void.
		w.giveUp()
		if err := w.begin(); err != nil {
			w.fail(fmt.Errorf("begin a segment: %w", err), 0)
		}
	}
	if w.trouble != nil {
		return unavailable(w.trouble)
	}
	frames := w.frame(w.group)
	if _, err := w.file.WriteAt(w.buffer, w.end); err != nil {
		return w.takeBack(err)
	}
	started := time.Now()
	if err := w.sync(); err != nil {
		w.giveUp()
		w.fail(fmt.Errorf("sync: %w", err), len(w.buffer))
		return fmt.Errorf("%w: %w", signals.ErrUnknownOutcome, err)
	}
	took := time.Since(started)
	w.end += int64(len(w.buffer))
	w.advance(frames)
	w.pause = 0
	w.j.publish(w, w.group, took)
	if cap(w.buffer) > 2*w.j.opt.GroupBytes {
		w.buffer = nil // a giant must not stay
	}
	return nil
}

// advance moves the head behind what has become durable.
func (w *writer) advance(to mark) {
	w.head, w.running = to.next, to.running
	w.unmarked = true
	w.idle.Reset(w.j.opt.MarkAfter)
}

// frame puts a mark and the requests into the buffer, and gives the state behind them.
func (w *writer) frame(group []*request) mark {
	to := mark{w.head, w.running}
	w.buffer = appendMark(w.buffer[:0], w.header.salt, to.next, to.running)
	now := w.j.opt.Now()
	for _, r := range group {
		to.running = r.complete(to.next, now, w.salted, to.running, w.chain)
		to.next += int64(len(r.ends))
		w.buffer = append(w.buffer, r.frames...)
	}
	return to
}

func (w *writer) sync() error {
	w.j.count(func(s *Stats) { s.Fsyncs++ })
	return w.file.Sync()
}

func (w *writer) answer(err error) {
	for _, r := range w.group {
		r.done <- err
	}
}

// takeBack removes what a failed write may have left of a group.
func (w *writer) takeBack(cause error) error {
	size := len(w.buffer)
	err := w.cut()
	w.fail(fmt.Errorf("write: %w", cause), size)
	if err != nil {
		return fmt.Errorf("%w: %w", signals.ErrUnknownOutcome, cause)
	}
	return unavailable(cause)
}

// cut makes the segment end at the last durable record again, durably. If that fails the
// segment is final.
func (w *writer) cut() error {
	err := w.file.Truncate(w.end)
	if err == nil {
		err = w.sync()
	}
	if err != nil {
		w.giveUp()
	}
	return err
}

// giveUp ends the use of the active segment: it is neither written nor synced again.
func (w *writer) giveUp() {
	_ = w.file.Close() // all that counts there is durable
	w.file = nil
}

// begin makes the next segment, which starts at the last durable record. A try after a
// failed one writes the same file anew, for the numbers of segments have no gaps.
func (w *writer) begin() error {
	old := w.header
	w.header = header{
		id: w.j.identity.log, ordinal: old.ordinal + 1, first: w.head,
		created: w.j.opt.Now(), salt: newSalt(), before: w.running,
	}
	w.salted = saltSum(w.header.salt)
	to := mark{w.head, w.running}
	content := w.header.encode()
	if w.carried != nil {
		to = w.frame([]*request{w.carried})
		content = append(content, w.buffer...)
	}
	path, err := createSegment(w.j.opt.FS, w.j.dir, &w.header, content)
	if err == nil {
		w.file, err = w.j.opt.FS.Open(path, os.O_RDWR, 0)
	}
	if err != nil {
		w.header = old
		return err
	}
	w.end = int64(len(content))
	w.j.join(segment{path: path, header: w.header, end: w.head, size: headerSize})
	if w.carried != nil {
		w.advance(to)
		w.j.publish(w, []*request{w.carried}, 0)
		w.carried = nil
	}
	return nil
}

// fail begins or prolongs the trouble. lost is the size of what could not be written.
func (w *writer) fail(err error, lost int) {
	w.pause = min(max(2*w.pause, w.j.opt.RetryAfter), w.j.opt.RetryAtMost)
	w.lost = max(w.lost, lost)
	if w.trouble == nil {
		w.j.opt.Logger.Error("journal: appends are refused until a write works again", "dir", w.j.dir, "error", err)
	}
	w.trouble = err
	w.j.refuse(err)
	w.report(err)
	w.retry.Reset(w.pause)
}

// tryAgain ends the trouble if the disk takes as much as it refused.
func (w *writer) tryAgain() {
	if w.trouble == nil {
		return
	}
	if w.file == nil {
		if err := w.begin(); err != nil {
			w.fail(fmt.Errorf("begin a segment: %w", err), 0)
			return
		}
	}
	if err := w.probe(); err != nil {
		w.fail(fmt.Errorf("write: %w", err), 0)
		return
	}
	w.j.opt.Logger.Info("journal: appends are accepted again", "dir", w.j.dir, "after", w.trouble)
	w.trouble, w.lost = nil, 0
	w.j.refuse(nil)
	w.report(nil)
}

// probe writes as many bytes as were refused, and takes them back. Should the machine
// stop in between, they are a torn tail.
func (w *writer) probe() error {
	zeros := make([]byte, min(max(w.lost, markFrame), 1<<20))
	var err error
	for at := 0; at < w.lost && err == nil; at += len(zeros) {
		_, err = w.file.WriteAt(zeros, w.end+int64(at))
	}
	if err == nil {
		if err = w.sync(); err != nil {
			w.giveUp()
			return err
		}
	}
	return errors.Join(err, w.cut())
}

// mark writes the watermark into its file.
func (w *writer) mark() {
	if !w.unmarked {
		return
	}
	w.j.count(func(s *Stats) { s.Fsyncs++ })
	err := w.marks.write(w.head)
	if (err == nil) != (w.markTrouble == nil) {
		w.markTrouble = err
		w.report(err)
	}
	if err != nil {
		w.idle.Reset(max(w.j.opt.MarkAfter, w.j.opt.RetryAtMost))
		return
	}
	w.unmarked = false
}

// report makes Health say what is wrong now, and counts err.
func (w *writer) report(err error) {
	if err != nil {
		w.j.count(func(s *Stats) {
			s.Failures++
			s.LastError, s.LastErrorAt = err.Error(), w.j.opt.Now()
		})
	}
	switch {
	case w.trouble != nil:
		trouble := w.trouble
		w.j.health.Store(&trouble)
	case w.markTrouble != nil:
		err := fmt.Errorf("write the watermark: %w", w.markTrouble)
		w.j.health.Store(&err)
	default:
		w.j.health.Store(nil)
	}
}

// shutDown leaves the folder as Open likes it best. Nothing is queued any more.
func (w *writer) shutDown() error {
	w.idle.Stop()
	w.retry.Stop()
	w.mark()
	err := errors.Join(w.trouble, w.markTrouble, w.marks.close())
	if w.file != nil {
		err = errors.Join(err, w.file.Close())
	}
	return errors.Join(err, w.j.lock.Close())
}
