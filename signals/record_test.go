package signals

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"maps"
	"math"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"vigil/authz"
)

func drawRecord(t *rapid.T) Record {
	text := func(name string, least, most int) string {
		return rapid.StringN(least, most, most).Draw(t, name)
	}
	return Record{
		Origin:  rapid.Uint64().Draw(t, "origin"),
		Seq:     rapid.Uint64().Draw(t, "seq"),
		Source:  Source{Kind: text("kind", 1, 20), Name: text("name", 1, 100)},
		Tenant:  text("tenant", 1, 50),
		Target:  text("target", 0, 50),
		Dated:   authz.Instant(rapid.Int64Min(0).Draw(t, "dated")),
		Verdict: Verdict{MayQuarantine: rapid.Uint64().Draw(t, "verdict")},
		Body:    rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "body"),
	}
}

func TestRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawRecord(t)
		data := EncodeRecord([]byte("before"), &want)[len("before"):]
		got, err := DecodeRecord(data)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v\nwant %+v", got, err, want)
		}
		for cut := range data {
			if got, err := DecodeRecord(data[:cut]); err == nil && reflect.DeepEqual(got, want) {
				t.Fatalf("cut at %d of %d, it reads the same", cut, len(data))
			}
		}
	})
}

// TestRecordFormIsKept: old logs are read for ever.
func TestRecordFormIsKept(t *testing.T) {
	want := Record{Origin: 1, Seq: 300, Source: soar, Tenant: "default", Target: "client:edr",
		Dated: 1700000000000000000, Verdict: Verdict{MayQuarantine: 5}, Body: []byte(`{}`)}
	form := "f101" + "0108" + "0000000000000001" + "0202ac02" + "0306636c69656e74" + "0504736f6172" +
		"070764656661756c74" + "090a636c69656e743a656472" + "0b09" + "8080a8b1e39fe7cb17" + "0c08" + "0000000000000005" + "0d027b7d"
	if got := hex.EncodeToString(EncodeRecord(nil, &want)); got != form {
		t.Errorf("got %s\nwant %s", got, form)
	}
	data, err := hex.DecodeString(form)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeRecord(data); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestRecordOfANewerVersion(t *testing.T) {
	base := EncodeRecord(nil, &Record{Source: soar, Tenant: "default", Body: []byte(`{}`)})
	for _, c := range []struct {
		tag     uint64
		foreign bool
	}{{14, false}, {17, true}, {1 << 40, false}, {1<<40 + 1, true}} {
		data := binary.AppendUvarint(bytes.Clone(base), c.tag)
		data = append(data, 1, 'x')
		got, err := DecodeRecord(data)
		if err != nil || got.Foreign != c.foreign || got.Source != soar {
			t.Errorf("tag %d: %+v, %v", c.tag, got, err)
		}
	}
}

func TestDamagedRecordsAreRefused(t *testing.T) {
	good := Record{Source: soar, Tenant: "default", Body: []byte(`{}`)}
	drop := func(change func(*Record)) []byte {
		r := good
		change(&r)
		return EncodeRecord(nil, &r)
	}
	cases := []struct {
		name string
		data []byte
		want string
	}{
		{"nothing", nil, "not a record of a signal"},
		{"text", []byte("hello"), "not a record of a signal"},
		{"bare JSON", []byte(signalJSON("taint")), "not a record of a signal"},
		{"version 2", []byte{recordMagic, 2}, "not a record of a signal of version 1, but 2"},
		{"no fields", []byte{recordMagic, 1}, "not a record of a signal: without a source"},
		{"no source", drop(func(r *Record) { r.Source.Name = "" }), "not a record of a signal: without a source"},
		{"no tenant", drop(func(r *Record) { r.Tenant = "" }), "not a record of a signal: without a tenant"},
		{"no body", drop(func(r *Record) { r.Body = nil }), "not a record of a signal: without a signal"},
		{"source twice", []byte{recordMagic, 1, 3, 1, 'a', 3, 1, 'a'}, "not a record of a signal: damaged at byte 5"},
		{"fields out of order", []byte{recordMagic, 1, 5, 1, 'a', 3, 1, 'a'}, "not a record of a signal: damaged at byte 5"},
		{"empty field", []byte{recordMagic, 1, 3, 0}, "not a record of a signal: damaged at byte 2"},
		{"length past the end", []byte{recordMagic, 1, 3, 9, 'a'}, "not a record of a signal: damaged at byte 2"},
		{"huge length", append([]byte{recordMagic, 1, 3}, binary.AppendUvarint(nil, math.MaxUint64)...), "not a record of a signal: damaged at byte 2"},
		{"length in a long form", []byte{recordMagic, 1, 3, 0x81, 0, 'a'}, "not a record of a signal: damaged at byte 2"},
		{"short origin", []byte{recordMagic, 1, 1, 1, 1}, "not a record of a signal: bad field 1 at byte 2"},
		{"origin of zero", []byte{recordMagic, 1, 1, 8, 0, 0, 0, 0, 0, 0, 0, 0}, "not a record of a signal: bad field 1 at byte 2"},
		{"source not UTF-8", []byte{recordMagic, 1, 3, 1, 0xff}, "not a record of a signal: bad field 3 at byte 2"},
		{"too long a tenant", drop(func(r *Record) { r.Tenant = strings.Repeat("t", MaxName+1) }), "not a record of a signal: bad field 7 at byte 16"},
		{"too long", make([]byte, MaxRecord+1), "not a record of a signal: 73729 bytes, more than 73728"},
	}
	for _, c := range cases {
		if _, err := DecodeRecord(c.data); err == nil || err.Error() != c.want || !errors.Is(err, errNoRecord) {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
}

// TestTheLargestSignalFitsARecord: what the door lets in, the log can read.
func TestTheLargestSignalFitsARecord(t *testing.T) {
	r := Record{Origin: math.MaxUint64, Seq: math.MaxUint64, Dated: math.MaxInt64, Verdict: Verdict{math.MaxUint64},
		Source: Source{"client", strings.Repeat("n", MaxText)}, Tenant: strings.Repeat("t", MaxName),
		Target: strings.Repeat("t", MaxText), Body: make([]byte, MaxSignal)}
	if _, err := DecodeRecord(EncodeRecord(nil, &r)); err != nil {
		t.Error(err)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add(EncodeRecord(nil, &Record{Origin: 7, Seq: 300, Source: soar, Tenant: "default", Target: "client:edr", Dated: 5, Verdict: Verdict{5}, Body: []byte(signalJSON("taint"))}))
	f.Add([]byte{recordMagic, recordVersion})
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := DecodeRecord(data)
		if err != nil {
			return
		}
		again, err := DecodeRecord(EncodeRecord(nil, &r))
		r.Foreign = false // the unknown fields are not kept
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("got %+v, %v\nwant %+v", again, err, r)
		}
	})
}

func TestAsOfRoundTrip(t *testing.T) {
	tokens := map[string]Positions{}
	rapid.Check(t, func(t *rapid.T) {
		var log LogID
		copy(log[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "log"))
		want := Positions(rapid.MapOfN(rapid.Int32Min(0), rapid.Int64Min(1), 0, 8).Draw(t, "at"))
		token := FormatAsOf(log, want)
		gotLog, got, err := ParseAsOf(token)
		if err != nil || gotLog != log || !maps.Equal(got, want) {
			t.Fatalf("%s: %v, %v, %v; want %v", token, gotLog, got, err, want)
		}
		if other, there := tokens[token]; there && !maps.Equal(other, want) {
			t.Fatalf("%v and %v have one token", other, want)
		}
		tokens[token] = want
		beginning := maps.Clone(want)
		beginning[math.MaxInt32-1] = want[math.MaxInt32-1] // stays 0 where it was absent
		if FormatAsOf(log, beginning) != token {
			t.Fatal("a partition at its beginning makes another token")
		}
	})
}

func TestBadAsOf(t *testing.T) {
	good := FormatAsOf(LogID{1}, Positions{0: 5})
	for _, token := range []string{"", "v1.", "v2." + good[3:], good[3:], good + "A", good + "\n", good[:10], "v1.####",
		good[:5] + "\n" + good[5:], good + "==", strings.Repeat("A", MaxAsOf+1),
		"v1." + strings.Repeat("_", 22+14)} {
		if _, at, err := ParseAsOf(token); !errors.Is(err, ErrBadAsOf) {
			t.Errorf("%q: %v, %v", token, at, err)
		}
	}
}

func FuzzParseAsOf(f *testing.F) {
	f.Add(FormatAsOf(LogID{1, 2, 3}, Positions{0: 5, 7: 1 << 40}))
	f.Add("v1.")
	f.Fuzz(func(t *testing.T, token string) {
		log, at, err := ParseAsOf(token)
		if err == nil && FormatAsOf(log, at) != token {
			t.Fatalf("%q is another spelling of %q", token, FormatAsOf(log, at))
		}
	})
}

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		p, q Positions
		want bool
	}{
		{nil, nil, true}, {Positions{0: 1}, nil, true}, {nil, Positions{0: 1}, false}, {nil, Positions{0: 0}, true},
		{Positions{0: 5}, Positions{0: 5}, true}, {Positions{0: 4}, Positions{0: 5}, false},
		{Positions{0: 9, 1: 1}, Positions{0: 5, 1: 2}, false}, {Positions{0: 9, 1: 2}, Positions{1: 2}, true},
	} {
		if got := c.p.Covers(c.q); got != c.want {
			t.Errorf("%v covers %v: %v", c.p, c.q, got)
		}
	}
}

func TestPositionsAreShownInOrderAndNotAllOfMany(t *testing.T) {
	many := Positions{}
	for i := range int32(400) {
		many[i] = 7
	}
	for want, p := range map[string]Positions{
		"":                nil,
		"0 at 23":         {0: 23},
		"1 at 5, 12 at 0": {12: 0, 1: 5},
		"0 at 7, 1 at 7, 2 at 7, 3 at 7, 4 at 7, 5 at 7, 6 at 7, 7 at 7 and 392 more": many,
	} {
		if got := p.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
