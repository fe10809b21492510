package control

import (
	"cmp"
	"net/http"
	"slices"

	"vigil/authz"
	"vigil/posture"
	"vigil/server/credential"
	"vigil/server/recent"
	"vigil/signals"
)

// DryRunResponse answers POST /v1/dry-run: what a push of the body would do. Nothing was
// written, and nothing of it is in force.
type DryRunResponse struct {
	Results []DryRunResult `json:"results"` // in the order of the request
	// Flips are the remembered decisions that would be other than they would be now. Only
	// for clients that may read.
	Flips []Flip `json:"flips"`
	// Asked is how many remembered decisions were asked again.
	Asked int `json:"asked"`
	// Note says what Flips cannot tell.
	Note string `json:"note,omitzero"`
	AsOf string `json:"as_of"`
	At   string `json:"at"`
}

// DryRunResult is what one signal would do.
type DryRunResult struct {
	ID       string         `json:"id"`
	Outcome  string         `json:"outcome"` // applied, superseded, duplicate, lifted or no_change
	Tenant   string         `json:"tenant"`
	Detail   string         `json:"detail,omitzero"` // why it would have no effect, where the outcome does not say
	Entities []DryRunEntity `json:"entities"`
}

// DryRunEntity is where one entity of a signal would stand.
type DryRunEntity struct {
	Would SignalEntity `json:"would"`
	// Now is where it stands. Then is what would be in force once all of the batch is. Only
	// for clients that may read.
	Now  *Effective `json:"now,omitzero"`
	Then *Effective `json:"then,omitzero"`
}

// Flip is a remembered decision that the signals would change.
type Flip struct {
	ID       string      `json:"id"` // for explain
	Tenant   string      `json:"tenant"`
	Agent    string      `json:"agent,omitzero"`
	User     string      `json:"user,omitzero"`
	Action   string      `json:"action"`
	Resource string      `json:"resource"` // "type:id"
	Count    uint64      `json:"count"`    // how often it was asked
	Last     string      `json:"last,omitzero"`
	Now      FlipsAnswer `json:"now"`
	Then     FlipsAnswer `json:"then"`
}

// FlipsAnswer is how a flipped question is answered, before or after.
type FlipsAnswer struct {
	Effect      string `json:"effect"` // deny, require or allow
	Code        string `json:"code"`
	ReasonAdmin string `json:"reason_admin,omitzero"`
}

// Bounds of the decisions that are asked again in one dry run.
const (
	maxAsked      = 500 // decisions
	maxAskedAbout = 64  // entities whose decisions are looked for
)

const (
	noteRemembered = "Decisions that were not an allow are remembered, and no others: of calls that were allowed all along, the flips say nothing."
	noteReaders    = "What it would do to decisions is told to clients that may read."
	noteBounded    = " More are remembered than were asked again."
)

// dryRun says what pushing the body would do.
func (s *Server) dryRun(c *call) error {
	if _, err := parameters(c.r); err != nil {
		return err
	}
	body, release, err := s.receiveSignals(c)
	if err != nil {
		return err
	}
	defer release()
	if !s.explain.enter(c.r.Context()) {
		return busy("too many requests are being explained")
	}
	defer s.explain.leave()
	asOf, reads := c.parts.Posture.AsOf(), c.client.May(credential.Read)
	var asked []recent.Entry
	more := false
	rehearsal, err := c.parts.Intake.Rehearse(c.client.Sender, body, func(named []authz.Key) (beside []authz.Key) {
		if reads {
			asked, more = concerned(c.parts.Recent, c.client.Caller.Tenants, named)
		}
		for i := range asked {
			for _, r := range asked[i].Records {
				beside = append(beside, r.Ref.In(asked[i].Tenant))
			}
		}
		for _, tenant := range c.client.Caller.Tenants {
			for _, required := range c.parts.Rules.State().Set.Required() {
				beside = append(beside, authz.Ref{Kind: authz.KindSource, ID: required.Source}.In(tenant))
			}
		}
		return beside
	})
	if err != nil {
		return ofPush(err)
	}
	answer := DryRunResponse{Results: []DryRunResult{}, Flips: []Flip{}, Note: noteReaders, AsOf: asOf, At: rehearsal.At.String()}
	if reads {
		answer.Note, answer.Asked = noteRemembered, len(asked)
		if more {
			answer.Note += noteBounded
		}
		answer.Flips = flips(c.parts.Engine, asked, &rehearsal)
	}
	var strangers []*SignalEntity
	var keys []authz.Key
	for i := range rehearsal.Results {
		answer.Results = append(answer.Results, dryRunResult(&rehearsal, i, reads))
		for j, e := range rehearsal.Results[i].Entities {
			if would := &answer.Results[i].Entities[j].Would; e.Key.Kind == authz.KindSource {
				knowSource(c.parts, e.Key, rehearsal.At, would, reads)
			} else if !would.Known {
				strangers = append(strangers, &answer.Results[i].Entities[j].Would)
				keys = append(keys, e.Key)
			}
		}
	}
	if reads && len(strangers) > 0 {
		s.suggest(c.parts.Posture, strangers, keys)
	}
	return c.respond(http.StatusOK, &answer)
}

