package journal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"vigil/disk"
	"vigil/signals"
)

const (
	identityFile    = "identity"
	identityHeading = "vigil journal 1\n"
	adoptingLine    = "adopting\n"
	maxIdentityFile = 64 << 10
	maxAncestors    = 256
)

// identity is what the file "identity" says: which log this is, where it begins, and
// which logs' records it has kept from before that.
//
// The file is text: a line "vigil journal 1"; "log ID since OFFSET HASH"; for each
// ancestor, oldest first, "ancestor ID until OFFSET"; "adopting" while an Adopt is at
// work; and "crc32c SUM" of all before.
type identity struct {
	log       signals.LogID
	since     int64  // the first offset that is the log's own
	before    digest // running hash up to there
	ancestors []ancestor
	adopting  bool // an Adopt has begun to change the folder, and not ended
}

// ancestor is a log whose records up to an offset this one continues.
type ancestor struct {
	log   signals.LogID
	until int64
}

func (id *identity) encode() []byte {
	var b bytes.Buffer
	b.WriteString(identityHeading)
	fmt.Fprintf(&b, "log %x since %d %x\n", id.log[:], id.since, id.before[:])
	for _, a := range id.ancestors {
		fmt.Fprintf(&b, "ancestor %x until %d\n", a.log[:], a.until)
	}
	if id.adopting {
		b.WriteString(adoptingLine)
	}
	fmt.Fprintf(&b, "crc32c %08x\n", crc32.Checksum(b.Bytes(), castagnoli))
	return b.Bytes()
}

func decodeIdentity(data []byte) (*identity, error) {
	var id identity
	text, ok := strings.CutPrefix(string(data), identityHeading)
	if !ok {
		return nil, errors.New("not the identity of a journal, or of a newer version")
	}
	for line := range strings.Lines(text) {
		var a ancestor
		var log, before []byte
		if n, _ := fmt.Sscanf(line, "log %x since %d %x\n", &log, &id.since, &before); n == 3 {
			if len(log) != len(id.log) || len(before) != len(id.before) {
				return nil, errors.New("damaged")
			}
			copy(id.log[:], log)
			copy(id.before[:], before)
		} else if n, _ := fmt.Sscanf(line, "ancestor %x until %d\n", &log, &a.until); n == 2 {
			copy(a.log[:], log)
			id.ancestors = append(id.ancestors, a)
		} else if line == adoptingLine {
			id.adopting = true
		}
	}
	// One spelling only: whatever differs from what would be written is damage, the
	// checksum included.
	if !bytes.Equal(id.encode(), data) {
		return nil, errors.New("damaged")
	}
	return &id, nil
}

func readIdentity(fsys disk.FS, dir string) (*identity, error) {
	path := filepath.Join(dir, identityFile)
	data, err := disk.ReadFile(fsys, path, maxIdentityFile)
	if err != nil {
		return nil, err
	}
	id, err := decodeIdentity(data)
	if err != nil {
		return nil, &DamageError{Path: path, What: err.Error()}
	}
	return id, nil
}

func writeIdentity(fsys disk.FS, dir string, id *identity) error {
	return disk.WriteFile(fsys, filepath.Join(dir, identityFile), 0o600, func(w io.Writer) error {
		_, err := w.Write(id.encode())
		return err
	})
}

// knows reports whether log is this one or an ancestor.
func (id *identity) knows(log signals.LogID) bool {
	return log == id.log || slices.ContainsFunc(id.ancestors, func(a ancestor) bool { return a.log == log })
}

// ForeignError says that something belongs to another log.
type ForeignError struct {
	Log signals.LogID // the other
	Own signals.LogID
	// Parted is where the logs parted if the other is an ancestor of this one.
	Parted int64
	At     int64
}

func (e *ForeignError) Error() string {
	if e.Parted > 0 {
		return fmt.Sprintf("it stands at record %d of log %s, which this log (%s) continues only up to record %d",
			e.At, hex.EncodeToString(e.Log[:4]), hex.EncodeToString(e.Own[:4]), e.Parted)
	}
	return fmt.Sprintf("it is of log %s; this log is %s", hex.EncodeToString(e.Log[:4]), hex.EncodeToString(e.Own[:4]))
}

// continues is nil where a view taken at a position of log is one of this log too.
func (id *identity) continues(log signals.LogID, at signals.Positions) error {
	if log == id.log {
		return nil
	}
	for _, a := range slices.Backward(id.ancestors) {
		if a.log == log {
			if at[0] <= a.until {
				return nil
			}
			return &ForeignError{Log: log, Own: id.log, Parted: a.until, At: at[0]}
		}
	}
	return &ForeignError{Log: log, Own: id.log, At: at[0]}
}
