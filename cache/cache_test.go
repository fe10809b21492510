package cache

import (
	"fmt"
	"hash/maphash"
	"testing"

	"go.uber.org/goleak"

	"vigil/authz"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// version is a stamp that is current until it is overtaken.
type version struct{ overtaken bool }

func (v *version) Current() bool { return !v.overtaken }

func newCache(t *testing.T, entries int) *Cache[*version] {
	t.Helper()
	c, err := New[*version](entries)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func entry(key string, until authz.Instant) *Entry[*version] {
	return &Entry[*version]{Key: []byte(key), Stamp: new(version), ValidUntil: until, Decision: new(authz.Decision)}
}

func TestAnEntryIsServedWhileItIsCurrentAndInTime(t *testing.T) {
	e := entry("k", 100)
	for _, c := range []struct {
		now       authz.Instant
		overtaken bool
		want      authz.Lookup
	}{
		{99, false, authz.Hit},
		{100, false, authz.MissExpired}, // the end is exclusive
		{99, true, authz.MissStale},
		{100, true, authz.MissExpired},
	} {
		e.Stamp.overtaken = c.overtaken
		if got := e.Check(c.now); got != c.want {
			t.Errorf("now %d overtaken %v: %v, want %v", c.now, c.overtaken, got, c.want)
		}
	}
}

// ristretto compares hashes, not keys. Somebody else's decision under our hash must
// not become ours.
func TestADecisionOfAnotherKeyWithTheSameHashIsNotServed(t *testing.T) {
	c := newCache(t, 10)
	mine := []byte("alice")
	c.store.Set(maphash.Bytes(c.seed, mine), entry("mallory", authz.Forever), 1)
	c.Settle()
	if e, looked := c.Find(mine); e != nil || looked != authz.MissForeign {
		t.Errorf("found %v, %v", e, looked)
	}
}

// ristretto keeps the first of two sets of a new key. Whichever it keeps, the entry
// says of itself whether it is current, so the cache never needs the last word.
func TestALostPutCostsAHitAndNotTheTruth(t *testing.T) {
	c := newCache(t, 100)
	for i := range 50 {
		key := fmt.Sprint("key", i)
		old, fresh := entry(key, authz.Forever), entry(key, authz.Forever)
		c.Put(old)
		old.Stamp.overtaken = true
		c.Put(fresh)
		c.Settle()
		found, looked := c.Find([]byte(key))
		if looked == authz.MissAbsent {
			continue
		}
		if found.Check(0) == authz.Hit && found == old {
			t.Fatal("an overtaken entry was served")
		}
	}
}

func TestFindDoesNotKeepTheKeyAndBarelyAllocates(t *testing.T) {
	c := newCache(t, 10)
	c.Put(entry("k", authz.Forever))
	c.Settle()
	key := []byte("k")
	if _, looked := c.Find(key); looked != authz.Hit {
		t.Fatalf("%v", looked)
	}
	// ristretto takes a new buffer for every 64 look-ups, hence not exactly 0.
	if n := testing.AllocsPerRun(1000, func() { c.Find(key) }); n > 0.1 {
		t.Errorf("%v allocations", n)
	}
}

func TestACacheOfOneEntryWorks(t *testing.T) {
	c := newCache(t, 0)
	for i := range 100 {
		c.Put(entry(fmt.Sprint(i), authz.Forever))
	}
	c.Settle()
	held := 0
	for i := range 100 {
		if _, looked := c.Find([]byte(fmt.Sprint(i))); looked == authz.Hit {
			held++
		}
	}
	if held > 1 {
		t.Errorf("%d entries held, want at most 1", held)
	}
}

func BenchmarkFind(b *testing.B) {
	c, err := New[*version](1024)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	key := []byte("a key of about the length that a request has, which is a hundred bytes and some more on top")
	c.Put(entry(string(key), authz.Forever))
	c.Settle()
	b.ReportAllocs()
	for b.Loop() {
		c.Find(key)
	}
}
