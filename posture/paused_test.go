package posture

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"vigil/authz"
)

// onlooker reads a store between any two steps of its writer. It keeps every stamp that
// it took and every read that it has begun, so that readers of every speed are tried.
type onlooker struct {
	s    *Store
	keys []authz.Key
	now  authz.Instant

	stamps []onlook
	begun  [][]uint32 // birth counters of the keys, loaded earlier
}

type onlook struct {
	stamp *Stamp
	said  []saying // by key
}

func (o *onlooker) say(records []*Record) (all []saying) {
	for i, r := range records {
		say := said(r.At(o.now))
		say.ID = o.keys[i].ID
		all = append(all, say)
	}
	return all
}

// look reads all keys with counters loaded at some earlier time and with ones loaded
// now, and returns what it saw in force.
func (o *onlooker) look() ([]saying, error) {
	var in []saying
	var loaded []uint32
	for _, key := range o.keys {
		t := o.s.tenantOf(key.Tenant)
		loaded = append(loaded, o.s.births[o.s.birth(o.s.hash(&t, key.Kind, key.ID))].Load())
	}
	if o.begun = append(o.begun, loaded); len(o.begun) > 8 {
		o.begun = o.begun[1:]
	}
	for _, seen := range o.begun {
		var v View
		v.Reset(o.s)
		var records []*Record
		for i, key := range o.keys {
			t := o.s.tenantOf(key.Tenant)
			p := o.s.placeOf(&t, key.Kind, key.ID)
			records = append(records, v.read(p, key.ID, o.s.birth(p.hash), seen[i]))
		}
		now := o.say(records)
		if in == nil {
			in = now
		} else if !reflect.DeepEqual(now, in) {
			return nil, fmt.Errorf("two reads of one instant differ")
		}
		stamp := stampOf(&v)
		if v.Confirm() || stamp.Current() {
			o.stamps = append(o.stamps, onlook{stamp, now})
		}
	}
	return in, nil
}

// TestWhatReadersSeeBetweenTheStepsOfAWriter runs random signals about several entities,
// births and deaths among them, and looks on between the steps: a reader sees all of a
// signal or nothing of it, and no stamp is current once what it was taken of is not in
// force.
func TestWhatReadersSeeBetweenTheStepsOfAWriter(t *testing.T) {
	keys := []authz.Key{agent("a"), agent("b"), authz.Ref{Kind: authz.KindSession, ID: "c"}.In("other")}
	rapid.Check(t, func(t *rapid.T) {
		s := newStore(4, &defaultCaps)
		s.addTenant("default") // numbers are part of a place
		s.addTenant("other")
		o := &onlooker{s: s, keys: keys, now: 1}
		check := func(before, after []saying) {
			in, err := o.look()
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(in, before) && !reflect.DeepEqual(in, after) {
				t.Fatalf("half a signal in force:\n%q\nbefore\n%q\nafter\n%q", fmt.Sprint(in), fmt.Sprint(before), fmt.Sprint(after))
			}
			// A stamp that is not current never is again.
			o.stamps = slices.DeleteFunc(o.stamps, func(l onlook) bool { return !l.stamp.Current() })
			for i := range o.stamps {
				if l := &o.stamps[i]; !reflect.DeepEqual(l.said, in) {
					t.Fatalf("a stamp is current of\n%q\nin force is\n%q", fmt.Sprint(l.said), fmt.Sprint(in))
				}
			}
		}
		plain := twin{}
		for range rapid.IntRange(1, 5).Draw(t, "signals") {
			if rapid.IntRange(0, 2).Draw(t, "prune") == 0 {
				o.now += 2
				all := func() (all []saying) {
					for _, key := range keys {
						all = append(all, plain.at(key, o.now))
					}
					return all
				}
				o.stamps = nil // they were taken of another time
				s.paused = func() { check(all(), all()) }
				s.Prune(o.now)
			}
			var before, after []saying
			for _, key := range keys {
				before = append(before, plain.at(key, o.now))
			}
			var changes []Change
			for _, key := range rapid.Permutation(keys).Draw(t, "order")[:rapid.IntRange(1, 3).Draw(t, "entities")] {
				f := drawFactOf(t, rapid.SampledFrom([]Facet{Hold, Risk, Taint}).Draw(t, "facet"))
				f.Until = o.now + authz.Instant(rapid.IntRange(1, 4).Draw(t, "for"))
				changes = append(changes, Change{key, []Fact{f}})
			}
			plain.apply(changes)
			for _, key := range keys {
				after = append(after, plain.at(key, o.now))
			}
			s.paused = func() { check(before, after) }
			s.paused()
			s.Apply(o.now, changes)
			check(after, after)
		}
	})
}
