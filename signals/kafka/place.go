package kafka

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"

	"vigil/disk"
	"vigil/signals"
)

// place is up to where a topic was consumed.
type place struct {
	log   signals.LogID     // that what was read went into
	topic [16]byte          // the topic's id
	next  signals.Positions // the first offset of each partition that may not have been taken
	marks []mark            // what the records before are known again by; of no earlier ones
}

// The file of a place is one line, replaced whole:
//
//	vigil-topic 1 <log> <topic> <next> <marks> <sum>
//
// log and topic are identities in hex; next is "partition:offset" of each partition, by
// number, with commas between, or "-"; marks are what encodeMarks makes, in base64; and sum is
// the CRC-32C of what stands before it, in hex.
const placeForm = "vigil-topic 1 %x %x %s %s"

// longestPlace is more than a place of all partitions that a topic may have can take, in bytes.
const longestPlace = 1 << 20

func encodePlace(p *place) string {
	var next []string
	for _, number := range slices.Sorted(maps.Keys(p.next)) {
		next = append(next, fmt.Sprintf("%d:%d", number, p.next[number]))
	}
	if next == nil {
		next = []string{"-"}
	}
	line := fmt.Sprintf(placeForm, p.log[:], p.topic[:], strings.Join(next, ","), base64.StdEncoding.EncodeToString(encodeMarks(p.marks)))
	return fmt.Sprintf("%s %08x\n", line, crc32.Checksum([]byte(line), castagnoli))
}

var errPlace = errors.New("it is damaged, or of another version")

// decodePlace reads what encodePlace wrote. It takes nothing else.
func decodePlace(text string) (place, error) {
	var p place
	words := strings.Split(strings.TrimSuffix(text, "\n"), " ")
	if len(words) != 7 {
		return place{}, errPlace
	}
	log, logErr := hex.DecodeString(words[2])
	topic, topicErr := hex.DecodeString(words[3])
	marks, marksErr := base64.StdEncoding.DecodeString(words[5])
	if errors.Join(logErr, topicErr, marksErr) != nil || len(log) != len(p.log) || len(topic) != len(p.topic) {
		return place{}, errPlace
	}
	p.log, p.topic, p.next = signals.LogID(log), [16]byte(topic), signals.Positions{}
	var err error
	if p.marks, err = decodeMarks(marks); err != nil {
		return place{}, errPlace
	}
	for pair := range strings.SplitSeq(words[4], ",") {
		if words[4] == "-" {
			break
		}
		number, offset, _ := strings.Cut(pair, ":")
		n, numberErr := strconv.ParseInt(number, 10, 32)
		at, offsetErr := strconv.ParseInt(offset, 10, 64)
		if errors.Join(numberErr, offsetErr) != nil || n < 0 || at < 0 || len(p.next) == maxTopicPartitions {
			return place{}, errPlace
		}
		p.next[int32(n)] = at
	}
	if encodePlace(&p) != text {
		return place{}, errPlace
	}
	return p, nil
}

// restore reads the file. Without a good one the topic is read from its beginning.
func (k *Consumer) restore() {
	text, err := disk.ReadFile(k.c.FS, k.c.Path, longestPlace)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var p place
	if err == nil {
		p, err = decodePlace(string(text))
	}
	if err != nil {
		k.log.Warn("up to where the topic was read is not known: it is read from its beginning", slog.String("file", k.c.Path), slog.Any("error", err))
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mu.place = p
}

// save writes down where all was taken, if that has moved. The marks are taken after the
// place, so that none is of an earlier record.
//
// Guard: the place moves when Take has returned, which is when what it took is durable. One
// that is not written down is behind: records are taken twice, and never left out.
func (k *Consumer) save() {
	k.mu.Lock()
	p := place{log: k.mu.place.log, topic: k.mu.place.topic, next: k.mu.place.next.Clone(), marks: k.mu.place.marks}
	if !k.mu.dirty || k.mu.place.next == nil {
		k.mu.Unlock()
		return
	}
	if k.mu.feed != nil {
		p.marks = k.mu.feed.marks.all()
	}
	k.mu.dirty = false
	k.mu.Unlock()
	err := disk.WriteFile(k.c.FS, k.c.Path, 0o600, func(w io.Writer) error {
		_, err := io.WriteString(w, encodePlace(&p))
		return err
	})
	if err == nil {
		return
	}
	k.mu.Lock()
	k.mu.dirty = true
	k.mu.Unlock()
	if k.unsaved.news(err) {
		k.log.Error("up to where the topic was read cannot be written down: after a start more of it is read again", slog.Any("error", err))
	}
}
