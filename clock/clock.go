// Package clock gives the one now of a process: the larger of the wall clock and the
// last now plus elapsed monotonic time, across restarts too. It never goes back.
//
// That matters because now ends things: a now that went back would bring a withdrawn
// approval or an old attestation back to life. What a wall clock does is met so:
//
//   - It steps back: now goes on with monotonic time, and is ahead of the wall clock
//     until that catches up.
//   - It steps ahead, or the machine was suspended (monotonic time stands still then):
//     now steps ahead with it.
//   - The process restarts: now starts no earlier than the floor, which Run writes to a
//     file every second, and than the times that Raise was told of. What lies between
//     the last write and a kill is not covered when the wall clock steps back just then:
//     at most Config.Every.
//
// A now that is more than Config.MaxLead ahead of the wall clock is not believed, for it
// ends quarantines early: Err says so, and no decision may be made until the wall clock
// has caught up or an operator has reset the floor (Reset).
package clock

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"vigil/authz"
	"vigil/disk"
)

// Config says where a clock takes its time from and keeps its floor.
type Config struct {
	// Path of the floor file; "" keeps none.
	Path string
	// Every is how often Run writes the floor; 0 means a second.
	Every time.Duration
	// MaxLead is how far now may be ahead of the wall clock; 0 means a minute.
	MaxLead time.Duration
	// Source gives the wall clock and monotonic time (of any origin, never going back),
	// read in this order: a pause between the two then makes now late for once instead
	// of early for good. nil means the system's. It must be safe for concurrent use.
	Source func() (wall authz.Instant, monotonic time.Duration)
	// FS holds the floor file; nil means the machine's.
	FS disk.FS
	// SaveFailed is told when writing the floor begins to fail, and with nil when it
	// works again. It may be nil.
	SaveFailed func(error)
}

// latest is the latest instant that a clock starts from or takes from its source, so
// that monotonic time can be added for a century without overflow.
const latest = authz.Forever - authz.Instant(100*365*24*time.Hour)

// Clock is safe for concurrent use.
type Clock struct {
	config Config

	// ahead is now less monotonic time. It only rises: a reader whose monotonic reading
	// is no earlier than another's, and who loads ahead after the other stored it, gets
	// a now that is no earlier. Nothing else is published by it.
	ahead atomic.Int64

	saving struct {
		sync.Mutex // held over I/O; never by Now
		floor      floor
		failing    bool
	}
}

// Open is New with a floor file and defaults.
func Open(path string) (*Clock, error) { return New(Config{Path: path}) }

// New reads the floor, if there is one. A floor ahead of the wall clock is no error here,
// but one of Err. An unreadable floor file is an error: without it now could go back.
func New(config Config) (*Clock, error) {
	if config.Every < 0 || config.MaxLead < 0 {
		return nil, errors.New("clock: negative duration")
	}
	if config.Every == 0 {
		config.Every = time.Second
	}
	if config.MaxLead == 0 {
		config.MaxLead = time.Minute
	}
	if config.Source == nil {
		config.Source = system()
	}
	if config.FS == nil {
		config.FS = disk.OS
	}
	c := &Clock{config: config}
	wall, monotonic := c.read()
	c.ahead.Store(int64(wall) - int64(monotonic))
	if config.Path == "" {
		return c, nil
	}
	f, err := readFloor(config.FS, config.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	c.saving.floor = f
	c.raise(f.at)
	return c, nil
}

// system reads both clocks at once. Linux reads the wall clock first.
func system() func() (authz.Instant, time.Duration) {
	start := time.Now()
	return func() (authz.Instant, time.Duration) {
		t := time.Now()
		return authz.InstantOf(t), t.Sub(start)
	}
}

func (c *Clock) read() (authz.Instant, time.Duration) {
	wall, monotonic := c.config.Source()
	return min(wall, latest), monotonic
}

// Now reads the clock. It does not allocate or lock.
func (c *Clock) Now() authz.Instant {
	wall, monotonic := c.read()
	return c.now(wall, monotonic)
}

func (c *Clock) now(wall authz.Instant, monotonic time.Duration) authz.Instant {
	return authz.Instant(c.lift(int64(wall)-int64(monotonic)) + int64(monotonic))
}

// lift makes ahead at least to and gives what it is then.
func (c *Clock) lift(to int64) int64 {
	for {
		ahead := c.ahead.Load()
		if to <= ahead {
			return ahead
		}
		if c.ahead.CompareAndSwap(ahead, to) {
			return to
		}
	}
}

// Raise makes now at least floor: the time of a record or a snapshot that an earlier
// process wrote. What a Reset has disowned is ignored.
func (c *Clock) Raise(floor authz.Instant) {
	c.saving.Lock()
	disowned := c.saving.floor.disowned
	c.saving.Unlock()
	if floor > disowned {
		c.raise(floor)
	}
}

func (c *Clock) raise(floor authz.Instant) {
	_, monotonic := c.read()
	c.lift(int64(min(floor, latest)) - int64(monotonic))
}

// AheadError says that now is too far ahead of the wall clock for a decision.
type AheadError struct {
	Now, Wall authz.Instant
	Path      string // of the floor file, if there is one
}

func (e *AheadError) Error() string {
	text := fmt.Sprintf("clock: the wall clock says %s, %s before the last known time %s: no decision until it has caught up",
		e.Wall, time.Duration(e.Now-e.Wall).Round(time.Second), e.Now)
	if e.Path != "" {
		text += "; if the wall clock is right, stop the engine and reset the floor in " + e.Path
	}
	return text
}

// Err is an *AheadError while now is too far ahead of the wall clock, or nil. It costs
// what Now costs, and allocates only the error.
func (c *Clock) Err() error {
	wall, monotonic := c.read()
	if now := c.now(wall, monotonic); time.Duration(now-wall) > c.config.MaxLead {
		return &AheadError{Now: now, Wall: wall, Path: c.config.Path}
	}
	return nil
}

// Ahead is how far now is ahead of the wall clock. It is 0 while they agree.
func (c *Clock) Ahead() time.Duration {
	wall, monotonic := c.read()
	return time.Duration(c.now(wall, monotonic) - wall)
}
