package kafka

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// maxUnpacked is what the records of one batch may have when they are unpacked, in bytes.
// Whoever may produce to an input chooses what is packed in the few bytes that the broker
// sees, up to a thousand times as much and more.
const maxUnpacked = 16 << 20

// unpackers is how many batches may be unpacked at once, from before they are unpacked until
// they have been delivered. With maxUnpacked it bounds the memory of all partitions together.
// Applying is one at a time in any case, so more would wait elsewhere.
const unpackers = 4

// turns bounds who unpacks: it has a place for each.
type turns chan struct{}

// unpacking are the turns of all logs of this process. A Consumer has its own: it may hold
// one for as long as what it reads cannot be taken, and no log must wait for that.
var unpacking = make(turns, unpackers)

// take waits for a turn. done gives it back.
func (t turns) take(ctx context.Context) (done func(), err error) {
	select {
	case t <- struct{}{}:
		return func() { <-t }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// The codecs of the bits of a batch's attributes.
const (
	codecGzip   = 1
	codecSnappy = 2
	codecLZ4    = 3
	codecZstd   = 4
)

var errUnpacked = fmt.Errorf("they unpack to more than %d bytes", maxUnpacked)

// unpack returns the records of a batch as they were before they were packed.
func unpack(codec int8, packed []byte) (unpacked []byte, err error) {
	defer func() {
		// The libraries are given what anybody may have written.
		if p := recover(); p != nil {
			unpacked, err = nil, fmt.Errorf("panic: %v", p)
		}
	}()
	switch codec {
	case codecGzip:
		r, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		return readCapped("gzip", r, len(packed))
	case codecSnappy:
		return unsnap(packed)
	case codecLZ4:
		r := lz4.NewReader(bytes.NewReader(packed))
		if err := r.Apply(lz4.ConcurrencyOption(1)); err != nil {
			return nil, err
		}
		return readCapped("lz4", r, len(packed))
	case codecZstd:
		return unzstd(packed)
	}
	return nil, fmt.Errorf("codec %d is none that is known", codec)
}

// zstdDecoder is shared: it has no state between calls, and starts no goroutine. It writes
// no more than it is given room for.
var zstdDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(unpackers), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(maxUnpacked), zstd.WithDecodeAllCapLimit(true))
})

// unzstd gives the decoder eight times the room each time that it was too little. Left to
// grow by itself, it would go through several times the bound. Where a frame says how large
// it gets, that is believed up to the bound.
func unzstd(packed []byte) ([]byte, error) {
	const block = 128 << 10 // the largest
	decoder, err := zstdDecoder()
	if err != nil {
		return nil, err
	}
	room := max(8*len(packed), block)
	var head zstd.Header
	if head.Decode(packed) == nil && head.HasFCS {
		if head.FrameContentSize > maxUnpacked {
			return nil, errUnpacked
		}
		room = max(int(head.FrameContentSize), 1)
	}
	for {
		room = min(room, maxUnpacked)
		unpacked, err := decoder.DecodeAll(packed, make([]byte, 0, room))
		switch {
		case err == nil:
			return unpacked, nil
		case !errors.Is(err, zstd.ErrDecoderSizeExceeded) && len(unpacked) < room-block:
			return nil, fmt.Errorf("zstd: %w", err)
		// Too little room shows as one of several errors, not more than a block before the
		// end of it.
		case room == maxUnpacked:
			return nil, errUnpacked
		}
		room = max(8*room, block)
	}
}

// readCapped reads all, if that is not more than may be. Its memory grows with what comes.
func readCapped(codec string, r io.Reader, packed int) ([]byte, error) {
	b := make([]byte, 0, min(max(4*packed, 4096), maxUnpacked+1))
	for {
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case len(b) > maxUnpacked:
			return nil, errUnpacked
		case err == io.EOF:
			return b, nil
		case err != nil:
			return nil, fmt.Errorf("%s: %w", codec, err)
		}
		if len(b) == cap(b) {
			grown := make([]byte, len(b), min(2*cap(b), maxUnpacked+1))
			copy(grown, b)
			b = grown
		}
	}
}

// xerial begins what Java's snappy library writes: blocks, each after its length.
var xerial = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const xerialHead = 16 // with two numbers of versions

// unsnap unpacks one block of snappy, or several in Java's framing. A block says first how
// large it gets.
func unsnap(packed []byte) ([]byte, error) {
	if !bytes.HasPrefix(packed, xerial) || len(packed) < xerialHead {
		return appendBlock(nil, packed)
	}
	var unpacked []byte
	for rest := packed[xerialHead:]; len(rest) > 0; {
		if len(rest) < 4 {
			return nil, fmt.Errorf("snappy: %w", io.ErrUnexpectedEOF)
		}
		size := int64(binary.BigEndian.Uint32(rest))
		rest = rest[4:]
		if size > int64(len(rest)) {
			return nil, fmt.Errorf("snappy: %w", io.ErrUnexpectedEOF)
		}
		var err error
		if unpacked, err = appendBlock(unpacked, rest[:size]); err != nil {
			return nil, err
		}
		rest = rest[size:]
	}
	return unpacked, nil
}

func appendBlock(to, block []byte) ([]byte, error) {
	size, err := snappy.DecodedLen(block)
	if err != nil {
		return nil, fmt.Errorf("snappy: %w", err)
	}
	if size > maxUnpacked-len(to) {
		return nil, errUnpacked
	}
	if cap(to)-len(to) < size {
		grown := make([]byte, len(to), min(max(2*cap(to), len(to)+size), maxUnpacked))
		copy(grown, to)
		to = grown
	}
	block, err = snappy.Decode(to[len(to):len(to)+size], block)
	if err != nil {
		return nil, fmt.Errorf("snappy: %w", err)
	}
	return to[:len(to)+len(block)], nil
}
