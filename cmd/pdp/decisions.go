package main

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"vigil/server/control"
)

type decisionsCmd struct {
	Ref    string `help:"Only those that concern this entity, as kind:id."`
	Since  string `help:"Only since this time (RFC 3339) or so long ago, as 10m."`
	Limit  int    `help:"At most so many." default:"50"`
	Tenant string `help:"Tenant, where your credential has several."`
	connection
	format
}

func (c *decisionsCmd) Run(ctx context.Context, a *app) error {
	if c.Limit < 1 || c.Limit > 10_000 {
		return badInput("--limit: want 1 to 10000, not %d", c.Limit)
	}
	query := url.Values{"limit": {strconv.Itoa(c.Limit)}}
	if c.Ref != "" {
		query.Set("ref", c.Ref)
	}
	if c.Tenant != "" {
		query.Set("tenant", c.Tenant)
	}
	if c.Since != "" {
		at, err := parseSince(c.Since)
		if err != nil {
			return badInput("--since: %s", err)
		}
		query.Set("since", at)
	}
	cl, err := a.controlClient(&c.connection)
	if err != nil {
		return err
	}
	var r control.DecisionsResponse
	raw, err := cl.get(ctx, "/v1/decisions?"+query.Encode(), &r)
	if err != nil {
		return err
	}
	if c.json() {
		fmt.Fprintln(a.stdout, strings.TrimSpace(string(raw)))
		return nil
	}
	if len(r.Decisions) == 0 {
		fmt.Fprintln(a.stderr, "No recent decision but allows.")
		return nil
	}
	rows := [][]string{{"LAST", "TIMES", "EFFECT", "CODE", "AGENT", "USER", "ACTION", "RESOURCE", "ID"}}
	for _, d := range r.Decisions {
		rows = append(rows, []string{d.Last, strconv.FormatUint(d.Count, 10), d.Decision.Effect, d.Decision.Code,
			d.Agent, d.User, d.Action, d.Resource, d.ID})
	}
	table(a.stdout, rows)
	return nil
}
