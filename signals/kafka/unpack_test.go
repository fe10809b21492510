package kafka

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// packers are the codecs as others write them.
var packers = map[string]struct {
	codec int8
	pack  func(t testing.TB, plain []byte) []byte
}{
	"gzip": {codecGzip, func(t testing.TB, plain []byte) []byte {
		return through(t, plain, func(w io.Writer) io.WriteCloser {
			z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
			if err != nil {
				t.Fatal(err)
			}
			return z
		})
	}},
	"snappy": {codecSnappy, func(_ testing.TB, plain []byte) []byte { return snappy.Encode(nil, plain) }},
	"snappy of Java": {codecSnappy, func(_ testing.TB, plain []byte) []byte {
		out := append(bytes.Clone(xerial), 0, 0, 0, 1, 0, 0, 0, 1)
		for len(plain) > 0 {
			n := min(len(plain), 32<<10)
			block := snappy.Encode(nil, plain[:n])
			out = append(binary.BigEndian.AppendUint32(out, uint32(len(block))), block...)
			plain = plain[n:]
		}
		return out
	}},
	"lz4": {codecLZ4, func(t testing.TB, plain []byte) []byte {
		return through(t, plain, func(w io.Writer) io.WriteCloser { return lz4.NewWriter(w) })
	}},
	"zstd": {codecZstd, func(t testing.TB, plain []byte) []byte {
		e, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = e.Close() }()
		return e.EncodeAll(plain, nil)
	}},
	"zstd of a stream": {codecZstd, func(t testing.TB, plain []byte) []byte { // its size is not said
		return through(t, plain, func(w io.Writer) io.WriteCloser {
			e, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
			if err != nil {
				t.Fatal(err)
			}
			return e
		})
	}},
}

func through(t testing.TB, plain []byte, open func(io.Writer) io.WriteCloser) []byte {
	t.Helper()
	var out bytes.Buffer
	w := open(&out)
	for len(plain) > 0 { // in parts, so that no codec sees the end coming
		n := min(len(plain), 256<<10)
		if _, err := w.Write(plain[:n]); err != nil {
			t.Fatal(err)
		}
		plain = plain[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestEveryCodecGivesBackUpToTheBound(t *testing.T) {
	for name, p := range packers {
		for _, size := range []int{1, 4096, 1 << 20, maxUnpacked} {
			plain := bytes.Repeat([]byte("0123456789abcde"), size/15+1)[:size]
			got, err := unpack(p.codec, p.pack(t, plain))
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s of %d bytes: %d bytes, %v", name, size, len(got), err)
			}
		}
		got, err := unpack(p.codec, p.pack(t, make([]byte, maxUnpacked+1)))
		if !errors.Is(err, errUnpacked) || got != nil {
			t.Errorf("%s of a byte too many: %d bytes, %v", name, len(got), err)
		}
	}
}

// A few KiB that unpack to hundreds of MiB must cost about what the bound allows.
func TestABombCostsNoMoreThanTheBound(t *testing.T) {
	for name, p := range packers {
		t.Run(name, func(t *testing.T) {
			plain := make([]byte, 64<<20)
			if p.codec == codecZstd { // of which the packed form is the smallest
				plain = make([]byte, 200<<20)
			}
			packed := p.pack(t, plain)
			if _, err := unpack(p.codec, p.pack(t, plain[:1<<20])); err != nil { // what the libraries make once
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			_, err := unpack(p.codec, packed)
			runtime.ReadMemStats(&after)
			took := (after.TotalAlloc - before.TotalAlloc) >> 20
			t.Logf("%d KiB packed: %d MiB allocated", len(packed)>>10, took)
			// The room for the output is made in steps, and what else the process allocates
			// meanwhile counts too.
			if !errors.Is(err, errUnpacked) || took > 4*maxUnpacked>>20 {
				t.Errorf("%d MiB, %v", took, err)
			}
		})
	}
}

// Blocks and frames that say how large they get, and lie.
func TestSizesThatAreClaimedAreNotBelieved(t *testing.T) {
	long := binary.AppendUvarint(nil, 1<<31)
	for name, c := range map[string]struct {
		codec  int8
		packed []byte
	}{
		"snappy":                    {codecSnappy, append(long, 0)},
		"snappy of Java":            {codecSnappy, append(append(bytes.Clone(xerial), 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 6), append(long, 0)...)},
		"snappy of Java, cut short": {codecSnappy, append(bytes.Clone(xerial), 0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff)},
		// A frame of one segment, with a size of 64 bits: an exabyte.
		"zstd": {codecZstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x10, 1, 0, 0}},
		// A window of 2 GiB, and one byte.
		"zstd's window": {codecZstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x09, 0, 0, 'x'}},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got, err := unpack(c.codec, c.packed)
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; err == nil || took > 4<<20 {
			t.Errorf("%s: %d bytes of result, %d allocated, %v", name, len(got), took, err)
		}
	}
}

// The bomb of another client's producer, all the way through a broker.
func TestABombInATopicIsOneRefusedBatch(t *testing.T) {
	cluster := fakeCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "log"))
	cl := client(t, cluster, kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.ProducerBatchMaxBytes(512<<20), kgo.BrokerMaxWriteBytes(1<<30))
	put(t, cl, "log", 0, "before")
	put(t, cl, "log", 0, strings.Repeat("\x00", 200<<20))
	put(t, cl, "log", 0, "after")
	c := dial(t, Config{}, cluster.ListenAddrs()[0])
	m, err := c.metadata(bounded(t), []string{"log"})
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	batches, records := fetchAll(t, c, m.topics["log"].id, 0)
	runtime.ReadMemStats(&after)
	if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 3*maxUnpacked>>20 {
		t.Errorf("%d MiB", took)
	}
	if len(batches) != 3 || len(records) != 2 || batches[1].last != 1 || !strings.Contains(batches[1].refused, "offset 1 cannot be unpacked") {
		t.Errorf("%d batches, %d records", len(batches), len(records))
	}
}

