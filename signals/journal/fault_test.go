package journal

import (
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"vigil/disk"
	"vigil/disk/disktest"
	"vigil/signals"
)

// waitHealthy waits until the journal has recovered by itself.
func waitHealthy(t *testing.T, j *Journal) {
	t.Helper()
	for j.Health() != nil {
		if t.Context().Err() != nil {
			t.Fatal(j.Health())
		}
		runtime.Gosched()
	}
}

// failing fails the calls of one kind on files whose name ends so, from the skip-th on.
func failing(on disktest.Op, suffix string, skip int, with error) disktest.Fault {
	return func(op disktest.Op, name string, asked int) (int, error) {
		if op != on || !strings.HasSuffix(name, suffix) {
			return asked, nil
		}
		if skip--; skip >= 0 {
			return asked, nil
		}
		return asked / 2, with
	}
}

func failToAppend(t *testing.T, j *Journal, record string, want error) {
	t.Helper()
	_, err := j.Append(t.Context(), [][]byte{[]byte(record)})
	if !errors.Is(err, want) {
		t.Fatalf("append %q: %v, want %v", record, err, want)
	}
	if want == signals.ErrUnknownOutcome && errors.Is(err, signals.ErrUnavailable) {
		t.Fatalf("append %q says that nothing was written, and that this is not known: %v", record, err)
	}
}

// reopened closes j (or what is left of it) and opens the folder again, as after a kill.
func reopened(t *testing.T, m *disktest.Memory, j *Journal) *Journal {
	t.Helper()
	m.StopAfter(0)
	_ = j.Close()
	m.Kill()
	return mustOpen(t, m)
}

func TestFullDiskRefusesAppendsAndRecoversWhenThereIsSpace(t *testing.T) {
	m := disktest.New()
	var log logged
	j := mustOpen(t, m, log.to)
	appendSome(t, j, 0, 3)
	m.SetCapacity(m.Used() + 40)
	for range 3 {
		failToAppend(t, j, strings.Repeat("does not fit", 100), signals.ErrUnavailable)
	}
	err := j.Health()
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("health: %v", err)
	}
	if _, err := j.Append(t.Context(), [][]byte{[]byte("refused at once")}); !errors.Is(err, signals.ErrUnavailable) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("the reason is not said: %v", err)
	}
	wantRecords(t, contents(t, j), 0, 3) // decisions go on
	m.SetCapacity(-1)
	waitHealthy(t, j)
	appendSome(t, j, 3, 6)
	wantRecords(t, contents(t, j), 0, 6)
	if s := j.Stats(); s.Segments != 1 || s.Failures == 0 || s.LastError == "" {
		t.Errorf("stats %+v", s)
	}
	for _, said := range []string{"refused until a write works again", "no space left", "accepted again"} {
		if !strings.Contains(log.String(), said) {
			t.Errorf("not logged: %q in %s", said, &log)
		}
	}
	wantRecords(t, contents(t, reopened(t, m, j)), 0, 6)
}

// The disk has room for a few bytes, but not for what was refused: the journal must not
// call itself well and refuse the next append again.
func TestHealthWaitsForAsMuchSpaceAsWasMissing(t *testing.T) {
	m := disktest.New()
	j := mustOpen(t, m)
	appendSome(t, j, 0, 1)
	full := m.Used()
	m.SetCapacity(full + 10)
	failToAppend(t, j, strings.Repeat("x", 5000), signals.ErrUnavailable)
	m.SetCapacity(full + 4000)
	for before := m.Calls(disktest.OpWrite); m.Calls(disktest.OpWrite) < before+6; {
		if j.Health() == nil {
			t.Fatal("well, with 4000 bytes of 5000")
		}
		runtime.Gosched()
	}
	m.SetCapacity(full + 6000)
	waitHealthy(t, j)
	appendSome(t, j, 1, 2)
	wantRecords(t, contents(t, reopened(t, m, j)), 0, 2)
}

func TestFailedWriteIsTakenBack(t *testing.T) {
	m := disktest.New()
	j := mustOpen(t, m)
	appendSome(t, j, 0, 2)
	m.SetFault(failing(disktest.OpWrite, segmentSuffix, 0, syscall.EIO)) // half of it is written
	failToAppend(t, j, "taken back", signals.ErrUnavailable)
	m.SetFault(nil)
	waitHealthy(t, j)
	appendSome(t, j, 2, 4)
	if n := j.Stats().Segments; n != 1 {
		t.Errorf("%d segments", n)
	}
	wantRecords(t, contents(t, reopened(t, m, j)), 0, 4)
}

