package posture

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"vigil/authz"
)

// sampleFacts has every facet and every member in use.
func sampleFacts() []Fact {
	base := Fact{Source: "client:soar", ID: "INC-4711-1", Time: 1_790_000_000_000_000_000, Until: authz.Forever,
		Actor: "kim@acme", Reason: "beaconing", Ticket: "INC-4711"}
	of := func(facet Facet, set func(*Fact)) Fact {
		f := base
		f.Facet = facet
		set(&f)
		return f
	}
	return []Fact{
		of(Registration, func(f *Fact) {
			f.Until = 1_800_000_000_000_000_000
			f.Registration = &Registered{Class: "high-high", Code: "sha256:1", Model: "sha256:2",
				Scopes: []string{"a", "b"}, Labels: map[string]string{"role": "invoice-agent", "": "empty name"}}
		}),
		of(Registration, func(f *Fact) { f.Registration = &Registered{} }),
		of(Hold, func(f *Fact) { f.Held = true }),
		of(Hold, func(f *Fact) { f.Actor, f.Reason, f.Ticket, f.Time, f.Until = "", "", "", -5, -1 }),
		of(Risk, func(f *Fact) { f.Risk = 100 }),
		of(Attest, func(f *Fact) { f.Passed = true }),
		of(Taint, func(*Fact) {}),
		of(Waive, func(*Fact) {}),
		of(ApprovalRequired, func(f *Fact) { f.Actions = []string{"*"} }),
		of(ApprovalRequired, func(f *Fact) { f.Actions = []string{"pay", "read"} }),
		of(Narrow, func(*Fact) {}),
		of(Narrow, func(f *Fact) { f.Scopes = []string{"propose:payments"} }),
		of(Revoke, func(*Fact) {}),
		of(IssuedBefore, func(f *Fact) { f.Cutoff = 1 }),
		of(Decommission, func(*Fact) {}),
		of(UnreadableSignal, func(*Fact) {}),
		of(UnreadableSignal, func(f *Fact) { f.Record = "\x00\xf1\x01\xff" }),
		of(Lift, func(f *Fact) { f.Lifts = &Target{Taint, "client:dlp", "t"} }),
	}
}

func TestAFactSurvivesItsEncoding(t *testing.T) {
	check := func(t interface {
		Fatalf(string, ...any)
	}, f Fact) {
		b := AppendFact(nil, &f)
		back, err := DecodeFact(b)
		if err != nil || !reflect.DeepEqual(back, f) {
			t.Fatalf("%+v\nbecame\n%+v\n%v", f, back, err)
		}
		for n := range b {
			if _, err := DecodeFact(b[:n]); err == nil {
				t.Fatalf("%+v: the first %d bytes of %d are a fact", f, n, len(b))
			}
		}
		if _, err := DecodeFact(append(b, 0)); err == nil {
			t.Fatalf("%+v: a byte too many is no error", f)
		}
	}
	for _, f := range sampleFacts() {
		check(t, f)
	}
	rapid.Check(t, func(t *rapid.T) {
		f := drawFact(t)
		if f, ok := normal(&f); ok {
			f, err := DecodeFact(AppendFact(nil, &f)) // nil for empty
			if err != nil {
				t.Fatal(err)
			}
			check(t, f)
		}
	})
}

