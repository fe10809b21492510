package posture

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"slices"
	"strings"

	"vigil/authz"
)

// A snapshot:
//
//	magic                        8 bytes
//	versions                     of the snapshot and of the facts in it, a byte each
//	about                        how many entities there are, 8 bytes; a hint
//	heard                        a block; not in version 1
//	blocks                       until one of length 0
//	    length                   4 bytes
//	    payload                  whole entities; in the last block, their number, 8 bytes
//	    checksum                 4 bytes: CRC-32C of all that was before it in the file
//
// Integers are big endian. The checksum of each block goes on from the one before it, so
// it tells a block that is damaged, missing, repeated or out of place. It guards against
// accidents, not against somebody who can write the file.
//
// An entity is its kind, a byte; its tenant, a reference; its id, a string; the number
// of bytes of its facts, a uvarint; and its facts (see codec.go). References are to what
// came before in the file: every tenant, source and registration that is written out
// becomes the next entry of its table, until that has maxSnapshotRefs entries. Entities
// are sorted by tenant, kind and id, so equal postures give equal snapshots.
//
// The block of what was heard has every source, a string, and when it was heard last by the
// log's time, 8 bytes; sorted by source. Version 1 is what is written where nothing was heard.
const (
	snapshotMagic   = "vigilpo\n"
	snapshotVersion = 2
	maxSnapshotRefs = 1 << 16
	blockSize       = 64 << 10
	maxBlock        = 1 << 28
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// WriteSnapshot writes every unexpired fact, and when each source was heard last, in a canonical order, ending in a checksum.
// Changes applied meanwhile may or may not be in it. It keeps 8 bytes per entity while
// it runs, not the facts.
func (s *Store) WriteSnapshot(w io.Writer, now authz.Instant) error {
	cells := s.sorted(now)
	out := snapshotWriter{w: w, store: s, now: now}
	heard, version := out.heard(), byte(snapshotVersion)
	if len(heard) == 0 {
		version = 1
	}
	head := append([]byte(snapshotMagic), version, factVersion)
	out.write(binary.BigEndian.AppendUint64(head, uint64(len(cells))))
	if len(heard) > 0 {
		out.block(heard)
		out.checksum()
	}
	for _, c := range cells {
		if out.err != nil {
			break
		}
		out.entity(c)
	}
	out.flush()
	out.block(nil)
	out.write(binary.BigEndian.AppendUint64(nil, out.count))
	out.checksum()
	return out.err
}

// sorted lists the cells with unexpired facts by tenant, kind and id.
func (s *Store) sorted(now authz.Instant) []*cell {
	n := 0
	for _, k := range s.Len() {
		n += k
	}
	cells := make([]*cell, 0, n+n/64)
	s.walk(func(c *cell, r *Record) bool {
		if !r.eff.empty(now) {
			cells = append(cells, c)
		}
		return true
	})
	list := s.tenants.Load().list
	rank := make([]int, len(list)) // of a tenant among the tenants, by name
	byName := make([]int, len(list))
	for i := range byName {
		byName[i] = i
	}
	slices.SortFunc(byName, func(a, b int) int { return strings.Compare(list[a].name, list[b].name) })
	for r, i := range byName {
		rank[i] = r
	}
	slices.SortFunc(cells, func(a, b *cell) int {
		if x, y := a.meta>>24, b.meta>>24; x != y {
			if c := rank[x>>8] - rank[y>>8]; c != 0 {
				return c
			}
			return int(x&0xff) - int(y&0xff)
		}
		return strings.Compare(a.id, b.id)
	})
	return cells
}

type snapshotWriter struct {
	w     io.Writer
	err   error
	sum   uint32
	store *Store
	now   authz.Instant
	count uint64

	buf   []byte // the block
	facts []byte // of one entity
	raw   []byte // of one registration

	tenants       table16[string]
	sources       table16[string]
	registrations table16[string]
	known         map[*Registered]uint32 // registrations that the store shares
}

// table16 numbers what has been written out, from 1, up to maxSnapshotRefs.
type table16[K comparable] map[K]uint32

func (t *table16[K]) ref(k K, own func(K) K) uint32 {
	if n, ok := (*t)[k]; ok {
		return n
	}
	if *t == nil {
		*t = table16[K]{}
	}
	if len(*t) < maxSnapshotRefs {
		(*t)[own(k)] = uint32(len(*t) + 1)
	}
	return 0
}

func (o *snapshotWriter) heard() (payload []byte) {
	for _, h := range o.store.heard.all() {
		payload = binary.BigEndian.AppendUint64(appendString(payload, h.source), uint64(h.at))
	}
	return payload
}

func (o *snapshotWriter) entity(c *cell) {
	r := c.rec.Load().inForce().known()
	if r == nil {
		return
	}
	o.facts = o.facts[:0]
	for c := r.eff.cursor(); c.next(); {
		f := &c.fact
		if f.gone(o.now) {
			continue
		}
		var registration uint32
		if f.Facet == Registration {
			registration = o.registration(f.Registration)
		}
		o.facts = appendFact(o.facts, f, o.sources.ref(f.Source, strings.Clone), registration)
	}
	if len(o.facts) == 0 {
		return
	}
	o.count++
	key := o.store.keyOf(c)
	o.buf = append(o.buf, byte(key.Kind))
	tenant := o.tenants.ref(key.Tenant, strings.Clone)
	o.buf = binary.AppendUvarint(o.buf, uint64(tenant))
	if tenant == 0 {
		o.buf = appendString(o.buf, key.Tenant)
	}
	o.buf = appendString(o.buf, key.ID)
	o.buf = binary.AppendUvarint(o.buf, uint64(len(o.facts)))
	o.buf = append(o.buf, o.facts...)
	if len(o.buf) >= blockSize {
		o.flush()
	}
}

func (o *snapshotWriter) registration(r *Registered) uint32 {
	if n, ok := o.known[r]; ok {
		return n
	}
	o.raw = appendRegistered(o.raw[:0], r)
	if n, ok := o.registrations[string(o.raw)]; ok {
		if len(o.known) < maxSnapshotRefs {
			if o.known == nil {
				o.known = map[*Registered]uint32{}
			}
			o.known[r] = n
		}
		return n
	}
	return o.registrations.ref(string(o.raw), strings.Clone)
}

func (o *snapshotWriter) flush() {
	if len(o.buf) > 0 {
		o.block(o.buf)
		o.checksum()
		o.buf = o.buf[:0]
	}
}

func (o *snapshotWriter) block(payload []byte) {
	o.write(binary.BigEndian.AppendUint32(nil, uint32(len(payload))))
	o.write(payload)
}

func (o *snapshotWriter) checksum() {
	o.write(binary.BigEndian.AppendUint32(nil, o.sum))
}

func (o *snapshotWriter) write(b []byte) {
	if o.err == nil && len(b) > 0 {
		o.sum = crc32.Update(o.sum, castagnoli, b)
		_, o.err = o.w.Write(b)
	}
}
