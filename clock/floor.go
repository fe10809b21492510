package clock

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"strings"
	"time"

	"vigil/authz"
	"vigil/disk"
)

// floor is what the floor file says.
type floor struct {
	at authz.Instant // no now is earlier
	// disowned: times up to here that records and snapshots name are not believed; an
	// operator has said so by a Reset. 0 for none.
	disowned authz.Instant
}

// floorFormat is the whole file but for its last line. The times in words are for people.
const floorFormat = "vigil clock 1\nfloor %d %s\ndisowned %d\n"

const maxFloorFile = 1 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (f floor) encode() string {
	text := fmt.Sprintf(floorFormat, f.at, f.at.Time().Format(time.RFC3339Nano), f.disowned)
	return text + fmt.Sprintf("crc32c %08x\n", crc32.Checksum([]byte(text), castagnoli))
}

func decodeFloor(text string) (floor, error) {
	var f floor
	var words string
	if _, err := fmt.Sscanf(text, floorFormat, &f.at, &words, &f.disowned); err != nil {
		return floor{}, fmt.Errorf("not a clock floor: %w", err)
	}
	// One spelling only: whatever differs from what would be written is damage.
	if f.encode() != text {
		return floor{}, errors.New("not a clock floor: damaged")
	}
	return f, nil
}

func readFloor(fsys disk.FS, path string) (floor, error) {
	data, err := disk.ReadFile(fsys, path, maxFloorFile)
	if err != nil {
		return floor{}, err
	}
	f, err := decodeFloor(string(data))
	if err != nil {
		return floor{}, fmt.Errorf("%s: %w; if the wall clock is right, reset the floor", path, err)
	}
	return f, nil
}

func writeFloor(fsys disk.FS, path string, f floor) error {
	return disk.WriteFile(fsys, path, 0o600, func(w io.Writer) error {
		_, err := io.Copy(w, strings.NewReader(f.encode()))
		return err
	})
}

// Save writes the floor, if now has moved since it was written. Without a path it does
// nothing.
func (c *Clock) Save() error {
	if c.config.Path == "" {
		return nil
	}
	c.saving.Lock()
	defer c.saving.Unlock()
	next := floor{at: c.Now(), disowned: c.saving.floor.disowned}
	if next == c.saving.floor {
		return nil
	}
	err := writeFloor(c.config.FS, c.config.Path, next)
	if err == nil {
		c.saving.floor = next
	}
	if failing := err != nil; failing != c.saving.failing {
		c.saving.failing = failing
		if c.config.SaveFailed != nil {
			c.config.SaveFailed(err)
		}
	}
	return err
}

// Run saves the floor every Config.Every until ctx ends, and then once more; it returns
// the error of this last time. Failures in between are told to Config.SaveFailed and
// tried again: the clock goes on, with an older floor for the next start.
func (c *Clock) Run(ctx context.Context) error {
	ticker := time.NewTicker(c.config.Every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			_ = c.Save() // told to SaveFailed
		case <-ctx.Done():
			return c.Save()
		}
	}
}

// Reset makes the floor the wall clock's time, and disowns every later time that
// the file names, so that records and snapshots of that time do not raise it again. A
// damaged or missing file is replaced. It is for an operator who knows that the wall
// clock is right, while no engine uses the file: a running one would write its own floor
// over it.
func Reset(path string) error {
	wall, _ := system()()
	return reset(disk.OS, path, wall)
}

func reset(fsys disk.FS, path string, wall authz.Instant) error {
	next := floor{at: wall}
	switch old, err := readFloor(fsys, path); {
	case err == nil:
		if top := max(old.at, old.disowned); top > wall {
			next.disowned = top
		}
	case !errors.Is(err, fs.ErrNotExist) && fsysFailed(err):
		return err
	}
	return writeFloor(fsys, path, next)
}

// fsysFailed tells a file that cannot be read from one that can and is damaged.
func fsysFailed(err error) bool {
	var failed *fs.PathError
	return errors.As(err, &failed)
}
