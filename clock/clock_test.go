package clock

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"vigil/authz"
	"vigil/disk"
	"vigil/disk/disktest"
)

// hands are a wall clock and a monotonic clock set by a test.
type hands struct {
	mu        sync.Mutex
	wall      authz.Instant
	monotonic time.Duration
}

func (h *hands) source() (authz.Instant, time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.wall, h.monotonic
}

// pass lets both clocks run, step moves the wall clock alone.
func (h *hands) pass(d time.Duration) { h.move(d, d) }
func (h *hands) step(d time.Duration) { h.move(d, 0) }
func (h *hands) move(wall, monotonic time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wall += authz.Instant(wall)
	h.monotonic += monotonic
}

var noon = authz.InstantOf(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC))

func at(d time.Duration) authz.Instant { return noon.Add(d) }

func open(t *testing.T, h *hands, m disk.FS) *Clock {
	t.Helper()
	c, err := New(Config{Path: "/data/clock", Source: h.source, FS: m})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNowNeverGoesBack(t *testing.T) {
	type move struct {
		wall, monotonic time.Duration
		now             time.Duration // after noon
		ahead           bool
	}
	for name, moves := range map[string][]move{
		"both run": {
			{wall: time.Second, monotonic: time.Second, now: time.Second},
		},
		"the wall clock steps back a little": {
			{wall: 10 * time.Second, monotonic: 10 * time.Second, now: 10 * time.Second},
			{wall: -5 * time.Second, now: 10 * time.Second},
			{wall: time.Second, monotonic: time.Second, now: 11 * time.Second},
		},
		"the wall clock steps back, stands, and catches up": {
			{wall: -5 * time.Second, now: 0},
			{monotonic: 3 * time.Second, now: 3 * time.Second},
			{wall: 20 * time.Second, now: 15 * time.Second},
		},
		"the wall clock steps back an hour": {
			{wall: -time.Hour, now: 0, ahead: true},
			{wall: 59 * time.Minute, monotonic: 59 * time.Minute, now: 59 * time.Minute, ahead: true},
			{wall: time.Hour, now: 59 * time.Minute},
		},
		"the wall clock steps ahead and back": {
			{wall: time.Hour, now: time.Hour},
			{wall: -time.Hour, now: time.Hour, ahead: true},
			{wall: time.Second, monotonic: time.Second, now: time.Hour + time.Second, ahead: true},
		},
		"the machine is suspended, monotonic time stands still": {
			{wall: 8 * time.Hour, now: 8 * time.Hour},
			{wall: time.Second, monotonic: time.Second, now: 8*time.Hour + time.Second},
		},
		"exactly the lead that is believed": {
			{wall: -time.Minute, now: 0},
			{wall: -1, now: 0, ahead: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := &hands{wall: noon}
			c := open(t, h, disktest.New())
			if c.Now() != noon {
				t.Fatalf("starts at %v", c.Now())
			}
			for i, m := range moves {
				h.move(m.wall, m.monotonic)
				if got := c.Now(); got != at(m.now) {
					t.Errorf("move %d: now is %v, want %v", i, got, at(m.now))
				}
				if got := c.Ahead(); got != time.Duration(c.Now()-h.wall) {
					t.Errorf("move %d: ahead by %v", i, got)
				}
				var ahead *AheadError
				if err := c.Err(); errors.As(err, &ahead) != m.ahead {
					t.Errorf("move %d: Err is %v", i, err)
				}
			}
		})
	}
}

func TestNowIsNeverBelowWallNorItselfWhateverTheClocksDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Up to latest, less what the moves below add up to.
		instants := rapid.Int64Range(math.MinInt64/2, int64(latest)-int64(100*time.Hour))
		h := &hands{wall: authz.Instant(instants.Draw(t, "wall"))}
		m := disktest.New()
		c, err := New(Config{Path: "/data/clock", Source: h.source, FS: m})
		if err != nil {
			t.Fatal(err)
		}
		last := c.Now()
		for range rapid.IntRange(1, 30).Draw(t, "moves") {
			switch rapid.IntRange(0, 3).Draw(t, "move") {
			case 0:
				h.mu.Lock()
				h.wall = authz.Instant(instants.Draw(t, "wall"))
				h.mu.Unlock()
			case 1:
				h.move(0, time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "monotonic")))
			case 2:
				c.Raise(authz.Instant(instants.Draw(t, "raise")))
			case 3: // a restart: another origin of monotonic time
				if err := c.Save(); err != nil {
					t.Fatal(err)
				}
				h.mu.Lock()
				h.monotonic = time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "origin"))
				h.mu.Unlock()
				if c, err = New(Config{Path: "/data/clock", Source: h.source, FS: m}); err != nil {
					t.Fatal(err)
				}
			}
			now := c.Now()
			if now < last || now < h.wall {
				t.Fatalf("now %d after %d, wall %d", now, last, h.wall)
			}
			last = now
		}
	})
}

