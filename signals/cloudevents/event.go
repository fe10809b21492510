package cloudevents

import (
	"encoding/base64"
	"fmt"
	"iter"
	"mime"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vigil/authz"
	"vigil/signals"
)

// Event is one CloudEvent.
type Event struct {
	ID, Source, Type string
	Subject          string        // "" where it has none
	Time             authz.Instant // 0 where it has none
	DataContentType  string        // "" where it has none, which means JSON
	DataSchema       string        // "" where it has none
	// Extensions are all other attributes, as texts; nil for none.
	Extensions map[string]string
	// Data is the payload: JSON as it was sent, or the bytes of another type. nil for none.
	Data []byte
}

// Limits of an event.
const (
	MaxBody       = signals.MaxBody
	maxAttribute  = 1024 // bytes of a value
	maxExtensions = 32
	maxName       = 64 // bytes; CloudEvents recommends 20
)

// Binding is how a transport carries the attributes of the binary mode.
type Binding struct {
	prefix  string // of the headers, in lower case
	percent bool   // values are percent-encoded, and may be quoted
}

// The bindings.
var (
	HTTP  = Binding{prefix: "ce-", percent: true}
	Kafka = Binding{prefix: "ce_"}
)

const (
	structured = "application/cloudevents"
	batched    = "application/cloudevents-batch"
)

func bad(code, pointer, format string, args ...any) *signals.DecodeError {
	return &signals.DecodeError{Code: code, Pointer: pointer, Detail: fmt.Sprintf(format, args...)}
}

// Is reports whether a message is meant to be a CloudEvent: its content type says so, or it
// has the header of the version.
func (b Binding) Is(headers iter.Seq2[string, string]) bool {
	for name, value := range headers {
		name = strings.ToLower(name)
		if name == b.prefix+"specversion" || name == "content-type" && strings.HasPrefix(strings.ToLower(value), structured) {
			return true
		}
	}
	return false
}

// Decode reads a message. body is nil where there is none, as in a tombstone. The event
// shares body's memory. Errors are *signals.DecodeError.
func (b Binding) Decode(headers iter.Seq2[string, string], body []byte) (*Event, error) {
	if len(body) > MaxBody {
		return nil, bad(signals.CodeTooLarge, "", "the body has %d bytes, more than %d", len(body), MaxBody)
	}
	attributes, contentType := make(map[string]string), ""
	for name, value := range headers {
		name = strings.ToLower(name)
		attribute, is := strings.CutPrefix(name, b.prefix)
		switch {
		case name == "content-type":
			contentType = value
			continue
		case !is:
			continue
		case len(attributes) == maxExtensions+8:
			return nil, bad(signals.CodeTooLarge, "", "more than %d attributes", maxExtensions+8)
		}
		if _, twice := attributes[attribute]; twice {
			return nil, bad(signals.CodeDuplicateMember, "", "the header %s%s appears twice", b.prefix, clip(attribute))
		}
		decoded, err := b.value(value)
		if err != nil {
			return nil, bad(signals.CodeBadValue, "", "the header %s%s: %v", b.prefix, clip(attribute), err)
		}
		attributes[attribute] = decoded
	}
	mediaType, params, err := mime.ParseMediaType(contentType)
	switch {
	case contentType == "":
	case err != nil:
		return nil, bad(signals.CodeBadValue, "", "the content type %q is none", clip(contentType))
	case strings.HasPrefix(mediaType, batched):
		return nil, bad(signals.CodeBadValue, "", "batches of events are not taken: send them one by one")
	case mediaType == structured+"+json" || mediaType == structured:
		if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") {
			return nil, bad(signals.CodeBadValue, "", "the event must be in UTF-8")
		}
		return decodeJSON(body)
	case strings.HasPrefix(mediaType, structured+"+"):
		return nil, bad(signals.CodeBadValue, "", "events in %s are not taken: send JSON", clip(mediaType))
	}
	e := &Event{DataContentType: contentType, Data: body}
	if len(body) == 0 {
		e.Data = nil
	}
	for name, value := range attributes {
		if name == "datacontenttype" {
			return nil, bad(signals.CodeBadValue, "", "the content type has a header of its own")
		}
		if err := e.set(name, value, ""); err != nil {
			return nil, err
		}
	}
	return e, e.check(attributes["specversion"])
}

// value decodes the value of a header: HTTP binding 1.0.2 section 3.1.3.2.
func (b Binding) value(s string) (string, error) {
	if !b.percent {
		return s, nil
	}
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		var unquoted strings.Builder
		for inner := s[1 : len(s)-1]; inner != ""; inner = inner[1:] {
			if inner[0] == '\\' && len(inner) > 1 {
				inner = inner[1:]
			}
			unquoted.WriteByte(inner[0])
		}
		s = unquoted.String()
	}
	return url.PathUnescape(s)
}

