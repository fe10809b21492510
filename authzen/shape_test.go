package authzen

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// asFresh compares what a decoder with a past says of body with what one without says.
func asFresh(t *testing.T, d *Decoder, body string) {
	t.Helper()
	var fresh Decoder
	want, wantErr := fresh.Evaluation([]byte(body))
	got, err := d.Evaluation([]byte(body))
	if !reflect.DeepEqual(err, wantErr) || err == nil && !reflect.DeepEqual(got, want) {
		t.Fatalf("%s\n got %+v, %v\nwant %+v, %v", body, got, err, want, wantErr)
	}
}

// variants are bodies that follow one another on a decoder: each has, or nearly has, the
// form of one before.
var variants = []string{
	`{"subject":{"type":"user","id":"kim"},"action":{"name":"pay"},"resource":{"type":"payment","id":"1","properties":{"amount":12.5,"ok":true,"note":null,"tags":["a","b"],"none":{}}},"context":{"session":"s"}}`,
	`{"subject":{"type":"user","id":"lee"},"action":{"name":"read"},"resource":{"type":"invoice","id":"22","properties":{"amount":-3e2,"ok":false,"note":null,"tags":["","\u00e9\n"],"none":{}}},"context":{"session":"longer"}}`,
	// One leaf is of another type, or not a leaf.
	`{"subject":{"type":"user","id":"kim"},"action":{"name":"pay"},"resource":{"type":"payment","id":"1","properties":{"amount":"12","ok":true,"note":null,"tags":["a","b"],"none":{}}},"context":{"session":"s"}}`,
	`{"subject":{"type":"user","id":"kim"},"action":{"name":"pay"},"resource":{"type":"payment","id":"1","properties":{"amount":1,"ok":null,"note":null,"tags":["a","b"],"none":{}}},"context":{"session":"s"}}`,
	`{"subject":{"type":"user","id":"kim"},"action":{"name":"pay"},"resource":{"type":"payment","id":"1","properties":{"amount":1,"ok":true,"note":0,"tags":["a","b"],"none":{}}},"context":{"session":"s"}}`,
	`{"subject":{"type":"user","id":"kim"},"action":{"name":"pay"},"resource":{"type":"payment","id":"1","properties":{"amount":{},"ok":true,"note":null,"tags":["a","b"],"none":{}}},"context":{"session":"s"}}`,
	// A name is another one, and a list is longer.
	`{"subject":{"type":"user","id":"kim"},"action":{"name":"pay"},"resource":{"type":"payment","id":"1","properties":{"amounts":1,"ok":true,"note":null,"tags":["a","b"],"none":{}}},"context":{"session":"s"}}`,
	`{"subject":{"type":"user","id":"kim"},"action":{"name":"pay"},"resource":{"type":"payment","id":"1","properties":{"amount":1,"ok":true,"note":null,"tags":["a","b","c"],"none":{}}},"context":{"session":"s"}}`,
	// A value pretends to be form.
	`{"subject":{"type":"user","id":"kim\",\"x\":\""},"action":{"name":"pay"},"resource":{"type":"payment","id":"1","properties":{"amount":1,"ok":true,"note":null,"tags":["a","b"],"none":{}}},"context":{"session":"s"}}`,
	`{"subject":{"type":"user","id":"kim","type":"user"},"action":{"name":"pay"},"resource":{"type":"payment","id":"1","properties":{"amount":1,"ok":true,"note":null,"tags":["a","b"],"none":{}}},"context":{"session":"s"}}`,
	// What is wrong with a value is said as ever.
	`{"subject":{"type":"user","id":""},"action":{"name":"pay"},"resource":{"type":"payment","id":"1","properties":{"amount":1,"ok":true,"note":null,"tags":["a","b"],"none":{}}},"context":{"session":"s"}}`,
	`{"subject":{"type":"user","id":"kim"},"action":{"name":"pay"},"resource":{"type":"payment","id":"1","properties":{"amount":01,"ok":true,"note":null,"tags":["a","b"],"none":{}}},"context":{"session":"s"}}`,
	`{"subject":{"type":"user","id":"kim"},"action":{"name":"pay"},"resource":{"type":"payment","id":"1","properties":{"amount":1e999,"ok":true,"note":null,"tags":["a","b"],"none":{}}},"context":{"session":"s"}}`,
	`{"subject":{"type":"user","id":"kim"},"action":{"name":"pay"},"resource":{"type":"payment","id":"1","properties":{"amount":1,"ok":true,"note":null,"tags":["a","\ud800"],"none":{}}},"context":{"session":"s"}}`,
	`{"subject":{"type":"user","id":"kim"},"action":{"name":"pay"},"resource":{"type":"payment","id":"1","properties":{"amount":1,"ok":truf,"note":null,"tags":["a","b"],"none":{}}},"context":{"session":"s"}}`,
	// Too short at the end, too long at the end.
	`{"subject":{"type":"user","id":"kim"},"action":{"name":"pay"},"resource":{"type":"payment","id":"1","properties":{"amount":1,"ok":true,"note":null,"tags":["a","b"],"none":{}}},"context":{"session":"s"}`,
	`{"subject":{"type":"user","id":"kim"},"action":{"name":"pay"},"resource":{"type":"payment","id":"1","properties":{"amount":1,"ok":true,"note":null,"tags":["a","b"],"none":{}}},"context":{"session":"s"}}}`,
	`{"subject":{"type":"user","id":"kim"},"action":{"name":"pay"},"resource":{"type":"payment","id":"1`,
	`{"action":{"name":"pay"},"subject":{"type":"user","id":"kim"},"resource":{"type":"payment","id":"1"}}`,
	`{}`, ``, `[]`, `"x"`, ` {"subject":{"type":"user","id":"kim"},"action":{"name":"pay"},"resource":{"type":"payment","id":"1"}}`,
}

