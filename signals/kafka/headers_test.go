package kafka

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"vigil/signals"
)

// spelled is a decoder that shows what it was given.
func spelled(headers iter.Seq2[string, string], value []byte) ([]byte, error) {
	var b strings.Builder
	for name, v := range headers {
		switch name {
		case "panic":
			panic(v)
		case "refuse":
			return nil, errors.New(v)
		case "long":
			return make([]byte, signals.MaxSignal+1), nil
		}
		fmt.Fprintf(&b, "%s=%s ", name, v)
	}
	if value == nil {
		b.WriteString("nil")
	}
	b.Write(value)
	return []byte(b.String()), nil
}

// carry writes records with headers ("name=value" each, "name" for null) to partition 0.
func carry(t testing.TB, cl *kgo.Client, topic string, value []byte, headers ...string) {
	t.Helper()
	r := &kgo.Record{Topic: topic, Value: value}
	for _, h := range headers {
		name, v, there := strings.Cut(h, "=")
		header := kgo.RecordHeader{Key: name}
		if there {
			header.Value = []byte(v)
		}
		r.Headers = append(r.Headers, header)
	}
	if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// TestADecoderSeesHeadersAndValueOfEachRecord, and what it does not take is a dead letter that
// stops nothing. The log itself has no decoder.
func TestADecoderSeesHeadersAndValueOfEachRecord(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.create("events", 1)
	cfg := w.config("events")
	cfg.Inputs[0].Decode = spelled
	f := follow(t, w.openLog(cfg), nil)
	cl := client(t, w.fake, kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	many := make([]string, maxHeaders+1)
	for i := range many {
		many[i] = "h=v"
	}
	carry(t, cl, "events", []byte("v"), "a=1", "b=", "a", "=")
	carry(t, cl, "events", nil, "a=1")
	carry(t, cl, "events", []byte("v"))
	carry(t, cl, "events", []byte("v"), "panic=at once")
	carry(t, cl, "events", []byte("v"), "refuse=no such thing")
	carry(t, cl, "events", []byte("v"), "long=")
	carry(t, cl, "events", []byte("v"), many...)
	carry(t, cl, "events", []byte("v"), "a="+strings.Repeat("x", maxHeaderBytes))
	carry(t, cl, "events", make([]byte, maxEncoded+1))
	carry(t, cl, "events", []byte("last"))
	carry(t, cl, "log", []byte("v"), "a=1")
	number := base("events")
	eventually(t, "all are delivered", func() bool { return f.count() == 11 })
	f.mu.Lock()
	defer f.mu.Unlock()
	var got []string
	for _, e := range f.entries[number] {
		if e.Refused != "" {
			got = append(got, "refused: "+e.Refused)
			continue
		}
		got = append(got, string(e.Record))
	}
	want := []string{
		"a=1 b= a= = v", "a=1 nil", "v", "refused: panic while reading it: at once", "refused: no such thing",
		"refused: what is in it has 65537 bytes, more than 65536", "refused: it has 129 headers, more than 128",
		"refused: its headers have 65542 bytes, more than 65536", "refused: it has 131073 bytes, more than 131072", "last",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	for _, e := range f.entries[number] {
		if len(e.Record) > signals.MaxSignal || e.Input == nil {
			t.Errorf("%d bytes", len(e.Record))
		}
	}
	if e := f.entries[0][0]; string(e.Record) != "v" || e.Refused != "" {
		t.Errorf("%+v", e)
	}
}

// TestAMarkKnowsARecordByTheHeadersThatAreRead: an event may be nothing but headers.
func TestAMarkKnowsARecordByTheHeadersThatAreRead(t *testing.T) {
	one, other := &record{headers: []byte{2, 2, 'a', 2, 'b'}}, &record{headers: []byte{2, 2, 'a', 2, 'c'}}
	events, plain := &follower{t: &topic{decode: spelled}}, &follower{t: &topic{}}
	if events.hash(one) == events.hash(other) {
		t.Error("two events have one hash")
	}
	if plain.hash(one) != plain.hash(other) || plain.hash(one) != (&record{}).hash(nil) {
		t.Error("headers that nobody reads change a hash")
	}
}
