package authzen

import (
	"hash/maphash"

	"vigil/authz"
)

// smallObject is the number of members up to which looking for a duplicate compares
// names one by one. Beyond it a hash table keeps the cost linear, and the hash is
// seeded, so that nobody can choose names that collide.
const smallObject = 16

var nameSeed = maphash.MakeSeed()

// nameTable holds the names of one object of more than smallObject members. There is
// one for each depth, for objects are read within one another.
type nameTable [2 * MaxMembers]uint16 // 1 + index of the member; 0 is free

// mark gives a name one of 64 bits. Equal names have equal bits.
func mark(name string) uint64 {
	n := len(name)
	if n == 0 {
		return 1
	}
	return 1 << ((uint(name[0]) ^ uint(name[n-1])<<2 ^ uint(n)<<1) & 63)
}

// repeated reports whether name is among members, all of which were remembered.
func (d *Decoder) repeated(depth int, members []authz.Member, name string) bool {
	if len(members) <= smallObject {
		for i := range members {
			if members[i].Name == name {
				return true
			}
		}
		return false
	}
	table := d.tables[depth]
	for h := slot(name); table[h] != 0; h = (h + 1) % len(table) {
		if members[table[h]-1].Name == name {
			return true
		}
	}
	return false
}

// remember puts the last of members where repeated finds it.
func (d *Decoder) remember(depth int, members []authz.Member) {
	first := len(members) - 1
	if len(members) == smallObject+1 {
		if d.tables[depth] == nil {
			d.tables[depth] = new(nameTable)
		}
		*d.tables[depth] = nameTable{}
		first = 0
	}
	table := d.tables[depth]
	for i := first; i < len(members); i++ {
		h := slot(members[i].Name)
		for table[h] != 0 {
			h = (h + 1) % len(table)
		}
		table[h] = uint16(i + 1)
	}
}

func slot(name string) int {
	return int(maphash.String(nameSeed, name) % uint64(len(nameTable{})))
}
