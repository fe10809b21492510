package signals

import (
	"vigil/authz"
	"vigil/posture"
)

// Observation is what one record of the log, or of the spool, did.
type Observation struct {
	Position  Position
	Partition string // its name, where there is one
	Appended  authz.Instant
	Source    string // "" where not even that could be read, as ID, Type and Tenant
	ID        string
	Type      string // TypeUnreadable where the signal stands in for one that could not be read
	Tenant    string
	Outcome   string           // a posture.Outcome, or "dead_letter"
	Detail    string           // why nothing was applied
	Fact      *posture.Fact    // what it says of its entities; nil where nothing was applied
	Results   []posture.Result // what it did to each
}

// observe tells of what was done with entries. The caller holds applying.
func (a *Applier) observe(entries []Entry) {
	if a.cfg.Observe == nil {
		return
	}
	for i := range entries {
		e, out := &entries[i], &a.done[i]
		o := Observation{
			Position: e.Position, Partition: a.partitionName(e.Position.Partition), Appended: e.Appended,
			Source: out.count.Source, ID: out.id, Type: out.count.Type, Tenant: out.tenant,
			Outcome: out.count.Outcome, Detail: out.detail, Results: out.results,
		}
		if out.dead == nil && len(out.changes) > 0 {
			o.Fact = &out.changes[0].Facts[0] // which all of its entities share
		}
		a.cfg.Observe(&o)
	}
}