// Millions of empty records fit in a few KiB; reading them keeps none.
func TestManyRecordsInFewBytesCostTheirBytes(t *testing.T) {
	const n = 500_000
	body := make([]byte, 0, maxUnpacked)
	for i := range n {
		body = put1{delta: int64(i)}.append(body)
	}
	packed := packers["zstd"].pack(t, body)
	raw := sealedBatch(0, codecZstd, n-1, 0, 0, n, packed)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	count := 0
	_, err := readBatches(t.Context(), unpacking, raw, 0, func(b *batch) error {
		for range b.records() {
			count++
		}
		return nil
	})
	runtime.ReadMemStats(&after)
	if took := (after.TotalAlloc - before.TotalAlloc) >> 20; err != nil || count != n || took > 12 {
		t.Errorf("%d records, %d MiB, %v", count, took, err)
	}
}

// No more batches are unpacked at once than may be, and a turn that does not come ends
// with the context.
func TestUnpackingTakesTurns(t *testing.T) {
	raw := sealedBatch(0, codecSnappy, 0, 0, 0, 1, snappy.Encode(nil, put1{value: []byte("v")}.append(nil)))
	let, held := make(chan struct{}), make(chan struct{})
	ends := make(chan error)
	for range unpackers {
		go func() {
			_, err := readBatches(context.Background(), unpacking, raw, 0, func(*batch) error { held <- struct{}{}; <-let; return nil })
			ends <- err
		}()
	}
	for range unpackers {
		<-held
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := readBatches(ctx, unpacking, raw, 0, func(*batch) error { return nil })
		ends <- err
	}()
	cancel()
	if err := <-ends; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if batches, _, _, err := read(t, values(0, "plain"), 0); len(batches) != 1 || err != nil {
		t.Errorf("what is not packed waits: %v", err)
	}
	close(let)
	for range unpackers {
		if err := <-ends; err != nil {
			t.Error(err)
		}
	}
	if _, records, _, err := read(t, raw, 0); len(records) != 1 || err != nil {
		t.Errorf("%d records, %v", len(records), err)
	}
}
