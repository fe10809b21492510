package control

import (
	"context"
	"net/http"

	"vigil/authz"
	"vigil/posture"
)

// getEntity shows one entity: what is said of it, by whom, and what that comes to.
func (s *Server) getEntity(c *call) error {
	query, err := parameters(c.r, "tenant")
	if err != nil {
		return err
	}
	ref, err := authz.ParseRef(c.ref)
	if err != nil {
		return fail(http.StatusBadRequest, CodeBadReference, err.Error())
	}
	tenants, err := c.tenants(query["tenant"])
	if err != nil {
		return err
	}
	asOf := c.parts.Posture.AsOf() // before the record, so that it never claims too much
	key, record := find(c.parts.Posture, ref, tenants)
	now := s.cfg.Now()
	if record == nil {
		p := fail(http.StatusNotFound, CodeUnknownEntity, "no signal ever named "+ref.String())
		p.Nearest = s.nearest(c.r.Context(), c.parts.Posture, key)
		return p
	}
	return c.respond(http.StatusOK, &EntityResponse{
		Ref: ref.String(), Tenant: key.Tenant, AsOf: asOf, At: now.String(),
		Effective: effectiveOf(record.At(now), now), Facts: factsOf(record, now),
	})
}

// find looks for ref in the tenants in their order. Everything stands above them.
func find(p Posture, ref authz.Ref, tenants []string) (authz.Key, *posture.Record) {
	for _, tenant := range tenants {
		if key := ref.In(tenant); p.Get(key) != nil {
			return key, p.Get(key)
		}
	}
	if len(tenants) == 0 {
		return ref.In(""), nil
	}
	return ref.In(tenants[0]), nil
}

// nearest gives known names like an unknown one, if nobody else is walking posture.
func (s *Server) nearest(ctx context.Context, p Posture, key authz.Key) []string {
	if key.Kind == authz.KindEverything || key.Tenant == "" || ctx.Err() != nil {
		return nil
	}
	search := newNameSearch(key)
	s.search(p, []*nameSearch{search})
	return search.names()
}
