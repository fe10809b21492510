package authzen

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vigil/authz"
)

func TestErrorsSayWhatAndWhere(t *testing.T) {
	const rest = `"action":{"name":"pay"},"resource":{"type":"p","id":"1"}`
	deep := func(n int) string {
		return `{"subject":{"type":"user","id":"kim"},` + rest + `,"context":{"a":` + strings.Repeat("[", n) + strings.Repeat("]", n) + "}}"
	}
	members := func(n int) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(`,"` + strings.Repeat("m", i) + `":0`)
		}
		return b.String()[1:]
	}
	for _, c := range []struct{ body, want string }{
		{``, `unexpected_end (byte 0)`},
		{`  `, `unexpected_end (byte 2)`},
		{`{`, `unexpected_end (byte 1)`},
		{`{"subject"`, `unexpected_end: /subject (byte 10)`},
		{`{"subject":`, `unexpected_end: /subject (byte 11)`},
		{`{"subject":{"id":"a`, `unexpected_end: /subject/id (byte 19)`},
		{`{"subject":tru`, `unexpected_end: /subject (byte 14)`},
		{`null`, `wrong_type: want an object, got null (byte 0)`},
		{`[{}]`, `wrong_type: want an object, got list (byte 0)`},
		{`"x"`, `wrong_type: want an object, got string (byte 0)`},
		{`{} {}`, `trailing_data (byte 3)`},
		{"{}\x00", `trailing_data (byte 2)`},
		{"\ufeff{}", `syntax (byte 0)`},
		{`{"a":1,}`, `syntax (byte 7)`},
		{`{"a" 1}`, `syntax: /a (byte 5)`},
		{`{"a":[1 2]}`, `syntax: /a/0 (byte 8)`},
		{`{"a":[1,,2]}`, `syntax: /a/1 (byte 8)`},
		{`{"a":{"b":[0,{"c":nul}]}}`, `syntax: /a/b/1/c (byte 18)`},
		{`{'a':1}`, `syntax (byte 1)`},
		{`{"a":01}`, `bad_number: /a (byte 5)`},
		{`{"a":-}`, `bad_number: /a (byte 5)`},
		{`{"a":1.}`, `bad_number: /a (byte 7)`},
		{`{"a":1e+}`, `bad_number: /a (byte 8)`},
		{`{"a":[0,-1e309]}`, `number_out_of_range: /a/1 (byte 8)`},
		{`{"a":NaN}`, `syntax: /a (byte 5)`},
		{"{\"a\":\"x\ny\"}", `control_character: /a (byte 7)`},
		{"{\"a\x01\":1}", `control_character (byte 3)`},
		{"{\"a\":\"\xff\"}", `invalid_utf8: /a (byte 6)`},
		{"{\"a\":\"12345678\xc0\xaf\"}", `invalid_utf8: /a (byte 14)`},
		{`{"a":"\ud800"}`, `lone_surrogate: /a (byte 6)`},
		{`{"a":"\ud83d\u0041"}`, `lone_surrogate: /a (byte 6)`},
		{`{"a":"\udc00"}`, `lone_surrogate: /a (byte 6)`},
		{`{"a":"\x41"}`, `bad_escape: /a (byte 6)`},
		{`{"a":"\u00g0"}`, `bad_escape: /a (byte 6)`},
		{`{"resource":{"properties":{"amount":1,"amount":2}}}`, `duplicate_member: /resource/properties/amount (byte 38)`},
		{`{"a":1,"\u0061":2}`, `duplicate_member: /a (byte 7)`},
		{`{"x":{"a/b~c":1,"a\/b~c":2}}`, `duplicate_member: /x/a~1b~0c (byte 16)`},
		{`{"x":{"a\u0000\u2028":1,"a\u0000\u2028":2}}`, "duplicate_member: /x/a\ufffd\ufffd (byte 24)"},
		{`{"` + strings.Repeat("n", 100) + `":1,"` + strings.Repeat("n", 100) + `":1}`, `duplicate_member: /` + strings.Repeat("n", 64) + `... (byte 106)`},
		{`{"x":{` + members(256) + `}}`, `missing_member: /subject`},
		{`{"x":{` + members(257) + `}}`, `too_many: /x (byte 33926)`},
		{deep(14), ``},
		{deep(15), `too_deep: /context/a/0/0/0/0/0/0/0/0/0/0/0/0/0/0 (byte 124)`},
		{`{"context":[` + strings.Repeat("1,", 5000) + `1]}`, `too_many: /context/4094 (byte 8200)`},

		{`{` + rest + `}`, `missing_member: /subject`},
		{`{"subject":null,` + rest + `}`, `missing_member: /subject`},
		{`{"Subject":{"type":"user","id":"kim"},` + rest + `}`, `missing_member: /subject`},
		{`{"subject":{"type":"user"},` + rest + `}`, `missing_member: /subject/id`},
		{`{"subject":{"id":"kim"},` + rest + `}`, `missing_member: /subject/type`},
		{`{"subject":{"type":"user","id":""},` + rest + `}`, `empty_member: /subject/id (byte 31)`},
		{`{"subject":{"type":"user","id":7},` + rest + `}`, `wrong_type: /subject/id: want a string, got number (byte 31)`},
		{`{"subject":"kim",` + rest + `}`, `wrong_type: /subject: want an object, got string (byte 11)`},
		{`{"subject":{"type":"user","id":"kim","properties":[]},` + rest + `}`, `wrong_type: /subject/properties: want an object, got list (byte 50)`},
		{`{"subject":{"type":"user","id":"kim"},"action":{"name":""},"resource":{"type":"p","id":"1"}}`, `empty_member: /action/name (byte 55)`},
		{`{"subject":{"type":"user","id":"kim"},"action":{"name":true},"resource":{"type":"p","id":"1"}}`, `wrong_type: /action/name: want a string, got bool (byte 55)`},
		{`{"subject":{"type":"user","id":"kim"},"action":{},"resource":{"type":"p","id":"1"}}`, `missing_member: /action/name`},
		{`{"subject":{"type":"user","id":"kim"},"action":{"name":"pay"}}`, `missing_member: /resource`},
		{`{"subject":{"type":"user","id":"kim"},` + rest + `,"context":"x"}`, `wrong_type: /context: want an object, got string (byte 105)`},
		{`{"subject":{"type":"user","id":"kim"},` + rest + `,"context":null,"future":{"x":[1,null,"y"]},"evaluations":7,"options":8}`, ``},
	} {
		var d Decoder
		_, err := d.Evaluation([]byte(c.body))
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%.200s\n got %q\nwant %q", c.body, got, c.want)
		}
	}
}

