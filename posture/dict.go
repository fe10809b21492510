package posture

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync/atomic"
)

// dict holds what many records of one store share, so that a record refers to it by a
// small number: the names of sources and whole registrations. It only grows, up to its
// limits; beyond them records hold the content themselves.
//
// Writers are serialized by the store's lock. Readers load the tables, which are
// append-only: an entry is published before the record that refers to it, so every
// reference that a reader meets is below the length that it loads afterwards.
type dict struct {
	sources       atomic.Pointer[[]string]
	registrations atomic.Pointer[[]*Registered]

	// Guarded by the store's lock.
	sourceRefs       map[string]uint32
	registrationRefs map[string]uint32 // by canonical encoding
	// once remembers hashes of registrations seen once, each in one of the slots of its
	// set. A registration is shared from its second sight on, so that registrations which
	// are one agent's alone do not fill the table. Which slot is given up is as good as
	// random, so that registrations which come in turns do not keep driving out one another.
	seed maphash.Seed
	once [onceSets][onceWays]uint64
	turn uint32
}

const (
	maxSharedSources       = 1 << 16
	maxSharedRegistrations = 1 << 16
	onceSets               = 1 << 10
	onceWays               = 8
)

func newDict() *dict {
	d := &dict{
		sourceRefs:       map[string]uint32{},
		registrationRefs: map[string]uint32{},
		seed:             maphash.MakeSeed(),
	}
	d.sources.Store(new([]string))
	d.registrations.Store(new([]*Registered))
	return d
}

// source gives the reference of a source's name; 0 where the table is full.
func (d *dict) source(name string) uint32 {
	if ref, ok := d.sourceRefs[name]; ok {
		return ref
	}
	if len(d.sourceRefs) >= maxSharedSources {
		return 0
	}
	name = strings.Clone(name)
	ref := extend(&d.sources, name)
	d.sourceRefs[name] = ref
	return ref
}

// registration gives the reference of the registration with that encoding; 0 where it
// is seen for the first time, unless it is known to be shared, or the table is full.
func (d *dict) registration(encoded []byte, shared bool) uint32 {
	if ref, ok := d.registrationRefs[string(encoded)]; ok {
		return ref
	}
	if len(d.registrationRefs) >= maxSharedRegistrations {
		return 0
	}
	if !shared {
		h := maphash.Bytes(d.seed, encoded) | 1 // 0 is an empty slot
		set := &d.once[h>>32%onceSets]
		if !slices.Contains(set[:], h) {
			at := slices.Index(set[:], 0)
			if at < 0 {
				d.turn = d.turn*1664525 + 1013904223
				at = int(d.turn >> 29 % onceWays)
			}
			set[at] = h
			return 0
		}
	}
	own := string(encoded)
	in := decoder{s: own}
	ref := extend(&d.registrations, in.registered())
	d.registrationRefs[own] = ref
	return ref
}

func extend[T any](table *atomic.Pointer[[]T], entry T) uint32 {
	grown := append(*table.Load(), entry)
	table.Store(&grown)
	return uint32(len(grown))
}
