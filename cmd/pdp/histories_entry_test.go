package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"vigil/authz"
	"vigil/posture"
	"vigil/signals"
)

// What one record of the log says, read as docs/signals.md has it and in no other way: for
// the twin of replicas that have applied it, whoever wrote it and how often.

// plainSignal is a signal as its sender wrote it.
type plainSignal struct {
	ID       string            `json:"id"`
	Type     string            `json:"type"`
	Tenant   string            `json:"tenant"`
	Entities []string          `json:"entities"`
	Time     time.Time         `json:"time"`
	Expires  time.Time         `json:"expires"`
	Risk     int               `json:"risk"`
	Result   string            `json:"result"`
	Actions  []string          `json:"actions"`
	Scopes   []string          `json:"scopes"`
	Class    string            `json:"class"`
	Labels   map[string]string `json:"labels"`
	Code     string            `json:"code"`
	Model    string            `json:"model"`
	Cutoff   time.Time         `json:"issued_before"`
	Lifts    *struct {
		Type   string `json:"type"`
		Source string `json:"source"`
		ID     string `json:"id"`
	} `json:"lifts"`
}

// said gives what an entry of the log says, and the source that is heard by it; nothing and
// "" for a record that is not accepted.
func said(e *signals.Entry) (all []posture.Change, heard string) {
	source, tenant, body := "", authz.DefaultTenant, e.Record
	var rec signals.Record
	if e.Input != nil {
		source = e.Input.Source.String()
	} else {
		var err error
		if rec, err = signals.DecodeRecord(e.Record); err != nil {
			return nil, ""
		}
		source, tenant, body = rec.Source.String(), rec.Tenant, rec.Body
	}
	var s plainSignal
	if err := json.Unmarshal(body, &s); err != nil {
		return nil, ""
	}
	if s.Type == "heartbeat" {
		return nil, source
	}
	f := posture.Fact{Source: source, ID: s.ID, Time: authz.InstantOf(s.Time), Until: authz.Forever}
	if !s.Expires.IsZero() {
		f.Until = authz.InstantOf(s.Expires)
	}
	permits := s.is(&f, source, e.Appended)
	switch latest := e.Appended.Add(5 * time.Second); {
	case f.Time > latest && permits:
		return nil, ""
	case rec.Target != "":
		f.Source, f.ID, f.Time = rec.Target, source+"/"+s.ID, rec.Dated
	default:
		f.Time = min(f.Time, latest)
	}
	for _, text := range s.Entities {
		ref, err := authz.ParseRef(text)
		if err != nil {
			panic(err)
		}
		if e.Input != nil && !s.granted(e.Input, ref.Kind) {
			return nil, ""
		}
		all = append(all, posture.Change{Key: ref.In(tenant), Facts: []posture.Fact{f}})
	}
	return all, source
}

// is gives f what s says, and reports whether that can permit something.
func (s *plainSignal) is(f *posture.Fact, source string, appended authz.Instant) (permits bool) {
	facets := map[string]posture.Facet{"taint": posture.Taint, "require_approval": posture.ApprovalRequired, "narrow": posture.Narrow, "unreadable": posture.UnreadableSignal, "waive": posture.Waive}
	switch s.Type {
	case "register":
		f.Facet = posture.Registration
		f.Registration = &posture.Registered{Class: s.Class, Labels: s.Labels, Scopes: s.Scopes, Code: s.Code, Model: s.Model}
		return true
	case "attest":
		f.Facet, f.Passed = posture.Attest, s.Result == "pass"
		return f.Passed
	case "risk":
		f.Facet, f.Risk = posture.Risk, s.Risk
		return true
	case "quarantine", "release":
		f.Facet, f.Held = posture.Hold, s.Type == "quarantine"
		return !f.Held
	case "taint", "narrow", "require_approval":
		f.Facet, f.Scopes, f.Actions = facets[s.Type], s.Scopes, s.Actions
	case "revoke":
		f.Facet = posture.Revoke
		if !s.Cutoff.IsZero() {
			f.Facet, f.Cutoff = posture.IssuedBefore, min(authz.InstantOf(s.Cutoff), appended)
		}
	case "decommission":
		f.Facet = posture.Decommission
	case "waive":
		f.Facet = posture.Waive
		return true
	case "lift":
		f.Facet, f.Lifts = posture.Lift, &posture.Target{Facet: facets[s.Lifts.Type], Source: s.Lifts.Source, ID: s.Lifts.ID}
		if s.Lifts.Source == "" {
			f.Lifts.Source = source
		}
		return true
	default:
		panic(fmt.Sprintf("a signal of type %q", s.Type))
	}
	return false
}

// granted reports whether the one grant of an input covers s.
func (s *plainSignal) granted(in *signals.Input, kind authz.Kind) bool {
	may := &in.Grants[0].Authority
	return slices.Contains(may.Types, s.Type) && slices.Contains(may.Kinds, kind.String())
}
