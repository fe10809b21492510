package snapshot

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"

	"vigil/authz"
	"vigil/signals"
)

// Meta says what a snapshot is of.
type Meta struct {
	Log signals.LogID
	// Positions are the next offsets to read. They were captured before the walk.
	Positions signals.Positions
	// Now is the instant at which expired facts were left out.
	Now authz.Instant
	// Digest is posture's at Now, taken with the positions; the posture read back has
	// the same if nothing was applied in between. Zero where it was not taken.
	Digest [32]byte
	// Entities is how many there were when the snapshot was begun. Write fills it in.
	Entities uint64
}

const (
	magic   = "VGLSNAP\n"
	version = 1

	headerVersion = 12 // up to the version and with it: the same in every version
	headerFixed   = 84 // before the positions
	positionSize  = 12
	headerSum     = 4
	maxPositions  = 1 << 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var le = binary.LittleEndian

// ErrNewer says that a newer version wrote a snapshot. Nothing else is known of it, not
// even whether it is damaged.
var ErrNewer = errors.New("a newer version wrote it")

// DamagedError says that a snapshot cannot be read back as it was written.
type DamagedError struct{ What string }

func (e *DamagedError) Error() string { return "damaged snapshot: " + e.What }

func damaged(format string, args ...any) error {
	return &DamagedError{fmt.Sprintf(format, args...)}
}

func (m *Meta) encode() ([]byte, error) {
	if len(m.Positions) > maxPositions {
		return nil, fmt.Errorf("snapshot: %d partitions; a snapshot can name %d", len(m.Positions), maxPositions)
	}
	size := headerFixed + positionSize*len(m.Positions) + headerSum
	b := make([]byte, headerFixed, size)
	copy(b, magic)
	le.PutUint32(b[8:], version)
	le.PutUint32(b[12:], uint32(size))
	copy(b[16:], m.Log[:])
	le.PutUint64(b[32:], uint64(m.Now))
	copy(b[40:], m.Digest[:])
	le.PutUint64(b[72:], m.Entities)
	le.PutUint32(b[80:], uint32(len(m.Positions)))
	for _, partition := range slices.Sorted(maps.Keys(m.Positions)) {
		b = le.AppendUint32(b, uint32(partition))
		b = le.AppendUint64(b, uint64(m.Positions[partition]))
	}
	return le.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

func readMeta(r io.Reader) (Meta, error) {
	fixed := make([]byte, headerFixed)
	if err := readFull(r, fixed[:headerVersion]); err != nil {
		return Meta{}, err
	}
	if !bytes.Equal(fixed[:8], []byte(magic)) {
		return Meta{}, damaged("it does not begin like a snapshot")
	}
	// Before all else, for what follows is another version's to lay out. Damage to these
	// four bytes is taken for a newer version, which at worst keeps a bad file.
	if v := le.Uint32(fixed[8:]); v != version {
		return Meta{}, fmt.Errorf("a snapshot of version %d; this program reads version %d: %w", v, version, ErrNewer)
	}
	if err := readFull(r, fixed[headerVersion:]); err != nil {
		return Meta{}, err
	}
	n := int(le.Uint32(fixed[80:]))
	if n > maxPositions || int(le.Uint32(fixed[12:])) != headerFixed+positionSize*n+headerSum {
		return Meta{}, damaged("the sizes in the header do not agree")
	}
	rest := make([]byte, positionSize*n+headerSum)
	if err := readFull(r, rest); err != nil {
		return Meta{}, err
	}
	body := rest[:positionSize*n]
	sum := crc32.Update(crc32.Checksum(fixed, castagnoli), castagnoli, body)
	if sum != le.Uint32(rest[len(body):]) {
		return Meta{}, damaged("the header does not match its checksum")
	}
	m := Meta{
		Positions: make(signals.Positions, n),
		Now:       authz.Instant(le.Uint64(fixed[32:])),
		Entities:  le.Uint64(fixed[72:]),
	}
	copy(m.Log[:], fixed[16:])
	copy(m.Digest[:], fixed[40:])
	for ; len(body) > 0; body = body[positionSize:] {
		m.Positions[int32(le.Uint32(body))] = int64(le.Uint64(body[4:]))
	}
	return m, nil
}

// readFull reads all of b. An end of the file in it is damage.
func readFull(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return damaged("it ends too early")
	}
	return err
}

// Of accepts the snapshots of one log. A journal's method Continues accepts also those of
// the logs that it was adopted from.
func Of(log signals.LogID) func(signals.LogID, signals.Positions) error {
	return func(of signals.LogID, _ signals.Positions) error {
		if of != log {
			return fmt.Errorf("it is of log %s, not of log %s", hex.EncodeToString(of[:4]), hex.EncodeToString(log[:4]))
		}
		return nil
	}
}
