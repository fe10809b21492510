package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"vigil/authz"
	"vigil/server/control"
	"vigil/signals"
)

// respondCmd is the three responses to an incident that CoSAI's "Agentic Identity and
// Access Management" names in its section 4.4: withdraw the agent's credentials, cut the
// scopes that it was delegated, let it act with a human's approval only. Each is one
// batch of signals, in force when the command ends, and undo takes back what can be.
type respondCmd struct {
	Agent respondAgent `arg:""`
}

type respondAgent struct {
	Agent string `arg:"" help:"The agent: its id, or agent:id, or instance:id for one instance. Then one of contain, narrow, approval-only, undo."`

	Contain  containCmd      `cmd:"" help:"Hold the agent, and kill what was issued to it until now. A hold can be undone; what was issued before stays dead."`
	Narrow   narrowDownCmd   `cmd:"" help:"Leave the agent only some scopes, whoever delegated them."`
	Approval approvalOnlyCmd `cmd:"" name:"approval-only" help:"Let the agent act with a human's approval only."`
	Undo     respondUndoCmd  `cmd:"" help:"Take back your responses to this agent that can be."`
}

// ref is the entity that is meant. An id may hold colons: what names no kind is an id.
func (r *respondAgent) ref() (string, error) {
	ref, err := authz.ParseRef(r.Agent)
	if err != nil {
		ref, err = authz.ParseRef(authz.KindAgent.String() + ":" + r.Agent)
	}
	if err != nil {
		return "", badInput("%s", err)
	}
	if ref.Kind != authz.KindAgent && ref.Kind != authz.KindInstance {
		return "", &failure{code: exitInput, err: badInput("%s is no agent", ref), hint: "Of other entities, say what you mean with \"pdp signal\"."}
	}
	return ref.String(), nil
}

// responseID begins the ids of what this command sends, so that undo knows them again.
const responseID = "respond-"

type containCmd struct {
	KeepCredentials bool `help:"Only hold it: what was issued to it works again when the hold ends."`
	forFlag
	signalFlags
}

func (c *containCmd) Run(ctx context.Context, a *app, agent *respondAgent) error {
	ref, err := agent.ref()
	if err != nil {
		return err
	}
	drafts := []draft{{kind: signals.TypeQuarantine, entities: []string{ref}, lasts: c.For}}
	said := "Every call of " + ref + " is denied" + whileLasts(c.For) + "."
	if !c.KeepCredentials {
		at, err := c.when()
		if err != nil {
			return err
		}
		c.Time = at.Format(time.RFC3339Nano) // the cut-off, too when it is sent again
		if err := a.ask(c.Yes || c.DryRun, "What was issued to "+ref+" until now will be dead for good; so will be what does not say when it was issued."); err != nil {
			return err
		}
		drafts = append(drafts, draft{kind: signals.TypeRevoke, entities: []string{ref}, members: members{"issued_before": c.Time}})
		said += "\nWhat was issued to it before " + c.Time + " stays dead, also after an undo: then give it new credentials that say when they were issued."
	}
	err = a.respond(ctx, &c.signalFlags, agent, "contain", drafts, said)
	var r *refusal
	var f *failure
	if !c.KeepCredentials && errors.As(err, &r) && r.Code == control.CodeRefused && errors.As(err, &f) {
		f.hint = "Nothing was sent. --keep-credentials only holds it, which takes no right to revoke."
	}
	return err
}

type narrowDownCmd struct {
	Scopes   []string `help:"Scopes that are left, as a,b or repeated." xor:"left" required:""`
	NoScopes bool     `help:"Leave none." xor:"left" required:""`
	forFlag
	signalFlags
}

