package posture

import (
	"cmp"
	"slices"
	"unicode/utf8"

	"vigil/authz"
)

// maxNearest is how many entities Nearest looks at.
const maxNearest = 1 << 20

// Nearest gives up to n known entities of key's kind and tenant whose ids are the
// closest to key's, closest first, for asking "did you mean". It gives none that differ
// in more than a third of the id, and looks at about a million entities at the most: it
// is for people's mistakes, and too slow for deciding.
func (s *Store) Nearest(key authz.Key, n int) []authz.Ref {
	type near struct {
		id       string
		distance int
	}
	var found []near
	limit := max(utf8.RuneCountInString(key.ID)/3, 1)
	want := []rune(key.ID)
	t := s.tenantOf(key.Tenant)
	meta := (uint64(t.number)<<32 | uint64(key.Kind)<<24) >> 24
	looked := 0
	if n <= 0 || t.number == 0 || len(key.ID) > authz.MaxID {
		return nil
	}
	var e editor
	s.walk(func(c *cell, _ *Record) bool {
		if looked++; looked > maxNearest {
			return false
		}
		if c.meta>>24 != meta || c.id == key.ID {
			return true
		}
		d := e.distance(want, c.id, limit)
		if d > limit {
			return true
		}
		at, _ := slices.BinarySearchFunc(found, near{c.id, d}, func(a, b near) int {
			return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.id, b.id))
		})
		if at < n {
			found = slices.Insert(found, at, near{c.id, d})
			found = found[:min(len(found), n)]
		}
		if len(found) == n {
			limit = found[n-1].distance // nothing further away is of interest
		}
		return true
	})
	refs := make([]authz.Ref, len(found))
	for i := range found {
		refs[i] = authz.Ref{Kind: key.Kind, ID: found[i].id}
	}
	return refs
}

// editor computes edit distances with memory that it reuses.
type editor struct {
	row  []int
	have []rune
}

// distance gives the Levenshtein distance of want and id in characters, or more than
// limit where it is more than limit.
func (e *editor) distance(want []rune, id string, limit int) int {
	if len(id) < len(want)-limit || len(id) > 4*(len(want)+limit) {
		return limit + 1
	}
	e.have = e.have[:0]
	for _, r := range id {
		e.have = append(e.have, r)
	}
	if d := len(e.have) - len(want); d > limit || -d > limit {
		return limit + 1
	}
	e.row = e.row[:0]
	for j := range len(want) + 1 {
		e.row = append(e.row, j)
	}
	for i, r := range e.have {
		diagonal, least := e.row[0], i+1
		e.row[0] = i + 1
		for j, w := range want {
			d := diagonal
			if r != w {
				d = 1 + min(diagonal, e.row[j], e.row[j+1])
			}
			diagonal, e.row[j+1] = e.row[j+1], d
			least = min(least, d)
		}
		if least > limit {
			return limit + 1
		}
	}
	return e.row[len(want)]
}
