package main

import (
	"context"
	"strings"
	"time"

	"vigil/authz"
	"vigil/server/control"
	"vigil/signals"
)

// signalCmd is every way to change what is known of an entity.
type signalCmd struct {
	Register        registerCmd        `cmd:"" help:"State an agent's whole registration: class, labels, scopes, digests."`
	Attest          attestCmd          `cmd:"" help:"State the result of an attestation."`
	Risk            riskCmd            `cmd:"" help:"Set a risk score from 0 to 100."`
	Quarantine      quarantineCmd      `cmd:"" help:"Hold an entity: everything that involves it is denied, until released."`
	Release         releaseCmd         `cmd:"" help:"End a quarantine of yours."`
	Narrow          narrowCmd          `cmd:"" help:"Leave an entity only some of its scopes."`
	Restore         restoreCmd         `cmd:"" help:"Lift what narrowed an entity."`
	RequireApproval requireApprovalCmd `cmd:"" help:"Demand an approval for actions."`
	Taint           taintCmd           `cmd:"" help:"Mark an entity as tainted."`
	Clear           clearCmd           `cmd:"" help:"Lift taints and demands for approval."`
	Revoke          revokeCmd          `cmd:"" help:"Revoke for good. There is no way back."`
	Decommission    decommissionCmd    `cmd:"" help:"Take out of service for good. There is no way back."`
	Waive           waiveCmd           `cmd:"" help:"Let agents go on for a time though a source of signals is silent."`
	Heartbeat       heartbeatCmd       `cmd:"" help:"Say that you are there and have nothing to report."`
	Lift            liftCmd            `cmd:"" help:"Lift one signal by its type, source and id."`
	Undo            undoCmd            `cmd:"" help:"Take back whatever can be taken back: quarantine, narrowing, taint, demand for approval, risk, exception."`
	Tail            tailCmd            `cmd:"" help:"Follow what is applied on one replica, as it happens."`
}

// signalFlags are common to every verb.
type signalFlags struct {
	connection
	format
	Reason       string `short:"r" help:"Why, for those who will ask." group:"Signal:"`
	Ticket       string `short:"t" help:"The ticket or incident." group:"Signal:"`
	Actor        string `help:"Who decided this. By default you." env:"VIGIL_ACTOR" group:"Signal:"`
	ID           string `name:"id" help:"Id of the signal. Sending it again with the same id and time is safe." group:"Signal:"`
	Time         string `help:"When it happened (RFC 3339). By default now." group:"Signal:"`
	Tenant       string `help:"Tenant, where your credential has several." group:"Signal:"`
	AllowUnknown bool   `help:"Accept that nothing is known of the entity (otherwise exit 3), or that the rules declare no such action (otherwise exit 2)." group:"Signal:"`
	DryRun       bool   `help:"Send nothing: say what it would do, to the entities and to remembered decisions." group:"Signal:"`
	Yes          bool   `short:"y" help:"Do not ask for confirmation." group:"Signal:"`
	waitFlags
}

// forFlag is for what may end by itself.
type forFlag struct {
	For string `help:"How long it holds, such as 90s, 2h or 7d. By default until taken back." placeholder:"DURATION" group:"Signal:"`
}

// refs are the entities that a signal is about.
type refs struct {
	Entities []string `arg:"" name:"entity" help:"kind:id, such as agent:invoice-agent; or everything."`
}

type registerCmd struct {
	refs
	Class string            `required:"" help:"Capability-risk class; the rules declare them."`
	Label map[string]string `short:"l" help:"Label as name=value; may be repeated." mapsep:"none"`
	Scope []string          `help:"Scope that the agent holds; may be repeated." sep:"none"`
	Code  string            `help:"Digest of its code."`
	Model string            `help:"Digest of its model."`
	forFlag
	signalFlags
}

func (c *registerCmd) Run(ctx context.Context, a *app) error {
	return a.sendSignal(ctx, &c.signalFlags, draft{kind: signals.TypeRegister, entities: c.Entities, lasts: c.For, members: members{
		"class": c.Class, "labels": c.Label, "scopes": c.Scope, "code": c.Code, "model": c.Model,
	}})
}

type attestCmd struct {
	refs
	Result string `required:"" enum:"pass,fail" help:"pass or fail."`
	signalFlags
}

func (c *attestCmd) Run(ctx context.Context, a *app) error {
	return a.sendSignal(ctx, &c.signalFlags, draft{kind: signals.TypeAttest, entities: c.Entities, members: members{"result": c.Result}})
}

type riskCmd struct {
	refs
	Score *int `required:"" help:"0 (none) to 100." placeholder:"0-100"`
	forFlag
	signalFlags
}

func (c *riskCmd) Run(ctx context.Context, a *app) error {
	return a.sendSignal(ctx, &c.signalFlags, draft{kind: signals.TypeRisk, entities: c.Entities, lasts: c.For, members: members{"risk": c.Score}})
}

type quarantineCmd struct {
	refs
	forFlag
	signalFlags
}

func (c *quarantineCmd) Run(ctx context.Context, a *app) error {
	return a.sendSignal(ctx, &c.signalFlags, draft{kind: signals.TypeQuarantine, entities: c.Entities, lasts: c.For})
}

