package main

import (
	"context"
	"slices"

	"vigil/server/control"
)

// checkActions refuses names of actions that the rules in use do not declare: a demand for the
// approval of a misspelt action is in force and stops nothing. Where the rules cannot be read,
// for this takes the scope read, nobody is kept from sending.
func (a *app) checkActions(ctx context.Context, f *signalFlags, actions []string) error {
	if f.AllowUnknown || len(actions) == 0 {
		return nil
	}
	cl, err := a.controlClient(&f.connection)
	if err != nil {
		return err
	}
	var rules control.RulesResponse
	if _, err := cl.get(ctx, "/v1/rules", &rules); err != nil {
		return nil //nolint:nilerr // what is wrong is said when it is sent
	}
	for _, action := range actions {
		if action != "*" && !slices.Contains(rules.Actions, action) {
			return &failure{code: exitInput,
				err:  badInput("--action: the rules declare no action %q%s", action, didYouMean(action, rules.Actions)),
				hint: "Nothing was sent. --allow-unknown sends it all the same."}
		}
	}
	return nil
}
