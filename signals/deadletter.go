package signals

import (
	"vigil/authz"
)

// DeadLetter is a record of the log that changed nothing because it could not be read,
// or said what it may not. The feed goes on past it.
type DeadLetter struct {
	Position Position
	Appended authz.Instant
	Source   string // "" where not even that could be read
	ID       string
	Reason   string
}

// keptDeadLetters is how many of the latest are kept; all are counted.
const keptDeadLetters = 128

// deadLetters is a ring. It is guarded by its owner.
type deadLetters struct {
	total uint64
	ring  []DeadLetter
}

func (d *deadLetters) add(l DeadLetter) {
	if len(d.ring) < keptDeadLetters {
		d.ring = append(d.ring, l)
	} else {
		d.ring[d.total%keptDeadLetters] = l
	}
	d.total++
}

// list copies what is kept, oldest first.
func (d *deadLetters) list() []DeadLetter {
	if len(d.ring) < keptDeadLetters {
		return append([]DeadLetter(nil), d.ring...)
	}
	next := int(d.total % keptDeadLetters)
	return append(append([]DeadLetter(nil), d.ring[next:]...), d.ring[:next]...)
}
