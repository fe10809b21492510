package cloudevents

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"reflect"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"vigil/signals"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// header is "name: value" for each.
func header(lines ...string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, line := range lines {
			name, value, _ := strings.Cut(line, ": ")
			if !yield(name, value) {
				return
			}
		}
	}
}

// TestTheConformanceScenariosOfKafkaHold runs the feature file of CloudEvents' conformance
// tests: each scenario, and each row of its examples.
func TestTheConformanceScenariosOfKafkaHold(t *testing.T) {
	text, err := os.ReadFile("testdata/kafka-protocol-binding.feature")
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(text), "Scenario:")
	ran := 0
	for _, scenario := range strings.Split(body, "Scenario Outline:") {
		docs := strings.Split(scenario, `"""`)
		table := func(after string) []string {
			_, rest, _ := strings.Cut(scenario, after)
			var rows []string
			for i, line := range strings.Split(rest, "\n") {
				if line = strings.TrimSpace(line); i > 0 && !strings.HasPrefix(line, "|") {
					break
				} else if i > 1 {
					cells := strings.Split(strings.Trim(line, "| "), "|")
					for j := range cells {
						cells[j] = strings.TrimSpace(cells[j])
					}
					rows = append(rows, strings.Join(cells, ": "))
				}
			}
			return rows
		}
		examples := table("Examples:")
		if examples == nil {
			examples = []string{""}
		}
		for _, contentType := range examples {
			headers := table("Kafka headers:")
			for i := range headers {
				headers[i] = strings.ReplaceAll(headers[i], "<contentType>", contentType)
			}
			e, err := Kafka.Decode(header(headers...), []byte(docs[1]))
			if err != nil {
				t.Errorf("%v: %v", headers, err)
				continue
			}
			got := map[string]string{"id": e.ID, "specversion": "1.0", "type": e.Type, "source": e.Source,
				"time": e.Time.String(), "datacontenttype": e.DataContentType}
			want := map[string]string{}
			for name, value := range header(table("attributes are:")...) {
				want[name] = value
			}
			if !maps.Equal(got, want) {
				t.Errorf("%v: got %v, want %v", headers, got, want)
			}
			var gotData, wantData any
			if json.Unmarshal(e.Data, &gotData) != nil || json.Unmarshal([]byte(docs[3]), &wantData) != nil || !reflect.DeepEqual(gotData, wantData) {
				t.Errorf("%v: the data are %s", headers, e.Data)
			}
			ran++
		}
	}
	if ran != 3 {
		t.Errorf("%d scenarios", ran)
	}
}

const binary = "ce-specversion: 1.0|ce-id: 1|ce-source: https://siem/|ce-type: vigil.signal.quarantine"

