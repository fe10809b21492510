package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os/user"
	"reflect"
	"time"

	"vigil/authz"
	"vigil/signals"
)

// members are those of a signal that depend on its type. Empty ones are left out,
// except lists: an empty list of scopes is a statement.
type members map[string]any

// draft is a signal before it has an envelope.
type draft struct {
	kind     signals.Type
	entities []string
	lasts    string    // --for
	until    string    // when it ends (RFC 3339), where lasts is empty; "" for never
	dated    time.Time // when it counts from; zero for the time of the command
	members  members
	forGood  bool   // there is no way back, so that a mistake deserves a question
	line     string // the source in whose line it speaks; "" for one's own
}

// liftTarget names the signal that a lift kills.
type liftTarget struct {
	Type   string `json:"type"`
	Source string `json:"source,omitzero"` // "" is one's own
	ID     string `json:"id"`
}

// envelope makes the JSON object of a signal. n counts the signals of one command, so
// that each has an id of its own.
func (d *draft) envelope(f *signalFlags, now time.Time, id string) (map[string]any, error) {
	for _, text := range d.entities {
		if _, err := authz.ParseRef(text); err != nil {
			return nil, badInput("%s", err)
		}
	}
	at := d.dated
	if at.IsZero() {
		at = now
	}
	body := map[string]any{
		"v": signals.Version, "id": id, "type": d.kind, "entities": d.entities,
		"time": at.UTC().Format(time.RFC3339Nano),
	}
	optional := members{"actor": f.Actor, "reason": f.Reason, "ticket": f.Ticket, "tenant": f.Tenant, "source": d.line, "expires": d.until}
	for _, set := range []members{optional, d.members} {
		for name, value := range set {
			if v := reflect.ValueOf(value); !v.IsValid() || v.IsZero() {
				continue
			}
			body[name] = value
		}
	}
	if d.lasts != "" {
		lasts, err := parseDuration(d.lasts)
		if err != nil || lasts <= 0 {
			return nil, badInput("--for: want a duration such as 90s, 2h or 7d, not %q", d.lasts)
		}
		end := wholeSecond(now.Add(lasts), lasts)
		if d.kind == signals.TypeWaive && lasts == signals.MaxWaiver {
			end = now.Add(lasts) // nothing longer is taken
		}
		body["expires"] = end.UTC().Format(time.RFC3339Nano)
	}
	return body, nil
}

// wholeSecond is the end of what lasts for minutes, as people read and say it: the next whole
// second.
func wholeSecond(end time.Time, lasts time.Duration) time.Time {
	if lasts < time.Minute {
		return end
	}
	return end.Add(time.Second - 1).Truncate(time.Second)
}

// newSignalID makes an id that no other command has made.
func newSignalID() string {
	var raw [10]byte
	rand.Read(raw[:]) // never fails (crypto/rand)
	return "cli-" + hex.EncodeToString(raw[:])
}

// defaultActor names the user of the operating system.
func defaultActor(env environment) string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return env.get("USER")
}

// parseSince reads a time that lies behind: as parseTime does, and how long ago also as "2h".
func parseSince(text string) (string, error) {
	if _, err := parseDuration(text); err == nil && text[0] != '-' {
		text = "-" + text
	}
	since, err := parseTime(text)
	if err != nil {
		return "", fmt.Errorf("want a time such as 2026-11-23T03:04:05Z, or how long ago, as 10m or 2h, not %q", text)
	}
	return since, nil
}

// parseTime reads RFC 3339, "now", or how long ago as "-2h".
func parseTime(text string) (string, error) {
	now := time.Now()
	if text == "now" {
		return now.UTC().Format(time.RFC3339Nano), nil
	}
	if len(text) > 1 && text[0] == '-' {
		ago, err := parseDuration(text[1:])
		if err != nil {
			return "", err
		}
		return now.Add(-ago).UTC().Format(time.RFC3339Nano), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return "", fmt.Errorf("want a time such as 2026-11-23T03:04:05Z, now, or -2h, not %q", text)
	}
	return t.UTC().Format(time.RFC3339Nano), nil
}