type narrowCmd struct {
	refs
	Scope    []string `help:"Scope that is left; may be repeated." sep:"none" xor:"left" required:""`
	NoScopes bool     `help:"Leave none." xor:"left" required:""`
	forFlag
	signalFlags
}

func (c *narrowCmd) Run(ctx context.Context, a *app) error {
	left := c.Scope
	if left == nil {
		left = []string{}
	}
	return a.sendSignal(ctx, &c.signalFlags, draft{kind: signals.TypeNarrow, entities: c.Entities, lasts: c.For, members: members{"scopes": left}})
}

type requireApprovalCmd struct {
	refs
	Action []string `help:"Action that needs an approval; may be repeated. By default every action." sep:"none"`
	forFlag
	signalFlags
}

func (c *requireApprovalCmd) Run(ctx context.Context, a *app) error {
	if err := a.checkActions(ctx, &c.signalFlags, c.Action); err != nil {
		return err
	}
	actions := c.Action
	if len(actions) == 0 {
		actions = []string{"*"}
	}
	return a.sendSignal(ctx, &c.signalFlags, draft{kind: signals.TypeRequireApproval, entities: c.Entities, lasts: c.For, members: members{"actions": actions}})
}

type taintCmd struct {
	refs
	forFlag
	signalFlags
}

func (c *taintCmd) Run(ctx context.Context, a *app) error {
	return a.sendSignal(ctx, &c.signalFlags, draft{kind: signals.TypeTaint, entities: c.Entities, lasts: c.For})
}

type revokeCmd struct {
	refs
	IssuedBefore string `help:"Revoke only what was issued before this time (RFC 3339, or now). Users, tools, tenants and everything need it." placeholder:"TIME"`
	signalFlags
}

func (c *revokeCmd) Run(ctx context.Context, a *app) error {
	d := draft{kind: signals.TypeRevoke, entities: c.Entities, forGood: true}
	if c.IssuedBefore == "now" { // the same now, also when it is sent again
		at, err := c.when()
		if err != nil {
			return err
		}
		c.Time = at.Format(time.RFC3339Nano)
		c.IssuedBefore = c.Time
	}
	if c.IssuedBefore != "" {
		at, err := parseTime(c.IssuedBefore)
		if err != nil {
			return badInput("--issued-before: %s", err)
		}
		d.members = members{"issued_before": at}
	} else if err := c.needsCutoff(); err != nil {
		return err
	}
	return a.sendSignal(ctx, &c.signalFlags, d)
}

// needsCutoff refuses a plain revocation of what must be able to come back: a user who
// was revoked for good could never log in again.
func (c *revokeCmd) needsCutoff() error {
	for _, text := range c.Entities {
		ref, err := authz.ParseRef(text)
		if err != nil {
			return badInput("%s", err)
		}
		switch ref.Kind {
		case authz.KindUser, authz.KindTool, authz.KindTenant, authz.KindEverything:
			return &failure{code: exitInput,
				err:  badInput("%s cannot be revoked for good", ref),
				hint: "Quarantine it, or revoke what was issued to it so far: --issued-before now."}
		}
	}
	return nil
}

type decommissionCmd struct {
	refs
	signalFlags
}

func (c *decommissionCmd) Run(ctx context.Context, a *app) error {
	return a.sendSignal(ctx, &c.signalFlags, draft{kind: signals.TypeDecommission, entities: c.Entities, forGood: true})
}

type waiveCmd struct {
	Sources []string `arg:"" name:"source" help:"The silent source, as source:client:siem, source:issuer:NAME or source:topic:NAME."`
	For     string   `required:"" help:"How long the exception holds, such as 90s, 2h or 7d; 7d at most." placeholder:"DURATION" group:"Signal:"`
	signalFlags
}

func (c *waiveCmd) Run(ctx context.Context, a *app) error {
	if strings.TrimSpace(c.Reason) == "" {
		return badInput("an exception needs a --reason")
	}
	return a.sendSignal(ctx, &c.signalFlags, draft{kind: signals.TypeWaive, entities: c.Sources, lasts: c.For})
}

type heartbeatCmd struct {
	signalFlags
}

// Run asks who the caller is: a heartbeat is always of the source that sends it.
func (c *heartbeatCmd) Run(ctx context.Context, a *app) error {
	cl, err := a.controlClient(&c.connection)
	if err != nil {
		return err
	}
	var me control.WhoamiResponse
	if _, err := cl.get(ctx, "/v1/whoami", &me); err != nil {
		return err
	}
	return a.sendDrafts(ctx, cl, &c.signalFlags, []draft{{kind: signals.TypeHeartbeat, entities: []string{"source:" + me.Source}}})
}

type liftCmd struct {
	refs
	Type   string `required:"" help:"Type of the signal to lift: narrow, taint, require_approval, waive, or (for administrators) unreadable."`
	Source string `help:"Its source, as in client:soar. By default yourself. \"pdp entity show\" lists them."`
	Target string `required:"" help:"Its id."`
	signalFlags
}

func (c *liftCmd) Run(ctx context.Context, a *app) error {
	return a.sendSignal(ctx, &c.signalFlags, draft{kind: signals.TypeLift, entities: c.Entities, members: members{
		"lifts": liftTarget{Type: strings.ReplaceAll(c.Type, "-", "_"), Source: c.Source, ID: c.Target},
	}})
}
