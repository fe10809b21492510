package control

import (
	"bytes"
	"errors"
	"maps"
	"net/http"
	"regexp"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vigil/rules"
)

// getRules shows the rule set in use and how the last reload went.
func (s *Server) getRules(c *call) error {
	if _, err := parameters(c.r); err != nil {
		return err
	}
	if !s.bulky.enter(c.r.Context()) {
		return busy("too many large answers are being written")
	}
	defer s.bulky.leave()
	return c.respond(http.StatusOK, rulesOf(c.parts.Rules.State()))
}

// reloadRules loads the bundle anew. Only one reload runs at a time, and only one waits:
// what the next would load is what the waiting one will load.
func (s *Server) reloadRules(c *call) error {
	if _, err := parameters(c.r); err != nil {
		return err
	}
	var order ReloadRequest
	if c.r.ContentLength != 0 {
		body, release, err := s.receive(c)
		if err != nil {
			return err
		}
		defer release()
		if order, err = decodeReload(body); err != nil {
			return err
		}
	}
	if !s.reload.enter(c.r.Context()) {
		return busy("the rules are being loaded")
	}
	defer s.reload.leave()
	before := digestOf(c.parts.Rules.State())
	state, err := c.parts.Rules.Reload(c.r.Context(), order.Expect)
	if err != nil {
		return ofReload(err, digestOf(c.parts.Rules.State()))
	}
	answer := rulesOf(state)
	answer.Changed = answer.Digest != before
	return c.respond(http.StatusOK, answer)
}

var digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

func decodeReload(body []byte) (ReloadRequest, error) {
	var order ReloadRequest
	if len(bytes.TrimSpace(body)) == 0 {
		return order, nil
	}
	if err := json.Unmarshal(body, &order, json.RejectUnknownMembers(true)); err != nil {
		return order, ofJSON(err)
	}
	if order.Expect != "" && !digestForm.MatchString(order.Expect) {
		return order, failAt("/expect", "bad_value", `want "sha256:" and 64 hex digits`)
	}
	return order, nil
}

// ofJSON says where a body does not decode.
func ofJSON(err error) *problem {
	var (
		semantic  *json.SemanticError
		syntactic *jsontext.SyntacticError
	)
	switch {
	case errors.Is(err, json.ErrUnknownName) && errors.As(err, &semantic):
		return failAt(semantic.JSONPointer, "unknown_member", `the only member is "expect"`)
	case errors.As(err, &semantic):
		return failAt(semantic.JSONPointer, "wrong_type", "want another type than "+semantic.JSONKind.String())
	case errors.Is(err, jsontext.ErrDuplicateName) && errors.As(err, &syntactic):
		return failAt(syntactic.JSONPointer, "duplicate_member", "the member stands twice")
	case errors.As(err, &syntactic):
		return failAt(syntactic.JSONPointer, "syntax", syntactic.Err.Error())
	}
	return fail(http.StatusBadRequest, "syntax", "not JSON").because(err)
}

func failAt(pointer jsontext.Pointer, code, detail string) *problem {
	p := fail(http.StatusBadRequest, code, detail)
	p.Pointer = string(pointer)
	return p
}

func digestOf(state RulesState) string {
	if state.Set == nil {
		return ""
	}
	return state.Set.Digest()
}

func rulesOf(state RulesState) *RulesResponse {
	out := &RulesResponse{
		Digest: digestOf(state), LoadedAt: state.Loaded.String(), Reload: reloadOf(state),
		Files: []string{}, Rules: []RuleSummary{}, Profiles: []string{}, Actions: []string{},
	}
	b := state.Bundle
	if b == nil {
		return out
	}
	out.Sealed = b.Seal != nil
	out.Files = append(out.Files, b.Files...)
	out.Profiles = slices.AppendSeq(out.Profiles, maps.Keys(b.Profiles))
	out.Actions = slices.AppendSeq(out.Actions, maps.Keys(b.Actions))
	slices.Sort(out.Profiles)
	slices.Sort(out.Actions)
	for _, r := range b.Rules {
		out.Rules = append(out.Rules, ruleSummary(r))
	}
	return out
}

func ruleSummary(r *rules.Rule) RuleSummary {
	mode := "enforce"
	if r.Observe {
		mode = "observe"
	}
	return RuleSummary{
		ID: r.ID, File: r.Pos.File, Line: r.Pos.Line, Effect: r.Effect.String(), Mode: mode,
		Actions: r.Actions, Resources: r.Resources, Subjects: r.Subjects, Classes: r.Classes, When: r.When,
	}
}

func reloadOf(state RulesState) ReloadStatus {
	out := ReloadStatus{At: state.Tried.String(), OK: state.Err == nil, LastGood: state.LastGood}
	if state.Err != nil {
		out.Error = state.Err.Error()
		var broken rules.Errors
		if errors.As(state.Err, &broken) {
			out.Errors = ruleProblems(broken)
		}
	}
	return out
}
