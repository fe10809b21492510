package main

import (
	"runtime/debug"
	"testing"
)

// TestTheCollectorIsPutBack: a start changes how often it runs, and only meanwhile; it
// never takes away what somebody set who wants it to run less.
func TestTheCollectorIsPutBack(t *testing.T) {
	set := func(percent int) (before int) { return debug.SetGCPercent(percent) }
	defer set(set(100))
	for _, c := range []struct{ before, meanwhile int }{{100, 400}, {50, 400}, {400, 400}, {900, 900}, {-1, -1}} {
		set(c.before)
		asBefore := collectSeldom()
		if got := set(c.meanwhile); got != c.meanwhile {
			t.Errorf("with %d: %d meanwhile, want %d", c.before, got, c.meanwhile)
		}
		asBefore()
		if got := set(c.before); got != c.before {
			t.Errorf("with %d: %d afterwards", c.before, got)
		}
	}
}
