package signals

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"pgregory.net/rapid"
)

// validator knows as much of JSON Schema as Schema uses, and fails on all else.
type validator struct {
	root     map[string]any
	patterns map[string]*regexp.Regexp
}

func newValidator(t testing.TB) *validator {
	t.Helper()
	v := &validator{patterns: map[string]*regexp.Regexp{}}
	if err := json.Unmarshal(Schema(), &v.root); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v *validator) valid(x any) bool { return v.check(v.root, x) }

func (v *validator) check(schema map[string]any, x any) bool {
	for keyword, want := range schema {
		if !v.keyword(schema, keyword, want, x) {
			return false
		}
	}
	return true
}

var unicodeEscape = regexp.MustCompile(`\\u([0-9a-f]{4})`)

func (v *validator) keyword(schema map[string]any, keyword string, want, x any) bool {
	text, isText := x.(string)
	number, isNumber := x.(float64)
	list, isList := x.([]any)
	members, isObject := x.(map[string]any)
	bound := func() float64 { return want.(float64) }
	switch keyword {
	case "$schema", "$defs", "$comment", "title", "description", "format":
		return true
	case "$ref":
		defs := v.root["$defs"].(map[string]any)
		return v.check(defs[strings.TrimPrefix(want.(string), "#/$defs/")].(map[string]any), x)
	case "oneOf":
		n := 0
		for _, s := range want.([]any) {
			if v.check(s.(map[string]any), x) {
				n++
			}
		}
		return n == 1
	case "type":
		switch want {
		case "string":
			return isText
		case "array":
			return isList
		case "object":
			return isObject
		case "integer":
			return isNumber && number == float64(int64(number))
		}
	case "const":
		return reflect.DeepEqual(want, x)
	case "enum":
		for _, one := range want.([]any) {
			if reflect.DeepEqual(one, x) {
				return true
			}
		}
		return false
	case "minLength":
		return !isText || float64(utf8.RuneCountInString(text)) >= bound()
	case "maxLength":
		return !isText || float64(utf8.RuneCountInString(text)) <= bound()
	case "pattern":
		pattern, ok := v.patterns[want.(string)]
		if !ok {
			pattern = regexp.MustCompile(unicodeEscape.ReplaceAllString(want.(string), `\x{$1}`))
			v.patterns[want.(string)] = pattern
		}
		return !isText || pattern.MatchString(text)
	case "minimum":
		return !isNumber || number >= bound()
	case "maximum":
		return !isNumber || number <= bound()
	case "minItems":
		return !isList || float64(len(list)) >= bound()
	case "maxItems":
		return !isList || float64(len(list)) <= bound()
	case "uniqueItems":
		for i := range list {
			for j := range i {
				if reflect.DeepEqual(list[i], list[j]) {
					return false
				}
			}
		}
		return true
	case "items":
		for _, item := range list {
			if !v.check(want.(map[string]any), item) {
				return false
			}
		}
		return true
	case "maxProperties":
		return !isObject || float64(len(members)) <= bound()
	case "propertyNames":
		for name := range members {
			if !v.check(want.(map[string]any), name) {
				return false
			}
		}
		return true
	case "required":
		for _, name := range want.([]any) {
			if _, ok := members[name.(string)]; isObject && !ok {
				return false
			}
		}
		return true
	case "properties":
		for name, s := range want.(map[string]any) {
			if value, ok := members[name]; ok && !v.check(s.(map[string]any), value) {
				return false
			}
		}
		return true
	case "additionalProperties":
		known, _ := schema["properties"].(map[string]any)
		for name, value := range members {
			if _, ok := known[name]; ok {
				continue
			}
			if s, ok := want.(map[string]any); !ok || !v.check(s, value) {
				return false
			}
		}
		return true
	}
	panic(fmt.Sprintf("the schema uses %q: %v", keyword, want))
}

// notInSchema are the wrong signals that a schema cannot tell: what JSON itself does not
// allow, and what its comments say.
var notInSchema = map[string]bool{
	"expires at time": true, "expires before time": true, "time with a zone of 24 hours": true,
	"time with a zone of 60 minutes": true, "time of a leap second": true, "time of 29 February": true,
	"entity with a long id": true, "entity with a very long id": true,
	"batch with an id twice": true, "signal too large": true, "waive for a month": true,
}

func TestSchemaRefusesWhatDecodeRefuses(t *testing.T) {
	v := newValidator(t)
	for _, c := range badSignals {
		var x any
		if json.Unmarshal([]byte(c.body), &x) != nil {
			continue
		}
		if v.valid(x) != notInSchema[c.name] {
			t.Errorf("%s: the schema says %v", c.name, v.valid(x))
		}
	}
	for _, c := range goodSignals {
		var x any
		if err := json.Unmarshal([]byte(c.body), &x); err != nil {
			t.Fatal(err)
		}
		if !v.valid(x) {
			t.Errorf("%s: the schema refuses it", c.body)
		}
	}
}

