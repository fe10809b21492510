package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vigil/authz"
	"vigil/disk"
	"vigil/disk/disktest"
	"vigil/signals"
)

func TestMain(m *testing.M) {
	if isChild() {
		child()
		return
	}
	goleak.VerifyTestMain(m)
}

const dir = "/j"

// mustOpen opens the journal in m and closes it with the test, unless m has "crashed".
func mustOpen(t testing.TB, m disk.FS, change ...func(*Options)) *Journal {
	t.Helper()
	j, err := openIn(t, m, change...)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func openIn(t testing.TB, m disk.FS, change ...func(*Options)) (*Journal, error) {
	opt := Options{FS: m, RetryAfter: time.Millisecond, RetryAtMost: 2 * time.Millisecond}
	for _, c := range change {
		c(&opt)
	}
	j, err := Open(dir, opt)
	if err == nil {
		t.Cleanup(func() { _ = j.Close() })
	}
	return j, err
}

func segmentsOf(n int64) func(*Options) { return func(o *Options) { o.SegmentBytes = n } }

func text(i int) string { return fmt.Sprintf("record %d", i) }

// appendAll appends records one by one and wants them at the end of the log.
func appendAll(t testing.TB, j *Journal, records ...string) {
	t.Helper()
	for _, r := range records {
		head := j.Head()
		at, err := j.Append(context.Background(), [][]byte{[]byte(r)})
		if err != nil {
			t.Fatalf("append %q: %v", r, err)
		}
		if len(at) != 1 || at[0] != (signals.Position{Offset: head}) {
			t.Fatalf("append %q: at %v, want %d", r, at, head)
		}
	}
}

func appendSome(t testing.TB, j *Journal, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		appendAll(t, j, text(i))
	}
}

// contents reads a journal from its first record to its head through Follow.
func contents(t testing.TB, j *Journal) []string {
	t.Helper()
	got, err := follow(j, j.FirstOffset())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// follow reads from an offset to what was the head at the start.
func follow(j *Journal, from int64) ([]string, error) {
	var got []string
	next := from
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	err := j.Follow(ctx, signals.Positions{0: from}, func(batch []signals.Entry) error {
		for _, e := range batch {
			if e.Position != (signals.Position{Offset: next}) {
				return fmt.Errorf("delivered %v where %d is next", e.Position, next)
			}
			next++
			got = append(got, string(e.Record))
		}
		return nil
	}, cancel)
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return got, err
}

func wantRecords(t testing.TB, got []string, from, to int) {
	t.Helper()
	if len(got) != to-from {
		t.Fatalf("%d records, want %d: %.200q", len(got), to-from, got)
	}
	for i, r := range got {
		if r != text(from+i) {
			t.Fatalf("record %d is %q", from+i, r)
		}
	}
}

// logged collects what a journal logs.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logged) to(o *Options) { o.Logger = slog.New(slog.NewTextHandler(l, nil)) }

func TestRecordsAreFoundAgainInOrderAcrossRestartsAndSegments(t *testing.T) {
	m := disktest.New()
	const perLife, lives = 40, 4
	var id signals.LogID
	for life := range lives {
		j := mustOpen(t, m, segmentsOf(600))
		if life == 0 {
			id = j.ID()
		} else if j.ID() != id {
			t.Fatal("the identity changed")
		}
		if j.Head() != int64(life*perLife) {
			t.Fatalf("head %d in life %d", j.Head(), life)
		}
		wantRecords(t, contents(t, j), 0, life*perLife)
		appendSome(t, j, life*perLife, (life+1)*perLife)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := j.Append(t.Context(), [][]byte{nil}); !errors.Is(err, ErrClosed) || !errors.Is(err, signals.ErrUnavailable) {
			t.Errorf("append after Close: %v", err)
		}
	}
	j := mustOpen(t, m)
	wantRecords(t, contents(t, j), 0, lives*perLife)
	s := j.Stats()
	if s.Records != lives*perLife || s.Segments < 5 || s.Bytes < 10*lives*perLife {
		t.Errorf("stats %+v", s)
	}
	for from := range int64(lives * perLife) {
		got, err := follow(j, from)
		if err != nil {
			t.Fatal(err)
		}
		wantRecords(t, got, int(from), lives*perLife)
	}
}

func TestBatchesKeepTheirOrderAndBytes(t *testing.T) {
	m := disktest.New()
	j := mustOpen(t, m)
	big := strings.Repeat("x", MaxRecord)
	batch := [][]byte{[]byte("a"), {}, []byte(big), []byte("b")}
	at, err := j.Append(t.Context(), batch)
	if err != nil || len(at) != 4 || at[3].Offset != 3 {
		t.Fatalf("%v, %v", at, err)
	}
	batch[0][0] = 'z' // the journal must not share the caller's bytes
	if at, err := j.Append(t.Context(), nil); at != nil || err != nil {
		t.Errorf("empty append: %v, %v", at, err)
	}
	for _, tooLarge := range [][][]byte{
		{make([]byte, MaxRecord+1)},
		{make([]byte, MaxRecord), make([]byte, MaxRecord), make([]byte, MaxRecord), make([]byte, MaxRecord),
			make([]byte, MaxRecord), make([]byte, MaxRecord), make([]byte, MaxRecord), make([]byte, MaxRecord)},
	} {
		var refused *TooLargeError
		if _, err := j.Append(t.Context(), tooLarge); !errors.As(err, &refused) {
			t.Errorf("too large: %v", err)
		}
	}
	want := []string{"a", "", big, "b"}
	for range 2 {
		got := contents(t, j)
		if len(got) != len(want) {
			t.Fatalf("%d records", len(got))
		}
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("record %d differs", i)
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		j = mustOpen(t, m)
	}
}

func TestAppendTimesAreKept(t *testing.T) {
	m := disktest.New()
	now := authz.Instant(1000)
	at := func(o *Options) { o.Now = func() authz.Instant { return now } }
	j := mustOpen(t, m, at)
	appendAll(t, j, "a")
	m.Kill() // before the watermark is in its file: the record is written again at the next start
	now = 2000
	j = mustOpen(t, m, at)
	if j.LastAppended() != 1000 {
		t.Errorf("LastAppended is %d", j.LastAppended())
	}
	appendAll(t, j, "b")
	var times []authz.Instant
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := j.Follow(ctx, nil, func(batch []signals.Entry) error {
		for _, e := range batch {
			times = append(times, e.Appended)
		}
		return nil
	}, cancel)
	if !errors.Is(err, context.Canceled) || len(times) != 2 || times[0] != 1000 || times[1] != 2000 {
		t.Errorf("times %v, %v", times, err)
	}
}

func TestConcurrentAppendsShareSyncs(t *testing.T) {
	m := disktest.New()
	j := mustOpen(t, m)
	const appenders = 100
	syncing := make(chan struct{})
	var once sync.Once
	m.SetFault(func(op disktest.Op, _ string, n int) (int, error) {
		if op == disktest.OpSync {
			once.Do(func() { // the first sync takes until everyone else waits
				close(syncing)
				for j.Stats().PendingRecords < appenders-1 {
					runtime.Gosched()
				}
			})
		}
		return n, nil
	})
	var group sync.WaitGroup
	for i := range appenders {
		group.Go(func() {
			if _, err := j.Append(context.Background(), [][]byte{[]byte(text(i))}); err != nil {
				t.Error(err)
			}
		})
		<-syncing
	}
	group.Wait()
	if s := j.Stats(); s.Appended != appenders || s.Groups != 2 {
		t.Errorf("%d groups for %d appends", s.Groups, s.Appended)
	}
}
