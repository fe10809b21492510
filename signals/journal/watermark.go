package journal

import (
	"bytes"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"vigil/disk"
	"vigil/signals"
)

const (
	watermarkFile  = "acknowledged"
	watermarkMagic = "VGLACKD\n"
	slotSize       = 44
	slotDistance   = 512 // a sector each, so that a torn write harms one
	watermarkSize  = 2 * slotDistance
)

// watermark says below which offset every record was acknowledged.
type watermark struct {
	counter uint64
	log     signals.LogID
	offset  int64
}

func (w watermark) encode() []byte {
	b := make([]byte, slotSize)
	copy(b, watermarkMagic)
	le.PutUint64(b[8:], w.counter)
	copy(b[16:], w.log[:])
	le.PutUint64(b[32:], uint64(w.offset))
	le.PutUint32(b[40:], crc32.Checksum(b[:40], castagnoli))
	return b
}

// decodeWatermark gives the newer valid slot.
func decodeWatermark(file []byte) (watermark, bool) {
	var newest watermark
	valid := false
	for _, at := range []int{0, slotDistance} {
		if len(file) < at+slotSize {
			continue
		}
		b := file[at : at+slotSize]
		if !bytes.Equal(b[:8], []byte(watermarkMagic)) || le.Uint32(b[40:]) != crc32.Checksum(b[:40], castagnoli) {
			continue
		}
		w := watermark{counter: le.Uint64(b[8:]), offset: int64(le.Uint64(b[32:]))}
		copy(w.log[:], b[16:])
		if !valid || w.counter > newest.counter {
			newest, valid = w, true
		}
	}
	return newest, valid
}

func readWatermark(fsys disk.FS, dir string) (watermark, error) {
	path := filepath.Join(dir, watermarkFile)
	data, err := disk.ReadFile(fsys, path, watermarkSize)
	if errors.Is(err, os.ErrNotExist) {
		return watermark{}, &DamageError{Path: path, What: "the watermark of acknowledged records is missing"}
	} else if err != nil {
		return watermark{}, err
	}
	w, ok := decodeWatermark(data)
	if !ok {
		return watermark{}, &DamageError{Path: path, What: "the watermark of acknowledged records cannot be read"}
	}
	return w, nil
}

// watermarkWriter keeps the file "acknowledged". It is for one goroutine.
type watermarkWriter struct {
	fsys disk.FS
	dir  string
	last watermark // what the newest valid slot says
	file disk.File // nil: to be replaced whole before it is written again
}

// replace makes the file anew, with w in both slots.
func (ww *watermarkWriter) replace(w watermark) error {
	return disk.WriteFile(ww.fsys, filepath.Join(ww.dir, watermarkFile), 0o600, func(out io.Writer) error {
		whole := make([]byte, watermarkSize)
		copy(whole, w.encode())
		copy(whole[slotDistance:], w.encode())
		_, err := out.Write(whole)
		return err
	})
}

// write makes offset the watermark, durably. After an error the old one or the new may be
// found, and the next write begins a new file, for nothing is known of this one.
func (ww *watermarkWriter) write(offset int64) (err error) {
	next := watermark{counter: ww.last.counter + 1, log: ww.last.log, offset: offset}
	path := filepath.Join(ww.dir, watermarkFile)
	if ww.file == nil {
		if err := ww.replace(next); err != nil {
			return err
		}
		ww.last = next
		// Opened anew, by its name, for the slots to come. A failure costs another
		// replacement the next time.
		ww.file, _ = ww.fsys.Open(path, os.O_RDWR, 0)
		return nil
	}
	_, err = ww.file.WriteAt(next.encode(), int64(next.counter%2)*slotDistance)
	if err == nil {
		err = ww.file.Sync()
	}
	if err != nil {
		return errors.Join(err, ww.close())
	}
	ww.last = next
	return nil
}

func (ww *watermarkWriter) close() error {
	if ww.file == nil {
		return nil
	}
	err := ww.file.Close()
	ww.file = nil
	return err
}