func (c *narrowDownCmd) Run(ctx context.Context, a *app, agent *respondAgent) error {
	ref, err := agent.ref()
	if err != nil {
		return err
	}
	left := c.Scopes
	if left == nil {
		left = []string{}
	}
	said := "Of its scopes, " + ref + " holds no other than [" + strings.Join(left, " ") + "]" + whileLasts(c.For) + ", whoever delegates more."
	return a.respond(ctx, &c.signalFlags, agent, "narrow", []draft{{
		kind: signals.TypeNarrow, entities: []string{ref}, lasts: c.For, members: members{"scopes": left},
	}}, said)
}

type approvalOnlyCmd struct {
	Action []string `help:"Action that needs an approval; may be repeated. By default every action." sep:"none"`
	forFlag
	signalFlags
}

func (c *approvalOnlyCmd) Run(ctx context.Context, a *app, agent *respondAgent) error {
	ref, err := agent.ref()
	if err != nil {
		return err
	}
	if err := a.checkActions(ctx, &c.signalFlags, c.Action); err != nil {
		return err
	}
	actions, what := c.Action, "These actions of "+ref+" need an approval: "+strings.Join(c.Action, ", ")
	if len(actions) == 0 {
		actions, what = []string{"*"}, "Every action of "+ref+" needs an approval"
	}
	return a.respond(ctx, &c.signalFlags, agent, "approval-only", []draft{{
		kind: signals.TypeRequireApproval, entities: []string{ref}, lasts: c.For, members: members{"actions": actions},
	}}, what+whileLasts(c.For)+".")
}

func whileLasts(lasts string) string {
	if lasts == "" {
		return " until you undo it"
	}
	return " for " + lasts
}

// respond sends a response and says what is in force now and how to take it back.
func (a *app) respond(ctx context.Context, f *signalFlags, agent *respondAgent, name string, drafts []draft, said string) error {
	cl, err := a.controlClient(&f.connection)
	if err != nil {
		return err
	}
	if f.ID == "" {
		f.ID = responseID + name + "-" + newSignalID()
	} else if !strings.HasPrefix(f.ID, responseID) {
		return badInput("--id: the id of a response begins with %q, so that undo finds it", responseID)
	}
	err = a.sendDrafts(ctx, cl, f, drafts)
	if f.json() || f.DryRun || !accepted(err) {
		return err
	}
	fmt.Fprintln(a.stdout)
	for line := range strings.SplitSeq(said, "\n") {
		fmt.Fprintln(a.stdout, printable(line))
	}
	fmt.Fprintf(a.stdout, "To take it back:  pdp respond %s undo%s\n", printable(agent.Agent), tenantFlag(f.Tenant))
	return err
}

// accepted reports whether a command that ended with err has sent what it was to.
func accepted(err error) bool {
	var f *failure
	return err == nil || errors.As(err, &f) && f.code == exitNoEffect
}

func tenantFlag(tenant string) string {
	if tenant == "" {
		return ""
	}
	return " --tenant " + tenant
}

type respondUndoCmd struct {
	AllSources bool `help:"Also the responses of others, where you may overrule them."`
	signalFlags
}

func (c *respondUndoCmd) Run(ctx context.Context, a *app, agent *respondAgent) error {
	ref, err := agent.ref()
	if err != nil {
		return err
	}
	var dead string // what stays
	err = a.takeBack(ctx, &c.signalFlags, []string{ref}, takeBack{
		types:      []string{"quarantine", "narrow", "require_approval"},
		allSources: c.AllSources,
		wanted: func(f *control.Fact) bool {
			if !strings.HasPrefix(ownID(f), responseID) {
				return false
			}
			if f.IssuedBefore != "" {
				dead = f.IssuedBefore
			}
			return true
		},
	})
	if dead != "" && accepted(err) && !c.json() && !c.DryRun {
		fmt.Fprintf(a.stdout, "What was issued to %s before %s stays dead: there is no way back.\n", printable(ref), dead)
	}
	return err
}

// ownID is the id of the signal that stated a fact: one that speaks in another source's
// line is kept under the name of who said it.
func ownID(f *control.Fact) string {
	_, id, _ := signals.SplitOverrulingID(f.ID)
	return id
}
