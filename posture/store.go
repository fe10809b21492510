package posture

import (
	"io"

	"vigil/authz"
)

// Store is the posture of all entities. Readers take no lock; writers are serialized.
type Store struct{}

// NewStore returns a store that knows nothing.
func NewStore() *Store { panic("unwritten") }

// Apply adds the facts of one signal to all its entities at one instant: readers see
// all of the changes or none. now is used only to say outcomes and to make the new
// records' effective form ready.
func (s *Store) Apply(now authz.Instant, changes []Change) []Result { panic("unwritten") }

// Get gives the record in force of key, or nil.
func (s *Store) Get(key authz.Key) *Record { panic("unwritten") }

// Walk calls f with every entity until f returns false. It sees each entity at some
// instant during the walk, not all at one.
func (s *Store) Walk(f func(authz.Key, *Record) bool) { panic("unwritten") }

// Len is the number of known entities of each kind.
func (s *Store) Len() [authz.NumKinds]int { panic("unwritten") }

// Prune forgets facts that have expired at now, and entities left without any.
// It may run beside readers and Apply.
func (s *Store) Prune(now authz.Instant) (facts, entities int) { panic("unwritten") }

// PublishAsOf makes asOf the position that decisions name. It is called after the
// changes up to that position were applied.
func (s *Store) PublishAsOf(asOf string) { panic("unwritten") }

// AsOf gives the newest published position. A reader loads it before it reads records.
func (s *Store) AsOf() string { panic("unwritten") }

// Digest covers the facts that are unexpired at now. Stores that hold the same facts
// have the same digest, whatever the order in which they came.
func (s *Store) Digest(now authz.Instant) [32]byte { panic("unwritten") }

// WriteSnapshot writes every unexpired fact, in a canonical order, ending in a checksum.
// Changes applied meanwhile may or may not be in it.
func (s *Store) WriteSnapshot(w io.Writer, now authz.Instant) error { panic("unwritten") }

// ReadSnapshot makes a store of what WriteSnapshot wrote. It refuses anything damaged.
func ReadSnapshot(r io.Reader, now authz.Instant) (*Store, error) { panic("unwritten") }
