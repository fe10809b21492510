package control

import (
	"cmp"
	"container/heap"
	"context"
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"vigil/authz"
	"vigil/posture"
)

// The number of entities on a page.
const (
	defaultPage = 100
	maxPage     = 1000
)

// listEntities gives one page of the entities that fit, ordered by tenant, kind and id. It
// walks all of posture and keeps a page: its memory does not grow with what it walks.
func (s *Server) listEntities(c *call) error {
	filter, limit, err := s.listFilter(c)
	if err != nil {
		return err
	}
	if !s.lists.enter(c.r.Context()) {
		return busy("too many lists are being made")
	}
	defer s.lists.leave()
	ctx, cancel := context.WithTimeout(c.r.Context(), s.cfg.Limits.SlowTime)
	defer cancel()

	asOf := c.parts.Posture.AsOf()
	now := s.cfg.Now()
	page := &firstKeys{limit: limit + 1} // one more says whether there is another page
	var walked int
	c.parts.Posture.Walk(func(key authz.Key, r *posture.Record) bool {
		if filter.covers(key) && page.wants(key) && filter.fits(r.At(now)) && filter.changed(r, now) {
			page.add(listed{key, r})
		}
		walked++
		return walked%1024 != 0 || ctx.Err() == nil
	})
	if ctx.Err() != nil {
		return fail(http.StatusServiceUnavailable, CodeUnavailable, "the list took too long").retryAfter(5)
	}
	answer := EntitiesResponse{Entities: []EntitySummary{}, AsOf: asOf, At: now.String()}
	for _, e := range page.sorted() {
		if len(answer.Entities) == limit {
			break
		}
		answer.Entities = append(answer.Entities, summaryOf(e, now))
	}
	if kept := page.sorted(); len(kept) > limit {
		answer.Next = encodeCursor(kept[limit-1].key)
	}
	return c.respond(http.StatusOK, &answer)
}

func summaryOf(e listed, now authz.Instant) EntitySummary {
	effective := e.record.At(now)
	return EntitySummary{
		Ref: e.key.Ref().String(), Tenant: e.key.Tenant, Registered: effective.Registered,
		Status: effective.Status.String(), Risk: effective.Risk, Class: effective.Class,
		Tainted: effective.Tainted, Attested: effective.Attested.String(),
		Holds: holds(effective), ChangedAt: changedAt(e.record, now).String(), Until: end(effective.Until),
	}
}

// changedAt is when what a record says last changed, as far as what it keeps tells: the
// newest time of a fact, or the end of one that has ended since. 0 where neither is known.
func changedAt(r *posture.Record, now authz.Instant) (at authz.Instant) {
	for f := range r.Facts() {
		at = max(at, f.Time)
		if f.Until <= now {
			at = max(at, f.Until)
		}
	}
	return at
}

// entityFilter says which entities a list is about.
type entityFilter struct {
	tenants []string
	after   *authz.Key
	kind    authz.Kind // NoKind for any
	held    *bool
	class   *string
	over    int           // risk above it; -1 for any
	since   authz.Instant // changed then or later; 0 for whenever
}

func (s *Server) listFilter(c *call) (*entityFilter, int, error) {
	query, err := parameters(c.r, "tenant", "kind", "held", "class", "risk_over", "changed_since", "limit", "cursor")
	if err != nil {
		return nil, 0, err
	}
	f := &entityFilter{over: -1}
	if f.tenants, err = c.tenants(query["tenant"]); err != nil {
		return nil, 0, err
	}
	if name, ok := query["kind"]; ok {
		if f.kind, ok = authz.ParseKind(name); !ok {
			p := badParameter("kind", strconv.Quote(name)+" is none")
			p.Nearest = nearestOf(name, kindNames())
			return nil, 0, p
		}
	}
	if v, ok := query["held"]; ok {
		held, err := strconv.ParseBool(v)
		if err != nil {
			return nil, 0, badParameter("held", "want true or false")
		}
		f.held = &held
	}
	if v, ok := query["class"]; ok {
		f.class = &v
	}
	if v, ok := query["risk_over"]; ok {
		if f.over, err = strconv.Atoi(v); err != nil || f.over < 0 || f.over > 100 {
			return nil, 0, badParameter("risk_over", "want 0 to 100")
		}
	}
	if v, ok := query["changed_since"]; ok {
		at, err := time.Parse(time.RFC3339Nano, v)
		if err != nil {
			return nil, 0, badParameter("changed_since", "want a time as in RFC 3339")
		}
		f.since = authz.InstantOf(at)
	}
	limit, err := limitOf(query, defaultPage, maxPage)
	if err != nil {
		return nil, 0, err
	}
	if v, ok := query["cursor"]; ok {
		if f.after, ok = decodeCursor(v); !ok {
			return nil, 0, badParameter("cursor", "not one that this path gave out")
		}
	}
	return f, limit, nil
}

