package control

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"vigil/authz"
	"vigil/posture"
	"vigil/signals"
)

// SignalFactsResponse answers GET /v1/signals/{id}: what is kept of what the signals with
// that id said, ordered by entity and source. Different sources may use one id.
type SignalFactsResponse struct {
	ID    string       `json:"id"`
	Facts []SignalFact `json:"facts"`
	AsOf  string       `json:"as_of"`
	At    string       `json:"at"`
}

// SignalFact is what one signal says of one entity.
type SignalFact struct {
	Ref    string `json:"ref"`
	Tenant string `json:"tenant"`
	Fact   Fact   `json:"fact"`
	// SaidBy is who said it, where that is not the source in whose line it stands.
	SaidBy string `json:"said_by,omitzero"`
}

// maxSignalFacts bounds the answer. A signal is about 64 entities at most, so it takes
// many sources that use one id to come so far.
const maxSignalFacts = 1000

// getSignal finds what the signals with an id have said and is still kept. It walks all of
// posture.
func (s *Server) getSignal(c *call) error {
	query, err := parameters(c.r, "tenant")
	if err != nil {
		return err
	}
	tenants, err := c.tenants(query["tenant"])
	if err != nil {
		return err
	}
	if c.ref == "" || len(c.ref) > signals.MaxText {
		return fail(http.StatusBadRequest, CodeBadReference, "want the id of a signal")
	}
	if !s.lists.enter(c.r.Context()) {
		return busy("too many lists are being made")
	}
	defer s.lists.leave()
	ctx, cancel := context.WithTimeout(c.r.Context(), s.cfg.Limits.SlowTime)
	defer cancel()
	answer := SignalFactsResponse{ID: c.ref, Facts: []SignalFact{}, AsOf: c.parts.Posture.AsOf()}
	now := s.cfg.Now()
	answer.At = now.String()
	walked := 0
	c.parts.Posture.Walk(func(key authz.Key, r *posture.Record) bool {
		if key.Kind == authz.KindEverything || slices.Contains(tenants, key.Tenant) {
			answer.Facts = appendSaid(answer.Facts, key, r, c.ref, now)
		}
		walked++
		return len(answer.Facts) < maxSignalFacts && (walked%1024 != 0 || ctx.Err() == nil)
	})
	if ctx.Err() != nil {
		return fail(http.StatusServiceUnavailable, CodeUnavailable, "the search took too long").retryAfter(5)
	}
	slices.SortStableFunc(answer.Facts, func(a, b SignalFact) int {
		return strings.Compare(a.Tenant+"\x00"+a.Ref+"\x00"+a.Fact.Source, b.Tenant+"\x00"+b.Ref+"\x00"+b.Fact.Source)
	})
	return c.respond(http.StatusOK, &answer)
}

// appendSaid adds the facts of r that a signal with that id stated, in its source's own
// line or in another's.
func appendSaid(to []SignalFact, key authz.Key, r *posture.Record, id string, now authz.Instant) []SignalFact {
	for f := range r.Facts() {
		by := ""
		if f.ID != id {
			source, overrules := strings.CutSuffix(f.ID, "/"+id)
			if _, ok := signals.ParseSource(source); !overrules || !ok {
				continue
			}
			by = source
		}
		if len(to) == maxSignalFacts {
			break
		}
		to = append(to, SignalFact{Ref: key.Ref().String(), Tenant: key.Tenant, Fact: factOf(&f, now), SaidBy: by})
	}
	return to
}
