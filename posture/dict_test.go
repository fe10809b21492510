package posture

import (
	"fmt"
	"testing"
)

// TestRegistrationsThatComeInTurnsAreShared: each is shared after a few sights, however
// many others come between; those that come once are not.
func TestRegistrationsThatComeInTurnsAreShared(t *testing.T) {
	d := newDict()
	encoded := func(class string, i int) []byte {
		return appendRegistered(nil, &Registered{Class: fmt.Sprint(class, i)})
	}
	const turns, common = 200, 2000
	own := 0
	for turn := range turns {
		for i := range common {
			if ref := d.registration(encoded("common-", i), false); ref == 0 && turn > turns/2 {
				t.Fatalf("registration %d is not shared in turn %d", i, turn)
			}
		}
		for range 20 {
			if d.registration(encoded("own-", own), false) != 0 {
				t.Fatal("shared at first sight")
			}
			own++
		}
	}
	for i := range common {
		ref := d.registration(encoded("common-", i), false)
		if got := (*d.registrations.Load())[ref-1].Class; got != fmt.Sprint("common-", i) {
			t.Fatalf("reference %d is %s", ref, got)
		}
	}
	if n := len(*d.registrations.Load()); n != common {
		t.Errorf("%d are shared", n)
	}
}

// TestAFullTableOfSharedRegistrationsIsNoError: what does not fit is kept by the record.
func TestAFullTableOfSharedRegistrationsIsNoError(t *testing.T) {
	d := newDict()
	for i := range maxSharedRegistrations + 10 {
		r := appendRegistered(nil, &Registered{Class: fmt.Sprint(i)})
		if ref := d.registration(r, true); (ref == 0) != (i >= maxSharedRegistrations) {
			t.Fatalf("%d: reference %d", i, ref)
		}
	}
	for i := range maxSharedSources + 10 {
		if ref := d.source(fmt.Sprint(i)); (ref == 0) != (i >= maxSharedSources) {
			t.Fatalf("source %d: reference %d", i, ref)
		}
	}
}
