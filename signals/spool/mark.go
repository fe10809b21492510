package spool

import (
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"strings"

	"vigil/disk"
)

// The file that says how far the spool has been forwarded is one line, replaced whole:
//
//	vigil-spool 1 <log> <offset> <sum>
//
// log is the identity of the spool's own log in hex, offset that of the first record which
// the log of all replicas may not have, and sum the CRC-32C of what stands before it.
const markForm = "vigil-spool 1 %s %d"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// longestMark is more than a mark can have, in bytes.
const longestMark = 256

func (s *Spool) markAt(offset int64) string {
	id := s.cfg.Log.ID()
	line := fmt.Sprintf(markForm, hex.EncodeToString(id[:]), offset)
	return fmt.Sprintf("%s %08x\n", line, crc32.Checksum([]byte(line), castagnoli))
}

// mark writes down that the log of all replicas has every record below offset.
func (s *Spool) mark(offset int64) error {
	return disk.WriteFile(s.cfg.FS, s.cfg.Path, 0o600, func(w io.Writer) error {
		_, err := io.WriteString(w, s.markAt(offset))
		return err
	})
}

// forwardedUpTo gives the offset from which on records may not be in the log of all replicas:
// what was written down, or the oldest record where that says nothing of this log.
func (s *Spool) forwardedUpTo() int64 {
	first, head := s.cfg.Log.FirstOffset(), s.cfg.Log.Head()
	data, err := disk.ReadFile(s.cfg.FS, s.cfg.Path, longestMark)
	if errors.Is(err, fs.ErrNotExist) {
		return first
	}
	var id string
	var offset int64
	if err == nil {
		_, err = fmt.Sscanf(strings.TrimSuffix(string(data), "\n"), markForm, &id, &offset)
	}
	if err == nil && s.markAt(offset) != string(data) {
		err = errors.New("it is damaged, or of another log")
	}
	if err == nil && (offset < first || offset > head) {
		err = fmt.Errorf("it says %d, and the spool has records %d to %d", offset, first, head)
	}
	if err != nil {
		s.log.Warn("how far the spool was forwarded is not known: all that it has is forwarded again", slog.String("file", s.cfg.Path), slog.Any("error", err))
		return first
	}
	return offset
}