func TestEventsAreReadInBothModes(t *testing.T) {
	for name, c := range map[string]struct {
		headers, body, want string
	}{
		"binary":            {binary + "|Ce-Time: 2026-11-23T03:04:05Z|CE-Subject: agent:a|Content-Type: application/json", `{}`, `1 https://siem/ vigil.signal.quarantine "agent:a" 2026-11-23T03:04:05Z application/json map[] {}`},
		"percent-encoded":   {binary + "|ce-note: Euro%20%E2%82%AC%20%F0%9F%98%80", "", `1 https://siem/ vigil.signal.quarantine ""   map[note:Euro € 😀] `},
		"quoted":            {binary + `|ce-note: "a \"b\" c"`, "", `1 https://siem/ vigil.signal.quarantine ""   map[note:a "b" c] `},
		"other headers":     {binary + "|Host: x|X-ce-id: 2", "", `1 https://siem/ vigil.signal.quarantine ""   map[] `},
		"structured":        {"content-type: application/cloudevents+json; charset=UTF-8", `{"specversion":"1.0","id":"1","source":"/s","type":"t","subject":null,"n":3,"b":true,"data":[1, 2]}`, `1 /s t ""   map[b:true n:3] [1, 2]`},
		"a text":            {"content-type: application/cloudevents+json", `{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"text/plain","data":"a\"b"}`, `1 /s t ""  text/plain map[] a"b`},
		"a JSON text":       {"content-type: application/cloudevents+json", `{"specversion":"1.0","id":"1","source":"/s","type":"t","data":"a"}`, `1 /s t ""   map[] "a"`},
		"base64":            {"content-type: application/cloudevents+json", `{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"text/plain","data_base64":"aGk="}`, `1 /s t ""  text/plain map[] hi`},
		"no version":        {"ce-id: 1|ce-source: /s|ce-type: t", "", `bad_value: the specversion is "", not 1.0`},
		"another version":   {"ce-specversion: 0.3|ce-id: 1|ce-source: /s|ce-type: t", "", `bad_value: the specversion is "0.3", not 1.0`},
		"no id":             {"ce-specversion: 1.0|ce-source: /s|ce-type: t", "", `missing_member: "id"`},
		"no source":         {"ce-specversion: 1.0|ce-id: 1|ce-type: t", "", `missing_member: "source"`},
		"no type":           {"ce-specversion: 1.0|ce-id: 1|ce-source: /s", "", `missing_member: "type"`},
		"two ids":           {binary + "|CE-ID: 2", "", `duplicate_member: the header ce-id`},
		"a bad time":        {binary + "|ce-time: yesterday", "", `bad_value: time`},
		"a bad escape":      {binary + "|ce-note: 100%", "", `bad_value: the header ce-note`},
		"no UTF-8":          {binary + "|ce-note: %FF", "", `invalid_utf8`},
		"a bad name":        {binary + "|ce-a-b: 1", "", `unknown_member`},
		"a long value":      {binary + "|ce-note: " + strings.Repeat("x", 1025), "", `too_large`},
		"datacontenttype":   {binary + "|ce-datacontenttype: a/b", "", `bad_value: the content type has a header`},
		"a batch":           {"content-type: application/cloudevents-batch+json", `[]`, `bad_value: batches`},
		"protobuf":          {"content-type: application/cloudevents+protobuf", ``, `bad_value: events in`},
		"another charset":   {"content-type: application/cloudevents+json; charset=latin1", `{}`, `bad_value: the event must be in UTF-8`},
		"no content type":   {"content-type: ;;", ``, `bad_value: the content type`},
		"no JSON":           {"content-type: application/cloudevents+json", `{`, `syntax`},
		"null":              {"content-type: application/cloudevents+json", `null`, `syntax`},
		"a member twice":    {"content-type: application/cloudevents+json", `{"specversion":"1.0","id":"1","id":"2","source":"/s","type":"t"}`, `syntax`},
		"an id of numbers":  {"content-type: application/cloudevents+json", `{"specversion":"1.0","id":1,"source":"/s","type":"t"}`, `wrong_type: /id`},
		"an object":         {"content-type: application/cloudevents+json", `{"specversion":"1.0","id":"1","source":"/s","type":"t","x":{}}`, `wrong_type: /x`},
		"data twice":        {"content-type: application/cloudevents+json", `{"specversion":"1.0","id":"1","source":"/s","type":"t","data":1,"data_base64":"aGk="}`, `bad_value: /data_base64`},
		"no base64":         {"content-type: application/cloudevents+json", `{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":"*"}`, `bad_value: /data_base64`},
		"base64 of numbers": {"content-type: application/cloudevents+json", `{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":1}`, `bad_value: /data_base64`},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := HTTP.Decode(header(strings.Split(c.headers, "|")...), []byte(c.body))
			if err != nil {
				var d *signals.DecodeError
				if !errors.As(err, &d) || !strings.HasPrefix(err.Error(), c.want) {
					t.Errorf("%v, want %s", err, c.want)
				}
				return
			}
			at := ""
			if e.Time != 0 {
				at = e.Time.String()
			}
			if got := fmt.Sprintf("%s %s %s %q %s %s %v %s", e.ID, e.Source, e.Type, e.Subject, at, e.DataContentType, e.Extensions, e.Data); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestAMessageThatIsNoEventIsKnown(t *testing.T) {
	for lines, want := range map[string]bool{
		binary: true, "content-type: application/cloudevents+json": true, "Content-Type: Application/CloudEvents-batch+JSON": true,
		"content-type: application/json": false, "ce-id: 1": false, "": false,
	} {
		if got := HTTP.Is(header(strings.Split(lines, "|")...)); got != want {
			t.Errorf("%s: %v", lines, got)
		}
	}
}

func TestAnEventIsWholeSignalOrFillsOneIn(t *testing.T) {
	const attributes = "ce-specversion: 1.0|ce-id: 1|ce-source: https://siem/|ce-type: vigil.signal.quarantine|ce-time: 2026-11-23T03:04:05Z|ce-subject: agent:a|content-type: application/json"
	const whole = `{"v":1,"id":"x","type":"taint","entities":["agent:b"],"time":"2026-11-23T03:04:05Z"}`
	for data, want := range map[string]string{
		``:                     `{"v":1,"id":"ce:https://siem/ 1","type":"quarantine","entities":["agent:a"],"time":"2026-11-23T03:04:05Z"}`,
		`{"reason":"beacons"}`: `{"v":1,"id":"ce:https://siem/ 1","type":"quarantine","entities":["agent:a"],"time":"2026-11-23T03:04:05Z","reason":"beacons"}`,
		`{"type":"risk","risk":80,"entities":["user:u"],"id":"mine"}`: `{"v":1,"id":"mine","type":"risk","entities":["user:u"],"time":"2026-11-23T03:04:05Z","risk":80}`,
		whole:                     whole,
		`[` + whole + `]`:         whole,
		`{"v":1,"type":"taint"}`:  `missing_member: "id" is missing`,
		`{"reson":"x"}`:           `unknown_member`,
		`{"type":"x","type":"y"}`: `syntax`,
		`7`:                       `syntax`,
	} {
		e, err := HTTP.Decode(header(strings.Split(attributes, "|")...), []byte(data))
		if err != nil {
			t.Fatal(err)
		}
		var batch *signals.Batch
		body, err := e.Signals()
		if err == nil {
			batch, err = signals.Decode(body)
		}
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = string(batch.Signals[0].AppendJSON(nil))
		}
		if got != want && (err == nil || !strings.HasPrefix(got, want)) {
			t.Errorf("%s:\n got %s\nwant %s", data, got, want)
		}
	}
}

func TestAnEventCarriesAToken(t *testing.T) {
	e, err := HTTP.Decode(header(strings.Split(binary+"|content-type: application/secevent+jwt", "|")...), []byte("a.b.c\n"))
	if err != nil {
		t.Fatal(err)
	}
	if token, ok := e.SET(); !ok || string(token) != "a.b.c" {
		t.Errorf("%q, %v", token, ok)
	}
	if _, err := e.Signals(); err == nil {
		t.Error("a token is a signal")
	}
	e, err = Kafka.Decode(header("content-type: application/cloudevents+json"),
		[]byte(`{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"application/secevent+jwt","data":"a.b.c"}`))
	if token, ok := e.SET(); err != nil || !ok || string(token) != "a.b.c" {
		t.Errorf("%q, %v, %v", token, ok, err)
	}
}

// TestTwoEventsHaveTwoIDs: and none reads as an overruling.
func TestTwoEventsHaveTwoIDs(t *testing.T) {
	ids := map[string]bool{}
	for _, e := range []Event{{Source: "a", ID: "b c"}, {Source: "a b", ID: "c"}, {Source: "a%20b", ID: "d"}, {Source: "client:ops/x", ID: "1"},
		{Source: "a", ID: strings.Repeat("x", 1024)}, {Source: "a", ID: "\n"}} {
		id := e.signalID()
		if ids[id] || len(id) > signals.MaxText {
			t.Errorf("%+v: %s", e, id)
		}
		ids[id] = true
		if i := strings.LastIndexByte(id, '/'); i > 0 {
			if _, borrowed := signals.ParseSource(id[:i]); borrowed {
				t.Errorf("%s reads as an overruling", id)
			}
		}
	}
}

func FuzzEvent(f *testing.F) {
	f.Add("application/cloudevents+json", "", []byte(`{"specversion":"1.0","id":"1","source":"/s","type":"vigil.signal.taint","subject":"agent:a","time":"2026-11-23T03:04:05Z","data":{"reason":"x"}}`))
	f.Add("application/json", "a%20b", []byte(`{"entities":["agent:a"]}`))
	f.Add("application/secevent+jwt", `"\"`, []byte(`a.b.c`))
	f.Add("", "%", []byte(nil))
	f.Fuzz(func(t *testing.T, contentType, extension string, body []byte) {
		for _, b := range []Binding{HTTP, Kafka} {
			e, err := b.Decode(header("content-type: "+contentType, b.prefix+"specversion: 1.0", b.prefix+"id: 1", b.prefix+"source: /s",
				b.prefix+"type: vigil.signal.taint", b.prefix+"subject: "+extension, b.prefix+"x: "+extension), body)
			var d *signals.DecodeError
			if err != nil {
				if !errors.As(err, &d) {
					t.Fatal(err)
				}
				continue
			}
			if e.ID == "" || e.Source == "" || e.Type == "" {
				t.Fatalf("%+v", e)
			}
			e.SET()
			out, err := e.Signals()
			if err != nil {
				if !errors.As(err, &d) {
					t.Fatal(err)
				}
				continue
			}
			if _, err := signals.Decode(out); err != nil && !errors.As(err, &d) {
				t.Fatal(err)
			}
		}
	})
}
