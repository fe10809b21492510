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
	seen, err := s.look(c, query["tenant"])
	if err != nil {
		return err
	}
	return c.respond(http.StatusOK, &EntityResponse{
		Ref: seen.key.Ref().String(), Tenant: seen.key.Tenant, AsOf: seen.asOf, At: seen.now.String(),
		Effective: effectiveOf(seen.record.At(seen.now), seen.now), Facts: factsOf(seen.record, seen.now),
	})
}

// seen is the entity that a path names.
type seen struct {
	key    authz.Key
	record *posture.Record // never nil
	asOf   string
	now    authz.Instant
}

// look finds the entity that the path names, in the tenants that the caller may read.
func (s *Server) look(c *call, tenant string) (seen, error) {
	ref, err := authz.ParseRef(c.ref)
	if err != nil {
		return seen{}, fail(http.StatusBadRequest, CodeBadReference, err.Error())
	}
	tenants, err := c.tenants(tenant)
	if err != nil {
		return seen{}, err
	}
	asOf := c.parts.Posture.AsOf() // before the record, so that it never claims too much
	key, record := find(c.parts.Posture, ref, tenants)
	if record == nil {
		p := fail(http.StatusNotFound, CodeUnknownEntity, "no signal ever named "+ref.String())
		p.Nearest = s.nearest(c.r.Context(), c.parts.Posture, key)
		return seen{}, p
	}
	return seen{key, record, asOf, s.cfg.Now()}, nil
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
