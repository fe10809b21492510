package cloudevents

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"mime"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vigil/signals"
)

// SET gives the security event token that the event carries, and whether it carries one:
// its data are application/secevent+jwt.
func (e *Event) SET() (token []byte, ok bool) {
	mediaType, _, err := mime.ParseMediaType(e.DataContentType)
	if err != nil || mediaType != "application/secevent+jwt" {
		return nil, false
	}
	return bytes.TrimSpace(e.Data), true
}

// TypePrefix is how the type of an event begins whose data leave out the type of the
// signal: vigil.signal.quarantine.
const TypePrefix = "vigil.signal."

// Signals gives the signals that the event carries, as a body for an intake. Its data are
// JSON: a list of signals as they are, or one signal. Of one that leaves out the version, the
// event fills in what is missing:
//
//	v         1
//	id        "ce:", the event's source, a space, and its id
//	time      the event's
//	type      the event's, after TypePrefix
//	entities  the event's subject, as "agent:invoice-agent"
//
// so an event without data can be a whole signal. CloudEvents says that source and id are
// the identity of an event; what comes twice is a duplicate. Errors are
// *signals.DecodeError. What comes out has yet to be decoded and judged.
func (e *Event) Signals() ([]byte, error) {
	if !isJSON(e.DataContentType) {
		return nil, bad(signals.CodeBadValue, "", "data of the type %q are no signals", clip(e.DataContentType))
	}
	data := jsontext.Value(bytes.TrimSpace(e.Data))
	members := make(map[string]jsontext.Value)
	switch {
	case len(data) == 0 || data.Kind() == 'n':
	case data.Kind() == '[':
		return data, nil
	case json.Unmarshal(data, &members) != nil:
		return nil, bad(signals.CodeSyntax, "/data", "the data are no JSON object with distinct members")
	}
	if _, stated := members["v"]; stated {
		return data, nil
	}
	members["v"] = jsontext.Value("1")
	fill := func(name, text string) {
		if _, stated := members[name]; !stated && text != "" {
			members[name] = quoted(text)
		}
	}
	fill("id", e.signalID())
	if e.Time != 0 {
		fill("time", e.Time.Time().Format(time.RFC3339Nano))
	}
	if typ, ours := strings.CutPrefix(e.Type, TypePrefix); ours {
		fill("type", typ)
	}
	if _, stated := members["type"]; !stated {
		return nil, bad(signals.CodeMissingMember, "", "the event's type %q says of no signal what it is: it is %sTYPE, or \"type\" stands in the data", clip(e.Type), TypePrefix)
	}
	if _, stated := members["entities"]; !stated && e.Subject != "" {
		members["entities"] = append(append(jsontext.Value("["), quoted(e.Subject)...), ']')
	}
	body := []byte{'{'}
	for i, name := range slices.Sorted(maps.Keys(members)) {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(append(append(body, quoted(name)...), ':'), members[name]...)
	}
	return append(body, '}'), nil
}

// signalID never reads as the id of an overruling. A source is a URI reference and so has
// no space in it: two events have two ids.
func (e *Event) signalID() string {
	name := strings.ReplaceAll(e.Source, " ", "%20") + " " + e.ID
	control := strings.ContainsFunc(name, func(c rune) bool { return c < 0x20 || c >= 0x7f && c < 0xa0 })
	if control || len(name) > signals.MaxText-16 {
		name = fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(name)))
	}
	return "ce:" + name
}

// quoted writes a JSON string. The text is valid UTF-8.
func quoted(text string) jsontext.Value {
	v, _ := jsontext.AppendQuote(nil, text)
	return v
}
