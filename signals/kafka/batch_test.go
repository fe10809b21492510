package kafka

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"vigil/authz"
)

// put1 is one record as it stands in a batch.
type put1 struct {
	delta      int64
	at         int64
	key, value []byte
	headers    int
}

func (p put1) append(b []byte) []byte {
	varBytes := func(to, v []byte) []byte {
		if v == nil {
			return binary.AppendVarint(to, -1)
		}
		return append(binary.AppendVarint(to, int64(len(v))), v...)
	}
	body := binary.AppendVarint([]byte{0}, p.at)
	body = binary.AppendVarint(body, p.delta)
	body = varBytes(varBytes(body, p.key), p.value)
	body = binary.AppendVarint(body, int64(p.headers))
	for range p.headers {
		body = varBytes(varBytes(body, []byte("h")), nil)
	}
	return append(binary.AppendVarint(b, int64(len(body))), body...)
}

// sealedBatch is a batch with a good checksum, whatever is in it.
func sealedBatch(base int64, attributes int16, reach int32, first, newest int64, count int32, body []byte) []byte {
	b := appendInt64(nil, base)
	b = appendInt32(b, int32(batchHead-atEpoch+len(body)))
	b = appendInt32(b, 5)
	b = append(b, 2, 0, 0, 0, 0)
	b = append(b, byte(attributes>>8), byte(attributes))
	b = appendInt32(b, reach)
	b = appendInt64(appendInt64(b, first), newest)
	b = append(appendInt64(b, -1), 0xff, 0xff)
	b = appendInt32(appendInt32(b, -1), count)
	b = append(b, body...)
	binary.BigEndian.PutUint32(b[atCRC:], crc32.Checksum(b[atSealed:], castagnoli))
	return b
}

// values is a batch of these values at successive offsets.
func values(base int64, of ...string) []byte {
	var body []byte
	for i, v := range of {
		body = put1{delta: int64(i), value: []byte(v)}.append(body)
	}
	return sealedBatch(base, 0, int32(len(of)-1), 1000, 2000, int32(len(of)), body)
}

// read collects what readBatches hands on.
func read(t testing.TB, raw []byte, from int64) (batches []batch, records []record, need int, err error) {
	need, err = readBatches(t.Context(), unpacking, raw, from, func(b *batch) error {
		batches = append(batches, *b)
		for r := range b.records() {
			records = append(records, r)
		}
		return nil
	})
	return batches, records, need, err
}

func TestRecordsAreReadInOrderAndWhole(t *testing.T) {
	body := put1{delta: 0, at: 3, key: []byte("k"), value: []byte("v"), headers: 2}.append(nil)
	body = put1{delta: 4, at: -3, key: []byte{}, value: []byte{}}.append(body)
	body = put1{delta: 5}.append(body)
	raw := slices.Concat(sealedBatch(10, 0, 7, 100, 103, 3, body), sealedBatch(18, logAppendTimeBit|transactionalBit, 0, 100, 777, 1, put1{value: []byte("w")}.append(nil)))
	batches, records, need, err := read(t, raw, 0)
	if err != nil || need != 0 || len(batches) != 2 {
		t.Fatalf("%d batches, need %d, %v", len(batches), need, err)
	}
	if b := batches[0]; b.base != 10 || b.last != 17 || b.epoch != 5 || b.control || b.transactional || b.refused != "" {
		t.Errorf("%+v", b)
	}
	if b := batches[1]; b.base != 18 || b.last != 18 || !b.transactional || b.control || b.refused != "" {
		t.Errorf("%+v", b)
	}
	ms := func(n int64) authz.Instant { return authz.Instant(n * 1e6) }
	want := []record{
		{offset: 10, appended: ms(103), key: []byte("k"), value: []byte("v")},
		{offset: 14, appended: ms(97), key: []byte{}, value: []byte{}},
		{offset: 15, appended: ms(100), noValue: true},
		{offset: 18, appended: ms(777), value: []byte("w")},
	}
	if !slices.EqualFunc(records, want, func(a, b record) bool {
		return a.offset == b.offset && a.appended == b.appended && bytes.Equal(a.key, b.key) && bytes.Equal(a.value, b.value) && a.noValue == b.noValue
	}) {
		t.Errorf("%+v", records)
	}
	if batches, _, _, _ := read(t, raw, 17); len(batches) != 2 {
		t.Errorf("from the last offset of the first batch: %d batches", len(batches))
	}
	if batches, _, _, _ := read(t, raw, 18); len(batches) != 1 || batches[0].base != 18 {
		t.Errorf("from the second: %+v", batches)
	}
}

