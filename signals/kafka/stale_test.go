package kafka

import (
	"slices"
	"testing"
	"time"

	"vigil/authz"
)

// A process, or all of its brokers, stand still for an hour while a request is under way. The
// answer that comes after it is worth no more than when it was asked for.
func TestAFetchThatWasSentBeforeASuspensionMakesNothingFresh(t *testing.T) {
	w := newWorld(t, 1, 1)
	l := w.openLog(w.config())
	f := follow(t, l, nil)
	f.wait()
	before := w.now()
	eventually(t, "fresh", func() bool { return l.FreshAt() >= before })
	// Requests go out, and their answers are held.
	w.gates[0].hold()
	time.Sleep(2 * w.config().Poll)
	suspended := w.now()
	w.skew.Add(int64(time.Hour))
	woken := w.now()
	// All that comes now was asked for before, until new questions are answered; and the first
	// of those are only let through when the view was looked at.
	l.cluster.mu.Lock() // nobody is asked anew meanwhile
	w.gates[0].open()
	time.Sleep(2 * w.config().Poll)
	if at := l.FreshAt(); at > suspended {
		t.Errorf("fresh at %s, but nothing was asked after %s", at, suspended)
	}
	l.cluster.mu.Unlock()
	eventually(t, "fresh again", func() bool { return l.FreshAt() >= woken })
	eventually(t, "the records were looked at anew", func() bool { return w.lines.has(errPaused.Error()) })
	if !slices.Equal(f.values(0), nil) || f.err != nil {
		t.Error(f.values(0))
	}
}

// deposed is a follower that can reach broker 0 alone, which does not know that broker 1 has
// led the partition since and has acknowledged a record. It returns when that was.
func deposed(t *testing.T, quorumOff bool) (l *Log, f *following, acknowledged authz.Instant, heal func()) {
	w := newWorld(t, 3, 1)
	if err := w.fake.MoveTopicPartition("log", 0, 0); err != nil {
		t.Fatal(err)
	}
	epoch := w.fake.PartitionInfo("log", 0).Epoch
	h := w.scripted("log", func(c *copied) { c.add(epoch, "0"); c.leader, c.epoch, c.replicas = 0, epoch, []int32{0, 1, 2} })
	l = w.openLog(w.config())
	f = follow(t, l, nil)
	f.wait()
	if quorumOff {
		// As if all three had what is acknowledged, so that one answer is enough.
		l.cluster.mu.Lock()
		l.cluster.minISR[l.topics[0]] = 3
		l.cluster.mu.Unlock()
		l.fresh.setMinISR(0, 3)
	}
	w.gates[1].hold()
	w.gates[2].hold()
	// What the two said before is in; broker 0 goes on alone.
	time.Sleep(3 * w.config().Poll)
	for _, id := range []int32{1, 2} {
		h.change(id, func(c *copied) { c.leader, c.epoch = 1, epoch+1; c.add(epoch+1, "revoked") })
	}
	acknowledged = w.now()
	return l, f, acknowledged, func() {
		h.change(0, func(c *copied) { c.leader, c.epoch = 1, epoch+1 })
		w.gates[1].open()
		w.gates[2].open()
	}
}

func TestADeposedLeaderCannotKeepAViewFresh(t *testing.T) {
	t.Run("with a quorum", func(t *testing.T) {
		l, f, acknowledged, heal := deposed(t, false)
		time.Sleep(2 * pollEvery) // broker 0 answers for its epoch all the while
		if at := l.FreshAt(); at >= acknowledged {
			t.Errorf("fresh at %s, but a record that is not here was acknowledged at %s", at, acknowledged)
		}
		heal()
		eventually(t, "fresh again", func() bool { return l.FreshAt() >= acknowledged })
		if got := f.values(0); !slices.Equal(got, []string{"0", "revoked"}) {
			t.Errorf("%q", got)
		}
	})
	// The mechanism turned off: the anomaly is there.
	t.Run("without", func(t *testing.T) {
		l, f, acknowledged, _ := deposed(t, true)
		eventually(t, "the deposed leader keeps the view fresh", func() bool { return l.FreshAt() >= acknowledged })
		if got := f.values(0); !slices.Equal(got, []string{"0"}) {
			t.Errorf("%q", got)
		}
	})
}

// While a partition cannot be read to its end, because more comes than is read, the view is
// still as fresh as the reading allows, and it catches up.
func TestAFloodDoesNotStarveTheView(t *testing.T) {
	w := newWorld(t, 1, 1)
	h := w.scripted("log", func(c *copied) { c.add(0, "0") })
	l := w.openLog(w.config())
	f := follow(t, l, nil)
	// Each answer is overtaken: the end moves on while it is delivered.
	f.mu.Lock()
	f.hook = nil
	f.mu.Unlock()
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			h.changeAll(func(c *copied) {
				c.add(0, "more")
				c.limit = 1
			})
			time.Sleep(100 * time.Microsecond)
		}
	}()
	defer func() { close(stop); <-done }()
	f.wait()
	asked := w.now()
	eventually(t, "fresh", func() bool { return l.FreshAt() >= asked })
}

func TestABrokerThatIsStoppedAgesTheViewAndComesBack(t *testing.T) {
	w := newWorld(t, 3, 3)
	l := w.openLog(w.config())
	f := follow(t, l, nil)
	f.wait()
	leader := w.fake.LeaderFor("log", 1)
	w.gates[leader].hold()
	time.Sleep(2 * w.config().Poll)
	stuck := w.now()
	time.Sleep(2 * pollEvery)
	if at := l.FreshAt(); at > stuck {
		t.Errorf("fresh at %s, but the leader of a partition has not answered since %s", at, stuck)
	}
	w.gates[leader].open()
	eventually(t, "fresh again", func() bool { return l.FreshAt() > stuck })
}
