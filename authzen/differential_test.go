package authzen

import (
	"bytes"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"vigil/authz"
)

// reference reads body with a strict JSON library, the slow way.
func reference(body []byte) (authz.Value, error) {
	d := jsontext.NewDecoder(bytes.NewReader(body))
	v, err := referenceValue(d)
	if err != nil {
		return v, err
	}
	if _, err := d.ReadToken(); err != io.EOF {
		return v, io.ErrUnexpectedEOF
	}
	return v, nil
}

func referenceValue(d *jsontext.Decoder) (authz.Value, error) {
	tok, err := d.ReadToken()
	if err != nil {
		return authz.Value{}, err
	}
	switch tok.Kind() {
	case 'n':
		return authz.Value{}, nil
	case 't':
		return authz.Value{Kind: authz.Bool, Num: 1}, nil
	case 'f':
		return authz.Value{Kind: authz.Bool}, nil
	case '"':
		return authz.Value{Kind: authz.String, Str: tok.String()}, nil
	case '0':
		f, err := strconv.ParseFloat(tok.String(), 64)
		return authz.Value{Kind: authz.Number, Num: f}, err
	case '{':
		v := authz.Value{Kind: authz.Map}
		for d.PeekKind() != '}' {
			name, err := d.ReadToken()
			if err != nil {
				return v, err
			}
			m := authz.Member{Name: name.String()}
			if m.Value, err = referenceValue(d); err != nil {
				return v, err
			}
			v.Members = append(v.Members, m)
		}
		_, err := d.ReadToken()
		return v, err
	default:
		v := authz.Value{Kind: authz.List}
		for d.PeekKind() != ']' {
			e, err := referenceValue(d)
			if err != nil {
				return v, err
			}
			v.Members = append(v.Members, authz.Member{Value: e})
		}
		_, err := d.ReadToken()
		return v, err
	}
}

func sameValue(a, b *authz.Value) bool {
	if a.Kind != b.Kind || a.Str != b.Str || len(a.Members) != len(b.Members) {
		return false
	}
	if math.Float64bits(a.Num) != math.Float64bits(b.Num) {
		return false
	}
	for i := range a.Members {
		if a.Members[i].Name != b.Members[i].Name || !sameValue(&a.Members[i].Value, &b.Members[i].Value) {
			return false
		}
	}
	return true
}

// bounded reports whether an error is about our own bounds, which the library lacks.
func bounded(err *Error) bool {
	return err.Code == CodeTooDeep || err.Code == CodeTooMany
}

// agree checks that the scanner accepts body exactly when the library does, and reads
// the same out of it.
func agree(t *testing.T, body []byte) {
	t.Helper()
	d := new(Decoder)
	err := d.scan(body, MaxNodes)
	want, wantErr := reference(body)
	switch {
	case err != nil && bounded(err):
	case err == nil && wantErr != nil:
		t.Fatalf("laxer: accepts %q, the library says %v", body, wantErr)
	case err != nil && wantErr == nil:
		t.Fatalf("refuses %q: %v", body, err)
	case err == nil && !sameValue(&d.root, &want):
		t.Fatalf("%q: read %+v, want %+v", body, d.root, want)
	case err != nil && (err.Offset < 0 || err.Offset > len(body)):
		t.Fatalf("%q: %v points outside", body, err)
	}
}

func corpus(t testing.TB) [][]byte {
	var all [][]byte
	paths, err := filepath.Glob("testdata/*/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	for _, s := range shortCorpus {
		all = append(all, []byte(s))
	}
	return append(all, []byte(payBody))
}