func dryRunResult(r *signals.Rehearsal, i int, reads bool) DryRunResult {
	result := &r.Results[i]
	out := DryRunResult{
		ID: result.ID, Outcome: result.Outcome.String(), Tenant: result.Tenant, Detail: result.Detail,
		Entities: make([]DryRunEntity, len(result.Entities)),
	}
	for j, e := range result.Entities {
		out.Entities[j].Would = signalEntity(e, r.At)
		if reads {
			now, then := standing(r.Before, e.Key, r.At), standing(r.After, e.Key, r.At)
			out.Entities[j].Now, out.Entities[j].Then = &now, &then
		}
	}
	return out
}

func standing(store *posture.Store, key authz.Key, now authz.Instant) Effective {
	return effectiveOf(store.Get(key).At(now), now)
}

// concerned gives the remembered decisions that touch one of the named entities, the latest
// first, as many as are asked again, and whether there are more.
func concerned(r Recent, tenants []string, named []authz.Key) (found []recent.Entry, more bool) {
	there := map[string]bool{}
	add := func(q recent.Query) {
		q.Limit = maxAsked + 1
		for _, e := range r.Query(q) {
			if !e.Bare && !there[e.ID] {
				there[e.ID] = true
				found = append(found, e)
			}
		}
	}
	for _, key := range named[:min(len(named), maxAskedAbout)] {
		switch {
		case key.Kind == authz.KindEverything:
			for _, tenant := range tenants {
				add(recent.Query{Tenant: tenant})
			}
		case !slices.Contains(tenants, key.Tenant): // it may speak for it, and not read it
		case key.Kind == authz.KindCode, key.Kind == authz.KindModel, key.Kind == authz.KindSource:
			// No decision names them: an agent's registration does, or its profile.
			add(recent.Query{Tenant: key.Tenant})
		default:
			add(recent.Query{Tenant: key.Tenant, Ref: key.Ref()})
		}
	}
	slices.SortStableFunc(found, func(a, b recent.Entry) int { return cmp.Compare(b.Last, a.Last) })
	return found[:min(len(found), maxAsked)], len(found) > maxAsked || len(named) > maxAskedAbout
}

// flips asks decisions again by what is in force and by what would be, at one now.
func flips(e Engine, asked []recent.Entry, r *signals.Rehearsal) []Flip {
	out := []Flip{}
	for i := range asked {
		d := &asked[i]
		now := e.Suppose(r.Before, r.At, &d.Caller, d.Request, d.Principal)
		then := e.Suppose(r.After, r.At, &d.Caller, d.Request, d.Principal)
		if now.Effect == then.Effect { // another reason is no other decision
			continue
		}
		out = append(out, Flip{
			ID: d.ID, Tenant: d.Tenant, Agent: named(authz.KindAgent, d.Principal.Agent), User: named(authz.KindUser, d.Principal.User),
			Action: d.Request.Action.Name, Resource: d.Request.Resource.Type + ":" + d.Request.Resource.ID,
			Count: d.Count, Last: d.Last.String(), Now: flipsAnswer(now), Then: flipsAnswer(then),
		})
	}
	return out
}

func flipsAnswer(a authz.Answer) FlipsAnswer {
	return FlipsAnswer{Effect: a.Effect.String(), Code: string(a.Code), ReasonAdmin: a.ReasonAdmin}
}
