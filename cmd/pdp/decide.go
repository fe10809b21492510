package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json"

	"vigil/server/control"
)

// maxRequest bounds the file of a request, in bytes; the engine has a bound of its own.
const maxRequest = 16 << 20

type decideCmd struct {
	File    string `arg:"" help:"An AuthZEN request as JSON; - reads standard input."`
	AtLeast string `help:"Demand a decision at least as new as this position (as_of)."`
	connection
	format
}

func (c *decideCmd) Run(ctx context.Context, a *app) error {
	body, err := a.readInput(c.File, maxRequest)
	if err != nil {
		return err
	}
	cl, err := a.decisionClient(&c.connection)
	if err != nil {
		return err
	}
	cl.atLeast = c.AtLeast
	got, err := cl.call(ctx, http.MethodPost, "/access/v1/evaluation", body)
	if err != nil {
		return err
	}
	if got.status != http.StatusOK {
		return cl.decisionError(got, c.File)
	}
	var d control.DecisionBody
	if err := json.Unmarshal(got.body, &d); err != nil {
		return &failure{code: exitUnreachable, err: fmt.Errorf("%s does not answer as an AuthZEN decision point does: %w", cl.shown, err)}
	}
	if c.json() {
		fmt.Fprintln(a.stdout, strings.TrimSpace(string(got.body)))
	} else {
		fmt.Fprintln(a.stdout, decisionLine(&d))
	}
	if !d.Decision {
		return silent(exitDeny)
	}
	return nil
}

// decisionError turns an answer of the decision port that is no decision into an error.
// The port speaks plain text (AuthZEN: "an error message string").
func (c *client) decisionError(got *answer, file string) error {
	f := &failure{code: exitInput, err: fmt.Errorf("%s answered %d: %s", c.shown, got.status, printable(firstLine(got.body)))}
	switch {
	case got.status == http.StatusUnauthorized:
		f.hint = c.credentialHint()
	case got.status == http.StatusNotFound:
		f.hint = c.otherPortHint()
	case got.status == http.StatusBadRequest:
		if file == "-" {
			file = "standard input"
		}
		f.hint = "It is " + file + " that is wrong there: want a request of AuthZEN, as in docs/api.md."
	case got.status >= 500 || got.status == http.StatusTooManyRequests:
		f.code, f.hint = exitUnreachable, "No decision was made; try again."
	}
	return f
}

// decisionLine is a decision in one line.
func decisionLine(d *control.DecisionBody) string {
	text := strings.ToUpper(d.Context.Effect)
	if text == "" {
		text = map[bool]string{true: "ALLOW", false: "DENY"}[d.Decision]
	}
	if d.Context.Code != "" && d.Context.Code != "allowed" {
		text += " " + d.Context.Code
	}
	for _, o := range d.Context.Obligations {
		text += "  needs " + o.Type
	}
	for _, reason := range []string{d.Context.ReasonAdmin, d.Context.ReasonUser} {
		if reason != "" {
			text += "  " + reason
			break
		}
	}
	if len(d.Context.Rules) > 0 {
		text += "  by " + strings.Join(d.Context.Rules, ", ")
	}
	if len(d.Context.Waived) > 0 {
		text += "  by exception " + strings.Join(d.Context.Waived, ", ")
	}
	if d.Context.ValidUntil != "" {
		text += "  until " + d.Context.ValidUntil
	}
	return printable(text)
}