var shortCorpus = []string{
	``, ` `, `{}`, `[]`, `null`, `tru`, `truex`, `nul`, `{"a":1}x`, `{"a":1,}`, `[1,]`, `{,}`, `{"a"}`, `{"a":}`, `{"a" 1}`,
	`"\u0000"`, `"\ud800"`, `"\ud800\u0041"`, `"\udc00"`, `"\ud83d\ude00"`, `"\uD83D\uDE00\uFFFD"`, `"\x"`, `"\u12"`, `"\`, `"a`,
	"\"\x1f\"", "\"\x7f\"", "\"\xff\"", "\"\xc0\xaf\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"a\xc3\xa9b\u2028\"",
	`0`, `-0`, `-`, `01`, `-01`, `1.`, `.5`, `1e`, `1e+`, `1E5`, `1e-5`, `1e400`, `-1e400`, `1e-400`, `0.1`, `123456789012345678901234567890`,
	`9007199254740993`, `0.000000000000000000000000000001`, `4.35`, `1.7976931348623157e308`, `1.7976931348623159e308`, `NaN`, `Infinity`, `+1`, `0x1`, `1_0`,
	`{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `{"":1,"":2}`, `{"a":{"b":1},"b":{"b":1,"b":2}}`, `{"é":1,"\u00e9":2}`,
	"\ufeff{}", "{\"a\":1}\x00", "\v{}", `[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]`, `// x`, `{"a":1/**/}`, `{'a':1}`,
}

func TestScannerIsNeverLaxerThanTheStrictLibrary(t *testing.T) {
	for _, body := range corpus(t) {
		agree(t, body)
	}
	rounds := 100_000
	if testing.Short() || underRace {
		rounds = 5_000
	}
	rng := rand.New(rand.NewPCG(1, 2))
	seeds := corpus(t)
	for range rounds {
		agree(t, mutate(rng, seeds[rng.IntN(len(seeds))]))
	}
}

// mutate makes a few changes of the kind that tell parsers apart.
func mutate(rng *rand.Rand, body []byte) []byte {
	const alphabet = "{}[]:,\"\\ue0123456789+-.trufalsn \t\n\x00\x1f\x7f\x80\xc3\xa9\xed\xff"
	if len(body) > 2000 {
		body = body[:2000]
	}
	b := bytes.Clone(body)
	for range 1 + rng.IntN(3) {
		if len(b) == 0 {
			b = append(b, alphabet[rng.IntN(len(alphabet))])
			continue
		}
		i := rng.IntN(len(b))
		switch rng.IntN(6) {
		case 0:
			b[i] = alphabet[rng.IntN(len(alphabet))]
		case 1:
			b = append(b[:i], b[i+1:]...)
		case 2:
			b = append(b[:i], append([]byte{alphabet[rng.IntN(len(alphabet))]}, b[i:]...)...)
		case 3:
			b = b[:i]
		case 4: // repeat a stretch, which makes duplicate names
			j := min(len(b), i+1+rng.IntN(40))
			b = append(b[:j:j], b[i:]...)
		case 5: // escape a character
			b = append(b[:i:i], append([]byte(`\u00`+strconv.FormatInt(int64(b[i]>>4), 16)+strconv.FormatInt(int64(b[i]&15), 16)), b[i+1:]...)...)
		}
	}
	return b
}

func FuzzScan(f *testing.F) {
	for _, body := range corpus(f) {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		agree(t, body)
		var d Decoder
		for _, decode := range []func([]byte) error{
			func(b []byte) error { _, err := d.Evaluation(b); return err },
			func(b []byte) error { _, err := d.Evaluations(b); return err },
		} {
			if err := decode(body); err != nil {
				var e *Error
				if !errors.As(err, &e) || e.Error() == "" || e.Offset > len(body) {
					t.Fatalf("%q: %#v", body, err)
				}
			}
		}
	})
}

func FuzzAppendString(f *testing.F) {
	f.Add("a\x00\"\\\n\xffé\u2028")
	f.Fuzz(func(t *testing.T, s string) {
		got := AppendString(nil, s)
		want := string([]rune(s)) // invalid bytes become U+FFFD
		v, err := reference(got)
		if err != nil || v.Str != want {
			t.Fatalf("%q became %s: %q, %v", s, got, v.Str, err)
		}
	})
}
