// Package disktest is a file system in memory that fails like a real one: it runs out
// of space in the middle of a write, reports I/O errors, and at a crash forgets what
// was not synced, in part and out of order.
//
// It keeps, for every file and directory, what is durable apart from what is visible.
// A write is visible at once and becomes durable with a Sync that succeeds. A Sync that
// fails behaves like Linux: the pages count as clean from then on, so the bytes stay
// visible, but no later Sync makes them durable.
package disktest

import (
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"vigil/disk"
)

// Op is a call that a fault can be put on.
type Op string

// The calls.
const (
	OpOpen     Op = "open"
	OpRead     Op = "read"
	OpWrite    Op = "write"
	OpSync     Op = "sync"
	OpTruncate Op = "truncate"
	OpRename   Op = "rename"
	OpRemove   Op = "remove"
	OpSyncDir  Op = "syncdir"
)

// Fault decides what happens to a call. For writes, n bytes of those that were asked for
// are written before err is returned; for other calls n does not count.
type Fault func(op Op, name string, asked int) (n int, err error)

// Memory is a file system in memory. It is safe for concurrent use.
type Memory struct {
	mu       sync.Mutex
	names    map[string]*inode // what is visible
	kept     map[string]*inode // what is durable
	changes  []change          // visible changes of names that are not durable yet, in order
	locks    map[string]bool
	fault    Fault
	capacity int64 // bytes of all files together; negative for no limit
	left     int   // calls until the machine stops; negative for never
	life     int   // counts crashes: files opened before one are dead
	calls    map[Op]int
}

type inode struct {
	data    []byte  // what is visible
	durable []byte  // what a crash leaves
	pending []write // not durable yet, in order
}

// write is a change of contents: bytes at a place, or a truncation.
type write struct {
	at       int64
	data     []byte
	truncate bool
}

// change is a change of names; the parts of one change happen together.
type change struct {
	dir string
	set map[string]*inode // nil: removed
}

// New gives an empty file system.
func New() *Memory {
	return &Memory{
		names: map[string]*inode{}, kept: map[string]*inode{}, locks: map[string]bool{},
		capacity: -1, left: -1, calls: map[Op]int{},
	}
}

var _ disk.FS = (*Memory)(nil)

// SetFault puts a fault on the calls from now on; nil takes it away.
func (m *Memory) SetFault(f Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = f
}

// SetCapacity limits the bytes of all files together; negative means no limit.
func (m *Memory) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = bytes
}

// Used is the size of all files together.
func (m *Memory) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.usedLocked()
}

// Calls is how often op was called.
func (m *Memory) Calls(op Op) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls[op]
}

// Names gives the visible files, sorted.
func (m *Memory) Names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := make([]string, 0, len(m.names))
	for name := range m.names {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Contents is a copy of what a file shows.
func (m *Memory) Contents(name string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.names[name]; f != nil {
		return slices.Clone(f.data)
	}
	return nil
}

// Put makes a file with contents, durable at once.
func (m *Memory) Put(name string, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := &inode{data: slices.Clone(data), durable: slices.Clone(data)}
	m.names[name], m.kept[name] = f, f
}

// Delete takes a file away, durably.
func (m *Memory) Delete(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.names, name)
	delete(m.kept, name)
}

// StopAfter makes the machine stand still after that many calls more: from then on no call
// has an effect, and all fail. Whoever still runs can then be ended, and Kill or Crash
// says what is found by those who come after.
func (m *Memory) StopAfter(calls int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left = calls
}

// Stopped reports whether the machine stands still.
func (m *Memory) Stopped() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.left == 0
}

// Clone gives another file system with the visible files, all durable, and no faults.
func (m *Memory) Clone() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	other := New()
	for name, f := range m.names {
		copied := &inode{data: slices.Clone(f.data), durable: slices.Clone(f.data)}
		other.names[name], other.kept[name] = copied, copied
	}
	return other
}

// Kill ends the process: files and locks are closed and what is visible stays, as after
// a kill -9 on a machine that goes on.
func (m *Memory) Kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.endLocked()
}

// Crash ends the machine. What was not durable survives in part: any subset of the
// changes of names in every directory, and of every file any subset of the writes, the
// last of them possibly torn. random decides.
func (m *Memory) Crash(random *rand.Rand) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.endLocked()
	for _, c := range m.changes {
		if random.IntN(2) == 0 {
			c.apply(m.kept)
		}
	}
	m.changes = nil
	done := map[*inode]bool{}
	names := make([]string, 0, len(m.kept))
	for name := range m.kept {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if f := m.kept[name]; !done[f] {
			done[f] = true
			f.crash(random)
		}
	}
	m.names = map[string]*inode{}
	for name, f := range m.kept {
		m.names[name] = f
	}
}

