package posture

import (
	"slices"
	"testing"

	"vigil/authz"
)

// interleavings calls run with every order of a steps of one and b steps of another:
// true is a step of the first.
func interleavings(a, b int, run func(schedule []bool)) {
	var walk func(done []bool, a, b int)
	walk = func(done []bool, a, b int) {
		if a == 0 && b == 0 {
			run(done)
			return
		}
		if a > 0 {
			walk(append(slices.Clip(done), true), a-1, b)
		}
		if b > 0 {
			walk(append(slices.Clip(done), false), a, b-1)
		}
	}
	walk(nil, a, b)
}

// TestEveryInterleavingOfDeathAndBirth runs the steps of a writer, who lets an entity
// die and be born again, and of a reader in every order. What the reader stamps must be
// what is in force, and must not be current once something else is. The other orders
// of the writer's steps are there to show that the test finds what is wrong with them.
func TestEveryInterleavingOfDeathAndBirth(t *testing.T) {
	const (
		die = iota
		remove
		insert
		bump
		store
	)
	for _, c := range []struct {
		name  string
		steps []int
		right bool
	}{
		{"as it is", []int{die, remove, insert, bump, store}, true},
		{"bump before insert", []int{die, remove, bump, insert, store}, false},
		{"store before bump", []int{die, remove, insert, store, bump}, false},
		{"no bump", []int{die, remove, insert, store}, false},
		{"removed before it is dead", []int{remove, insert, bump, store, die}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			wrong := ""
			interleavings(len(c.steps), 2, func(schedule []bool) {
				s := newStore(4, &defaultCaps)
				a := agent("a")
				s.Apply(1, []Change{{a, []Fact{risk(1, 1)}}})
				tenant := s.tenantOf(a.Tenant)
				p := s.placeOf(&tenant, a.Kind, a.ID)
				sh := &s.shards[p.shard()]
				table := sh.table.Load()
				old := table.find(p, a.ID)
				slot := -1
				for i := range table.slots {
					if table.slots[i].Load() == old {
						slot = i
					}
				}
				fresh := &cell{id: a.ID, meta: p.meta}
				fresh.rec.Store(absent)
				next, _ := s.joined(1, a.ID, absent, []Fact{risk(2, 2)}, "")
				inForce := old.rec.Load() // what a reader may see now

				var v View
				v.Reset(s)
				var seen uint32
				var stamp *Stamp
				var stamped *Record
				w, r := c.steps, 0
				for _, writer := range schedule {
					switch {
					case writer:
						switch w[0] {
						case die:
							old.rec.Store(dead)
							if inForce != next {
								inForce = nil
							}
						case remove:
							s.remove(sh, table, slot)
						case insert:
							s.insert(p, fresh)
						case bump:
							s.births[s.birth(p.hash)].Add(1)
						case store:
							fresh.rec.Store(next)
							inForce = next
						}
						w = w[1:]
					case r == 0:
						seen = s.births[s.birth(p.hash)].Load()
						r++
					default:
						stamped = v.read(p, a.ID, s.birth(p.hash), seen)
						stamp = stampOf(&v)
					}
					// One that is stale early costs a look; one that is current late costs the contract.
					if stamp != nil && stamp.Current() && stamped != inForce {
						wrong = "a stamp is current of what is not in force"
					}
				}
			})
			if (wrong == "") != c.right {
				t.Errorf("right: %v; found: %q", c.right, wrong)
			}
		})
	}
}

// TestEveryInterleavingOfACommit does the same with a signal about two entities, one of
// which is born with it.
func TestEveryInterleavingOfACommit(t *testing.T) {
	steps := 6 // insert, bump, store a, store b, commit, clear
	interleavings(steps, 3, func(schedule []bool) {
		s := newStore(4, &defaultCaps)
		a, b := agent("a"), agent("b")
		s.Apply(1, []Change{{b, []Fact{risk(1, 1)}}})
		sa, sb := s.begin(a), s.begin(b)
		sa.next, _ = s.joined(1, a.ID, sa.next, []Fact{risk(2, 2)}, "")
		sb.next, _ = s.joined(1, b.ID, sb.next, []Fact{risk(2, 2)}, "")
		word := new(commit)
		sa.next.pending.Store(&pending{word, sa.prev})
		sb.next.pending.Store(&pending{word, sb.prev})
		tenant := s.tenantOf(a.Tenant)
		p := s.placeOf(&tenant, a.Kind, a.ID)
		fresh := &cell{id: a.ID, meta: p.meta}
		fresh.rec.Store(absent)

		var v View
		v.Reset(s)
		var seen [2]authz.Instant
		var stamp *Stamp
		confirmed := false
		write := []func(){
			func() { s.insert(p, fresh) },
			func() { s.births[s.birth(p.hash)].Add(1) },
			func() { fresh.rec.Store(sa.next) },
			func() { sb.cell.rec.Store(sb.next) },
			func() { word.done.Store(true) },
			func() { sa.next.pending.Store(nil); sb.next.pending.Store(nil) },
		}
		read := []func(){
			func() { seen[0] = authz.Instant(v.Read(a).At(1).Risk) },
			func() { seen[1] = authz.Instant(v.Read(b).At(1).Risk) },
			func() { confirmed = v.Confirm(); stamp = stampOf(&v) },
		}
		committed := false
		for _, writer := range schedule {
			if writer {
				write[0]()
				write = write[1:]
				committed = word.done.Load()
			} else {
				read[0]()
				read = read[1:]
			}
			if len(read) > 0 {
				continue
			}
			if half := (seen[0] == 2) != (seen[1] == 2); confirmed && half {
				t.Fatalf("%v: half a signal: %v", schedule, seen)
			}
			if confirmed && committed && seen[0] == 0 && stamp.Current() {
				t.Fatalf("%v: a stamp of before is current after the commit", schedule)
			}
		}
	})
}
