package deadletter

import (
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"vigil/authz"
	"vigil/disk"
	"vigil/signals"
)

const (
	fileName = "dead-letters.jsonl"
	oldName  = "dead-letters.old.jsonl"
)

// Config of a file of dead letters. Zero values mean the defaults.
type Config struct {
	// Dir holds the files; it is made where it is not there. Required.
	Dir string
	// Now reads the clock. It never goes back. Required.
	Now func() authz.Instant
	// MaxBytes is the size at which the file is put aside, in place of the one before; 16
	// MiB. Twice that is what the folder needs.
	MaxBytes int64
	// FS holds the folder; nil means the machine's.
	FS disk.FS
	// Logger is told when letters cannot be written, and when they can again; nil for none.
	Logger *slog.Logger
}

// What may be written: so much a second, and so much at once after a quiet time.
const (
	perSecond      = 200
	atOnce         = 2000
	bytesPerSecond = 512 << 10
	bytesAtOnce    = 4 << 20
)

// maxQueued bounds the letters that wait to be written: 4 MiB of records.
const maxQueued = 256

// settleAfter is how long the writer waits for more before it syncs the file, and says in it
// what was skipped.
const settleAfter = time.Second

// File is a file of dead letters. It is safe for concurrent use. One goroutine, the writer,
// started by Open and ended by Close, does all I/O.
type File struct {
	cfg   Config
	log   *slog.Logger
	queue chan signals.DeadLetter
	skip  chan struct{} // one token: something was skipped
	close chan struct{} // closed by Close
	ended chan struct{} // closed by the writer
	once  sync.Once

	mu struct {
		sync.Mutex
		closed     bool
		stats      Stats
		unreported uint64 // of what was skipped, what the file does not say yet

		// What may be written at once, refilled as time goes by.
		letters float64
		bytes   float64
		filled  authz.Instant
	}

	// Used by the writer alone.
	out      disk.File // nil where it is to be opened
	size     int64
	torn     bool // the file does not end with a whole line
	unsynced bool
}

// Stats are counts since Open.
type Stats struct {
	Written   uint64
	Skipped   uint64 // not written: too many at once, or the disk failed
	LastError string // why the last one could not be written; "" since one could
}

// Open makes the folder and starts the writer. It opens no file before there is a letter.
func Open(cfg Config) (*File, error) {
	if cfg.Dir == "" || cfg.Now == nil {
		return nil, errors.New("dead letters: they need a folder and a clock")
	}
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = 16 << 20
	}
	if cfg.FS == nil {
		cfg.FS = disk.OS
	}
	if err := cfg.FS.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	f := &File{
		cfg: cfg, log: cfg.Logger, queue: make(chan signals.DeadLetter, maxQueued), skip: make(chan struct{}, 1),
		close: make(chan struct{}), ended: make(chan struct{}),
	}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	f.mu.letters, f.mu.bytes, f.mu.filled = atOnce, bytesAtOnce, cfg.Now()
	go f.write()
	return f, nil
}

// Add has a dead letter written, or counts it where too many come at once. It never waits.
// The letter is f's to keep. It is what signals.ApplierConfig.DeadLetter takes.
func (f *File) Add(l signals.DeadLetter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.closed || !f.allowedLocked(len(l.Record)) {
		f.skippedLocked(1)
		return
	}
	select {
	case f.queue <- l:
	default:
		f.skippedLocked(1)
	}
}

// allowedLocked takes a letter with a record of so many bytes from what may be written.
func (f *File) allowedLocked(size int) bool {
	const around = 512 // what a line has besides the record, about
	now := f.cfg.Now()
	passed := time.Duration(max(0, now-f.mu.filled)).Seconds()
	f.mu.filled = max(f.mu.filled, now)
	f.mu.letters = min(atOnce, f.mu.letters+passed*perSecond)
	f.mu.bytes = min(bytesAtOnce, f.mu.bytes+passed*bytesPerSecond)
	cost := float64(size + around)
	if f.mu.letters < 1 || f.mu.bytes < cost {
		return false
	}
	f.mu.letters--
	f.mu.bytes -= cost
	return true
}

func (f *File) skippedLocked(n uint64) {
	f.mu.stats.Skipped += n
	f.mu.unreported += n
	select {
	case f.skip <- struct{}{}:
	default: // one token is enough: the writer says how many
	}
}

// Stats reports what f has done.
func (f *File) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.stats
}

// Close writes what waits and ends the writer. Letters that come later are only counted.
func (f *File) Close() error {
	f.once.Do(func() {
		f.mu.Lock()
		f.mu.closed = true
		f.mu.Unlock()
		close(f.close)
	})
	<-f.ended
	if err := f.Stats().LastError; err != "" {
		return errors.New(err)
	}
	return nil
}

func (f *File) path(name string) string { return filepath.Join(f.cfg.Dir, name) }