func TestFailedWriteThatCannotBeTakenBackIsUnknown(t *testing.T) {
	for _, on := range []disktest.Op{disktest.OpTruncate, disktest.OpSync} {
		m := disktest.New()
		j := mustOpen(t, m)
		appendSome(t, j, 0, 2)
		m.SetFault(func(op disktest.Op, name string, asked int) (int, error) {
			if strings.HasSuffix(name, segmentSuffix) && (op == disktest.OpWrite || op == on) {
				return asked, syscall.EIO
			}
			return asked, nil
		})
		failToAppend(t, j, "unknown", signals.ErrUnknownOutcome)
		m.SetFault(nil)
		waitHealthy(t, j)
		appendSome(t, j, 2, 4)
		if n := j.Stats().Segments; n != 2 {
			t.Errorf("%d segments", n)
		}
		wantRecords(t, contents(t, j), 0, 4)
		wantRecords(t, contents(t, reopened(t, m, j)), 0, 4)
	}
}

// A sync that fails is never tried again on its file: Linux would report success for
// pages that it has dropped.
func TestFailedSyncIsFinalForItsSegment(t *testing.T) {
	m := disktest.New()
	j := mustOpen(t, m)
	appendSome(t, j, 0, 2)
	const broken = "0000000001-00000000000000000000" + segmentSuffix
	failed, touched := false, []disktest.Op(nil)
	m.SetFault(func(op disktest.Op, name string, asked int) (int, error) {
		if filepath.Base(name) != broken {
			return asked, nil
		}
		switch {
		case failed && op != disktest.OpRead && op != disktest.OpOpen:
			touched = append(touched, op)
		case op == disktest.OpSync:
			failed = true
			return 0, syscall.EIO
		}
		return asked, nil
	})
	failToAppend(t, j, "lost", signals.ErrUnknownOutcome)
	waitHealthy(t, j)
	appendSome(t, j, 2, 5)
	wantRecords(t, contents(t, j), 0, 5)
	m.SetFault(nil)
	if len(touched) > 0 {
		t.Errorf("the segment was used again: %v", touched)
	}
	if got := j.Stats(); got.Segments != 2 || got.Failures != 1 {
		t.Errorf("stats %+v", got)
	}
	wantRecords(t, contents(t, reopened(t, m, j)), 0, 5)
}

// A process that is killed after a failed sync leaves pages that look well and are not on
// the disk. The next start must not take their word: what it shows must survive a loss of
// power.
func TestRecordsOfAFailedSyncAreWrittenAgainBeforeTheyAreShown(t *testing.T) {
	for seed := range uint64(20) {
		m := disktest.New()
		j := mustOpen(t, m, func(o *Options) { o.MarkAfter = time.Hour })
		appendSome(t, j, 0, 2)
		m.SetFault(failing(disktest.OpSync, segmentSuffix, 0, syscall.EIO))
		failToAppend(t, j, text(2), signals.ErrUnknownOutcome)
		j = reopened(t, m, j)
		seen := contents(t, j)
		m.StopAfter(0)
		_ = j.Close()
		m.Crash(newRandom(seed))
		again := contents(t, mustOpen(t, m))
		if len(again) < len(seen) {
			t.Fatalf("%d records were shown, %d survived", len(seen), len(again))
		}
	}
}

func TestSegmentThatCannotBeBegunIsTriedAgain(t *testing.T) {
	for _, on := range []disktest.Op{disktest.OpOpen, disktest.OpWrite, disktest.OpSync, disktest.OpRename, disktest.OpSyncDir} {
		t.Run(string(on), func(t *testing.T) {
			m := disktest.New()
			j := mustOpen(t, m, segmentsOf(200))
			for j.Stats().Bytes < 200 {
				appendSome(t, j, int(j.Head()), int(j.Head())+1)
			}
			head := int(j.Head())
			m.SetFault(func(op disktest.Op, name string, asked int) (int, error) {
				if op == on && (strings.Contains(name, "0000000002-") || op == disktest.OpSyncDir) {
					return 0, syscall.ENOSPC
				}
				return asked, nil
			})
			failToAppend(t, j, "refused", signals.ErrUnavailable)
			failToAppend(t, j, "refused", signals.ErrUnavailable)
			m.SetFault(nil)
			waitHealthy(t, j)
			appendSome(t, j, head, head+3)
			wantRecords(t, contents(t, j), 0, head+3)
			wantRecords(t, contents(t, reopened(t, m, j)), 0, head+3)
		})
	}
}