func TestWhatIsNotInNormalFormIsRefused(t *testing.T) {
	head := func(facet Facet, flags byte) string {
		return string([]byte{factVersion, byte(facet), flags, 0, 1, 's', 1, 'i'})
	}
	time := "\x00\x00\x00\x00\x00\x00\x00\x01"
	for _, c := range []struct {
		name, bytes string
		want        string
		newer       bool
	}{
		{"version", "\x02" + head(Taint, 0)[1:] + time, "version 2", true},
		{"facet 0", head(0, 0) + time, "facet 0", true},
		{"facet to come", head(Waive+1, 0) + time, "byte 1: facet 14", true},
		{"flags to come", head(Taint, flagsEnd) + time, "flags 0x40", true},
		{"a record of another facet", head(Taint, flagRecord) + time + "\x01r", "has not", false},
		{"an empty record", head(UnreadableSignal, flagRecord) + time + "\x00", "empty text", false},
		{"a record too long", head(UnreadableSignal, flagRecord) + time + "\x81\x80\x06" + strings.Repeat("r", MaxRecord+1), "has not", false},
		{"value of another facet", head(Taint, flagTrue) + time, "has not", false},
		{"an end of what never ends", head(Revoke, flagUntil) + time + time, "an end", false},
		{"an end that is Forever", head(Taint, flagUntil) + time + "\x7f\xff\xff\xff\xff\xff\xff\xff", "an end", false},
		{"an empty reason", head(Taint, flagReason) + time + "\x00", "empty text", false},
		{"risk 101", head(Risk, 0) + time + "\x65", "risk 101", false},
		{"no actions", head(ApprovalRequired, 0) + time + "\x00", "normal form", false},
		{"every action and another", head(ApprovalRequired, 0) + time + "\x02\x01*\x01a", "normal form", false},
		{"scopes unsorted", head(Narrow, 0) + time + "\x02\x01b\x01a", "sorted set", false},
		{"scopes repeated", head(Narrow, 0) + time + "\x02\x01a\x01a", "sorted set", false},
		{"a list longer than the rest", head(Narrow, 0) + time + "\xff\xff\xff\xff\x0f", "items wanted", false},
		{"a string longer than the rest", head(Taint, flagReason) + time + "\x05abc", "5 bytes wanted, 3 left", false},
		{"a number too long", head(Narrow, 0) + time + "\x80\x00", "too long", false},
		{"a number too large", head(Narrow, 0) + time + strings.Repeat("\xff", 9) + "\x02", "too large", false},
		{"cut-off 0", head(IssuedBefore, 0) + time + strings.Repeat("\x00", 8), "cut-off", false},
		{"a reference without a table", string([]byte{factVersion, byte(Taint), 0, 1, 1, 'i'}) + time, "reference 1", false},
		{"labels repeated", head(Registration, 0) + time + "\x00\x00\x00\x00\x00\x02\x01a\x00\x01a\x00", "labels", false},
		{"a lift of a hold", head(Lift, 0) + time + string([]byte{byte(Hold), 0, 0}), "cannot be lifted", false},
		{"a lift of a fold", head(Lift, 0) + time + string([]byte{byte(Taint), 8}) + overflow + "\x00", "cannot be lifted", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := DecodeFact([]byte(c.bytes))
			if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, ErrNewer) != c.newer {
				t.Errorf("%v; want %q, newer %v", err, c.want, c.newer)
			}
		})
	}
}

// FuzzDecodeFact: whatever decodes, encodes to the same bytes, and normal leaves it be.
func FuzzDecodeFact(f *testing.F) {
	for _, fact := range sampleFacts() {
		f.Add(AppendFact(nil, &fact))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fact, err := DecodeFact(b)
		if err != nil {
			return
		}
		if again := AppendFact(nil, &fact); !bytes.Equal(again, b) {
			t.Errorf("%x\nbecame\n%x", b, again)
		}
		n, ok := normal(&fact)
		if !ok || order(&n, &fact) != 0 {
			t.Errorf("%+v\nis not in normal form:\n%+v", fact, n)
		}
		s := newStore(4, &smallCaps)
		key := agent("a")
		s.Apply(1, []Change{{key, []Fact{fact}}})
		for kept := range s.Get(key).Facts() {
			if order(&kept, &fact) != 0 {
				t.Errorf("%+v\nwas kept as\n%+v", fact, kept)
			}
		}
	})
}

// TestEveryFactIsTakenInNormalForm applies facts with members that do not belong, and
// changes what the caller still holds: neither shows.
func TestEveryFactIsTakenInNormalForm(t *testing.T) {
	s := newStore(4, &defaultCaps)
	a := agent("a")
	scopes := []string{"b", "a", "b"}
	labels := map[string]string{"role": "x"}
	noise := Fact{Source: "client:a", Time: 1, Risk: 500, Held: true, Passed: true, Cutoff: 3, Scopes: scopes, Actions: []string{"pay", "*"}, Record: "r",
		Registration: &Registered{Scopes: scopes, Labels: labels}, Lifts: &Target{Facet: Taint, Source: "client:a", ID: "none"}}
	var facts []Fact
	for facet := range Waive + 3 {
		f := noise
		f.Facet, f.ID = facet, "x"
		facts = append(facts, f)
	}
	s.Apply(1, []Change{{a, facts}})
	scopes[0], labels["role"] = "changed", "changed"
	e := s.Get(a).At(1)
	if e.Risk != 100 || e.Labels["role"] != "x" || strings.Join(e.Scopes, " ") != "a b" || strings.Join(e.Left, " ") != "a b" ||
		strings.Join(e.ApprovalFor, " ") != "*" || e.Cutoff != 3 || !e.Tainted || e.Status != authz.Unreadable {
		t.Errorf("%+v %+v %+v", e.Standing, e.Span, e.Limits)
	}
	for f := range s.Get(a).Facts() {
		if back, err := DecodeFact(AppendFact(nil, &f)); err != nil || !reflect.DeepEqual(back, f) {
			t.Errorf("%+v: %v", f, err)
		}
	}
	if n := len(e.all(UnreadableSignal)); n != 2 { // the unknown facets 0, 14 and 15 are of one content
		t.Errorf("%d unreadable signals", n)
	}
}