func TestRestartGoesOnFromTheFloor(t *testing.T) {
	h, m := &hands{wall: noon}, disktest.New()
	first := open(t, h, m)
	h.pass(10 * time.Second)
	if err := first.Save(); err != nil {
		t.Fatal(err)
	}
	h.step(-30 * time.Second)
	second := open(t, h, m)
	if got := second.Now(); got != at(10*time.Second) || second.Err() != nil {
		t.Errorf("after a restart now is %v, %v", got, second.Err())
	}

	h.step(-time.Hour)
	third := open(t, h, m)
	err := third.Err()
	if err == nil || !strings.Contains(err.Error(), "/data/clock") || !strings.Contains(err.Error(), "reset") {
		t.Errorf("a floor an hour ahead: %v", err)
	}
	h.step(time.Hour)
	if err := third.Err(); err != nil {
		t.Errorf("the wall clock has caught up: %v", err)
	}
}

func TestRaiseTakesTheTimeOfRecords(t *testing.T) {
	h := &hands{wall: noon}
	c := open(t, h, disktest.New())
	c.Raise(at(20 * time.Second))
	h.pass(time.Second)
	if got := c.Now(); got != at(21*time.Second) {
		t.Errorf("now is %v", got)
	}
	c.Raise(at(time.Second))
	if got := c.Now(); got != at(21*time.Second) {
		t.Errorf("lowered to %v", got)
	}
	c.Raise(authz.Forever)
	h.pass(24 * time.Hour)
	if c.Now() < c.Now() || c.Err() == nil {
		t.Errorf("after Forever: %v, %v", c.Now(), c.Err())
	}
}

// An operator's reset holds although the records of the wrong time are still there.
func TestResetDisownsTheWrongTime(t *testing.T) {
	h, m := &hands{wall: noon}, disktest.New()
	c := open(t, h, m)
	h.step(time.Hour) // a wrong time, at which a record is written
	wrong := c.Now()
	h.step(-time.Hour)
	if err := c.Save(); err != nil {
		t.Fatal(err)
	}
	if c = open(t, h, m); c.Err() == nil {
		t.Fatal("the wrong time is believed")
	}
	if err := reset(m, "/data/clock", noon); err != nil {
		t.Fatal(err)
	}
	for restart := range 3 {
		c = open(t, h, m)
		c.Raise(wrong)
		if got := c.Now(); got != h.wall || c.Err() != nil {
			t.Fatalf("restart %d: now is %v, %v", restart, got, c.Err())
		}
		h.pass(time.Second)
		if err := c.Save(); err != nil {
			t.Fatal(err)
		}
	}
	if c.Raise(wrong + 1); c.Err() == nil {
		t.Error("a time that was not disowned is ignored")
	}
}

