package cloudevents

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"vigil/signals"
)

const (
	inStructured = "content-type: application/cloudevents+json; charset=utf-8"
	inBinary     = "ce_specversion: 1.0|ce_id: 7|ce_source: https://siem/|ce_type: vigil.signal.quarantine|ce_time: 2026-11-23T03:04:05Z|ce_subject: agent:a"
	wholeSignal  = `{"v":1,"id":"x","type":"taint","entities":["agent:b"],"time":"2026-11-23T03:04:05Z"}`
	filledIn     = `{"entities":["agent:a"],"id":"ce:https://siem/ 7","time":"2026-11-23T03:04:05Z","type":"quarantine","v":1}`
	envelope     = `{"specversion":"1.0","id":"7","source":"https://siem/","type":"vigil.signal.quarantine","time":"2026-11-23T03:04:05Z","subject":"agent:a"`
)

func TestARecordIsOneSignalInEitherModeAndNothingElse(t *testing.T) {
	for name, c := range map[string]struct{ headers, value, want string }{
		"binary, without data":    {inBinary, "", filledIn},
		"binary, a whole signal":  {inBinary + "|content-type: application/json", wholeSignal, wholeSignal},
		"binary, other headers":   {"traceparent: 00-1-2-01|" + inBinary, "", filledIn},
		"structured":              {inStructured, envelope + `}`, filledIn},
		"structured, a signal":    {inStructured, envelope + `,"data":` + wholeSignal + `}`, wholeSignal},
		"of another version":      {inBinary, `{"v":2,"id":"x","what":"ever"}`, `{"v":2,"id":"x","what":"ever"}`},
		"no event":                {"", wholeSignal, "it is no CloudEvent"},
		"of another content type": {"content-type: application/json", wholeSignal, "it is no CloudEvent"},
		"headers of HTTP":         {strings.ReplaceAll(inBinary, "ce_", "ce-"), "", "it is no CloudEvent"},
		"a list":                  {inBinary, "[" + wholeSignal + "]", `the event "7" of "https://siem/": it carries a list`},
		"a token":                 {inBinary + "|content-type: application/secevent+jwt", "a.b.c", `the event "7" of "https://siem/": it carries a security event token`},
		"a token, structured":     {inStructured, envelope + `,"datacontenttype":"application/secevent+jwt","data":"a.b.c"}`, "it carries a security event token"},
		"a batch":                 {"content-type: application/cloudevents-batch+json", "[]", "batches"},
		"Avro":                    {"content-type: application/cloudevents+avro", "x", "send JSON"},
		"no id":                   {"ce_specversion: 1.0|ce_source: /s|ce_type: t", "", `missing_member: "id"`},
		"text":                    {inBinary + "|content-type: text/plain", "hello", "are no signals"},
		"garbage":                 {inStructured, "\x00\xff", "syntax"},
	} {
		got, err := Signal(header(strings.Split(c.headers, "|")...), []byte(c.value))
		if err != nil {
			got = []byte(err.Error())
		}
		if string(got) != c.want && (err == nil || !strings.Contains(string(got), c.want)) {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
	// What is filled in is a signal, and the kept one of another version can be read again.
	if _, err := signals.DecodeOne([]byte(filledIn)); err != nil {
		t.Error(err)
	}
}

func TestARecordIsATokenBareOrInAnEvent(t *testing.T) {
	const ofToken = "|content-type: application/secevent+jwt"
	for name, c := range map[string]struct{ headers, value, want string }{
		"bare":                   {"", "a.b.c\n", "a.b.c"},
		"bare, with its type":    {"content-type: application/secevent+jwt|kid: 1", " a.b.c", "a.b.c"},
		"binary":                 {inBinary + ofToken, "a.b.c\r\n", "a.b.c"},
		"structured":             {inStructured, envelope + `,"datacontenttype":"application/secevent+jwt","data":"a.b.c"}`, "a.b.c"},
		"structured, in base64":  {inStructured, envelope + `,"datacontenttype":"application/secevent+jwt","data_base64":"YS5iLmM="}`, "a.b.c"},
		"a signal":               {inBinary, wholeSignal, "it carries no security event token"},
		"an event of no version": {"ce_specversion: 2.0", "a.b.c", `the specversion is "2.0"`},
		"a batch":                {"content-type: application/cloudevents-batch+json", "[]", "batches"},
	} {
		got, err := Token(header(strings.Split(c.headers, "|")...), []byte(c.value))
		if err != nil {
			got = []byte(err.Error())
		}
		if string(got) != c.want && (err == nil || !strings.Contains(string(got), c.want)) {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
}

// FuzzRecord reads records that anybody may write: the same gives the same, a signal is one
// that can be judged or an error, and its memory is bounded by the record's.
func FuzzRecord(f *testing.F) {
	f.Add("application/cloudevents+json", "", []byte(envelope+`,"data":`+wholeSignal+`}`))
	f.Add("application/cloudevents+json", "", []byte(envelope+`,"datacontenttype":"application/secevent+jwt","data":"a.b.c"}`))
	f.Add("application/json", "agent:a", []byte(`{"reason":"x"}`))
	f.Add("application/secevent+jwt", "1.0", []byte("a.b.c"))
	f.Add("", "", []byte(nil))
	f.Fuzz(func(t *testing.T, contentType, text string, value []byte) {
		headers := header("content-type: "+contentType, "ce_specversion: 1.0", "ce_id: "+text, "ce_source: /s", "ce_type: vigil.signal.taint",
			"ce_subject: "+text, "ce_time: 2026-11-23T03:04:05Z", "ce_x: "+text, "traceparent: "+text)
		signal, err := Signal(headers, value)
		again, errAgain := Signal(headers, value)
		if !bytes.Equal(signal, again) || (err == nil) != (errAgain == nil) {
			t.Fatalf("%q, %v and then %q, %v", signal, err, again, errAgain)
		}
		if err == nil {
			if len(signal) > 6*(len(value)+2*len(text)+256) {
				t.Fatalf("%d bytes of %d", len(signal), len(value))
			}
			var d *signals.DecodeError
			if _, err := signals.DecodeOne(signal); err != nil && !errors.As(err, &d) {
				t.Fatal(err)
			}
		}
		if token, err := Token(headers, value); err == nil && len(token) > len(value) {
			t.Fatalf("%q of %q", token, value)
		}
		if token, err := Token(header(), value); err != nil || !bytes.Equal(token, bytes.TrimSpace(value)) {
			t.Fatalf("%q, %v", token, err)
		}
	})
}