func (m *Memory) endLocked() {
	m.life++
	m.locks = map[string]bool{}
	m.fault = nil
	m.left = -1
}

func (f *inode) crash(random *rand.Rand) {
	everything := random.IntN(4) == 0
	for _, w := range f.pending {
		switch {
		case everything:
		case random.IntN(2) == 0:
			continue
		case !w.truncate && random.IntN(2) == 0:
			w.data = w.data[:random.IntN(len(w.data)+1)]
		}
		f.durable = w.apply(f.durable)
	}
	f.pending = nil
	f.data = slices.Clone(f.durable)
}

func (w write) apply(data []byte) []byte {
	end := w.at + int64(len(w.data))
	if w.truncate {
		end = w.at
	}
	if grow := end - int64(len(data)); grow > 0 {
		data = append(data, make([]byte, grow)...)
	}
	if w.truncate {
		return data[:end]
	}
	copy(data[w.at:], w.data)
	return data
}

func (c change) apply(names map[string]*inode) {
	for name, f := range c.set {
		if f == nil {
			delete(names, name)
		} else {
			names[name] = f
		}
	}
}

func (m *Memory) usedLocked() int64 {
	var sum int64
	for _, f := range m.names {
		sum += int64(len(f.data))
	}
	return sum
}

// callLocked counts a call and asks the fault.
func (m *Memory) callLocked(op Op, name string, asked int) (int, error) {
	m.calls[op]++
	if m.left == 0 {
		return 0, &fs.PathError{Op: string(op), Path: name, Err: errStopped}
	}
	if m.left > 0 {
		m.left--
	}
	if m.fault == nil {
		return asked, nil
	}
	n, err := m.fault(op, name, asked)
	if err == nil {
		return asked, nil
	}
	return max(0, min(n, asked)), &fs.PathError{Op: string(op), Path: name, Err: err}
}

func (m *Memory) Open(name string, flag int, _ fs.FileMode) (disk.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.callLocked(OpOpen, name, 0); err != nil {
		return nil, err
	}
	f := m.names[name]
	switch {
	case f == nil && flag&os.O_CREATE == 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	case f != nil && flag&os.O_EXCL != 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
	case f == nil:
		f = &inode{}
		m.changeLocked(filepath.Dir(name), map[string]*inode{name: f})
	}
	if flag&os.O_TRUNC != 0 && len(f.data) > 0 {
		f.change(write{truncate: true})
	}
	return &handle{fs: m, name: name, inode: f, life: m.life}, nil
}

func (m *Memory) changeLocked(dir string, set map[string]*inode) {
	c := change{dir: dir, set: set}
	c.apply(m.names)
	m.changes = append(m.changes, c)
}

func (m *Memory) Rename(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.callLocked(OpRename, newName, 0); err != nil {
		return err
	}
	f := m.names[oldName]
	if f == nil {
		return &fs.PathError{Op: "rename", Path: oldName, Err: fs.ErrNotExist}
	}
	m.changeLocked(filepath.Dir(newName), map[string]*inode{oldName: nil, newName: f})
	return nil
}

func (m *Memory) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.callLocked(OpRemove, name, 0); err != nil {
		return err
	}
	if m.names[name] == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	m.changeLocked(filepath.Dir(name), map[string]*inode{name: nil})
	return nil
}

func (m *Memory) ReadDir(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for name := range m.names {
		if filepath.Dir(name) == dir {
			names = append(names, filepath.Base(name))
		}
	}
	slices.Sort(names)
	return names, nil
}

// MkdirAll does nothing: directories are where files are.
func (m *Memory) MkdirAll(string, fs.FileMode) error { return nil }

func (m *Memory) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.callLocked(OpSyncDir, dir, 0); err != nil {
		return err
	}
	m.changes = slices.DeleteFunc(m.changes, func(c change) bool {
		if c.dir != dir {
			return false
		}
		c.apply(m.kept)
		return true
	})
	return nil
}

func (m *Memory) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locks[name] {
		return nil, &disk.LockedError{Path: name, PID: "1"}
	}
	m.locks[name] = true
	return &held{fs: m, name: name, life: m.life}, nil
}

type held struct {
	fs   *Memory
	name string
	life int
}

func (h *held) Close() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.life == h.fs.life {
		delete(h.fs.locks, h.name)
	}
	return nil
}
