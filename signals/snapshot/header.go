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
	// Marks are what the log needs to know its own records again, at most MaxMarks bytes
	// that mean something to the log alone; empty for one that needs none. They must be
	// captured after the positions: a mark may be of a later record than its partition's
	// position, never of an earlier one, or a start would miss that the log was cut between
	// the two.
	Marks []byte
	// Now is the instant at which expired facts were left out.
	Now authz.Instant
	// Digest is posture's at Now, taken with the positions; the posture read back has
	// the same if nothing was applied in between. Zero where it was not taken.
	Digest [32]byte
	// Entities is how many there were when the snapshot was begun. Write fills it in.
	Entities uint64
}

// MaxMarks bounds Meta.Marks, in bytes.
const MaxMarks = 1 << 20

const (
	magic = "VGLSNAP\n"
	plain = 1 // the version of a header without marks
	marks = 2 // the same with them

	headerVersion = 12 // up to the version and with it: the same in every version
	headerFixed   = 84 // before the positions
	positionSize  = 12
	marksHead     = 4 // before the marks
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

// encode writes the oldest version that can say it: what needs no marks can be read by a
// program that knows of none.
func (m *Meta) encode() ([]byte, error) {
	if len(m.Positions) > maxPositions {
		return nil, fmt.Errorf("snapshot: %d partitions; a snapshot can name %d", len(m.Positions), maxPositions)
	}
	if len(m.Marks) > MaxMarks {
		return nil, fmt.Errorf("snapshot: marks of %d bytes; a snapshot can hold %d", len(m.Marks), MaxMarks)
	}
	version, size := plain, headerFixed+positionSize*len(m.Positions)+headerSum
	if len(m.Marks) > 0 {
		version, size = marks, size+marksHead+len(m.Marks)
	}
	b := make([]byte, headerFixed, size)
	copy(b, magic)
	le.PutUint32(b[8:], uint32(version))
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
	if version == marks {
		b = le.AppendUint32(b, uint32(len(m.Marks)))
		b = append(b, m.Marks...)
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
	version := le.Uint32(fixed[8:])
	if version != plain && version != marks {
		return Meta{}, fmt.Errorf("a snapshot of version %d; this program reads versions %d and %d: %w", version, plain, marks, ErrNewer)
	}
	if err := readFull(r, fixed[headerVersion:]); err != nil {
		return Meta{}, err
	}
	n := int64(le.Uint32(fixed[80:]))
	room := int64(le.Uint32(fixed[12:])) - headerFixed - positionSize*n - headerSum // for marks
	if version == marks {
		room -= marksHead
	}
	if n > maxPositions || version == plain && room != 0 || version == marks && (room < 1 || room > MaxMarks) {
		return Meta{}, damaged("the sizes in the header do not agree")
	}
	rest := make([]byte, int64(le.Uint32(fixed[12:]))-headerFixed)
	if err := readFull(r, rest); err != nil {
		return Meta{}, err
	}
	body := rest[:len(rest)-headerSum]
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
	for range n {
		m.Positions[int32(le.Uint32(body))] = int64(le.Uint64(body[4:]))
		body = body[positionSize:]
	}
	if version == marks {
		if int64(le.Uint32(body)) != room {
			return Meta{}, damaged("the sizes in the header do not agree")
		}
		m.Marks = body[marksHead:]
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

// Of accepts the snapshots of one log. A journal's method Continues tells those of the
// logs that it was adopted from, too.
func Of(log signals.LogID) Accept {
	return func(m Meta) error {
		if m.Log != log {
			return fmt.Errorf("it is of log %s, not of log %s", hex.EncodeToString(m.Log[:4]), hex.EncodeToString(log[:4]))
		}
		return nil
	}
}
