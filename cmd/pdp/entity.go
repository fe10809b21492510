package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"vigil/authz"
	"vigil/server/control"
)

type entityCmd struct {
	Show    entityShowCmd    `cmd:"" help:"Everything that is known of one entity."`
	List    entityListCmd    `cmd:"" help:"List known entities."`
	History entityHistoryCmd `cmd:"" help:"Who said what of one entity, when, from which source, and what of it is in force until when. Newest first."`
}

type entityShowCmd struct {
	Entity string `arg:"" help:"kind:id, such as agent:invoice-agent; or everything."`
	Tenant string `help:"Tenant, where your credential has several."`
	connection
	format
}

func (c *entityShowCmd) Run(ctx context.Context, a *app) error {
	if _, err := authz.ParseRef(c.Entity); err != nil {
		return badInput("%s", err)
	}
	cl, err := a.controlClient(&c.connection)
	if err != nil {
		return err
	}
	var e control.EntityResponse
	raw, err := cl.get(ctx, entityPath(c.Entity, c.Tenant), &e)
	if err != nil {
		return unknownEntity(err)
	}
	if c.json() {
		fmt.Fprintln(a.stdout, strings.TrimSpace(string(raw)))
		return nil
	}
	a.printEntity(&e)
	return nil
}

// unknownEntity adds names that resemble an unknown one.
func unknownEntity(err error) error {
	var r *refusal
	var f *failure
	if errors.As(err, &r) && errors.As(err, &f) && r.Code == control.CodeUnknownEntity {
		f.code = exitNoEffect
		f.err = fmt.Errorf("%w%s", f.err, alternatives(r.Nearest))
	}
	return err
}

func (a *app) printEntity(e *control.EntityResponse) {
	eff := &e.Effective
	fmt.Fprintf(a.stdout, "%s  %s", printable(e.Ref), strings.ToUpper(eff.Status))
	if !eff.Registered {
		fmt.Fprint(a.stdout, ", not registered")
	}
	fmt.Fprintln(a.stdout)
	rows := [][]string{}
	add := func(name, value string) {
		if value != "" {
			rows = append(rows, []string{"  " + name, value})
		}
	}
	add("class", eff.Class)
	add("risk", strconv.Itoa(eff.Risk))
	add("attested", eff.Attested)
	add("labels", pairsText(eff.Labels))
	add("scopes", strings.Join(eff.Scopes, " "))
	if eff.Narrowed {
		add("scopes left", "["+strings.Join(eff.ScopesLeft, " ")+"]")
	}
	add("approval for", strings.Join(eff.ApprovalFor, " "))
	if eff.Tainted {
		add("tainted", "yes")
	}
	if eff.Waived {
		add("waived", "its silence stops nobody")
	}
	for _, h := range eff.Holds {
		add("held", describeHold(h))
	}
	add("dead if issued before", eff.IssuedBefore)
	add("until", eff.Until)
	table(a.stdout, rows)
	if len(e.Facts) == 0 {
		return
	}
	fmt.Fprintln(a.stdout)
	rows = [][]string{{"TIME", "TYPE", "SOURCE", "ID", "UNTIL", "BY", "WHY"}}
	for _, f := range e.Facts {
		until := f.Until
		if !f.Active {
			until += " (over)"
		}
		rows = append(rows, []string{f.Time, factText(f), f.Source, f.ID, until, f.Actor, strings.TrimSpace(f.Ticket + " " + f.Reason)})
	}
	table(a.stdout, rows)
}

// factText is the type of a fact with its value.
func factText(f control.Fact) string {
	switch {
	case f.Risk != nil:
		return f.Type + " " + strconv.Itoa(*f.Risk)
	case f.Result != "":
		return f.Type + " " + f.Result
	case f.IssuedBefore != "":
		return f.Type + " before " + f.IssuedBefore
	case f.Lifts != nil:
		return f.Type + " " + f.Lifts.Type + " " + f.Lifts.ID
	case f.Class != "":
		return f.Type + " " + f.Class
	case len(f.Actions) > 0:
		return f.Type + " " + strings.Join(f.Actions, " ")
	case f.Type == "narrow":
		return f.Type + " [" + strings.Join(f.Scopes, " ") + "]"
	}
	return f.Type
}

type entityListCmd struct {
	Kind  string `help:"Only this kind."`
	Held  bool   `help:"Only what is held, revoked or decommissioned."`
	Class string `help:"Only what is registered with this class."`
	// A pointer: more than 0 is a filter, too.
	RiskOver     *int   `help:"Only what has more risk than this." placeholder:"0-100"`
	ChangedSince string `help:"Only what has changed since (RFC 3339, or how long ago, as 2h): something said of it is dated then or later, or has ended." placeholder:"TIME"`
	Tenant       string `help:"Only this tenant."`
	Limit        int    `help:"At most so many." default:"100"`
	connection
	format
}

func (c *entityListCmd) Run(ctx context.Context, a *app) error {
	if _, ok := authz.ParseKind(c.Kind); c.Kind != "" && !ok {
		return badInput("--kind: unknown kind %q%s", c.Kind, didYouMean(c.Kind, kindWords()))
	}
	if c.Limit < 1 || c.Limit > 100_000 {
		return badInput("--limit: want 1 to 100000, not %d", c.Limit)
	}
	cl, err := a.controlClient(&c.connection)
	if err != nil {
		return err
	}
	query := url.Values{}
	set := func(name, value string) {
		if value != "" {
			query.Set(name, value)
		}
	}
	set("kind", c.Kind)
	set("tenant", c.Tenant)
	set("class", c.Class)
	if c.Held {
		set("held", "true")
	}
	if c.RiskOver != nil {
		set("risk_over", strconv.Itoa(*c.RiskOver))
	}
	if c.ChangedSince != "" {
		since, err := parseSince(c.ChangedSince)
		if err != nil {
			return badInput("--changed-since: %s", err)
		}
		set("changed_since", since)
	}
	all := []control.EntitySummary{}
	var more bool
	for {
		query.Set("limit", strconv.Itoa(min(c.Limit-len(all), 1000)))
		var page control.EntitiesResponse
		if _, err := cl.get(ctx, "/v1/entities?"+query.Encode(), &page); err != nil {
			return err
		}
		all = append(all, page.Entities...)
		more = page.Next != ""
		if !more || len(page.Entities) == 0 || len(all) >= c.Limit {
			break
		}
		query.Set("cursor", page.Next)
	}
	if c.json() {
		return a.printJSON(struct {
			Entities []control.EntitySummary `json:"entities"`
			More     bool                    `json:"more"`
		}{all, more})
	}
	if len(all) == 0 {
		fmt.Fprintln(a.stderr, "Nothing that is known is like that.")
		return nil
	}
	rows := [][]string{{"ENTITY", "STATUS", "RISK", "CLASS", "CHANGED", "HELD BY"}}
	for _, e := range all {
		var holds []string
		for _, h := range e.Holds {
			holds = append(holds, describeHold(h))
		}
		rows = append(rows, []string{e.Ref, e.Status, strconv.Itoa(e.Risk), e.Class, e.ChangedAt, strings.Join(holds, "; ")})
	}
	table(a.stdout, rows)
	if more {
		fmt.Fprintf(a.stderr, "There are more; raise --limit above %d.\n", c.Limit)
	}
	return nil
}