func TestAnAnswerThatEndsWithinABatchIsReadUpToThere(t *testing.T) {
	first, second := values(0, "a", "b"), values(2, "c")
	raw := slices.Concat(first, second)
	for n := range len(raw) + 1 {
		batches, _, need, err := read(t, raw[:n], 0)
		wantBatches, wantNeed := 0, 0
		switch {
		case n == len(raw):
			wantBatches = 2
		case n >= len(first):
			wantBatches = 1
		case n >= atEpoch:
			wantNeed = len(first)
		case n > 0:
			wantNeed = batchHead
		}
		if err != nil || len(batches) != wantBatches || need != wantNeed {
			t.Errorf("%d bytes: %d batches, need %d, %v; want %d and %d", n, len(batches), need, err, wantBatches, wantNeed)
		}
	}
}

// Whatever bit is wrong, no record is read that was not written; and what the checksum
// covers is noticed.
func TestNoFlippedBitIsBelieved(t *testing.T) {
	raw := slices.Concat(values(7, "revoke"), values(8, "release"))
	for i := range len(raw) / 2 * 8 {
		bad := slices.Clone(raw)
		bad[i/8] ^= 1 << (i % 8)
		batches, records, need, err := read(t, bad, 0)
		switch at := i / 8; {
		case at < atLength, at >= atEpoch && at < atMagic:
			// Base offset and epoch are the caller's to compare: with where it stands, and
			// with the leader it asks.
		case at < atEpoch:
			if err == nil && (need == 0 || len(records) > 0) {
				t.Errorf("bit %d of the length: %d records", i, len(records))
			}
		case !errors.Is(err, errCorrupt) || len(batches) > 0:
			t.Errorf("bit %d of byte %d: %d batches, %v", i%8, at, len(batches), err)
		}
	}
}

