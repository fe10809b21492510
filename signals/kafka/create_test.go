package kafka

import (
	"errors"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestWhatCreateMakesIsWhatCheckWants(t *testing.T) {
	c := fakeCluster(t, kfake.NumBrokers(3))
	cfg := configOf(c)
	cfg.Inputs = []Input{{Topic: "risk"}, {Topic: "soc.alerts"}}
	makeTopic(t, c, "risk", 1, 3, map[string]string{"retention.ms": "1"})
	created, err := Create(bounded(t), cfg, CreateOptions{DeadLetterTopic: "dead"})
	if err != nil {
		t.Fatal(err)
	}
	want := []Created{
		{Topic: "log", Partitions: 3, Replication: 3},
		{Topic: "risk", Partitions: 1, Replication: 3, Existed: true},
		{Topic: "soc.alerts", Partitions: 3, Replication: 3},
		{Topic: "dead", Partitions: 3, Replication: 3},
	}
	if !reflect.DeepEqual(created, want) {
		t.Errorf("created %+v", created)
	}
	// What was there is left as it was, and found.
	found, err := Check(bounded(t), cfg)
	if err != nil || len(found) != 1 || found[0].Topic != "risk" || found[0].Setting != weakRetention {
		t.Errorf("%+v, %v", found, err)
	}
	again, err := Create(bounded(t), cfg, CreateOptions{Partitions: 7})
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range again {
		if !topic.Existed || topic.Partitions == 7 {
			t.Errorf("again: %+v", topic)
		}
	}
}

// TestCreateMakesNoFewerCopiesThanAreAllowed: one broker is for trying out, by name.
func TestCreateMakesNoFewerCopiesThanAreAllowed(t *testing.T) {
	for _, test := range []struct {
		brokers, wanted int
		weak            []string
		replication     int // 0: refused
		minInsync       int
	}{
		{1, 0, nil, 0, 0},
		{1, 0, []string{weakRetention}, 0, 0},
		{1, 0, []string{weakAll}, 1, 1},
		{2, 0, []string{weakReplication}, 2, 2},
		{2, 0, []string{weakReplication, weakMinInsync}, 2, 1},
		{3, 2, nil, 0, 0},
		{3, 2, []string{weakAll}, 2, 1},
		{3, 0, []string{weakAll}, 3, 2},
		{4, 4, nil, 4, 2},
	} {
		c := fakeCluster(t, kfake.NumBrokers(test.brokers))
		cfg := configOf(c, test.weak...)
		created, err := Create(bounded(t), cfg, CreateOptions{Partitions: 1, Replication: test.wanted})
		var weak *WeakError
		if test.replication == 0 {
			if !errors.As(err, &weak) || weak.Findings[0].Setting != weakReplication || len(created) > 0 {
				t.Errorf("%+v: %+v, %v", test, created, err)
			}
			found, err := Check(bounded(t), cfg)
			if err != nil || len(found) != 1 || found[0].Setting != settingTopic {
				t.Errorf("%+v: a topic is there: %+v, %v", test, found, err)
			}
			continue
		}
		if err != nil || len(created) != 1 || created[0].Replication != test.replication {
			t.Errorf("%+v: %+v, %v", test, created, err)
			continue
		}
		cn := dial(t, cfg, c.ListenAddrs()[0])
		of, err := cn.settingsOf(bounded(t), []string{"log"})
		if err != nil || of["log"].minInsync() != test.minInsync {
			t.Errorf("%+v: min.insync.replicas %d, %v", test, of["log"].minInsync(), err)
		}
		found, err := Check(bounded(t), cfg)
		if err != nil || refused(found) != nil {
			t.Errorf("%+v: %v, %v", test, found, err)
		}
	}
}

// TestCreateSaysWhyATopicWasNotMade, and makes the others.
func TestCreateSaysWhyATopicWasNotMade(t *testing.T) {
	c := fakeCluster(t, kfake.NumBrokers(3))
	cfg := configOf(c)
	cfg.Inputs = []Input{{Topic: "risk"}}
	c.ControlKey(int16(kmsg.CreateTopics), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := kreq.(*kmsg.CreateTopicsRequest)
		if len(req.Topics) != 2 {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
		for _, topic := range req.Topics {
			of := kmsg.NewCreateTopicsResponseTopic()
			of.Topic = topic.Topic
			if topic.Topic == "risk" {
				of.ErrorCode, of.ErrorMessage = kerr.PolicyViolation.Code, kmsg.StringPtr("not \x1b[31m on a Friday")
			} else {
				of.ErrorCode = kerr.NotController.Code
			}
			resp.Topics = append(resp.Topics, of)
		}
		return resp, nil, true
	})
	created, err := Create(bounded(t), cfg, CreateOptions{})
	var refusal *RefusedError
	if !errors.As(err, &refusal) || refusal.Topic != "risk" || !strings.Contains(refusal.Why, "on a Friday") || strings.Contains(refusal.Why, "\x1b") {
		t.Errorf("%v", err)
	}
	if len(created) != 1 || created[0].Topic != "log" || created[0].Existed {
		t.Errorf("created %+v", created)
	}
	for _, opts := range []CreateOptions{{Partitions: 201}, {Partitions: -1}, {Replication: 4}} {
		cfg.Topic = "other"
		if _, err := Create(bounded(t), cfg, opts); !errors.As(err, &refusal) {
			t.Errorf("%+v: %v", opts, err)
		}
	}
}

// TestCreateIsTriedAgainWhereTheBrokerDoesNotKnowYet: an answer that came too late is none.
func TestCreateIsTriedAgainWhereTheBrokerDoesNotKnowYet(t *testing.T) {
	c := fakeCluster(t, kfake.NumBrokers(3))
	var asked atomic.Int32
	c.ControlKey(int16(kmsg.CreateTopics), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		codes := []*kerr.Error{kerr.NotController, kerr.RequestTimedOut}
		n := int(asked.Add(1)) - 1
		if n >= len(codes) {
			return nil, nil, false
		}
		req := kreq.(*kmsg.CreateTopicsRequest)
		resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
		of := kmsg.NewCreateTopicsResponseTopic()
		of.Topic, of.ErrorCode = req.Topics[0].Topic, codes[n].Code
		resp.Topics = append(resp.Topics, of)
		return resp, nil, true
	})
	created, err := Create(bounded(t), configOf(c), CreateOptions{})
	if err != nil || len(created) != 1 || created[0].Partitions != 3 || asked.Load() != 3 {
		t.Errorf("%+v, %v, asked %d times", created, err, asked.Load())
	}
}