func TestFloorFileIsWholeOrRefused(t *testing.T) {
	whole := floor{at: noon, disowned: at(time.Hour)}.encode()
	if got, err := decodeFloor(whole); err != nil || got.at != noon || got.disowned != at(time.Hour) {
		t.Fatalf("%+v, %v", got, err)
	}
	for i := range whole {
		for bit := range 8 {
			flipped := []byte(whole)
			flipped[i] ^= 1 << bit
			if _, err := decodeFloor(string(flipped)); err == nil {
				t.Fatalf("accepted with bit %d of byte %d flipped: %q", bit, i, flipped)
			}
		}
		if _, err := decodeFloor(whole[:i]); err == nil {
			t.Fatalf("accepted when cut at %d", i)
		}
	}
	m := disktest.New()
	m.Put("/data/clock", []byte(whole[:20]))
	_, err := New(Config{Path: "/data/clock", FS: m})
	if err == nil || !strings.Contains(err.Error(), "/data/clock") || !strings.Contains(err.Error(), "reset") {
		t.Errorf("damaged floor: %v", err)
	}
	if err := reset(m, "/data/clock", noon); err != nil {
		t.Errorf("reset of a damaged floor: %v", err)
	}
	if _, err := New(Config{Path: "/data/clock", FS: m}); err != nil {
		t.Errorf("after the reset: %v", err)
	}
}

func TestUnreadableFloorStopsTheStart(t *testing.T) {
	m := disktest.New()
	m.Put("/data/clock", []byte(floor{at: noon}.encode()))
	m.SetFault(func(disktest.Op, string, int) (int, error) { return 0, syscall.EIO })
	if _, err := New(Config{Path: "/data/clock", FS: m}); !errors.Is(err, syscall.EIO) {
		t.Errorf("New: %v", err)
	}
	if err := reset(m, "/data/clock", noon); !errors.Is(err, syscall.EIO) {
		t.Errorf("reset: %v", err)
	}
}

func TestRunSavesEverySecondAndAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := disktest.New()
		var told []error
		c, err := New(Config{Path: "/data/clock", FS: m, SaveFailed: func(err error) { told = append(told, err) }})
		if err != nil {
			t.Fatal(err)
		}
		saved := func() authz.Instant {
			f, err := readFloor(m, "/data/clock")
			if err != nil {
				t.Fatal(err)
			}
			return f.at
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		for range 3 {
			time.Sleep(time.Second + time.Millisecond)
			synctest.Wait()
			if lag := c.Now() - saved(); lag >= authz.Instant(time.Second) {
				t.Errorf("the floor is %v old", time.Duration(lag))
			}
		}
		m.SetFault(func(op disktest.Op, _ string, _ int) (int, error) { return 0, syscall.ENOSPC })
		time.Sleep(5 * time.Second)
		m.SetFault(nil)
		time.Sleep(1500 * time.Millisecond)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if saved() != c.Now() {
			t.Errorf("the last floor is %v, now %v", saved(), c.Now())
		}
		if len(told) != 2 || !errors.Is(told[0], syscall.ENOSPC) || told[1] != nil {
			t.Errorf("told of failures: %v", told)
		}
	})
}

func TestNowIsMonotonicAcrossGoroutines(t *testing.T) {
	h := &hands{wall: noon}
	c := open(t, h, disktest.New())
	var group sync.WaitGroup
	var mu sync.Mutex
	var newest authz.Instant
	for range 4 {
		group.Go(func() {
			for i := range 5000 {
				mu.Lock()
				before := newest
				mu.Unlock()
				now := c.Now()
				if now < before {
					t.Errorf("%v after %v", now, before)
					return
				}
				mu.Lock()
				newest = max(newest, now)
				mu.Unlock()
				switch i % 100 {
				case 0:
					h.step(-time.Second)
				case 50:
					h.step(time.Second)
				}
				h.pass(time.Millisecond)
			}
		})
	}
	group.Wait()
}

func TestNowDoesNotAllocate(t *testing.T) {
	c, err := Open(filepath.Join(t.TempDir(), "clock"))
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(1000, func() { _ = c.Now(); _ = c.Err() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestOpenAndResetOnTheRealDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clock")
	if err := os.WriteFile(path, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil {
		t.Fatal("garbage accepted")
	}
	if err := Reset(path); err != nil {
		t.Fatal(err)
	}
	c, err := Open(path)
	if err != nil || c.Err() != nil {
		t.Fatal(err, c.Err())
	}
	if err := c.Save(); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkNow(b *testing.B) {
	c, err := New(Config{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_ = c.Now()
		}
	})
}