// Killed while a segment could not be begun: its header may be there or not, and nothing
// may have gone to the old one meanwhile.
func TestKilledWhileASegmentCannotBeBegun(t *testing.T) {
	m := disktest.New()
	j := mustOpen(t, m, segmentsOf(200))
	for j.Stats().Bytes < 200 {
		appendSome(t, j, int(j.Head()), int(j.Head())+1)
	}
	head := int(j.Head())
	m.SetFault(failing(disktest.OpSyncDir, "", 0, syscall.EIO)) // the rename has happened
	failToAppend(t, j, "refused", signals.ErrUnavailable)
	j = reopened(t, m, j)
	wantRecords(t, contents(t, j), 0, head)
	appendSome(t, j, head, head+2)
	wantRecords(t, contents(t, reopened(t, m, j)), 0, head+2)
}

func TestWatermarkThatCannotBeWrittenIsIllHealthAndHarmsNoRecord(t *testing.T) {
	m := disktest.New()
	j := mustOpen(t, m)
	appendSome(t, j, 0, 1)
	for j.Stats().Fsyncs < 2 { // the second is of the watermark
		runtime.Gosched()
	}
	m.SetFault(func(op disktest.Op, name string, asked int) (int, error) {
		if op == disktest.OpSync && strings.Contains(name, watermarkFile) {
			return 0, syscall.EIO
		}
		return asked, nil
	})
	appendSome(t, j, 1, 2)
	for j.Health() == nil {
		runtime.Gosched()
	}
	if !strings.Contains(j.Health().Error(), "watermark") {
		t.Errorf("health: %v", j.Health())
	}
	m.SetFault(nil)
	appendSome(t, j, 2, 3)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	w, err := readWatermark(m, dir)
	if err != nil || w.offset != 3 {
		t.Errorf("watermark %+v, %v", w, err)
	}
	wantRecords(t, contents(t, mustOpen(t, m)), 0, 3)
}

func TestOpenReportsDiskErrorsAndDoesNotTakeThemForDamage(t *testing.T) {
	m := disktest.New()
	j := mustOpen(t, m, segmentsOf(200))
	appendSome(t, j, 0, 20)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	reads := m.Calls(disktest.OpRead)
	if j, err := openIn(t, m); err != nil {
		t.Fatal(err)
	} else if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	reads = m.Calls(disktest.OpRead) - reads
	before := m.Names()
	for n := range reads {
		m.SetFault(failing(disktest.OpRead, "", n, syscall.EIO))
		_, err := openIn(t, m)
		var damage *DamageError
		if !errors.Is(err, syscall.EIO) || errors.As(err, &damage) {
			t.Fatalf("read %d: %v", n, err)
		}
	}
	m.SetFault(nil)
	if after := m.Names(); len(after) != len(before) {
		t.Errorf("files %v, before %v", after, before)
	}
	wantRecords(t, contents(t, mustOpen(t, m)), 0, 20)
}

func TestCreationThatIsCutShortIsBegunAnew(t *testing.T) {
	for step := range 40 {
		m := disktest.New()
		m.StopAfter(step)
		j, err := openIn(t, m)
		done := err == nil
		if done {
			_ = j.Close()
		}
		m.Crash(newRandom(uint64(step)))
		j = mustOpen(t, m)
		appendSome(t, j, 0, 2)
		wantRecords(t, contents(t, j), 0, 2)
		_ = j.Close()
		if done && step < 10 {
			t.Fatalf("open needs only %d calls?", step)
		}
	}
}

