package deadletter

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"vigil/authz"
	"vigil/disk"
	"vigil/signals"
)

// maxFile is the longest file that is read, in bytes: more than one is let grow by default.
const maxFile = 64 << 20

// Found is what Read found.
type Found struct {
	Letters []signals.DeadLetter // oldest first, each record once
	Skipped uint64               // that the files say were not written
	Damaged int                  // lines that cannot be read: one that was not finished, or of a newer form
}

// Read gives the latest dead letters of a folder, at most limit of them. It may be called
// by another process than the writer's. A folder without letters is no error. fsys nil
// means the machine's.
func Read(fsys disk.FS, dir string, limit int) (Found, error) {
	if fsys == nil {
		fsys = disk.OS
	}
	// The newer first: should it be put aside in between, it is only read twice.
	var files [2][]byte
	for i, name := range []string{fileName, oldName} {
		data, err := disk.ReadFile(fsys, filepath.Join(dir, name), maxFile)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Found{}, err
		}
		files[i] = data
	}
	var found Found
	seen := map[place]bool{}
	if bytes.Equal(files[0], files[1]) {
		files[1] = nil // or what it says was skipped would count twice
	}
	for _, data := range files { // and the latest first: of one record the last line counts
		lines := bytes.Split(data, []byte{'\n'})
		for i := len(lines) - 1; i >= 0; i-- {
			if len(lines[i]) > 0 {
				found.add(lines[i], seen, limit)
			}
		}
	}
	slices.Reverse(found.Letters)
	return found, nil
}

// place tells records apart.
type place struct {
	partition string
	at        signals.Position
}

func (f *Found) add(text []byte, seen map[place]bool, limit int) {
	var l line
	if err := json.Unmarshal(text, &l); err != nil || l.V != version || l.Offset == nil && l.Skipped == 0 {
		f.Damaged++
		return
	}
	if l.Offset == nil {
		f.Skipped += l.Skipped
		return
	}
	at := place{l.Partition, signals.Position{Partition: l.Number, Offset: *l.Offset}}
	if len(f.Letters) >= limit || seen[at] {
		return
	}
	seen[at] = true
	var appended authz.Instant
	if t, err := time.Parse(time.RFC3339Nano, l.Appended); err == nil {
		appended = authz.InstantOf(t)
	}
	f.Letters = append(f.Letters, signals.DeadLetter{
		Position: at.at, Partition: l.Partition, Appended: appended, Source: l.Source, ID: l.ID,
		Reason: l.Reason, Record: l.Record, Size: l.Size,
	})
}
