package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"vigil/authz"
	"vigil/server/control"
	"vigil/signals"
)

// sendSignal sends one signal and says what it did.
func (a *app) sendSignal(ctx context.Context, f *signalFlags, d draft) error {
	cl, err := a.controlClient(&f.connection)
	if err != nil {
		return err
	}
	return a.sendDrafts(ctx, cl, f, []draft{d})
}

// sendDrafts sends signals as one batch: all of them are accepted or none.
func (a *app) sendDrafts(ctx context.Context, cl *client, f *signalFlags, drafts []draft) error {
	others, err := a.replicas(&f.connection, &f.waitFlags)
	if err != nil {
		return err
	}
	if f.Actor == "" {
		f.Actor = defaultActor(a.env)
	}
	id := f.ID
	if id == "" {
		id = newSignalID()
	}
	now, err := f.when()
	if err != nil {
		return err
	}
	again := fmt.Sprintf("--id %s --time %s", id, now.Format(time.RFC3339Nano))
	batch := make([]map[string]any, len(drafts))
	for i := range drafts {
		own := id
		if len(drafts) > 1 {
			own = fmt.Sprintf("%s-%d", id, i+1)
		}
		body, err := drafts[i].envelope(f, now, own)
		if err != nil {
			return err
		}
		batch[i] = body
		if f.DryRun {
			continue
		}
		if err := a.confirm(f, &drafts[i]); err != nil {
			return err
		}
	}
	var whole any = batch
	if len(batch) == 1 {
		whole = batch[0]
	}
	body, err := json.Marshal(whole, json.Deterministic(true))
	if err != nil {
		return badInput("%s", err)
	}
	if f.DryRun {
		return a.dryRun(ctx, cl, f, drafts, body)
	}
	got, err := cl.call(ctx, http.MethodPost, "/v1/signals", body)
	var response control.SignalsResponse
	if err == nil {
		err = cl.decode(got, &response)
	}
	if err != nil {
		return resendable(err, again, f.ID != "" || len(drafts) == 1)
	}
	if len(others.clients) > 0 {
		return a.awaitOthers(ctx, f, others, drafts, &response, again)
	}
	if f.json() {
		fmt.Fprintln(a.stdout, strings.TrimSpace(string(got.body)))
	} else {
		a.printResults(drafts, &response)
	}
	return a.judgeResults(f, drafts, &response)
}

// when is the time of the signals: a signal that is sent again is the same one only if it
// has the same.
func (f *signalFlags) when() (time.Time, error) {
	if f.Time == "" {
		return time.Now().UTC(), nil
	}
	at, err := time.Parse(time.RFC3339, f.Time)
	if err != nil {
		return at, badInput("--time: want a time such as 2026-11-23T03:04:05Z, not %q", f.Time)
	}
	return at.UTC(), nil
}

// resendable adds to an unknown outcome the flags that make sure of it.
func resendable(err error, again string, same bool) error {
	var f *failure
	if !errors.As(err, &f) || !f.unknown || !same {
		return err
	}
	f.hint += fmt.Sprintf(" Send it again with %s: that is safe, and says what became of it.", again)
	return f
}

// confirm asks before what reaches far or cannot be taken back. It never waits for an
// answer that cannot come.
func (a *app) confirm(f *signalFlags, d *draft) error {
	if f.Yes || d.kind == signals.TypeRelease || d.kind == signals.TypeLift {
		return nil
	}
	question := ""
	for _, text := range d.entities {
		if ref, err := authz.ParseRef(text); err == nil && (ref.Kind == authz.KindEverything || ref.Kind == authz.KindTenant) {
			question = fmt.Sprintf("%s %s: this concerns every agent in it.", verb(d.kind), text)
		}
	}
	if d.forGood && len(d.entities) > 1 {
		question = fmt.Sprintf("%s %d entities: there is no way back.", verb(d.kind), len(d.entities))
	}
	if question == "" {
		return nil
	}
	return a.ask(false, question)
}

func verb(t signals.Type) string { return strings.ReplaceAll(string(t), "_", "-") }

// said is the verb of a draft with its value. Where an entity stands after it tells little of
// what neither holds nor releases it: an agent that was narrowed is as active as before.
func (d *draft) said() string {
	text := verb(d.kind)
	switch value := d.members[valueOf[d.kind]].(type) {
	case *int:
		if value != nil {
			text += " " + strconv.Itoa(*value)
		}
	case []string:
		text += " [" + strings.Join(value, " ") + "]"
	case string:
		if d.kind == signals.TypeRevoke {
			text += " before"
		}
		text += " " + value
	}
	return text
}