// set sets one attribute.
func (e *Event) set(name, value, pointer string) *signals.DecodeError {
	switch {
	case !attributeName(name):
		return bad(signals.CodeUnknownMember, pointer, "%q is no name of an attribute: want lower-case letters and digits", clip(name))
	case len(value) > maxAttribute:
		return bad(signals.CodeTooLarge, pointer, "%s has %d bytes, more than %d", name, len(value), maxAttribute)
	case !utf8.ValidString(value):
		return bad(signals.CodeInvalidUTF8, pointer, "%s is not valid UTF-8", name)
	}
	switch name {
	case "specversion": // see check
	case "id":
		e.ID = value
	case "source":
		e.Source = value
	case "type":
		e.Type = value
	case "subject":
		e.Subject = value
	case "dataschema":
		e.DataSchema = value
	case "datacontenttype":
		e.DataContentType = value
	case "time":
		t, err := time.Parse(time.RFC3339Nano, value)
		if err != nil || t.Year() < 1971 || t.Year() > 2261 {
			return bad(signals.CodeBadValue, pointer, "time: %q is no RFC 3339 time from 1971 to 2261", clip(value))
		}
		e.Time = authz.InstantOf(t)
	default:
		if len(e.Extensions) == maxExtensions {
			return bad(signals.CodeTooLarge, pointer, "more than %d extension attributes", maxExtensions)
		}
		if e.Extensions == nil {
			e.Extensions = make(map[string]string)
		}
		e.Extensions[name] = value
	}
	return nil
}

func attributeName(name string) bool {
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != "" && len(name) <= maxName && name != "data"
}

// check demands what every event has.
func (e *Event) check(version string) error {
	if version != "1.0" {
		return bad(signals.CodeBadValue, "", "the specversion is %q, not 1.0", clip(version))
	}
	for _, required := range [...]struct{ name, value string }{{"id", e.ID}, {"source", e.Source}, {"type", e.Type}} {
		if required.value == "" {
			return bad(signals.CodeMissingMember, "", "%q is missing or empty", required.name)
		}
	}
	if _, err := url.Parse(e.Source); err != nil {
		return bad(signals.CodeBadValue, "", "the source %q is no URI reference", clip(e.Source))
	}
	return nil
}

// decodeJSON reads the structured mode: JSON event format 1.0.2. Members that are null are
// absent.
func decodeJSON(body []byte) (*Event, error) {
	var members map[string]jsontext.Value
	if err := json.Unmarshal(body, &members); err != nil || members == nil {
		return nil, bad(signals.CodeSyntax, "", "the event is no JSON object with distinct members")
	}
	e, version := &Event{}, ""
	data, encoded := jsontext.Value(nil), jsontext.Value(nil)
	for name, value := range members {
		switch {
		case name == "data":
			data = value
			continue
		case value.Kind() == 'n':
			continue
		case name == "data_base64":
			encoded = value
			continue
		}
		text, ok := attributeText(name, value)
		if !ok {
			return nil, bad(signals.CodeWrongType, "/"+clip(name), "want the value of an attribute")
		}
		if name == "specversion" {
			version = text
		}
		if err := e.set(name, text, "/"+clip(name)); err != nil {
			return nil, err
		}
	}
	if err := e.check(version); err != nil {
		return nil, err
	}
	return e, e.payload(data, encoded)
}

// attributeText is an attribute as a text. Those that the specification names are strings;
// extensions may be numbers and booleans too.
func attributeText(name string, value jsontext.Value) (string, bool) {
	switch value.Kind() {
	case '"':
		text, err := jsontext.AppendUnquote(nil, value)
		return string(text), err == nil
	case '0', 't', 'f':
		switch name {
		case "specversion", "id", "source", "type", "subject", "time", "dataschema", "datacontenttype":
			return "", false
		}
		return string(value), true
	}
	return "", false
}

// payload sets Data from the structured mode.
func (e *Event) payload(data, encoded jsontext.Value) error {
	switch {
	case data != nil && encoded != nil:
		return bad(signals.CodeBadValue, "/data_base64", "there is data too")
	case encoded != nil:
		text, err := jsontext.AppendUnquote(nil, encoded)
		if err == nil {
			e.Data, err = base64.StdEncoding.AppendDecode(nil, text)
		}
		if err != nil {
			return bad(signals.CodeBadValue, "/data_base64", "want base64")
		}
	case data.Kind() == '"' && !isJSON(e.DataContentType):
		text, err := jsontext.AppendUnquote(nil, data)
		if err != nil {
			return bad(signals.CodeBadValue, "/data", "want a text")
		}
		e.Data = text
	case data != nil:
		e.Data = data
	}
	return nil
}

// isJSON reports whether a data content type is JSON; none is.
func isJSON(contentType string) bool {
	mediaType, _, err := mime.ParseMediaType(contentType)
	return contentType == "" || err == nil && (mediaType == "application/json" || mediaType == "text/json" || strings.HasSuffix(mediaType, "+json"))
}

// clip bounds what an error repeats.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
