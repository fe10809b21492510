package kafka

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"vigil/authz"
	"vigil/signals"
	"vigil/signals/deadletter"
)

func forwarder(t *testing.T, brokers []string, topic string) *Forwarder {
	t.Helper()
	f, err := NewForwarder(Config{Brokers: brokers, Topic: "log", Now: func() authz.Instant { return authz.InstantOf(time.Now()) }}, topic)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

func letterAt(offset int64) signals.DeadLetter {
	return signals.DeadLetter{
		Position: signals.Position{Partition: 4096 * 5, Offset: offset}, Partition: "risk/0", Appended: authz.InstantOf(time.Unix(1_600_000_000, 0)),
		Source: "topic:risk", Reason: "unreadable \xff envelope", Record: []byte("no\x00JSON"), Size: 7,
	}
}

// awaitStats waits for what the goroutine does.
func awaitStats(t *testing.T, f *Forwarder, ok func(ForwarderStats) bool) ForwarderStats {
	t.Helper()
	ctx := bounded(t)
	for !ok(f.Stats()) {
		if !sleep(ctx, time.Millisecond) {
			t.Fatalf("it never came to that: %+v", f.Stats())
		}
	}
	return f.Stats()
}

func TestADeadLetterIsForwardedAsItStandsInTheFile(t *testing.T) {
	c := fakeCluster(t, kfake.NumBrokers(3))
	makeTopic(t, c, "dead", 3, 3, nil)
	f := forwarder(t, c.ListenAddrs(), "dead")
	dir := t.TempDir()
	file, err := deadletter.Open(deadletter.Config{Dir: dir, Now: f.cfg.Now})
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(20) {
		f.Add(letterAt(i))
		file.Add(letterAt(i))
	}
	f.Close() // which sends what waits
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if s := f.Stats(); s.Written != 20 || s.Dropped != 0 || s.Waiting != 0 || s.LastError != "" {
		t.Fatalf("%+v", s)
	}
	text, err := os.ReadFile(filepath.Join(dir, "dead-letters.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	cl := client(t, c, kgo.ConsumeTopics("dead"))
	var got []string
	for len(got) < len(want) {
		fetches := cl.PollFetches(bounded(t))
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			got = append(got, string(r.Value))
			if r.Key != nil || len(r.Headers) > 0 {
				t.Errorf("key %q, headers %v", r.Key, r.Headers)
			}
		})
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestForwardingNeverWaits, also not for a broker that takes connections and says nothing.
func TestForwardingNeverWaits(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	f := forwarder(t, []string{mute.Addr().String()}, "dead")
	const n = 100_000
	for i := range int64(n) {
		f.Add(letterAt(i))
	}
	if s := f.Stats(); s.Written != 0 || s.Dropped < n-maxForwarded-1 || s.Waiting > maxForwarded {
		t.Errorf("%+v", s)
	}
	f.Close()
	f.Add(letterAt(n))
	if s := f.Stats(); s.Written != 0 || s.Dropped != n+1 || s.Waiting != 0 || s.LastError == "" {
		t.Errorf("closed: %+v", s)
	}
}

func TestLettersWaitForTheTopic(t *testing.T) {
	c := fakeCluster(t, kfake.NumBrokers(3))
	f := forwarder(t, c.ListenAddrs(), "dead")
	f.Add(letterAt(1))
	f.Add(letterAt(2))
	s := awaitStats(t, f, func(s ForwarderStats) bool { return s.LastError != "" })
	if !strings.Contains(s.LastError, "pdp topics create") || s.Dropped != 0 {
		t.Errorf("%+v", s)
	}
	makeTopic(t, c, "dead", 1, 3, nil)
	s = awaitStats(t, f, func(s ForwarderStats) bool { return s.Written == 2 })
	if s.LastError != "" || s.Dropped != 0 {
		t.Errorf("%+v", s)
	}
}

// TestOnlyTheLetterThatIsRefusedIsDropped: a lost answer and a new leader cost none.
func TestOnlyTheLetterThatIsRefusedIsDropped(t *testing.T) {
	c := fakeCluster(t, kfake.NumBrokers(3))
	makeTopic(t, c, "dead", 3, 3, nil)
	var asked atomic.Int32
	c.ControlKey(int16(kmsg.Produce), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		codes := []*kerr.Error{kerr.MessageTooLarge, kerr.NotLeaderForPartition, nil, kerr.NotEnoughReplicas}
		n := int(asked.Add(1)) - 1
		switch {
		case n >= len(codes):
			return nil, nil, false
		case codes[n] == nil:
			return nil, net.ErrClosed, true
		}
		req := kreq.(*kmsg.ProduceRequest)
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic = req.Topics[0].Topic
		p := kmsg.NewProduceResponseTopicPartition()
		p.Partition, p.ErrorCode = req.Topics[0].Partitions[0].Partition, codes[n].Code
		topic.Partitions = append(topic.Partitions, p)
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	})
	f := forwarder(t, c.ListenAddrs(), "dead")
	for i := range int64(3) {
		f.Add(letterAt(i))
	}
	s := awaitStats(t, f, func(s ForwarderStats) bool { return s.Written+s.Dropped == 3 })
	if s.Written != 2 || s.Dropped != 1 || s.LastError != "" || asked.Load() != 6 {
		t.Errorf("%+v, asked %d times", s, asked.Load())
	}
}

func TestDeadLettersDoNotComeBackAsSignals(t *testing.T) {
	cfg := Config{Brokers: []string{"127.0.0.1:1"}, Topic: "log", Inputs: []Input{{Topic: "risk"}}, Now: func() authz.Instant { return 1 }}
	for _, topic := range []string{"", "log", "risk"} {
		if f, err := NewForwarder(cfg, topic); err == nil {
			f.Close()
			t.Errorf("forwards to %q", topic)
		}
	}
}
