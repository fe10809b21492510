package kafka

import (
	"net"
	"slices"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/twmb/franz-go/pkg/kmsg"

	"vigil/authz"
	"vigil/signals"
)

// A process, or its brokers, stand still while a fetch is under way. Its answer is worth no
// more than when it was asked for, even if the leader was confirmed since.
func TestAFetchThatWasSentBeforeASuspensionMakesNothingFresh(t *testing.T) {
	clock := authz.Instant(1000)
	l := &feed{cfg: Config{Now: func() authz.Instant { return clock }, Poll: time.Second}, topics: []*topic{{name: "log"}}, progress: map[int32]*progress{}}
	l.fresh.add(0, 1)
	l.fresh.begin(clock)
	l.fresh.follows(0, 0, 5)
	near, far := net.Pipe()
	cn := &conn{tcp: near, stream: near, room: maxAnswer, versions: map[protocol.ApiKey]versionRange{protocol.Fetch: {fetchVersion, fetchVersion}}}
	f := l.newFollower(0, 0, nil)
	done := make(chan error)
	go func() { done <- f.fetchAll(bounded(t), cn, &lead{leader: 0, epoch: 5}, promise{asked: clock}) }()

	answer := func(wake authz.Instant) {
		request, err := readRequest(far)
		if err != nil {
			t.Fatal(err)
		}
		clock += wake
		res := kmsg.NewPtrFetchResponse()
		res.Version = fetchVersion
		p := kmsg.NewFetchResponseTopicPartition()
		of := kmsg.NewFetchResponseTopic()
		of.Partitions = append(of.Partitions, p)
		res.Topics = append(res.Topics, of)
		body := res.AppendTo([]byte{0})
		frame := append(appendInt32(nil, int32(4+len(body))), request[4:8]...)
		if _, err := far.Write(append(frame, body...)); err != nil {
			t.Fatal(err)
		}
	}
	confirm := func() { l.fresh.answered(0, map[int32]claim{0: {0, 5, []int32{0}, clock}}) }
	confirm()
	answer(7) // asked at 1000
	suspended := clock
	answer(authz.Instant(pauseLimit) / 2) // asked at 1007
	confirm()
	if _, err := readRequest(far); err != nil { // so that the answer before it was taken
		t.Fatal(err)
	}
	l.fresh.want(t, "what was asked before the pause", suspended)
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil {
		t.Error("no error")
	}
	_ = far.Close()
}

// The same for a broker that was asked who leads.
func TestAQuestionThatWasSentBeforeASuspensionConfirmsNothing(t *testing.T) {
	w := newWorld(t, 1, 1)
	l := w.openLog(w.config())
	l.ready(t)
	l.fresh.begin(w.now())
	l.fresh.follows(0, 0, w.fake.PartitionInfo("log", 0).Epoch)
	w.gates[0].permit(0)
	eventually(t, "an answer waits", func() bool { return w.gates[0].holds() == 1 })
	suspended := w.now()
	w.skew.Add(int64(time.Hour))
	woken := w.now()
	l.fresh.reachedAt(0, woken)
	heard := l.cluster.changes()
	w.gates[0].permit(1)
	<-heard
	if at := l.FreshAt(); at > suspended || at == 0 {
		t.Errorf("fresh at %s, but nothing was asked after %s", at, suspended)
	}
	w.gates[0].open()
	eventually(t, "fresh", func() bool { return l.FreshAt() >= woken })
}

// After a pause the records are looked at anew, for the log may be another.
func TestAFollowerThatStoodStillVerifiesItsMark(t *testing.T) {
	w := newWorld(t, 1, 1)
	h := w.scripted("log", func(c *copied) { c.add(0, "0", "1") })
	l := w.openLog(w.config())
	f := follow(t, l, nil)
	f.wait()
	eventually(t, "delivered", func() bool { return f.count() == 2 })
	w.gates[0].hold()
	w.skew.Add(int64(time.Hour))
	h.changeAll(func(c *copied) { c.batches = nil; c.add(0, "0", "other"); c.add(0, "2") })
	w.gates[0].open()
	// It may have asked for the next record before; then that is of the other log, and the mark
	// with it. What matters is that the hour is noticed.
	eventually(t, "the pause is noticed", func() bool { return w.lines.has(errPaused.Error()) || f.finished() })
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
	w.scripted("log", func(c *copied) { c.flood = true })
	l := w.openLog(w.config())
	f := follow(t, l, nil)
	f.wait()
	asked := w.now()
	eventually(t, "fresh", func() bool { return l.FreshAt() >= asked })
	if l.Stats().Partitions[0].Lag == 0 {
		t.Error("it has read everything: there was no flood")
	}
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

func TestNothingIsFreshBeforeItIsDelivered(t *testing.T) {
	w := newWorld(t, 1, 1)
	l := w.openLog(w.config())
	f := follow(t, l, nil)
	f.wait()
	inside, leave := make(chan struct{}), make(chan struct{})
	f.mu.Lock()
	f.hook = func([]signals.Entry) { inside <- struct{}{}; <-leave }
	f.mu.Unlock()
	cl := client(t, w.fake)
	put(t, cl, "log", 0, "first")
	<-inside
	put(t, cl, "log", 0, "revoked")
	acknowledged := w.now()
	leave <- struct{}{}
	<-inside // with what a request brought that was written after that
	heard := l.cluster.changes()
	<-heard // the leader is confirmed meanwhile
	if at := l.FreshAt(); at >= acknowledged {
		t.Errorf("fresh at %s, but what was acknowledged at %s is not delivered", at, acknowledged)
	}
	close(leave)
	eventually(t, "fresh", func() bool { return l.FreshAt() >= acknowledged })
}

// However a broker fails, it is not asked again and again without a pause.
func TestABrokerThatFailsIsNotAskedAtFullSpeed(t *testing.T) {
	for name, change := range map[string]func(*copied){
		"refuses":               func(c *copied) { c.code = errUnknownServer },
		"does not say the end":  func(c *copied) { c.ends = errLeaderNotAvailable },
		"answers at once":       func(*copied) {},
		"has more, sends none":  func(c *copied) { c.hw = 10 },
		"is said to be another": func(c *copied) { c.code = errUnknownTopicID },
		"sends rubbish":         func(c *copied) { c.rubbish = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, 1)
			h := w.scripted("log", change)
			l := w.openLog(w.config())
			follow(t, l, nil)
			time.Sleep(time.Second)
			if n := h.seen(); n > 80 {
				t.Errorf("%d requests in a second", n)
			}
		})
	}
}
