package control

import (
	"cmp"
	"slices"
	"strings"

	"vigil/authz"
	"vigil/posture"
)

// Bounds of the search for names like an unknown one. It is a courtesy: it is left out
// when posture is being walked for somebody else, and ends early.
const (
	maxStrangers  = 8       // unknown names of one request that are looked up
	maxSuggested  = 3       // names for each
	maxCandidates = 200_000 // entities looked at
)

// suggest fills in Nearest of entities that were unknown, in one walk.
func (s *Server) suggest(p Posture, strangers []*SignalEntity, keys []authz.Key) {
	n := min(len(strangers), maxStrangers)
	searches := make([]*nameSearch, n)
	for i := range n {
		searches[i] = newNameSearch(keys[i])
	}
	s.search(p, searches)
	for i, search := range searches {
		strangers[i].Nearest = search.names()
	}
}

// search runs searches, unless posture is being walked or was walked for this a moment
// ago: a storm of signals about unknown sessions must not cost a walk each.
func (s *Server) search(p Posture, searches []*nameSearch) {
	if !s.lists.tryEnter() {
		return
	}
	defer s.lists.leave()
	s.searching.spare(func() { runSearches(p, searches, s.cfg.Now()) })
}

// runSearches offers every entity to every search.
func runSearches(p Posture, searches []*nameSearch, now authz.Instant) {
	// The other unknown names of the request are in posture by now. They are no advice.
	unknown := make(map[authz.Key]bool, len(searches))
	for _, search := range searches {
		unknown[search.key] = true
	}
	seen := 0
	p.Walk(func(key authz.Key, r *posture.Record) bool {
		seen++
		for _, search := range searches {
			if !unknown[key] {
				search.offer(key, r, now)
			}
		}
		return seen < maxCandidates
	})
}

// nameSearch keeps the names nearest to one: those of its kind that differ by a slip or go on
// where it ends, and the same name of another kind.
type nameSearch struct {
	key   authz.Key
	limit int // distance beyond which a name is no suggestion
	best  []candidate
	rows  [2][]int
}

type candidate struct {
	kind       authz.Kind
	name       string
	distance   int
	registered bool
}

func newNameSearch(key authz.Key) *nameSearch {
	return &nameSearch{key: key, limit: tolerance(key.ID)}
}

// tolerance is how many edits still make a likely slip: one in a short name, a third of a
// longer one, three at most.
func tolerance(name string) int { return min(max(len(name)/3, 1), 3) }

// minBeginning is how many bytes of a name make it likely that the rest was left out.
const minBeginning = 3

func (n *nameSearch) offer(key authz.Key, r *posture.Record, now authz.Instant) {
	if key.Tenant != n.key.Tenant {
		return
	}
	distance, slip := 0, 0
	if key.Kind == n.key.Kind && key.ID != n.key.ID {
		slip = n.distance(key.ID)
	}
	switch {
	case slip > 0 && slip <= n.limit:
		distance = slip
	case slip > 0 && len(n.key.ID) >= minBeginning && strings.HasPrefix(key.ID, n.key.ID):
		distance = n.limit + 1
	case key.Kind != n.key.Kind && key.ID == n.key.ID:
		distance = n.limit + 2
	default:
		return
	}
	c := candidate{key.Kind, key.ID, distance, r.At(now).Registered}
	at, _ := slices.BinarySearchFunc(n.best, c, compareCandidates)
	n.best = slices.Insert(n.best, at, c)
	n.best = n.best[:min(len(n.best), maxSuggested)]
}

func compareCandidates(a, b candidate) int {
	if d := cmp.Compare(a.distance, b.distance); d != 0 {
		return d
	}
	if a.registered != b.registered {
		if a.registered {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.kind, b.kind))
}

// distance is the edit distance (Damerau's without far transpositions would be dearer:
// this is Levenshtein's) between name and the name searched, in bytes, or more than limit.
func (n *nameSearch) distance(name string) int {
	want := n.key.ID
	if d := len(name) - len(want); d > n.limit || -d > n.limit {
		return n.limit + 1
	}
	if len(n.rows[0]) <= len(want) {
		n.rows[0], n.rows[1] = make([]int, len(want)+1), make([]int, len(want)+1)
	}
	previous, current := n.rows[0], n.rows[1]
	for j := range previous[:len(want)+1] {
		previous[j] = j
	}
	for i := range len(name) {
		current[0] = i + 1
		least := current[0]
		for j := range len(want) {
			change := previous[j]
			if name[i] != want[j] {
				change++
			}
			current[j+1] = min(change, previous[j+1]+1, current[j]+1)
			least = min(least, current[j+1])
		}
		if least > n.limit {
			return n.limit + 1
		}
		previous, current = current, previous
	}
	return previous[len(want)]
}

func (n *nameSearch) names() []string {
	var names []string
	for _, c := range n.best {
		names = append(names, authz.Ref{Kind: c.kind, ID: c.name}.String())
	}
	return names
}

// nearestOf gives the names of a short list that resemble name.
func nearestOf(name string, list []string) []string {
	search := newNameSearch(authz.Key{ID: name})
	for _, known := range list {
		if d := search.distance(known); d <= search.limit {
			search.best = append(search.best, candidate{name: known, distance: d})
		}
	}
	slices.SortFunc(search.best, compareCandidates)
	var names []string
	for _, c := range search.best {
		names = append(names, c.name)
	}
	return names
}
