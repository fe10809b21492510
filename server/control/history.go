package control

import (
	"cmp"
	"net/http"
	"slices"

	"vigil/authz"
	"vigil/posture"
	"vigil/signals"
)

// HistoryResponse answers GET /v1/history/{ref}: what is kept of what was said of an
// entity, newest first. What a newer word of the same source has made redundant, or has
// ended and was forgotten, is not kept: this is no audit log.
type HistoryResponse struct {
	Ref     string         `json:"ref"`
	Tenant  string         `json:"tenant"` // empty for everything
	AsOf    string         `json:"as_of"`
	At      string         `json:"at"` // the now that states are of
	Status  string         `json:"status"`
	Entries []HistoryEntry `json:"entries"`
	Kept    int            `json:"kept"` // of which Entries are the newest
}

// HistoryEntry is one statement, and what has become of it.
type HistoryEntry struct {
	// State is "in_force", "waiting" (a newer word of its source speaks before it, and ends
	// sooner) or "ended".
	State string `json:"state"`
	// SaidBy is who said it, where that is not the source in whose line it stands.
	SaidBy string `json:"said_by,omitzero"`
	// From is when what waits speaks again, if nothing comes between.
	From string `json:"from,omitzero"`
	Fact Fact   `json:"fact"`
}

// The states of a statement.
const (
	stateInForce = "in_force"
	stateWaiting = "waiting"
	stateEnded   = "ended"
)

const (
	defaultHistory = 100
	maxHistory     = 1000
)

// getHistory shows who said what of an entity, when, from which source, and what of it is
// in force until when.
func (s *Server) getHistory(c *call) error {
	query, err := parameters(c.r, "tenant", "limit")
	if err != nil {
		return err
	}
	limit, err := limitOf(query, defaultHistory, maxHistory)
	if err != nil {
		return err
	}
	seen, err := s.look(c, query["tenant"])
	if err != nil {
		return err
	}
	entries := historyOf(seen.record, seen.now)
	return c.respond(http.StatusOK, &HistoryResponse{
		Ref: seen.key.Ref().String(), Tenant: seen.key.Tenant, AsOf: seen.asOf, At: seen.now.String(),
		Status: seen.record.At(seen.now).Status.String(), Kept: len(entries), Entries: entries[:min(limit, len(entries))],
	})
}

// historyOf gives every fact of r with its state at now, newest first.
func historyOf(r *posture.Record, now authz.Instant) []HistoryEntry {
	facts := slices.Collect(r.Facts()) // by facet, by source, oldest first
	entries := make([]HistoryEntry, len(facts))
	newer := 0 // the fact of the line that speaks, or speaks before the one at hand
	for i := len(facts) - 1; i >= 0; i-- {
		f, e := &facts[i], &entries[i]
		e.Fact, e.State = factOf(f, now), stateInForce
		if by, _, ok := signals.SplitOverrulingID(f.ID); ok {
			e.SaidBy = by
		}
		ended := f.Until <= now && (f.Facet != posture.Attest || f.Passed) // a failure ends by a newer word alone
		first := i == len(facts)-1 || facts[i+1].Facet != f.Facet || facts[i+1].Source != f.Source
		if first {
			newer = -1
		}
		switch {
		case ended:
			e.State = stateEnded
			continue
		case newer >= 0 && speaksAlone(f.Facet):
			e.State, e.From = stateWaiting, end(facts[newer].Until)
		}
		newer = i
	}
	newest := make([]int, len(facts))
	for i := range newest {
		newest[i] = len(facts) - 1 - i
	}
	// Stable from the canonical order turned round: of one time, the newer comes first.
	slices.SortStableFunc(newest, func(a, b int) int { return cmp.Compare(facts[b].Time, facts[a].Time) })
	sorted := make([]HistoryEntry, len(facts))
	for i, at := range newest {
		sorted[i] = entries[at]
	}
	return sorted
}

// speaksAlone says of which facets the newest unexpired fact of a source hides the others.
func speaksAlone(f posture.Facet) bool {
	return f == posture.Hold || f == posture.Risk || f == posture.Attest
}
