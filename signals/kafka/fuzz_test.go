package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/segmentio/kafka-go/protocol"
)

// FuzzBatches puts the checksum right, for without it nothing past the first batch's head
// would be seen.
func FuzzBatches(f *testing.F) {
	for _, p := range []string{"gzip", "snappy", "snappy of Java", "lz4", "zstd", "zstd of a stream"} {
		plain := values(3, "a", "b")[batchHead:]
		f.Add(sealedBatch(3, int16(packers[p].codec), 1, 1, 2, 2, packers[p].pack(f, plain)), int64(0))
	}
	f.Add(slices.Concat(values(0, "a"), values(1, "b", "c")), int64(1))
	f.Add(sealedBatch(9, transactionalBit|controlBit, 0, 1, 1, 1, put1{key: []byte{0, 0, 0, 0}, value: []byte{0, 0, 0, 0, 0, 0}}.append(nil)), int64(9))
	f.Add(sealedBatch(0, logAppendTimeBit, math.MaxInt32, math.MinInt64, math.MaxInt64, math.MaxInt32, put1{at: math.MinInt64, delta: 5}.append(nil)), int64(0))
	f.Add(values(0, "cut")[:70], int64(0))
	f.Fuzz(func(t *testing.T, raw []byte, from int64) {
		raw = slices.Clone(raw)
		for at := 0; at+batchHead <= len(raw); {
			size := int64(int32(binary.BigEndian.Uint32(raw[at+atLength:]))) + atEpoch
			if size < batchHead || size > int64(len(raw)-at) {
				break
			}
			one := raw[at : at+int(size)]
			if one[atMagic] == readableMagic {
				binary.BigEndian.PutUint32(one[atCRC:], crc32.Checksum(one[atSealed:], castagnoli))
			} else {
				binary.BigEndian.PutUint32(one[atEpoch:], crc32.ChecksumIEEE(one[atMagic:]))
			}
			at += int(size)
		}
		before := int64(-1)
		need, err := readBatches(t.Context(), unpacking, raw, from, func(b *batch) error {
			if b.base <= before || b.last < b.base || b.last < from {
				t.Fatalf("a batch of %d to %d after %d, from %d", b.base, b.last, before, from)
			}
			if len(b.body) > maxUnpacked && len(b.body) > len(raw) {
				t.Fatalf("%d bytes unpacked", len(b.body))
			}
			before = b.base - 1
			records := 0
			for r := range b.records() {
				if r.offset <= before || r.offset > b.last || r.noValue && r.value != nil || r.appended < 0 {
					t.Fatalf("a record at %d after %d in a batch of %d to %d", r.offset, before, b.base, b.last)
				}
				before, records = r.offset, records+1
				r.hash(r.headers)
				said := cursor{rest: r.headers}
				n := int32(0)
				for range r.header() {
					n++
				}
				if n != said.varint32() {
					t.Fatalf("%d headers of %x", n, r.headers)
				}
			}
			if records > 0 && (b.refused != "" || b.control) || b.refused == "" && !b.control && records != int(b.count) {
				t.Fatalf("%d records of %d in a batch that is refused for %q, control %t", records, b.count, b.refused, b.control)
			}
			b.hash()
			before = b.last
			return nil
		})
		if err != nil && !errors.Is(err, errCorrupt) || need > 0 && (need <= len(raw) || before >= 0) {
			t.Fatalf("%v, need %d of %d", err, need, len(raw))
		}
	})
}

func FuzzMetadata(f *testing.F) {
	f.Add(goodMetadata())
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := decodeMetadata(body)
		if err != nil && (m != nil || !errors.Is(err, errMalformed)) {
			t.Fatalf("%v, %v", m, err)
		}
		if err == nil && len(m.brokers)+len(m.topics) > len(body) {
			t.Fatalf("%d bytes of which %d brokers and %d topics are made", len(body), len(m.brokers), len(m.topics))
		}
	})
}

func FuzzFetch(f *testing.F) {
	f.Add(fetchAnswer(errNone, [16]byte{}, partitionAnswer(0, errNone, values(4, "a"))))
	f.Add(fetchAnswer(errNone, [16]byte{}, partitionAnswer(0, errOffsetOutOfRange, nil)))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 70, 0, 0, 0, 0, 1, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		r := fetchRequest{}
		got, err := r.decode(body)
		if err != nil && (got.records != nil || !errors.Is(err, errMalformed)) || len(got.records) > len(body) {
			t.Fatalf("%+v, %v", got, err)
		}
	})
}

func FuzzMarks(f *testing.F) {
	f.Add(encodeMarks(nil))
	f.Add(encodeMarks(someMarks(3)))
	f.Add([]byte{marksVersion, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		marks, err := decodeMarks(b)
		if err != nil {
			if !errors.Is(err, errMarks) || marks != nil {
				t.Fatalf("%v, %v", marks, err)
			}
			return
		}
		if again := encodeMarks(marks); !bytes.Equal(again, b) {
			t.Fatalf("%x became %x", b, again)
		}
	})
}

// FuzzAnswers reads answers of the library's messages, in every version that it knows.
func FuzzAnswers(f *testing.F) {
	keys := []protocol.ApiKey{
		protocol.ApiVersions, protocol.SaslHandshake, protocol.SaslAuthenticate, protocol.ListOffsets,
		protocol.Produce, protocol.CreateTopics, protocol.DescribeConfigs,
	}
	f.Add(uint8(0), uint8(2), knows(protocol.Fetch))
	f.Add(uint8(3), uint8(5), appendInt32([]byte{0, 0, 0, 0}, math.MaxInt32))
	f.Add(uint8(4), uint8(8), append([]byte{0, 0, 0, 1, 0, 1, 'a'}, 0x7f, 0xff, 0xff, 0xff))
	f.Add(uint8(5), uint8(5), []byte{0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x7f, 0})
	f.Add(uint8(6), uint8(3), make([]byte, 40))
	f.Fuzz(func(t *testing.T, which, version uint8, body []byte) {
		key := keys[int(which)%len(keys)]
		answer, err := answerTo(key)
		if err != nil {
			t.Fatal(err)
		}
		v := key.MinVersion() + int16(version)%(key.MaxVersion()-key.MinVersion()+1)
		if err := decodeAnswer(body, v, answer); err != nil && !errors.Is(err, errMalformed) {
			t.Fatal(err)
		}
		if n := elements(reflect.ValueOf(answer)); n > len(body) {
			t.Fatalf("%d elements of %d bytes", n, len(body))
		}
	})
}

// elements counts those of all arrays within.
func elements(v reflect.Value) (n int) {
	switch v.Kind() {
	case reflect.Pointer:
		return elements(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			n += elements(v.Field(i))
		}
	case reflect.Slice:
		n = v.Len()
		if v.Type().Elem().Kind() != reflect.Uint8 {
			for i := range v.Len() {
				n += elements(v.Index(i))
			}
		}
	}
	return n
}