func TestBatchesThatNoBrokerSendsAreCorrupt(t *testing.T) {
	one := put1{value: []byte("v")}.append(nil)
	length := func(n int32) []byte {
		b := values(0, "a")
		binary.BigEndian.PutUint32(b[atLength:], uint32(n))
		return b
	}
	for name, raw := range map[string][]byte{
		"twice the same offset": slices.Concat(values(4, "a"), values(4, "b")),
		"backwards":             slices.Concat(values(4, "a"), values(3, "b")),
		"overlapping":           slices.Concat(values(4, "a", "b"), values(5, "b")),
		"a negative offset":     values(-1, "a"),
		"no last offset":        sealedBatch(0, 0, -1, 0, 0, 1, one),
		"past all offsets":      sealedBatch(math.MaxInt64-1, 0, 1, 0, 0, 1, one),
		"a length of 0":         length(0),
		"a negative length":     length(-1),
		"a length of 2 GiB":     length(math.MaxInt32),
	} {
		if _, _, _, err := read(t, raw, 0); !errors.Is(err, errCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A batch whose checksum is right is as its producer made it. What cannot be read of it
// never can, so it is passed over, by name and whole.
func TestWhatAProducerMadeUnreadableIsRefusedWhole(t *testing.T) {
	one := put1{value: []byte("v")}.append(nil)
	two := put1{delta: 1, value: []byte("w")}.append(slices.Clone(one))
	raw := func(attributes int16, reach, count int32, body []byte) []byte {
		return sealedBatch(40, attributes, reach, 0, 0, count, body)
	}
	for name, bad := range map[string][]byte{
		"fewer than said":       raw(0, 1, 3, two),
		"more than said":        raw(0, 1, 1, two),
		"a negative count":      raw(0, 1, -1, two),
		"none, and bytes":       raw(0, 1, 0, two),
		"a count of billions":   raw(0, 1, math.MaxInt32, two),
		"an offset twice":       raw(0, 1, 2, slices.Concat(one, one)),
		"an offset past":        raw(0, 0, 2, two),
		"a negative offset":     raw(0, 1, 1, put1{delta: -1, value: []byte("v")}.append(nil)),
		"an offset of 64 bits":  raw(0, 1, 1, put1{delta: 1 << 33, value: []byte("v")}.append(nil)),
		"no time":               sealedBatch(40, 0, 1, math.MaxInt64, 0, 1, put1{at: 1, value: []byte("v")}.append(nil)),
		"a record of no length": raw(0, 1, 1, []byte{0}),
		"a negative length":     raw(0, 1, 1, []byte{1}),
		"a length of gigabytes": raw(0, 1, 1, binary.AppendVarint(nil, math.MaxInt32)),
		"an endless number":     raw(0, 1, 1, bytes.Repeat([]byte{0xff}, 20)),
		"a value longer than it": raw(0, 1, 1, func() []byte {
			b := slices.Clone(one)
			b[5] = 100
			return b
		}()),
		"billions of headers": raw(0, 1, 1, append(append([]byte{2 * 10}, one[1:6]...), 0xfe, 0xff, 0xff, 0xff, 0x0f)),
		"a codec of tomorrow": raw(5, 1, 1, one),
		"no gzip":             raw(codecGzip, 1, 1, one),
		"no snappy":           raw(codecSnappy, 1, 1, one),
		"no lz4":              raw(codecLZ4, 1, 1, one),
		"no zstd":             raw(codecZstd, 1, 1, one),
	} {
		batches, records, _, err := read(t, slices.Concat(values(39, "before"), bad, values(50, "after")), 0)
		if err != nil || len(batches) != 3 || len(records) != 2 {
			t.Errorf("%s: %d batches, %d records, %v", name, len(batches), len(records), err)
			continue
		}
		if b := batches[1]; !strings.Contains(b.refused, "offset") || !strings.Contains(b.refused, "40") || b.base != 40 {
			t.Errorf("%s: %+v", name, b)
		}
	}
}

func TestMessagesOfOldFormatsAreRefusedByName(t *testing.T) {
	old := append([]byte{1, 0}, make([]byte, 8+4+4)...) // magic, attributes, timestamp, no key, no value
	raw := appendInt32(appendInt64(nil, 3), int32(4+len(old)))
	raw = append(binary.BigEndian.AppendUint32(raw, crc32.ChecksumIEEE(old)), old...)
	batches, _, _, err := read(t, raw, 0)
	if err != nil || len(batches) != 1 || batches[0].last != 3 || !strings.Contains(batches[0].refused, "format v1") {
		t.Errorf("%+v, %v", batches, err)
	}
	raw[len(raw)-1]++
	if _, _, _, err := read(t, raw, 0); !errors.Is(err, errCorrupt) {
		t.Errorf("%v", err)
	}
}

func TestTheCallersErrorEndsTheReading(t *testing.T) {
	enough := errors.New("enough")
	calls := 0
	_, err := readBatches(t.Context(), unpacking, slices.Concat(values(0, "a"), values(1, "b")), 0, func(*batch) error { calls++; return enough })
	if err != enough || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

// fetchAll reads a partition from an offset to its end, as a follower does.
func fetchAll(t testing.TB, c *conn, id [16]byte, from int64) (batches []batch, records []record) {
	t.Helper()
	for {
		f, err := c.fetch(bounded(t), fetchRequest{id: id, epoch: -1, offset: from, wait: 10 * time.Millisecond, maxBytes: 64 << 10})
		if err = errors.Join(err, f.code.err()); err != nil {
			t.Fatal(err)
		}
		_, err = readBatches(bounded(t), unpacking, f.records, from, func(b *batch) error {
			batches = append(batches, *b)
			for r := range b.records() {
				if r.offset >= from {
					records = append(records, r)
				}
			}
			from = b.last + 1
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if from >= f.highWatermark {
			return batches, records
		}
	}
}

func TestFetchesGiveBackWhatAnotherClientWrote(t *testing.T) {
	cluster := fakeCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "log"))
	c := dial(t, Config{}, cluster.ListenAddrs()[0])
	m, err := c.metadata(bounded(t), []string{"log"})
	if err != nil {
		t.Fatal(err)
	}
	id := m.topics["log"].id
	var want []string
	for codec, option := range map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	} {
		cl := client(t, cluster, kgo.ProducerBatchCompression(option))
		for _, size := range []int{1, 100, 60_000} {
			lines := []string{codec + strings.Repeat("x", size), codec + "2"}
			put(t, cl, "log", 0, lines...)
			want = append(want, lines...)
		}
	}
	batches, records := fetchAll(t, c, id, 0)
	if len(records) != len(want) {
		t.Fatalf("%d records in %d batches, want %d", len(records), len(batches), len(want))
	}
	for i, r := range records {
		if string(r.value) != want[i] || r.offset != int64(i) || r.appended == 0 {
			t.Errorf("record %d: offset %d, %.20q", i, r.offset, r.value)
		}
	}
	if _, records := fetchAll(t, c, id, 3); len(records) != len(want)-3 || records[0].offset != 3 {
		t.Errorf("from within a batch: %d records", len(records))
	}
	for which, at := range map[int64]int64{latest: int64(len(want)), earliest: 0} {
		if got, code, err := c.offset(bounded(t), "log", 0, m.topics["log"].partitions[0].epoch, which); got != at || code != errNone || err != nil {
			t.Errorf("offset %d: %d, %v, %v", which, got, code, err)
		}
	}
	if _, code, err := c.offset(bounded(t), "log", 7, -1, latest); code != errUnknownTopic || err != nil {
		t.Errorf("%v, %v", code, err)
	}
	if _, code, err := c.offset(bounded(t), "log", 0, 99, latest); code != errUnknownLeaderEpoch || err != nil {
		t.Errorf("%v, %v", code, err)
	}
	for name, r := range map[string]fetchRequest{
		"OFFSET_OUT_OF_RANGE":        {id: id, epoch: -1, offset: 1000},
		"UNKNOWN_TOPIC_ID":           {id: [16]byte{1}, epoch: -1},
		"UNKNOWN_LEADER_EPOCH":       {id: id, epoch: 99},
		"UNKNOWN_TOPIC_OR_PARTITION": {id: id, partition: 9, epoch: -1},
	} {
		if f, err := c.fetch(bounded(t), r); err != nil || !strings.HasSuffix(f.code.Error(), name) {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
}

// What is in a transaction, committed or not, is told to be so, and its ends are no records.
func TestTransactionsAreToldApart(t *testing.T) {
	cluster := fakeCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "log"))
	plain := client(t, cluster)
	put(t, plain, "log", 0, "plain")
	within := client(t, cluster, kgo.TransactionalID("t"))
	for _, outcome := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
		if err := within.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		put(t, within, "log", 0, fmt.Sprint("within ", outcome))
		if err := within.EndTransaction(context.Background(), outcome); err != nil {
			t.Fatal(err)
		}
	}
	put(t, plain, "log", 0, "after")
	c := dial(t, Config{}, cluster.ListenAddrs()[0])
	m, err := c.metadata(bounded(t), []string{"log"})
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	batches, _ := fetchAll(t, c, m.topics["log"].id, 0)
	for _, b := range batches {
		said := fmt.Sprintf("%d-%d transactional=%t control=%t", b.base, b.last, b.transactional, b.control)
		for r := range b.records() {
			said += " " + string(r.value)
		}
		seen = append(seen, said)
	}
	want := []string{
		"0-0 transactional=false control=false plain",
		"1-1 transactional=true control=false within false", "2-2 transactional=true control=true",
		"3-3 transactional=true control=false within true", "4-4 transactional=true control=true",
		"5-5 transactional=false control=false after",
	}
	if !slices.Equal(seen, want) {
		t.Errorf("%q", seen)
	}
}