func TestADuplicateIsFoundAtEveryPlaceOfALargeObject(t *testing.T) {
	name := func(i int) string {
		return `"` + strings.Repeat("x", i%5) + string(rune('a'+i%26)) + string(rune('a'+i/26)) + `"`
	}
	for _, n := range []int{2, 3, 15, 16, 17, 18, 40, 255} {
		for _, i := range []int{0, 1, n / 2, n - 1} {
			var b strings.Builder
			b.WriteString(`{"deep":{"` + strings.Repeat("y", 20) + `":1`) // another table, one level up
			for j := range 20 {
				b.WriteString("," + name(j) + ":1")
			}
			b.WriteString(`,"inner":{`)
			for j := range n {
				b.WriteString(name(j) + ":1,")
			}
			head := b.String()
			body := head + name(i) + ":2}}}"
			var d Decoder
			err := d.scan([]byte(body), MaxNodes)
			if err == nil || err.Code != CodeDuplicateMember || err.Offset != len(head) || err.Pointer != "/deep/inner/"+strings.Trim(name(i), `"`) {
				t.Fatalf("%d of %d: %v", i, n, err)
			}
			if err := d.scan([]byte(strings.TrimSuffix(head, ",")+"}}}"), MaxNodes); err != nil {
				t.Fatalf("%d names: %v", n, err)
			}
		}
	}
}