// valueOf names the member that has the value of a signal.
var valueOf = map[signals.Type]string{
	signals.TypeAttest: "result", signals.TypeRisk: "risk", signals.TypeNarrow: "scopes",
	signals.TypeRequireApproval: "actions", signals.TypeRevoke: "issued_before",
}

// printResults says what each signal did, one line per entity.
func (a *app) printResults(drafts []draft, r *control.SignalsResponse) {
	var rows [][]string
	for i, result := range r.Results {
		what := ""
		if i < len(drafts) {
			what = drafts[i].said()
		}
		for _, e := range result.Entities {
			rows = append(rows, []string{e.Ref, what, strings.ReplaceAll(e.Outcome, "_", " "), "now " + standingOf(e)})
		}
	}
	table(a.stdout, rows)
	if len(r.Results) > 0 {
		fmt.Fprintf(a.stdout, "id %s  as of %s\n", printable(r.Results[0].ID), printable(r.AsOf))
	}
	if r.Spooled {
		fmt.Fprintln(a.stdout, "SPOOLED: the log cannot be written now. This is in force on the replica that took it, and on the others when the log can be written again.")
	}
}

// standingOf is where an entity stands, and what holds it.
func standingOf(e control.SignalEntity) string {
	text := e.Status
	for _, h := range e.Holds {
		text += ", " + describeHold(h)
	}
	return text
}

func describeHold(h control.Hold) string {
	text := h.Type + " by " + h.Source
	if h.Until != "" {
		text += " until " + h.Until
	}
	return text
}

// changeless says what it means that a signal changed nothing, for the types that are
// meant to change something. What the others say holds all the same.
var changeless = map[signals.Type]string{
	signals.TypeRelease: "nothing held it that this ends",
	signals.TypeLift:    "nothing was in force that this lifts",
	signals.TypeRisk:    "its risk is as it was: what others say of it, or what you said before, weighs as much or more",
}

// judgeResults warns of signals that were accepted and did not do what they were meant
// to, which is exit code 3.
func (a *app) judgeResults(f *signalFlags, drafts []draft, r *control.SignalsResponse) error {
	effective := true
	for i, result := range r.Results {
		kind := signals.TypeRegister
		if i < len(drafts) {
			kind = drafts[i].kind
		}
		if len(result.Entities) == 0 {
			effective = false
			text := strings.ReplaceAll(result.Outcome, "_", " ")
			if result.Detail != "" {
				text += ": " + result.Detail
			}
			fmt.Fprintf(a.stderr, "warning: the signal %s had no effect: %s\n", printable(result.ID), printable(text))
		}
		for _, e := range result.Entities {
			switch {
			case !e.Known && kind != signals.TypeRegister && !f.AllowUnknown:
				effective = false
				fmt.Fprintf(a.stderr, "warning: nothing is known of %s%s\n", printable(e.Ref), alternatives(e.Nearest))
				fmt.Fprintln(a.stderr, "The signal is in force all the same. Say --allow-unknown if that is what you meant.")
			case e.Outcome == "superseded":
				effective = false
				fmt.Fprintf(a.stderr, "warning: a newer or stronger signal about %s stands already\n", printable(e.Ref))
			case e.Outcome == "lifted":
				effective = false
				fmt.Fprintf(a.stderr, "warning: this signal about %s was lifted before it came\n", printable(e.Ref))
			case kind == signals.TypeRelease && len(e.Holds) > 0:
				effective = false
				a.sayWhoHolds("is still", &e, drafts)
			case e.Outcome == "no_change" && changeless[kind] != "":
				effective = false
				fmt.Fprintf(a.stderr, "warning: %s: %s\n", printable(e.Ref), changeless[kind])
			}
		}
	}
	if !effective {
		return silent(exitNoEffect)
	}
	return nil
}

// sayWhoHolds warns of what holds an entity that was released, and says how to release it from
// others, unless that was done.
func (a *app) sayWhoHolds(is string, e *control.SignalEntity, drafts []draft) {
	holds := make([]string, len(e.Holds))
	for i, h := range e.Holds {
		holds[i] = describeHold(h)
	}
	fmt.Fprintf(a.stderr, "warning: %s %s held: %s\n", printable(e.Ref), is, printable(strings.Join(holds, ", ")))
	overruled := slices.ContainsFunc(drafts, func(d draft) bool { return d.line != "" })
	if !overruled && slices.ContainsFunc(e.Holds, func(h control.Hold) bool { return h.Type == "quarantine" }) {
		fmt.Fprintf(a.stderr, "Another source holds it. \"pdp signal release %s --all-sources\" releases it from all, where you may overrule them.\n", printable(e.Ref))
	}
}

func alternatives(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "; did you mean " + printable(strings.Join(names, " or ")) + "?"
}
