package signals

import (
	"slices"

	"vigil/authz"
	"vigil/posture"
)

// Rehearsal is what a push would do. Nothing of it is written or in force.
type Rehearsal struct {
	Results []Result // as those of the Receipt
	// Before and After know of the entities that the signals name, and of those asked for
	// beside them, what is in force at At and what would be.
	Before, After *posture.Store
	At            authz.Instant
}

// Rehearse takes a body as Push does, judges it and says what it would do. beside may name
// further entities that Before and After are to know; nil names none. The software that an
// agent or an instance is or would be registered with is known, too.
//
// It needs no log, so it says nothing of whether a push would be taken now. That an id
// stands for another signal already is not looked for. Its errors are a *DecodeError, a
// *RefusedError and ErrOverloaded.
func (in *Intake) Rehearse(sender Sender, body []byte, beside func(named []authz.Key) []authz.Key) (Rehearsal, error) {
	if in.waiting.Add(1) > int64(in.cfg.MaxWaiting) {
		in.waiting.Add(-1)
		return Rehearsal{}, ErrOverloaded
	}
	defer in.waiting.Add(-1)
	batch, err := Decode(body)
	if err != nil {
		return Rehearsal{}, err
	}
	records, err := in.prepare(sender, batch)
	if err != nil {
		return Rehearsal{}, err
	}
	now := in.cfg.Now()
	r := Rehearsal{Results: make([]Result, len(records)), At: now}
	all := make([][]posture.Change, len(records))
	var named []authz.Key
	for i := range records {
		s := &batch.Signals[i]
		r.Results[i] = Result{ID: s.ID, Tenant: s.Tenant}
		if all[i], err = Facts(&records[i], s, now); err != nil {
			r.Results[i].Detail = err.Error() // as of a record that the log's clock refuses
		}
		for _, ref := range s.Entities {
			named = append(named, ref.In(s.Tenant))
		}
	}
	keys := slices.Clone(named)
	if beside != nil {
		keys = append(keys, beside(named)...)
	}
	keys = in.withSoftware(keys, all)
	r.Before, r.After = in.cfg.Store.Scratch(now, keys), in.cfg.Store.Scratch(now, keys)
	for i := range all {
		results := r.After.Apply(now, all[i])
		if batch.Signals[i].Type == TypeHeartbeat {
			results = heartbeat(r.After, &records[i], heardAt(&records[i], batch.Signals[i].Time, now))
		}
		if r.Results[i].Detail == "" {
			r.After.Hear(sender.Source.String(), heardAt(&records[i], batch.Signals[i].Time, now), now)
		}
		r.Results[i].Entities, r.Results[i].Outcome = results, strongest(results)
	}
	return r, nil
}

// withSoftware adds the code and the model that entities are registered with, now or by
// the changes to come. Each key is there once.
func (in *Intake) withSoftware(keys []authz.Key, changes [][]posture.Change) []authz.Key {
	there := make(map[authz.Key]bool, len(keys))
	distinct := keys[:0:0]
	add := func(key authz.Key) {
		if !there[key] && (key.ID != "" || key.Kind == authz.KindEverything) {
			there[key] = true
			distinct = append(distinct, key)
		}
	}
	software := func(tenant string, r *posture.Registered) {
		if r != nil {
			add(authz.Ref{Kind: authz.KindCode, ID: r.Code}.In(tenant))
			add(authz.Ref{Kind: authz.KindModel, ID: r.Model}.In(tenant))
		}
	}
	for _, key := range keys {
		add(key)
		software(key.Tenant, in.cfg.Store.Get(key).Registered())
	}
	for _, of := range changes {
		for _, change := range of {
			for i := range change.Facts {
				software(change.Key.Tenant, change.Facts[i].Registration)
			}
		}
	}
	return distinct
}