func TestADecoderWithAPastSaysWhatOneWithoutSays(t *testing.T) {
	for i, first := range variants {
		for j, second := range variants {
			var d Decoder
			for _, body := range []string{first, second, first, variants[0], second} {
				asFresh(t, &d, body)
			}
			if t.Failed() {
				t.Fatal(i, j)
			}
		}
	}
}

func TestABodyCutAnywhereIsRefusedAsEver(t *testing.T) {
	var d Decoder
	asFresh(t, &d, variants[0])
	for i := range variants[1] {
		asFresh(t, &d, variants[1][:i])
		asFresh(t, &d, variants[1][:i]+"x"+variants[1][i:])
	}
	asFresh(t, &d, variants[1])
}

// matched reports whether the next body is read by a shape.
func matched(d *Decoder, body string) bool { return d.recall([]byte(body)) != nil }

func TestFormsThatComeAgainAreLearned(t *testing.T) {
	form := func(n, value int) string {
		return fmt.Sprintf(`{"subject":{"type":"user","id":"u%d"},"action":{"name":"a"},"resource":{"type":"r","id":"1","properties":{"p%d":%d}}}`, value, n, value)
	}
	var d Decoder
	for range learnEvery * maxShapes {
		for n := range maxShapes {
			asFresh(t, &d, form(n, n))
		}
	}
	for n := range maxShapes {
		if !matched(&d, form(n, 1234567)) {
			t.Errorf("form %d is not known", n)
		}
	}
	if matched(&d, form(maxShapes, 1)) {
		t.Error("a form that never came is known")
	}
	// Nothing is learned of what is too large, nor from a body that was refused.
	var other Decoder
	many := `{"subject":{"type":"user","id":"u"},"action":{"name":"a"},"resource":{"type":"r","id":"1"},"context":{"x":[` + strings.Repeat("1,", maxShapeLeaves) + `1]}}`
	for _, body := range []string{many, form(1, 1)[:20], `{"subject":{"type":"user"}}`} {
		for range 2 * learnEvery {
			asFresh(t, &other, body)
		}
		if matched(&other, body) {
			t.Errorf("learned: %.60s", body)
		}
	}
}

func TestAKnownFormCostsNoAllocation(t *testing.T) {
	var d Decoder
	body := []byte(payBody)
	if n := testing.AllocsPerRun(200, func() {
		if _, err := d.Evaluation(body); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
	if !matched(&d, payBody) {
		t.Error("the form is not known")
	}
}

// FuzzShapes gives bodies to a decoder that knows the forms of others, and asks it twice.
func FuzzShapes(f *testing.F) {
	for i := range variants {
		f.Add(variants[0], variants[i])
	}
	f.Add(payBody, strings.Replace(payBody, "4200.50", "-0.1", 1))
	f.Fuzz(func(t *testing.T, first, second string) {
		var d Decoder
		asFresh(t, &d, first)
		asFresh(t, &d, second)
		for range learnEvery {
			asFresh(t, &d, first)
		}
		asFresh(t, &d, second)
	})
}

// Callers' buffers are used again, so nothing learned may lie in one; and what a decoder
// keeps does not grow with the bodies that match.
func TestWhatIsLearnedIsTheDecodersOwn(t *testing.T) {
	var d Decoder
	kept := 0
	for i := range 100 {
		text := strings.Replace(variants[1], "lee", fmt.Sprintf(`k\u00e9%03d`, i), 1)
		var fresh Decoder
		want, err := fresh.Evaluation([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		buffer := []byte(text)
		got, err := d.Evaluation(buffer)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%d: %+v, %v, want %+v", i, got, err, want)
		}
		clear(buffer)
		if i == 10 {
			kept = d.Retained()
		}
	}
	if d.Retained() != kept {
		t.Errorf("%d bytes are kept, %d after ten bodies", d.Retained(), kept)
	}
}