func TestAppendAnswersWhenItsContextEnds(t *testing.T) {
	m := disktest.New()
	j := mustOpen(t, m)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := j.Append(ended, [][]byte{[]byte("x")}); !errors.Is(err, signals.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("ended before: %v", err)
	}

	// One append hangs in a sync, another waits behind it, and both callers leave.
	syncing, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	m.SetFault(func(op disktest.Op, _ string, n int) (int, error) {
		if op == disktest.OpSync {
			once.Do(func() { close(syncing); <-leave })
		}
		return n, nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	hanging, waiting := make(chan error), make(chan error)
	go func() { _, err := j.Append(ctx, [][]byte{[]byte(text(0))}); hanging <- err }()
	<-syncing
	go func() { _, err := j.Append(ctx, [][]byte{[]byte("never")}); waiting <- err }()
	for j.Stats().PendingRecords == 0 {
		runtime.Gosched()
	}
	cancel()
	if err := <-hanging; !errors.Is(err, signals.ErrUnknownOutcome) || errors.Is(err, signals.ErrUnavailable) {
		t.Errorf("while it was written: %v", err)
	}
	if err := <-waiting; !errors.Is(err, signals.ErrUnavailable) {
		t.Errorf("before its turn: %v", err)
	}
	close(leave)
	for j.Head() == 0 {
		runtime.Gosched()
	}
	appendSome(t, j, 1, 2) // behind the one of unknown outcome, and not behind the other
	wantRecords(t, contents(t, j), 0, 2)
}

func TestWaitingAppendsAreBounded(t *testing.T) {
	m := disktest.New()
	j := mustOpen(t, m, func(o *Options) { o.MaxPending, o.MaxPendingBytes = 5, 1000 })
	syncing, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	m.SetFault(func(op disktest.Op, _ string, n int) (int, error) {
		if op == disktest.OpSync {
			once.Do(func() { close(syncing); <-leave })
		}
		return n, nil
	})
	var group sync.WaitGroup
	push := func(i int) {
		before := j.Stats().PendingRecords
		group.Go(func() {
			if _, err := j.Append(context.Background(), [][]byte{[]byte(text(i))}); err != nil {
				t.Error(err)
			}
		})
		for i > 0 && j.Stats().PendingRecords == before {
			runtime.Gosched()
		}
	}
	push(0)
	<-syncing
	for i := range 5 {
		push(i + 1)
	}
	_, err := j.Append(t.Context(), [][]byte{[]byte("x")})
	if !errors.Is(err, signals.ErrOverloaded) || !errors.Is(err, signals.ErrUnavailable) {
		t.Errorf("the sixth: %v", err)
	}
	close(leave)
	group.Wait()
	wantRecords(t, contents(t, j), 0, 6)
}

func TestOneProcessPerFolder(t *testing.T) {
	m := disktest.New()
	j := mustOpen(t, m)
	var locked *disk.LockedError
	if _, err := openIn(t, m); !errors.As(err, &locked) || !strings.Contains(err.Error(), "process 1") {
		t.Errorf("a second Open: %v", err)
	}
	if _, err := Adopt(dir, Options{FS: m}, nil); !errors.As(err, &locked) {
		t.Errorf("Adopt beside it: %v", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, m)
}

// A new segment had its name, but not for good, when the process was killed. Its successor
// must not put records there that go with the name when the power does.
func TestSegmentThatIsFoundAfterAKillIsThereForGood(t *testing.T) {
	for seed := range uint64(20) {
		m := disktest.New()
		j := mustOpen(t, m, segmentsOf(1))
		appendSome(t, j, 0, 2)
		m.SetFault(failing(disktest.OpSyncDir, "", 0, syscall.EIO))
		failToAppend(t, j, "refused", signals.ErrUnavailable)
		j = reopened(t, m, j)
		appendSome(t, j, 2, 4)
		m.StopAfter(0)
		_ = j.Close()
		m.Crash(newRandom(seed))
		wantRecords(t, contents(t, mustOpen(t, m)), 0, 4)
	}
}

// A full disk does not keep a restarted engine from reading its log, unless what stands
// past the watermark could not be made durable: that may have been acknowledged.
func TestOpenOnAFullDisk(t *testing.T) {
	for name, c := range map[string]struct {
		tail   func(m *disktest.Memory, j *Journal)
		opens  bool
		health error
	}{
		"clean": {func(*disktest.Memory, *Journal) {}, true, nil},
		"torn": {func(m *disktest.Memory, j *Journal) {
			path := j.mu.segments[0].path
			m.Put(path, append(m.Contents(path), "half a frame"...))
		}, true, syscall.ENOSPC},
		"whole records": {func(m *disktest.Memory, _ *Journal) {
			j := mustOpen(t, m, func(o *Options) { o.MarkAfter = time.Hour })
			appendSome(t, j, 3, 4)
			m.StopAfter(0)
			_ = j.Close()
			m.Kill()
		}, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			m := disktest.New()
			j := mustOpen(t, m)
			appendSome(t, j, 0, 3)
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			c.tail(m, j)
			m.SetCapacity(m.Used())
			j, err := openIn(t, m)
			if (err == nil) != c.opens || err != nil && !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("open: %v", err)
			}
			if err == nil {
				if !errors.Is(j.Health(), c.health) {
					t.Errorf("health: %v", j.Health())
				}
				wantRecords(t, contents(t, j), 0, 3)
				m.SetCapacity(-1)
				waitHealthy(t, j)
			} else {
				m.SetCapacity(-1)
				j = mustOpen(t, m)
			}
			head := int(j.Head())
			appendSome(t, j, head, head+2)
			wantRecords(t, contents(t, j), 0, head+2)
		})
	}
}
