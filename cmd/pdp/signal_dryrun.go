package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"vigil/server/control"
	"vigil/signals"
)

// dryRun asks what a batch would do, and says it. Nothing is sent to be kept.
func (a *app) dryRun(ctx context.Context, cl *client, f *signalFlags, drafts []draft, batch []byte) error {
	got, err := cl.call(ctx, http.MethodPost, "/v1/dry-run", batch)
	if err != nil {
		return err
	}
	got.changes = false // whatever became of it, nothing did
	var r control.DryRunResponse
	if err := cl.decode(got, &r); err != nil {
		return err
	}
	if f.json() {
		fmt.Fprintln(a.stdout, strings.TrimSpace(string(got.body)))
	} else {
		a.printDryRun(drafts, &r)
	}
	return a.judgeDryRun(f, drafts, &r)
}

func (a *app) printDryRun(drafts []draft, r *control.DryRunResponse) {
	fmt.Fprintln(a.stdout, "DRY RUN: nothing was sent.")
	var rows [][]string
	for i, result := range r.Results {
		what := ""
		if i < len(drafts) {
			what = drafts[i].said()
		}
		for _, e := range result.Entities {
			now, then := "", "then "+standingOf(e.Would)
			if e.Now != nil && e.Then != nil {
				now, then = "now "+effectText(e.Now), "then "+effectText(e.Then)
			}
			rows = append(rows, []string{e.Would.Ref, what, strings.ReplaceAll(e.Would.Outcome, "_", " "), now, then})
		}
	}
	table(a.stdout, rows)
	if r.Asked > 0 {
		fmt.Fprintf(a.stdout, "\n%d of %d remembered decisions would be other than now.\n", len(r.Flips), r.Asked)
		rows = nil
		for _, flip := range r.Flips {
			rows = append(rows, []string{
				"  " + flip.Now.Effect + " " + flip.Now.Code + " -> " + flip.Then.Effect + " " + flip.Then.Code,
				flip.Action + " " + flip.Resource, flip.Agent, flip.User, "asked " + strconv.FormatUint(flip.Count, 10) + " times, last " + flip.Last,
			})
		}
		table(a.stdout, rows)
	}
	if r.Note != "" {
		fmt.Fprintln(a.stdout, printable(r.Note))
	}
}

// effectText is what an entity may not do, and its risk, in one line.
func effectText(e *control.Effective) string {
	text := e.Status
	if e.Risk > 0 {
		text += ", risk " + strconv.Itoa(e.Risk)
	}
	if e.Narrowed {
		text += ", narrowed to [" + strings.Join(e.ScopesLeft, " ") + "]"
	}
	if len(e.ApprovalFor) > 0 {
		text += ", approval for " + strings.Join(e.ApprovalFor, " ")
	}
	if e.Tainted {
		text += ", tainted"
	}
	if e.IssuedBefore != "" {
		text += ", dead if issued before " + e.IssuedBefore
	}
	return text
}

// judgeDryRun warns of what would not do what it is meant to, which is exit code 3.
func (a *app) judgeDryRun(f *signalFlags, drafts []draft, r *control.DryRunResponse) error {
	effective := true
	for i, result := range r.Results {
		if result.Detail != "" {
			effective = false
			fmt.Fprintf(a.stderr, "warning: it would have no effect: %s\n", printable(result.Detail))
		}
		for _, e := range result.Entities {
			switch {
			case !e.Would.Known && !f.AllowUnknown:
				effective = false
				fmt.Fprintf(a.stderr, "warning: nothing is known of %s%s\n", printable(e.Would.Ref), alternatives(e.Would.Nearest))
			case i < len(drafts) && drafts[i].kind == signals.TypeRelease && len(e.Would.Holds) > 0:
				effective = false
				a.sayWhoHolds("would still be", &e.Would, drafts)
			case e.Would.Outcome != "applied":
				effective = false
				fmt.Fprintf(a.stderr, "warning: %s would not change: %s\n", printable(e.Would.Ref), strings.ReplaceAll(e.Would.Outcome, "_", " "))
			}
		}
	}
	if !effective {
		return silent(exitNoEffect)
	}
	return nil
}
