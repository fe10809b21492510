package main

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"vigil/authz"
	"vigil/server/control"
)

type entityHistoryCmd struct {
	Entity string `arg:"" help:"kind:id, such as agent:invoice-agent; or everything."`
	Tenant string `help:"Tenant, where your credential has several."`
	Limit  int    `help:"At most so many, the newest." default:"100"`
	connection
	format
}

func (c *entityHistoryCmd) Run(ctx context.Context, a *app) error {
	if _, err := authz.ParseRef(c.Entity); err != nil {
		return badInput("%s", err)
	}
	if c.Limit < 1 || c.Limit > 1000 {
		return badInput("--limit: want 1 to 1000, not %d", c.Limit)
	}
	cl, err := a.controlClient(&c.connection)
	if err != nil {
		return err
	}
	query := url.Values{"limit": {strconv.Itoa(c.Limit)}}
	if c.Tenant != "" {
		query.Set("tenant", c.Tenant)
	}
	var h control.HistoryResponse
	raw, err := cl.get(ctx, "/v1/history/"+url.PathEscape(c.Entity)+"?"+query.Encode(), &h)
	if err != nil {
		return unknownEntity(err)
	}
	if c.json() {
		fmt.Fprintln(a.stdout, strings.TrimSpace(string(raw)))
		return nil
	}
	fmt.Fprintf(a.stdout, "%s  %s\n\n", printable(h.Ref), strings.ToUpper(h.Status))
	rows := [][]string{{"TIME", "WHAT", "STATE", "SOURCE", "ID", "BY", "WHY"}}
	for _, e := range h.Entries {
		f := &e.Fact
		by := f.Actor
		if e.SaidBy != "" {
			by = strings.TrimSpace(e.SaidBy + " " + by)
		}
		rows = append(rows, []string{f.Time, factText(*f), stateText(&e), f.Source, f.ID, by, strings.TrimSpace(f.Ticket + " " + f.Reason)})
	}
	table(a.stdout, rows)
	if h.Kept > len(h.Entries) {
		fmt.Fprintf(a.stderr, "There are %d more, older ones; raise --limit.\n", h.Kept-len(h.Entries))
	}
	return nil
}

// stateText is what has become of a statement, and until when that holds.
func stateText(e *control.HistoryEntry) string {
	switch e.State {
	case "waiting":
		return "speaks again " + e.From
	case "ended":
		return "ended " + e.Fact.Until
	}
	if e.Fact.Until != "" {
		return "in force until " + e.Fact.Until
	}
	return "in force"
}
