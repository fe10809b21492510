package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"

	"vigil/authz"
	"vigil/signals"
)

// The sizes and constants of the format; see the package comment.
const (
	headerMagic   = "VGLJRNL\n"
	formatVersion = 1
	headerSize    = 128

	frameHead   = 8 // CRC and size
	recordHead  = 1 + 8
	recordFrame = frameHead + recordHead // before the payload
	markBody    = 1 + 8 + 8 + sha256.Size
	markFrame   = frameHead + markBody

	kindRecord = 1
	kindMark   = 2
)

// MaxRecord is the largest record in bytes.
const MaxRecord = 2 << 20

type salt [8]byte

// digest is a running hash.
type digest [sha256.Size]byte

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var le = binary.LittleEndian

// genesis is the running hash before the first record of a log that continues none.
func genesis(id signals.LogID) digest {
	return sha256.Sum256(append([]byte("vigil journal"), id[:]...))
}

// chainer advances running hashes without allocating. It is for one goroutine.
type chainer struct{ h hash.Hash }

func newChainer() chainer { return chainer{sha256.New()} }

func (c chainer) advance(d *digest, body []byte) {
	c.h.Reset()
	c.h.Write(d[:])
	c.h.Write(body)
	c.h.Sum(d[:0])
}

// header is the beginning of a segment.
type header struct {
	id      signals.LogID
	ordinal uint64
	first   int64
	created authz.Instant
	salt    salt
	before  digest
}

func (h *header) encode() []byte {
	b := make([]byte, headerSize)
	copy(b, headerMagic)
	le.PutUint32(b[8:], formatVersion)
	copy(b[16:], h.id[:])
	le.PutUint64(b[32:], h.ordinal)
	le.PutUint64(b[40:], uint64(h.first))
	le.PutUint64(b[48:], uint64(h.created))
	copy(b[56:], h.salt[:])
	copy(b[64:], h.before[:])
	le.PutUint32(b[124:], crc32.Checksum(b[:124], castagnoli))
	return b
}

func decodeHeader(b []byte) (header, error) {
	var h header
	switch {
	case len(b) < headerSize:
		return h, errors.New("shorter than a segment header")
	case !bytes.Equal(b[:8], []byte(headerMagic)):
		return h, errors.New("not a journal segment")
	case le.Uint32(b[124:]) != crc32.Checksum(b[:124], castagnoli):
		return h, errors.New("the header does not match its checksum")
	case le.Uint32(b[8:]) != formatVersion:
		return h, fmt.Errorf("format version %d; this program reads version %d", le.Uint32(b[8:]), formatVersion)
	}
	copy(h.id[:], b[16:])
	h.ordinal = le.Uint64(b[32:])
	h.first = int64(le.Uint64(b[40:]))
	h.created = authz.Instant(le.Uint64(b[48:]))
	copy(h.salt[:], b[56:])
	copy(h.before[:], b[64:])
	if h.first < 0 || h.ordinal == 0 {
		return h, errors.New("the header names an impossible place")
	}
	return h, nil
}

// seal fills in the CRC and size of a frame that is otherwise complete.
func seal(frame []byte, saltSum uint32) {
	le.PutUint32(frame[4:], uint32(len(frame)-frameHead))
	le.PutUint32(frame, crc32.Update(saltSum, castagnoli, frame[4:]))
}

func saltSum(s salt) uint32 { return crc32.Checksum(s[:], castagnoli) }

// appendMark appends the frame that begins a group.
func appendMark(dst []byte, s salt, next int64, running digest) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, frameHead)...)
	dst = append(dst, kindMark)
	dst = append(dst, s[:]...)
	dst = le.AppendUint64(dst, uint64(next))
	dst = append(dst, running[:]...)
	seal(dst[start:], saltSum(s))
	return dst
}

// mark is a decoded mark.
type mark struct {
	next    int64
	running digest
}

func decodeMark(body []byte, s salt) (mark, bool) {
	var m mark
	if len(body) != markBody || body[0] != kindMark || !bytes.Equal(body[1:9], s[:]) {
		return m, false
	}
	m.next = int64(le.Uint64(body[9:]))
	copy(m.running[:], body[17:])
	return m, true
}

// segmentName names the file of a segment so that names sort like segments.
func segmentName(ordinal uint64, first int64) string {
	return fmt.Sprintf("%010d-%020d%s", ordinal, first, segmentSuffix)
}

const segmentSuffix = ".segment"

func parseSegmentName(name string) (ordinal uint64, first int64, ok bool) {
	if _, err := fmt.Sscanf(name, "%d-%d"+segmentSuffix, &ordinal, &first); err != nil {
		return 0, 0, false
	}
	return ordinal, first, segmentName(ordinal, first) == name
}
