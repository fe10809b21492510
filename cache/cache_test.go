package cache

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"vigil/authz"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newCache(t testing.TB, entries int) *Cache[int] {
	t.Helper()
	c, err := New[int](entries)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// put is what the engine does after a miss. It reports whether the value was kept.
func put(c *Cache[int], key string, value int) bool {
	e := c.NewEntry([]byte(key))
	if e == nil {
		return false
	}
	e.Value = value
	c.Put(e)
	return true
}

// Neither ristretto nor the table may take a hash for a key: somebody else's decision
// under our hash must not become ours.
func TestAValueOfAnotherKeyWithTheSameHashIsNotFound(t *testing.T) {
	mine := []byte("alice")
	for where, place := range map[string]func(*Cache[int], *Entry[int]){
		"table":     func(c *Cache[int], e *Entry[int]) { c.front.put(e) },
		"ristretto": func(c *Cache[int], e *Entry[int]) { c.given.Store(true); c.store.Set(e.hash, e, 1); c.Settle() },
	} {
		c := newCache(t, 100)
		e := c.NewEntry([]byte("mallory"))
		e.hash = c.hash(mine)
		place(c, e)
		if e, looked := c.Find(mine); e != nil || looked == authz.Hit {
			t.Errorf("%s: found %v, %v", where, e, looked)
		}
		if where == "ristretto" {
			if _, looked := c.Find(mine); looked != authz.MissForeign {
				t.Errorf("%s: %v", where, looked)
			}
		}
	}
}

func TestTheLatestPutIsFoundInTheTable(t *testing.T) {
	c := newCache(t, 100)
	for value := range 50 {
		put(c, "k", value)
		if e, looked := c.Find([]byte("k")); looked != authz.Hit || e.Value != value {
			t.Fatal(value, e, looked)
		}
	}
}

// What would push something out is kept when it is asked for again, and no sooner. What
// pushes nothing out is kept at once, and so is a newer value of what is there.
func TestAFullTableTakesWhatIsAskedTwice(t *testing.T) {
	c := newCache(t, 7) // one bucket
	for i := range 7 {
		if !put(c, fmt.Sprint("first", i), i) {
			t.Fatalf("value %d was refused while there was a place", i)
		}
	}
	if put(c, "new", 1) {
		t.Error("a key that was asked for once pushed another out")
	}
	if !put(c, "first3", 33) {
		t.Error("a newer value was refused")
	}
	if e, looked := c.Find([]byte("first3")); looked != authz.Hit || e.Value != 33 {
		t.Error("the older value is found", looked)
	}
	if !put(c, "new", 2) {
		t.Error("a key was refused that is asked for again")
	}
	if e, looked := c.Find([]byte("new")); looked != authz.Hit || e.Value != 2 {
		t.Error("it is not found", looked)
	}
}

func TestWhatWasAskedForLatelyIsRemembered(t *testing.T) {
	const entries = 1000
	s := newSights(entries)
	random := rand.New(rand.NewPCG(3, 3))
	wrong, lost := 0, 0
	hashes := make([]uint64, entries/4)
	for i := range hashes {
		hashes[i] = random.Uint64()
		if s.again(hashes[i]) {
			wrong++
		}
	}
	for _, h := range hashes {
		if !s.again(h) {
			lost++
		}
	}
	// A quarter of the places was in use, so that an eighth of the keys met another's.
	if wrong > 0 || lost > len(hashes)/4 {
		t.Errorf("of %d keys %d were taken for seen, %d forgotten", len(hashes), wrong, lost)
	}
	for range 50 * entries {
		s.again(random.Uint64())
	}
	if s.again(hashes[0]) {
		t.Error("a key is remembered for good")
	}
}

func TestSightsAreBounded(t *testing.T) {
	for entries, want := range map[int]int{1: 2, 1000: 1024, 100_000_000: maxSights} {
		if n := len(newSights(entries).marks); n != want {
			t.Errorf("%d entries: %d marks, want %d", entries, n, want)
		}
	}
}

// Entries that were found are kept, those that were asked for once are not: neither by the
// table nor by ristretto, which never sees them.
func TestWhatIsAskedOnceDoesNotPushOutWhatIsHot(t *testing.T) {
	c := newCache(t, 4000)
	const hot = 300
	find := func() (found int) {
		for i := range hot {
			if _, looked := c.Find(fmt.Append(nil, "hot", i)); looked == authz.Hit {
				found++
			} else {
				put(c, fmt.Sprint("hot", i), i)
			}
		}
		return found
	}
	find()
	if got := find(); got < hot*95/100 { // a bucket may be too small
		t.Fatalf("%d of %d found", got, hot)
	}
	for i := range 100_000 {
		put(c, fmt.Sprint("once", i), i)
		if i%2000 == 0 {
			find()
		}
	}
	c.Settle()
	if got := find(); got < hot*9/10 {
		t.Errorf("%d of %d found after a flood", got, hot)
	}
	flooded := 0
	for i := range 100_000 {
		if _, ok := c.store.Get(c.hash(fmt.Append(nil, "once", i))); ok {
			flooded++
		}
	}
	if flooded > 0 {
		t.Errorf("ristretto was given %d entries that nobody asked for again", flooded)
	}
}

// What loses its place in the table is found in ristretto, and takes a place again.
func TestWhatTheTableCannotHoldIsStillFound(t *testing.T) {
	c := newCache(t, 4000) // 128 buckets of 7
	const keys = 2000
	for range 4 {
		for i := range keys {
			if _, looked := c.Find(fmt.Append(nil, i)); looked != authz.Hit {
				put(c, fmt.Sprint(i), i)
			}
			c.Find(fmt.Append(nil, i))
		}
		c.Settle()
	}
	found := 0
	for i := range keys {
		if e, looked := c.Find(fmt.Append(nil, i)); looked == authz.Hit {
			if found++; e.Value != i {
				t.Fatal(i, e.Value)
			}
		}
	}
	if found < keys*8/10 {
		t.Errorf("%d of %d found", found, keys)
	}
}

func TestFindKeepsNoKeyAndAllocatesNothing(t *testing.T) {
	c := newCache(t, 10)
	put(c, "k", 1)
	key := []byte("k")
	if n := testing.AllocsPerRun(1000, func() {
		if _, looked := c.Find(key); looked != authz.Hit {
			t.Fatal(looked)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
	e := c.NewEntry(key)
	key[0] = 'x'
	if string(e.key) != "k" {
		t.Error("the entry shares the caller's key")
	}
}

func TestALongKeyIsAKey(t *testing.T) {
	c := newCache(t, 10)
	long := make([]byte, 10*roomForKey)
	put(c, string(long), 1)
	if e, looked := c.Find(long); looked != authz.Hit || e.Value != 1 {
		t.Error(e, looked)
	}
	long[len(long)-1] = 1
	if _, looked := c.Find(long); looked == authz.Hit {
		t.Error("the end of a long key is not compared")
	}
}

func TestATinyCacheHoldsLittle(t *testing.T) {
	for _, entries := range []int{0, 1, 2, 5} {
		c := newCache(t, entries)
		for i := range 100 {
			put(c, fmt.Sprint(i), i)
			c.Find(fmt.Append(nil, i))
		}
		c.Settle()
		held := 0
		for i := range 100 {
			if _, looked := c.Find(fmt.Append(nil, i)); looked == authz.Hit {
				held++
			}
		}
		// The table and ristretto may each hold so many.
		if most := 2 * max(entries, 1); held == 0 || held > most {
			t.Errorf("%d: %d entries held, want 1 to %d", entries, held, most)
		}
	}
}

// Writers of one bucket, and readers beside them: every value found belongs to its key.
func TestEveryValueFoundBelongsToItsKey(t *testing.T) {
	c := newCache(t, 14)
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(g)))
			for range 20_000 {
				i := random.IntN(40)
				key := fmt.Append(nil, "key", i)
				if random.IntN(3) == 0 {
					put(c, string(key), i)
				} else if e, looked := c.Find(key); looked == authz.Hit && e.Value != i {
					t.Errorf("key %d has value %d", i, e.Value)
					return
				}
			}
		})
	}
	all.Wait()
}

func BenchmarkFind(b *testing.B) {
	for _, hot := range []int{16, 10_000} {
		b.Run(fmt.Sprint(hot), func(b *testing.B) {
			c := newCache(b, 100_000)
			var keys [][]byte
			for i := range hot {
				keys = append(keys, fmt.Appendf(nil, "a key of about the length that a request has, which is a hundred bytes and some more on top %d", i))
				put(c, string(keys[i]), i)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if _, looked := c.Find(keys[i]); looked != authz.Hit {
					b.Fatal(looked)
				}
				if i++; i == hot {
					i = 0
				}
			}
		})
	}
}