func TestDefaultsAreOverriddenWhole(t *testing.T) {
	body := `{"subject":{"type":"user","id":"kim","properties":{"role":"x"}},"action":{"name":"read"},
		"context":{"session":"s-1"},"options":{"evaluations_semantic":"deny_on_first_deny","other":[1]},
		"evaluations":[
			{"resource":{"type":"doc","id":"1"}},
			{"resource":{"type":"doc","id":"2"},"subject":{"type":"user","id":"lee"},"context":{}},
			{"resource":{"type":"doc","id":"3"},"action":{"name":"edit"},"context":null},
			{"action":{"name":"edit"}},
			{"resource":{"type":"doc"}},
			{"resource":{"type":"doc","id":"6"},"subject":{"type":""}},
			{"resource":{"type":"doc","id":"7"},"evaluations":"ignored here","options":5}
		]}`
	var d Decoder
	for range 2 {
		b, err := d.Evaluations([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if b.Single || b.Semantic != DenyOnFirstDeny || len(b.Items) != 7 {
			t.Fatalf("%+v", b)
		}
		show := func(i int) string {
			r := b.Items[i].Request
			out := r.Subject.ID + " " + r.Action.Name + " " + r.Resource.ID
			if v := r.Subject.Properties.Get("role"); v != nil {
				out += " role=" + v.Str
			}
			if v := r.Context.Get("session"); v != nil {
				out += " session=" + v.Str
			}
			if b.Items[i].Err != nil {
				out = b.Items[i].Err.Error()
			}
			return out
		}
		for i, want := range []string{
			"kim read 1 role=x session=s-1", "lee read 2", "kim edit 3 role=x session=s-1",
			"missing_member: /evaluations/3/resource", "missing_member: /evaluations/4/resource/id",
			"empty_member: /evaluations/5/subject/type", "kim read 7 role=x session=s-1",
		} {
			if got := show(i); got != want {
				t.Errorf("item %d: %q, want %q", i, got, want)
			}
		}
	}
	for body, want := range map[string]string{
		`{"subject":{"type":"user"},"action":{"name":"a"},"evaluations":[{"resource":{"type":"d","id":"1"}},{"resource":{"type":"d","id":"1"},"subject":{"type":"user","id":"kim"}}]}`: "missing_member: /subject/id|",
		`{"evaluations":[{}]}`: "missing_member: /evaluations/0/subject",
	} {
		b, err := d.Evaluations([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, it := range b.Items {
			if it.Err != nil {
				got = append(got, it.Err.Error())
			} else {
				got = append(got, "")
			}
		}
		if strings.Join(got, "|") != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
	for body, want := range map[string]string{
		`{"options":[],"evaluations":[{}]}`:                            "wrong_type: /options: want an object, got list (byte 11)",
		`{"options":{"evaluations_semantic":1},"evaluations":[{}]}`:    "wrong_type: /options/evaluations_semantic: want a string, got number (byte 35)",
		`{"options":{"evaluations_semantic":""},"evaluations":[{}]}`:   "unknown_semantic: /options/evaluations_semantic: want execute_all, deny_on_first_deny or permit_on_first_permit (byte 35)",
		`{"options":{"evaluations_semantic":null},"evaluations":[[]]}`: "wrong_type: /evaluations/0: want an object, got list (byte 56)",
		`{"evaluations":[{},{"subject":[]}]}`:                          "wrong_type: /evaluations/1/subject: want an object, got list (byte 30)",
		`{"evaluations":[{"resource":{"id":{}}}]}`:                     "wrong_type: /evaluations/0/resource/id: want a string, got map (byte 34)",
		`{"evaluations":{}}`:                                           "wrong_type: /evaluations: want a list, got map (byte 15)",
		`{"evaluations":[]}`:                                           "missing_member: /subject",
		`{"evaluations":[` + strings.Repeat("{},", 1000) + `{}]}`:      "too_many: /evaluations: at most 1000 (byte 15)",
		`{"evaluations":[` + strings.Repeat("null,", 17000) + `{}]}`:   "too_many: /evaluations/16382 (byte 81926)",
	} {
		if _, err := d.Evaluations([]byte(body)); err == nil || err.Error() != want {
			t.Errorf("%.80s: %v, want %s", body, err, want)
		}
	}
}

func TestTheStandardsExamplesAreRead(t *testing.T) {
	data, err := os.ReadFile("testdata/spec/examples.txt")
	if err != nil {
		t.Fatal(err)
	}
	var d Decoder
	parts := strings.Split(string(data), "\n-- ")[1:]
	if len(parts) != 10 {
		t.Fatalf("%d examples", len(parts))
	}
	for _, part := range parts {
		kind, body, _ := strings.Cut(part, " --\n")
		switch kind {
		case "evaluation":
			r, err := d.Evaluation([]byte(body))
			if err != nil || r.Subject.ID != "alice@example.com" || r.Resource.ID == "" || r.Action.Name == "" {
				t.Errorf("%v, %+v\n%s", err, r, body)
			}
		case "evaluations":
			b, err := d.Evaluations([]byte(body))
			if err != nil || len(b.Items) == 0 || b.Single {
				t.Errorf("%v\n%s", err, body)
			}
		default:
			t.Errorf("kind %q", kind)
		}
	}
}

func TestTheInteropRequestsAreRead(t *testing.T) {
	data, err := os.ReadFile("testdata/interop/todo-decisions-1_0-02.json")
	if err != nil {
		t.Fatal(err)
	}
	var all struct {
		Evaluation, Evaluations []struct {
			Request  jsontext.Value
			Expected jsontext.Value
		}
	}
	if err := json.Unmarshal(data, &all, json.MatchCaseInsensitiveNames(true)); err != nil {
		t.Fatal(err)
	}
	if len(all.Evaluation) != 40 || len(all.Evaluations) != 3 {
		t.Fatal(len(all.Evaluation), len(all.Evaluations))
	}
	var d Decoder
	for _, c := range all.Evaluation {
		if _, err := d.Evaluation(c.Request); err != nil {
			t.Errorf("%v: %s", err, c.Request)
		}
	}
	for _, c := range all.Evaluations {
		b, err := d.Evaluations(c.Request)
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range b.Items {
			if it.Err != nil {
				t.Error(it.Err)
			}
		}
	}
}

// What is read does not depend on what the decoder read before.
func TestADecoderRemembersNothing(t *testing.T) {
	var used Decoder
	bodies := corpus(t)
	for _, body := range bodies {
		for _, other := range bodies {
			_, _ = used.Evaluations(other)
			got, gotErr := used.Evaluation(body)
			var fresh Decoder
			want, wantErr := fresh.Evaluation(body)
			if (gotErr == nil) != (wantErr == nil) || gotErr != nil && gotErr.Error() != wantErr.Error() {
				t.Fatalf("%q after %q: %v, alone: %v", body, other, gotErr, wantErr)
			}
			if gotErr == nil && !sameRequest(got, want) {
				t.Fatalf("%q after %q: %+v, alone: %+v", body, other, got, want)
			}
		}
	}
}

// A body that fails half-way leaves nothing for the next one, whatever its shape.
func TestAFailedBodyLeavesNothing(t *testing.T) {
	values := []string{`null`, `{}`, `[]`, `""`, `false`, `true`, `0`, `7`, `"secret"`, `{"a":"secret","b":{"c":1}}`, `["secret",{"a":1},[1]]`}
	body := func(v, w string) string {
		return `{"subject":{"type":"u","id":"k","properties":{"p":` + v + `,"q":` + w + `}},"context":{"x":[` + v + `,` + w + `]},"more":` + v + `}`
	}
	for _, before := range values {
		for _, cut := range []int{1, 2, 5, 20} {
			for _, after := range values {
				var used, fresh Decoder
				broken := body(before, before)
				if err := used.scan([]byte(broken[:len(broken)-cut]), MaxNodes); err == nil {
					t.Fatal("no failure")
				}
				next := []byte(body(after, `null`))
				if used.scan(next, MaxNodes) != nil || fresh.scan(next, MaxNodes) != nil {
					t.Fatal("a failure")
				}
				if !sameValue(&used.root, &fresh.root) {
					t.Fatalf("%s after %s: %+v", next, broken, used.root)
				}
			}
		}
	}
}

func sameRequest(a, b *authz.Request) bool {
	same := func(x, y authz.Object) bool {
		return sameValue(&authz.Value{Members: x}, &authz.Value{Members: y})
	}
	return a.Subject.Type == b.Subject.Type && a.Subject.ID == b.Subject.ID && a.Action.Name == b.Action.Name &&
		a.Resource.Type == b.Resource.Type && a.Resource.ID == b.Resource.ID &&
		same(a.Subject.Properties, b.Subject.Properties) && same(a.Action.Properties, b.Action.Properties) &&
		same(a.Resource.Properties, b.Resource.Properties) && same(a.Context, b.Context)
}

func TestReadingAllocatesNothing(t *testing.T) {
	escaped := []byte(strings.Replace(payBody, "acme", `ac\u006de \ud83d\ude00`, 1))
	var wide bytes.Buffer
	wide.WriteString(`{"subject":{"type":"user","id":"kim"},"action":{"name":"a"},"resource":{"type":"p","id":"1"},"context":{`)
	for i := range 100 {
		if i > 0 {
			wide.WriteByte(',')
		}
		wide.WriteString(`"` + strings.Repeat("m", i+1) + `":1.25e3`)
	}
	wide.WriteString("}}")
	for name, body := range map[string][]byte{"plain": []byte(payBody), "escaped": escaped, "wide": wide.Bytes()} {
		var d Decoder
		if n := testing.AllocsPerRun(200, func() {
			if _, err := d.Evaluation(body); err != nil {
				t.Fatal(err)
			}
			if _, err := d.Evaluations(body); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
