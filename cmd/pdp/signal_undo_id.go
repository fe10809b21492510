package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"vigil/authz"
	"vigil/server/control"
)

type undoCmd struct {
	What       []string `arg:"" optional:"" help:"Ids of signals, whatever they are about; or entities (kind:id), of which everything of yours is taken back."`
	Signal     string   `help:"Only what the signal with this id said." placeholder:"ID"`
	AllSources bool     `help:"Also what other sources said, where you may overrule them."`
	signalFlags
}

// reversible are the types of signals that can be taken back.
var reversible = []string{"quarantine", "narrow", "taint", "require_approval", "risk", "waive"}

// irreversible says of the others why they cannot be.
var irreversible = map[string]string{
	"revoke":       "a revocation never ends",
	"decommission": "a decommissioning never ends",
	"lift":         "a lift ends what it names for good; say that anew",
	"release":      "a release is taken back by a new quarantine: what it ended is not kept",
	"register":     "a registration is replaced by a new one: what it replaced is not kept",
	"attest":       "an attestation is replaced by a new one: what it replaced is not kept",
	"unreadable":   "what could not be read is lifted by an administrator: pdp signal lift --type unreadable",
}

func (c *undoCmd) Run(ctx context.Context, a *app) error {
	var entities, ids []string
	for _, text := range c.What {
		if _, err := authz.ParseRef(text); err == nil {
			entities = append(entities, text)
		} else {
			ids = append(ids, text)
		}
	}
	want := takeBack{types: reversible, allSources: c.AllSources}
	switch {
	case len(entities) > 0 && len(ids) > 0:
		return badInput("name signals or entities, not both: %q is the id of a signal", ids[0])
	case len(entities) > 0:
		if c.Signal != "" {
			want.wanted = saidBySignals(c.Signal)
		}
		return a.takeBack(ctx, &c.signalFlags, entities, want)
	case c.Signal != "":
		ids = append(ids, c.Signal)
	case len(ids) == 0:
		return badInput("name signals or entities")
	}
	entities, err := a.saidOf(ctx, &c.signalFlags, ids)
	if err != nil {
		return err
	}
	want.wanted = saidBySignals(ids...)
	return a.takeBack(ctx, &c.signalFlags, entities, want)
}

// saidBySignals picks the facts that signals with these ids stated.
func saidBySignals(ids ...string) func(*control.Fact) bool {
	return func(f *control.Fact) bool {
		return slices.ContainsFunc(ids, func(id string) bool { return f.ID == id || strings.HasSuffix(f.ID, "/"+id) && ownID(f) == id })
	}
}

// saidOf gives the entities of which signals with these ids said something that can be taken
// back, and warns of what cannot be.
func (a *app) saidOf(ctx context.Context, f *signalFlags, ids []string) (entities []string, err error) {
	cl, err := a.controlClient(&f.connection)
	if err != nil {
		return nil, err
	}
	tenant := url.Values{}
	if f.Tenant != "" {
		tenant.Set("tenant", f.Tenant)
	}
	for _, id := range ids {
		var said control.SignalFactsResponse
		if _, err := cl.get(ctx, "/v1/signals/"+url.PathEscape(id)+"?"+tenant.Encode(), &said); err != nil {
			return nil, err
		}
		reason, found := "", false
		for _, s := range said.Facts {
			if why := irreversible[s.Fact.Type]; why != "" {
				reason = fmt.Sprintf("%s of %s by %s: %s", s.Fact.Type, s.Ref, s.Fact.Source, why)
				fmt.Fprintf(a.stderr, "cannot be taken back: %s\n", printable(reason))
				continue
			}
			found = true
			if s.Tenant != "" && f.Tenant == "" {
				f.Tenant = s.Tenant
			}
			if s.Tenant != "" && s.Tenant != f.Tenant {
				return nil, badInput("signals with the id %s were about several tenants: name one with --tenant", printable(id))
			}
			if !slices.Contains(entities, s.Ref) {
				entities = append(entities, s.Ref)
			}
		}
		switch {
		case !found && reason != "":
			return nil, badInput("%s cannot be taken back", printable(id))
		case !found:
			return nil, &failure{code: exitNoEffect, err: fmt.Errorf("nothing is kept of a signal %s", printable(id)),
				hint: "It never came here, has ended, was taken back, or a newer one of its source stands in its place. Entities are named as kind:id."}
		}
	}
	return entities, nil
}
