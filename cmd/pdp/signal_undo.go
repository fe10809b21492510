package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"vigil/server/control"
	"vigil/signals"
)

// Taking back a signal is another signal. Where the newest one of a source speaks
// (quarantine, risk), it is a newer one in that source's line. Where all of them stand
// (narrowing, taint, demand for approval), it is a lift of each, by source and id. The
// commands here ask what stands, and send what takes it back as one batch.

type releaseCmd struct {
	refs
	AllSources bool `help:"Also in the line of every other source that holds the entity, where you may overrule it."`
	signalFlags
}

func (c *releaseCmd) Run(ctx context.Context, a *app) error {
	if !c.AllSources {
		// No question first: a release must not depend on being allowed to read.
		return a.sendSignal(ctx, &c.signalFlags, draft{kind: signals.TypeRelease, entities: c.Entities})
	}
	return a.takeBack(ctx, &c.signalFlags, c.Entities, takeBack{types: []string{"quarantine"}, allSources: true})
}

type restoreCmd struct {
	refs
	AllSources bool `help:"Also what other sources narrowed, where you may overrule them."`
	signalFlags
}

func (c *restoreCmd) Run(ctx context.Context, a *app) error {
	return a.takeBack(ctx, &c.signalFlags, c.Entities, takeBack{types: []string{"narrow"}, allSources: c.AllSources})
}

type clearCmd struct {
	refs
	AllSources bool `help:"Also what other sources said, where you may overrule them."`
	Taint      bool `help:"Only taints."`
	Approval   bool `help:"Only demands for approval."`
	signalFlags
}

func (c *clearCmd) Run(ctx context.Context, a *app) error {
	types := []string{"taint", "require_approval"}
	switch {
	case c.Taint && !c.Approval:
		types = types[:1]
	case c.Approval && !c.Taint:
		types = types[1:]
	}
	return a.takeBack(ctx, &c.signalFlags, c.Entities, takeBack{types: types, allSources: c.AllSources})
}

// takeBack says which facts of an entity are to be taken back.
type takeBack struct {
	types      []string // of signals
	allSources bool
	// wanted picks among the facts in force of any type; nil wants all.
	wanted func(*control.Fact) bool
}

// among marks the facts that are to be taken back by own, the source that asks, or by
// whoever may overrule where own is "". foreign counts those that other sources stated.
func (want *takeBack) among(facts []control.Fact, own string) (back []bool, foreign int) {
	back = make([]bool, len(facts))
	for i := range facts {
		fact := &facts[i]
		if !fact.Active || want.wanted != nil && !want.wanted(fact) || !slices.Contains(want.types, fact.Type) || neutral(fact) {
			continue
		}
		if own != "" && fact.Source != own {
			foreign++
			continue
		}
		back[i] = true
	}
	return back, foreign
}

// takeBack asks what stands about the entities and sends what takes it back.
func (a *app) takeBack(ctx context.Context, f *signalFlags, entities []string, want takeBack) error {
	cl, err := a.controlClient(&f.connection)
	if err != nil {
		return err
	}
	own := ""
	if !want.allSources {
		var me control.WhoamiResponse
		if _, err := cl.get(ctx, "/v1/whoami", &me); err != nil {
			return err
		}
		own = me.Source
	}
	var drafts []draft
	foreign := 0
	for _, ref := range entities {
		facts, err := a.standing(ctx, cl, ref, f.Tenant)
		if err != nil {
			return err
		}
		back, others := want.among(facts, own)
		foreign += others
		again, err := opposites(ref, facts, back)
		if err != nil {
			return err
		}
		drafts = append(drafts, again...)
	}
	if len(drafts) == 0 {
		nothing, hint := "there is nothing of yours to take back", ""
		if want.allSources {
			nothing = "there is nothing in force to take back"
		}
		if foreign > 0 {
			hint = fmt.Sprintf("Other sources said %d such things. With --all-sources you take back theirs, where you may overrule them.", foreign)
		}
		return &failure{code: exitNoEffect, err: errors.New(nothing), hint: hint}
	}
	if len(drafts) > signals.MaxBatch {
		return badInput("that takes %d signals, more than %d at once; name fewer entities", len(drafts), signals.MaxBatch)
	}
	said := *f
	said.AllowUnknown = true // what is taken back stands there: the names are no slips
	return a.sendDrafts(ctx, cl, &said, drafts)
}

// standing gives the facts of an entity; none when it is not known.
func (a *app) standing(ctx context.Context, cl *client, ref, tenant string) ([]control.Fact, error) {
	got, err := cl.call(ctx, http.MethodGet, entityPath(ref, tenant), nil)
	if err != nil {
		return nil, err
	}
	var entity control.EntityResponse
	if err := cl.decode(got, &entity); err != nil {
		return nil, unknownEntity(err)
	}
	return entity.Facts, nil
}

func entityPath(ref, tenant string) string {
	path := "/v1/entities/" + url.PathEscape(ref)
	if tenant != "" {
		path += "?" + url.Values{"tenant": {tenant}}.Encode()
	}
	return path
}
