package snapshot

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"
)

const (
	partEnd    = 0
	partZstd   = 1
	partStored = 2

	partHead = 9
	maxRaw   = 1 << 20
	maxRatio = 256
)

// partWriter cuts what is written to it into parts.
type partWriter struct {
	w       io.Writer
	sum     hash.Hash
	encoder *zstd.Encoder
	raw     []byte
	packed  []byte
	total   uint64
}

func newPartWriter(w io.Writer) (*partWriter, error) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(maxRaw),
		zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderCRC(true), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	return &partWriter{w: w, sum: sha256.New(), encoder: encoder, raw: make([]byte, 0, maxRaw)}, nil
}

// put writes bytes of the file itself.
func (p *partWriter) put(b []byte) error {
	p.sum.Write(b)
	_, err := p.w.Write(b)
	return err
}

func (p *partWriter) Write(b []byte) (int, error) {
	written := 0
	for written < len(b) {
		n := copy(p.raw[len(p.raw):cap(p.raw)], b[written:])
		p.raw = p.raw[:len(p.raw)+n]
		written += n
		if len(p.raw) == cap(p.raw) {
			if err := p.flush(); err != nil {
				return written, err
			}
		}
	}
	return written, nil
}

func (p *partWriter) flush() error {
	if len(p.raw) == 0 {
		return nil
	}
	kind := byte(partZstd)
	p.packed = append(p.packed[:0], make([]byte, partHead)...)
	p.packed = p.encoder.EncodeAll(p.raw, p.packed)
	if size := len(p.packed) - partHead; size >= len(p.raw) || size*maxRatio < len(p.raw) {
		kind = partStored
		p.packed = append(p.packed[:partHead], p.raw...)
	}
	p.packed[0] = kind
	le.PutUint32(p.packed[1:], uint32(len(p.packed)-partHead))
	le.PutUint32(p.packed[5:], uint32(len(p.raw)))
	p.total += uint64(len(p.raw))
	p.raw = p.raw[:0]
	return p.put(p.packed)
}

// finish writes the trailer.
func (p *partWriter) finish() error {
	if err := p.flush(); err != nil {
		return err
	}
	if err := p.put(le.AppendUint64([]byte{partEnd}, p.total)); err != nil {
		return err
	}
	_, err := p.w.Write(p.sum.Sum(nil))
	return err
}

// partReader gives what was written to a partWriter, and io.EOF only after the trailer
// was found to be right.
type partReader struct {
	r       io.Reader // adds to sum what it reads
	trailer io.Reader // does not
	sum     hash.Hash
	decoder *zstd.Decoder
	packed  []byte
	space   []byte
	raw     []byte // of space, not given yet
	total   uint64
	err     error // sticky
}

func newPartReader(r io.Reader) (*partReader, error) {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(maxRaw), zstd.WithDecoderMaxWindow(maxRaw), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	return &partReader{r: io.TeeReader(r, sum), trailer: r, sum: sum, decoder: decoder}, nil
}

func (p *partReader) close() { p.decoder.Close() }

func (p *partReader) Read(b []byte) (int, error) {
	for len(p.raw) == 0 && p.err == nil {
		p.err = p.next()
	}
	if len(p.raw) == 0 {
		return 0, p.err
	}
	n := copy(b, p.raw)
	p.raw = p.raw[n:]
	return n, nil
}

// next reads a part, or the trailer.
func (p *partReader) next() error {
	var head [partHead]byte
	if err := readFull(p.r, head[:]); err != nil {
		return err
	}
	size, raw := int64(le.Uint32(head[1:])), int64(le.Uint32(head[5:]))
	switch kind := head[0]; {
	case kind == partEnd:
		return p.end(le.Uint64(head[1:]))
	case kind != partZstd && kind != partStored:
		return damaged("a part of unknown kind %d", kind)
	case raw == 0 || raw > maxRaw, size > raw, size*maxRatio < raw, kind == partStored && size != raw:
		return damaged("a part that says to grow from %d bytes to %d", size, raw)
	}
	p.total += uint64(raw)
	if int64(cap(p.space)) < raw {
		p.space = make([]byte, raw)
	}
	if head[0] == partStored {
		p.raw = p.space[:raw]
		return readFull(p.r, p.raw)
	}
	if int64(cap(p.packed)) < size {
		p.packed = make([]byte, size)
	}
	packed := p.packed[:size]
	if err := readFull(p.r, packed); err != nil {
		return err
	}
	// The decoder stops at the capacity: what says to be small and is not is refused.
	got, err := p.decoder.DecodeAll(packed, p.space[:0:raw])
	if err != nil {
		return damaged("a part does not decode: %v", err)
	}
	if int64(len(got)) != raw {
		return damaged("a part decodes to %d bytes, not to %d", len(got), raw)
	}
	p.raw = got
	return nil
}

func (p *partReader) end(total uint64) error {
	want := p.sum.Sum(nil)
	got := make([]byte, sha256.Size+1)
	n, err := io.ReadFull(p.trailer, got)
	switch {
	case err == nil:
		return damaged("something follows its end")
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("read a snapshot: %w", err)
	case n < sha256.Size:
		return damaged("it ends too early")
	case string(got[:n]) != string(want):
		return damaged("it does not match its checksum")
	case total != p.total:
		return damaged("it says to be %d bytes when decoded and is %d", total, p.total)
	}
	return io.EOF
}
