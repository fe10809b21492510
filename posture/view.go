package posture

import (
	"sync/atomic"

	"vigil/authz"
)

// View gathers the records of one request, or of a whole batch, so that all of them
// were in force at one instant. Use: Reset, Read each key, Confirm; when Confirm says
// no, Reset and read anew. After three tries use Store.Exclusive, which cannot fail.
// A View is for one goroutine and is reused.
type View struct {
	store *Store
	// The tenants that keys named last and that have entities: the empty one, of what
	// stands above tenants, and another.
	top, tenant tenant
	pins        []pin
}

// pin is what one Read saw: a record in a cell, or an absence and its birth counter.
type pin struct {
	cell  *cell
	rec   *Record // absent where a cell was found that is not born yet
	birth uint32  // the number of the counter; counts where cell is nil
	seen  uint32
}

// Reset empties v for reading from s. What v read before stays alive until v has read as
// much again, or is let go of.
func (v *View) Reset(s *Store) {
	if v.store != s {
		v.store, v.top, v.tenant = s, tenant{}, tenant{}
	}
	v.pins = v.pins[:0]
}

// Read gives the record of key in force, or nil, and remembers what it saw. It takes no
// lock and, once v has grown, allocates nothing.
func (v *View) Read(key authz.Key) *Record {
	s := v.store
	t := &v.tenant
	if key.Tenant == "" {
		t = &v.top
	}
	// The counter is loaded before anything that may change with a birth is looked at,
	// the numbers of the tenants included. The hash does not depend on the number.
	if t.number == 0 || t.name != key.Tenant {
		return v.readTenant(key)
	}
	p := s.placeOf(t, key.Kind, key.ID)
	birth := s.birth(p.hash)
	return v.read(p, key.ID, birth, s.births[birth].Load())
}

// readTenant is Read for another tenant than the last.
func (v *View) readTenant(key authz.Key) *Record {
	s := v.store
	t := s.tenantOf(key.Tenant)
	if t.number == 0 {
		birth := s.birth(s.hash(&t, key.Kind, key.ID))
		seen := s.births[birth].Load()
		if t = s.tenantOf(key.Tenant); t.number == 0 {
			v.pins = append(v.pins, pin{birth: birth, seen: seen})
			return nil
		}
	}
	if t.name == "" {
		v.top = t
	} else {
		v.tenant = t
	}
	return v.Read(key)
}

func (v *View) read(p place, id string, birth, seen uint32) *Record {
	c := v.store.shards[p.shard()].table.Load().find(p, id)
	if c != nil {
		if r := c.rec.Load().inForce(); r != dead {
			v.pins = append(v.pins, pin{cell: c, rec: r})
			return r.known()
		}
	}
	v.pins = append(v.pins, pin{birth: birth, seen: seen})
	return nil
}

// Confirm reports whether everything read is still in force, so that there was an
// instant, between the last Read and this call, at which all of it was. A commit since
// then of a record whose predecessor was read counts as a change.
//
// A record that was in force when it was read and is in force now was so all the time
// between, for no record comes back.
func (v *View) Confirm() bool {
	for i := range v.pins {
		p := &v.pins[i]
		if p.cell == nil {
			if v.store.births[p.birth].Load() != p.seen {
				return false
			}
		} else if p.cell.rec.Load().inForce() != p.rec {
			return false
		}
	}
	return true
}

// Stamp puts what v has read into s, which is zero, in a form that can be asked later
// whether it is still current. They share no memory. s must stay where it is.
func (v *View) Stamp(s *Stamp) {
	cells := 0
	for i := range v.pins {
		if v.pins[i].cell != nil {
			cells++
		}
	}
	s.cells, s.births = s.roomForCells[:0], s.roomForBirths[:0]
	if cells > len(s.roomForCells) {
		s.cells = make([]sight, 0, cells)
	}
	if births := len(v.pins) - cells; births > len(s.roomForBirths) {
		s.births = make([]uint64, 0, births)
	}
	s.counters = v.store.births
	for i := range v.pins {
		if p := &v.pins[i]; p.cell != nil {
			s.cells = append(s.cells, sight{p.cell, p.rec})
		} else {
			s.births = append(s.births, uint64(p.birth)<<32|uint64(p.seen))
		}
	}
}

// Stamp is the records that a decision was computed from, and the absences. The zero
// Stamp is of a decision computed from nothing, and always current. It refers to itself
// and must not be copied.
type Stamp struct {
	cells    []sight
	births   []uint64 // number of the counter <<32 | its value
	counters []atomic.Uint32

	// Where the above lie for requests that touch few entities: beside what holds the
	// Stamp, so that a look at it touches few cache lines.
	roomForCells  [6]sight
	roomForBirths [6]uint64
}

type sight struct {
	cell *cell
	rec  *Record
}

// Current reports whether every record of the stamp is the one in force. It loads one
// pointer per entity; it takes no lock, looks nothing up by id and allocates nothing.
// Records are compared by address and addresses are not reused while the stamp lives,
// so if all are current, all were so at the time of the first load.
//
// A record that waits for its commit is in its cell already, so a stamp of its
// predecessor stops being current a moment before the change is in force. A stamp is
// never of a record that waits: a View reads the predecessor.
func (s *Stamp) Current() bool {
	for i := range s.cells {
		if s.cells[i].cell.rec.Load() != s.cells[i].rec {
			return false
		}
	}
	for _, b := range s.births {
		if s.counters[b>>32].Load() != uint32(b) {
			return false
		}
	}
	return true
}
