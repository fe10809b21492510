package posture

import "vigil/authz"

// View gathers the records of one request, or of a whole batch, so that all of them
// were in force at one instant. Use: Reset, Read each key, Confirm; when Confirm says
// no, Reset and read anew. After three tries use Store.Exclusive, which cannot fail.
// A View is for one goroutine and is reused.
type View struct{}

// Reset empties v for reading from s.
func (v *View) Reset(s *Store) { panic("unwritten") }

// Read gives the record of key in force, or nil, and remembers what it saw.
func (v *View) Read(key authz.Key) *Record { panic("unwritten") }

// Confirm reports whether everything read is still in force, so that there was an
// instant, between the last Read and this call, at which all of it was.
func (v *View) Confirm() bool { panic("unwritten") }

// Stamp gives what v has read, in a form that can be asked later whether it is still
// current. It shares no memory with v.
func (v *View) Stamp() Stamp { panic("unwritten") }

// Exclusive runs f while no change is applied, so that what f reads is of one instant.
// f must be quick.
func (s *Store) Exclusive(f func()) { panic("unwritten") }

// Stamp is the records that a decision was computed from.
type Stamp struct{}

// Current reports whether every record of the stamp is the one in force. It loads one
// pointer per entity; it takes no lock, looks nothing up by id and allocates nothing.
// Records are compared by address and addresses are not reused while the stamp lives,
// so if all are current, all were so at the time of the first load.
func (s *Stamp) Current() bool { panic("unwritten") }
