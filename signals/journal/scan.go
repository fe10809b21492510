package journal

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"vigil/authz"
	"vigil/disk"
)

// readChunk is how much of a segment is read at once.
const readChunk = 256 << 10

// segmentReader reads the frames of a segment one after the other and checks each. It is
// for one goroutine.
type segmentReader struct {
	file    disk.File
	header  header
	saltSum uint32
	chain   chainer

	limit int64 // what stands at or past this byte is not read

	// Invariant: at is the byte of the next frame, next the offset of the next record,
	// running the running hash before it, marked the last mark that was read (or what
	// the header says).
	at      int64
	next    int64
	running digest
	marked  mark

	window []byte // bytes of the file from windowAt on
	start  int64
	space  []byte // what window is a part of
}

// frameError says that what stands at a byte is no frame that belongs there. An end of
// the file in the middle of a frame is one too; a read that fails is not.
type frameError struct {
	at   int64
	what string
}

func (e *frameError) Error() string { return fmt.Sprintf("byte %d: %s", e.at, e.what) }

// readSegment checks the header and gives a reader of the frames. It takes over file
// only without an error.
func readSegment(file disk.File, limit int64) (*segmentReader, error) {
	b := make([]byte, min(headerSize, max(0, limit)))
	if n, err := file.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	} else if n < headerSize {
		return nil, &frameError{0, "shorter than a segment header"}
	}
	h, err := decodeHeader(b)
	if err != nil {
		return nil, &frameError{0, err.Error()}
	}
	return &segmentReader{
		file: file, header: h, saltSum: saltSum(h.salt), chain: newChainer(), limit: limit,
		at: headerSize, next: h.first, running: h.before, marked: mark{h.first, h.before},
	}, nil
}

// record reads on to the next record. The payload is valid until the next call. At the
// limit, right behind a frame, the error is io.EOF.
func (r *segmentReader) record() (authz.Instant, []byte, error) {
	for {
		body, err := r.frame()
		if err != nil {
			return 0, nil, err
		}
		size := int64(frameHead + len(body))
		switch {
		case body[0] == kindRecord && len(body) >= recordHead:
			r.chain.advance(&r.running, body)
			r.at += size
			r.next++
			return authz.Instant(le.Uint64(body[1:])), body[recordHead:], nil
		case body[0] == kindMark:
			m, ok := decodeMark(body, r.header.salt)
			if !ok {
				return 0, nil, &frameError{r.at, "a malformed mark"}
			}
			if m.next != r.next {
				return 0, nil, &frameError{r.at, fmt.Sprintf("a mark for record %d where %d is next", m.next, r.next)}
			}
			if m.running != r.running {
				return 0, nil, &frameError{r.at, "the running hash of the records before does not match"}
			}
			r.marked = m
			r.at += size
		default:
			return 0, nil, &frameError{r.at, "a frame of unknown kind"}
		}
	}
}

// frame gives the checked body of the frame at r.at, and does not move on.
func (r *segmentReader) frame() ([]byte, error) {
	head, err := r.bytes(r.at, frameHead)
	if err != nil {
		return nil, err
	}
	if len(head) == 0 {
		return nil, io.EOF
	}
	if len(head) < frameHead {
		return nil, &frameError{r.at, "the file ends in a frame"}
	}
	size := int64(le.Uint32(head[4:]))
	if size == 0 || size > recordHead+MaxRecord {
		return nil, &frameError{r.at, fmt.Sprintf("a frame of %d bytes, which is not possible", size)}
	}
	frame, err := r.bytes(r.at, frameHead+size)
	if err != nil {
		return nil, err
	}
	if int64(len(frame)) < frameHead+size {
		return nil, &frameError{r.at, "the file ends in a frame"}
	}
	if le.Uint32(frame) != crc32.Update(r.saltSum, castagnoli, frame[4:]) {
		return nil, &frameError{r.at, "the frame does not match its checksum"}
	}
	return frame[frameHead:], nil
}

// bytes gives n bytes from at on, or fewer where the limit or the file ends.
func (r *segmentReader) bytes(at, n int64) ([]byte, error) {
	n = min(n, r.limit-at)
	if at < r.start || at+n > r.start+int64(len(r.window)) {
		want := min(max(n, readChunk), r.limit-at)
		if int64(cap(r.space)) < want {
			r.space = make([]byte, want)
		}
		got, err := r.file.ReadAt(r.space[:want], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		r.start, r.window = at, r.space[:got]
	}
	from := r.window[at-r.start:]
	return from[:min(n, int64(len(from)))], nil
}

// skipTo reads on until record number next is the next one.
func (r *segmentReader) skipTo(next int64) error {
	for r.next < next {
		if _, _, err := r.record(); err != nil {
			return err
		}
	}
	return nil
}

// marksBehind looks for marks from byte at on, where frames can no longer be told apart,
// and gives the highest offset that one names, or 0.
func (r *segmentReader) marksBehind(at, size int64) (int64, error) {
	var highest int64
	buffer := make([]byte, min(1<<20, max(0, size-at)))
	for at < size {
		n, err := r.file.ReadAt(buffer[:min(int64(len(buffer)), size-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		found := buffer[:n]
		for i := 0; ; i++ {
			j := bytes.Index(found[i:], r.header.salt[:])
			if j < 0 {
				break
			}
			i += j
			// The salt stands behind the head of the frame and the kind.
			start := i - frameHead - 1
			if start < 0 || start+markFrame > n {
				continue
			}
			frame := found[start : start+markFrame]
			if le.Uint32(frame) != crc32.Update(r.saltSum, castagnoli, frame[4:]) {
				continue
			}
			if m, ok := decodeMark(frame[frameHead:], r.header.salt); ok {
				highest = max(highest, m.next)
			}
		}
		if n < markFrame || at+int64(n) >= size {
			break
		}
		at += int64(n - markFrame + 1) // a mark may lie across two reads
	}
	return highest, nil
}
