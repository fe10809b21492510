package engine

import (
	"encoding/binary"
	"slices"

	"vigil/authz"
)

// buildKey makes q.key everything of the request that gates, scope check, rules and
// answer read, in an encoding that no two different readings share: a fixed order of
// length-prefixed strings, fixed-width numbers and counted lists.
//
// What is left out, and why that is sound: the agent's code, model, labels and class
// come from its record, which the stamp covers; expiries are checked on every request;
// an attribute that no candidate rule reads changes nothing. Presence needs no mark of
// its own, for no id is empty.
//
// It is on the hot path: it allocates only where the buffer must grow.
func (q *inquiry) buildKey() {
	p, req, key := q.principal, q.request, q.key[:0]
	key = binary.LittleEndian.AppendUint32(key, q.plan.Ordinal)
	key = append(key, boolByte(q.mayBeAgentless())|boolByte(p.HasScopes)<<1)
	key = authz.AppendKeyString(key, p.Tenant)
	key = authz.AppendKeyString(key, req.Subject.Type)
	key = authz.AppendKeyString(key, p.Agent)
	key = authz.AppendKeyString(key, p.Instance)
	key = authz.AppendKeyString(key, p.User)
	key = authz.AppendKeyString(key, p.Session)
	key = authz.AppendKeyString(key, p.Token)
	key = authz.AppendKeyString(key, p.Tool)
	key = authz.AppendKeyString(key, req.Resource.Type)
	if q.plan.ReadsSubjectID {
		key = authz.AppendKeyString(key, req.Subject.ID)
	}
	if q.plan.ReadsResourceID {
		key = authz.AppendKeyString(key, req.Resource.ID)
	}
	key = binary.LittleEndian.AppendUint64(key, uint64(p.IssuedAt))
	key = appendStrings(key, p.Actors)
	key = appendStrings(key, p.Scopes)
	key = binary.AppendUvarint(key, uint64(len(p.Grants)))
	for i := range p.Grants {
		g := &p.Grants[i]
		key = authz.AppendKeyString(key, g.ID)
		key = binary.LittleEndian.AppendUint64(key, uint64(g.IssuedAt))
		key = append(key, boolByte(g.HasScopes))
		key = appendStrings(key, g.Scopes)
	}
	q.key = q.plan.AppendReads(key, req)
}

func appendStrings(key []byte, list []string) []byte {
	key = binary.AppendUvarint(key, uint64(len(list)))
	for _, s := range list {
		key = authz.AppendKeyString(key, s)
	}
	return key
}

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// mayBeAgentless reports whether the caller may ask about this subject without an agent.
func (q *inquiry) mayBeAgentless() bool {
	return slices.Contains(q.caller.Agentless, q.request.Subject.Type)
}
