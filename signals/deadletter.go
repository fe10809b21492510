package signals

import (
	"bytes"

	"vigil/authz"
)

// DeadLetter is a record of the log that changed nothing because it could not be read,
// or said what it may not. The feed goes on past it.
type DeadLetter struct {
	Position  Position
	Partition string // its name, where ApplierConfig.PartitionName gives one
	Appended  authz.Instant
	Source    string // "" where not even that could be read
	ID        string
	Reason    string
	// Record is the first MaxDeadRecord bytes of the record, and Size how many it has.
	Record []byte
	Size   int
}

// MaxDeadRecord bounds what is kept of the record of a dead letter, in bytes.
const MaxDeadRecord = 16 << 10

// SpoolPartition is the partition of what is applied from the spool (see FollowSpool). No
// log has it.
const SpoolPartition int32 = -1

// DeadLetter makes the dead letter of an entry, of a partition with a name. It keeps none of
// the entry's memory.
func (e *Entry) DeadLetter(partition, source, id, reason string) DeadLetter {
	return DeadLetter{
		Position: e.Position, Partition: partition, Appended: e.Appended, Source: source, ID: id, Reason: reason,
		Record: bytes.Clone(e.Record[:min(len(e.Record), MaxDeadRecord)]), Size: len(e.Record),
	}
}

func (a *Applier) deadLetter(e *Entry, source, id, reason string) *DeadLetter {
	d := e.DeadLetter(a.partitionName(e.Position.Partition), source, id, reason)
	return &d
}

// partitionName is "" where a partition has no name.
func (a *Applier) partitionName(partition int32) string {
	switch {
	case partition == SpoolPartition:
		return "spool"
	case a.cfg.PartitionName != nil:
		return a.cfg.PartitionName(partition)
	}
	return ""
}

// keptDeadLetters is how many of the latest are kept in memory; all are counted.
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