// TestSchemaAgreesWithDecode draws signals, right and wrong, from values of all kinds.
func TestSchemaAgreesWithDecode(t *testing.T) {
	v := newValidator(t)
	values := map[string][]string{
		"v":             {`1`, `1.0`, `2`, `"1"`},
		"id":            {`"a"`, `""`, `1`, `"\u0001"`},
		"tenant":        {`"default"`, `""`, `null`},
		"entities":      {`["agent:a"]`, `["user:u","agent:a"]`, `["everything"]`, `["tenant:t"]`, `[]`, `["x:y"]`, `["agent:a","agent:a"]`, `["agent:"]`, `["token:a\u0000"]`, `["source:client:a"]`, `["source:topic:b","source:issuer:c"]`, `["source:a"]`, `["agent:a","source:client:a"]`},
		"time":          {`"2026-11-23T03:04:05Z"`, `"2026-11-23T03:04:05.5+01:00"`, `"x"`, `"1970-11-23T03:04:05Z"`},
		"expires":       {`"2026-11-29T03:04:05Z"`, `"2027-11-23T03:04:05Z"`, `"2027-11-23T03:04:05"`, `5`},
		"actor":         {`"kim"`, `""`, `"\u0085"`},
		"reason":        {`"why"`, `{}`},
		"ticket":        {`"T-1"`, `[]`},
		"source":        {`"client:soar"`, `"issuer:https://idp"`, `"soar"`, `"agent:a"`, `"client:"`},
		"risk":          {`0`, `100`, `50.0`, `50.5`, `-1`, `101`, `"5"`},
		"result":        {`"pass"`, `"fail"`, `"maybe"`},
		"scopes":        {`[]`, `["a","b"]`, `["a","a"]`, `["a b"]`, `[""]`, `"a"`},
		"actions":       {`[]`, `["*"]`, `["pay"]`, `[5]`},
		"issued_before": {`"2026-11-23T03:04:05Z"`, `"x"`},
		"class":         {`"c"`, `""`},
		"labels":        {`{}`, `{"a":"b"}`, `{"a":5}`, `{"":"x"}`, `[]`},
		"code":          {`"sha256:1"`, `""`},
		"model":         {`"m"`, `null`},
		"lifts":         {`{"type":"taint","id":"x"}`, `{"type":"narrow","id":"x","source":"client:a"}`, `{"type":"risk","id":"x"}`, `{"type":"taint"}`, `{"type":"taint","id":"x","y":1}`, `{"type":"waive","id":"x"}`, `{"type":"unreadable","id":"x"}`},
		"reson":         {`"x"`},
	}
	agreed := map[bool]int{}
	rapid.Check(t, func(t *rapid.T) {
		spec := rapid.SampledFrom(vocabulary[:]).Draw(t, "type")
		body := []string{fmt.Sprintf(`"type":%q`, spec.name)}
		for _, name := range append(memberNames[:], "reson") {
			if name == "type" {
				continue
			}
			id, known := memberByName[name]
			likely := known && (envelopeRequired | spec.required).has(id)
			possible := known && (common | spec.members).has(id)
			n := rapid.IntRange(0, 99).Draw(t, "chance")
			if likely && n == 50 || !likely && possible && n < 60 || !possible && n < 99 {
				continue
			}
			pick := 0
			if name == "entities" && spec.kinds == sources {
				pick = 9
			}
			if rapid.IntRange(0, 29).Draw(t, "odd") == 17 {
				pick = rapid.IntRange(0, len(values[name])-1).Draw(t, name)
			}
			if name == "expires" && spec.name == TypeWaive && pick == 1 {
				pick = 0 // how long a waiver may be no schema can say
			}
			body = append(body, fmt.Sprintf("%q:%s", name, values[name][pick]))
		}
		doc := "{" + strings.Join(body, ",") + "}"
		var x any
		if err := json.Unmarshal([]byte(doc), &x); err != nil {
			t.Fatal(err)
		}
		_, err := Decode([]byte(doc))
		if v.valid(x) != (err == nil) {
			t.Fatalf("%s\nthe schema says %v, Decode says %v", doc, v.valid(x), err)
		}
		agreed[err == nil]++
	})
	if !testing.Short() && (agreed[true] < 10 || agreed[false] < 10) { // -short draws too few
		t.Errorf("they agreed on %d right and %d wrong signals", agreed[true], agreed[false])
	}
}

func TestSchemaIsTheSameEveryTime(t *testing.T) {
	if string(Schema()) != string(Schema()) {
		t.Error("it is not")
	}
}
