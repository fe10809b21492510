package kafka

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"vigil/signals"
)

func TestOpenWaitsForTheCluster(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.gates[0].down()
	opened := make(chan error, 1)
	go func() {
		l, err := Open(bounded(t), w.config())
		if err == nil {
			_ = l.Close()
		}
		opened <- err
	}()
	eventually(t, "it says what it waits for", func() bool { return w.lines.has("waiting for the Kafka cluster") })
	w.gates[0].open()
	if err := <-opened; err != nil {
		t.Error(err)
	}
	w.gates[0].down()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, w.config()); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestOpenRefusesWhatCannotBeALog(t *testing.T) {
	w := newWorld(t, 1, 1)
	good := w.config()
	for want, change := range map[string]func(*Config){
		"no brokers":  func(c *Config) { c.Brokers = nil },
		"no clock":    func(c *Config) { c.Now = nil },
		"no topic":    func(c *Config) { c.Topic = "" },
		"replication": func(c *Config) { c.AllowWeak = nil },
	} {
		cfg := good
		change(&cfg)
		if _, err := Open(bounded(t), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	w.create("many", signals.MaxPartitions)
	if _, err := Open(bounded(t), w.config("many")); err == nil || !strings.Contains(err.Error(), "400") {
		t.Error(err)
	}
}

func TestALogIsFollowedByOneAtATime(t *testing.T) {
	w := newWorld(t, 1, 1)
	l := w.openLog(w.config())
	f := follow(t, l, nil)
	f.wait()
	if err := l.Follow(t.Context(), nil, nil, nil); err != errFollowed {
		t.Error(err)
	}
	f.stop()
	follow(t, l, nil).wait()
	again := follow(t, l, nil)
	if err := again.ended(); err != errFollowed {
		t.Error(err)
	}
}

func TestCloseEndsFollow(t *testing.T) {
	w := newWorld(t, 1, 2)
	l := w.openLog(w.config())
	f := follow(t, l, nil)
	f.wait()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := f.ended(); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestStatsSayHowFollowingGoes(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.create("risks", 1)
	h := w.scripted("log", func(c *copied) { c.add(1, "0") })
	l := w.openLog(w.config("risks"))
	f := follow(t, l, nil)
	f.wait()
	h.changeAll(func(c *copied) { c.code = errUnknownServer })
	eventually(t, "an error is counted", func() bool {
		s := l.Stats()
		return len(s.Partitions) == 2 && s.Partitions[0].Name == "log/0" && s.Partitions[0].FetchErrors > 0 && s.Partitions[0].Reconnects > 0 &&
			strings.Contains(s.Partitions[0].LastError, "UNKNOWN_SERVER_ERROR") && s.Partitions[1].Name == "risks/0" && s.Partitions[1].LastError == ""
	})
	h.changeAll(func(c *copied) { c.code, c.hw = errNone, 7 })
	eventually(t, "the lag", func() bool { return l.Stats().Partitions[0].Lag == 6 })
}

// Two brokers that are reached at one address cannot vouch for one another.
func TestBrokersOfOneAddressCountOnce(t *testing.T) {
	w := newWorld(t, 1, 1)
	h := w.scripted("log", nil)
	l := w.openLog(w.config())
	f := follow(t, l, nil)
	f.wait()
	l.fresh.setMinISR(0, 2)
	h.changeAll(func(c *copied) { c.leader, c.epoch, c.replicas, c.twins = 0, 2, []int32{0, 1, 2}, true })
	eventually(t, "it says so", func() bool { return w.lines.has("two brokers have one address") })
	eventually(t, "the new epoch is followed", func() bool { lead, _ := l.cluster.leaderNow(0); return lead.epoch == 2 })
	stuck := w.now()
	for range 3 {
		<-l.cluster.changes()
	}
	if at := l.FreshAt(); at > stuck {
		t.Errorf("fresh at %s: one broker counts as two of three", at)
	}
}