func limitOf(query map[string]string, usual, most int) (int, error) {
	v, ok := query["limit"]
	if !ok {
		return usual, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > most {
		return 0, badParameter("limit", "want 1 to "+strconv.Itoa(most))
	}
	return n, nil
}

func kindNames() []string {
	var names []string
	for _, k := range authz.Kinds() {
		names = append(names, k.String())
	}
	return names
}

// covers says whether key may be in the list, whatever its record says.
func (f *entityFilter) covers(key authz.Key) bool {
	if key.Kind != authz.KindEverything && !slices.Contains(f.tenants, key.Tenant) {
		return false
	}
	return (f.kind == authz.NoKind || f.kind == key.Kind) && (f.after == nil || compareKeys(key, *f.after) > 0)
}

func (f *entityFilter) fits(e *posture.Effective) bool {
	if f.held != nil && *f.held != (e.Status != authz.Active) {
		return false
	}
	if f.class != nil && *f.class != e.Class {
		return false
	}
	return e.Risk > f.over
}

func (f *entityFilter) changed(r *posture.Record, now authz.Instant) bool {
	return f.since == 0 || changedAt(r, now) >= f.since
}

func compareKeys(a, b authz.Key) int {
	return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID))
}

type listed struct {
	key    authz.Key
	record *posture.Record
}

// firstKeys keeps the limit smallest of the keys that it is given, as a heap with the
// largest on top.
type firstKeys struct {
	limit int
	kept  []listed
}

func (k *firstKeys) Len() int           { return len(k.kept) }
func (k *firstKeys) Less(i, j int) bool { return compareKeys(k.kept[i].key, k.kept[j].key) > 0 }
func (k *firstKeys) Swap(i, j int)      { k.kept[i], k.kept[j] = k.kept[j], k.kept[i] }
func (k *firstKeys) Push(x any)         { k.kept = append(k.kept, x.(listed)) }
func (k *firstKeys) Pop() any {
	last := k.kept[len(k.kept)-1]
	k.kept = k.kept[:len(k.kept)-1]
	return last
}

// wants says whether key would be kept.
func (k *firstKeys) wants(key authz.Key) bool {
	return len(k.kept) < k.limit || compareKeys(key, k.kept[0].key) < 0
}

func (k *firstKeys) add(e listed) {
	heap.Push(k, e)
	if len(k.kept) > k.limit {
		heap.Pop(k)
	}
}

func (k *firstKeys) sorted() []listed {
	return slices.SortedFunc(slices.Values(k.kept), func(a, b listed) int { return compareKeys(a.key, b.key) })
}

// A cursor is the last key of a page: tenant, kind and id with a byte between them that
// none of them holds.
func encodeCursor(k authz.Key) string {
	return base64.RawURLEncoding.EncodeToString([]byte(k.Tenant + "\x00" + k.Kind.String() + "\x00" + k.ID))
}

func decodeCursor(s string) (*authz.Key, bool) {
	raw, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return nil, false
	}
	parts := strings.Split(string(raw), "\x00")
	if len(parts) != 3 {
		return nil, false
	}
	kind, ok := authz.ParseKind(parts[1])
	return &authz.Key{Tenant: parts[0], Kind: kind, ID: parts[2]}, ok
}
