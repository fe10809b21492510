package kafka

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"vigil/authz"
)

// goodSettings are what the contract needs.
var goodSettings = map[string]string{
	"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1", "message.timestamp.type": "LogAppendTime",
	"max.message.bytes": "1048576", "min.insync.replicas": "2", "unclean.leader.election.enable": "false",
}

// makeTopic makes a topic with the good settings but for some; "" leaves one out.
func makeTopic(t *testing.T, c *kfake.Cluster, name string, partitions, replication int, but map[string]string) {
	t.Helper()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, int32(partitions), int16(replication)
	values := maps.Clone(goodSettings)
	maps.Copy(values, but)
	for k, v := range values {
		if v == "" {
			continue
		}
		s := kmsg.NewCreateTopicsRequestTopicConfig()
		s.Name, s.Value = k, kmsg.StringPtr(v)
		topic.Configs = append(topic.Configs, s)
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(t.Context(), client(t, c))
	if err != nil {
		t.Fatal(err)
	}
	if err := kerr.ErrorForCode(resp.Topics[0].ErrorCode); err != nil {
		t.Fatal(err)
	}
}

func configOf(c *kfake.Cluster, weak ...string) Config {
	return Config{Brokers: c.ListenAddrs(), Topic: "log", AllowWeak: weak}
}

// settingNames are the settings that findings are about, sorted, each once.
func settingNames(found []Finding) []string {
	var names []string
	for _, f := range found {
		names = append(names, f.Setting)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func TestEveryWeakSettingIsFoundAndAllowedByNameAlone(t *testing.T) {
	c := fakeCluster(t, kfake.NumBrokers(3))
	for name, test := range map[string]struct {
		replication int
		but         map[string]string
		setting     string // "" for none
		never       bool
	}{
		"good":                   {3, nil, "", false},
		"week":                   {3, map[string]string{"retention.ms": "604800000"}, "", false},
		"two-copies":             {2, nil, weakReplication, false},
		"one-acknowledges":       {3, map[string]string{"min.insync.replicas": "1"}, weakMinInsync, false},
		"four-of-three":          {3, map[string]string{"min.insync.replicas": "4"}, weakMinInsync, false},
		"unclean":                {3, map[string]string{"unclean.leader.election.enable": "true"}, weakUnclean, false},
		"unclean-is-not-told":    {3, map[string]string{"unclean.leader.election.enable": ""}, weakUnclean, false},
		"create-time":            {3, map[string]string{"message.timestamp.type": "CreateTime"}, weakTimestamp, false},
		"compacted":              {3, map[string]string{"cleanup.policy": "compact"}, weakCleanup, true},
		"compacted-and-deleted":  {3, map[string]string{"cleanup.policy": "compact,delete"}, weakCleanup, true},
		"another-policy":         {3, map[string]string{"cleanup.policy": "none"}, weakCleanup, false},
		"days":                   {3, map[string]string{"retention.ms": "604799999"}, weakRetention, false},
		"bytes":                  {3, map[string]string{"retention.bytes": "1000000000"}, weakRetention, false},
		"retention-is-no-number": {3, map[string]string{"retention.ms": "long"}, weakRetention, false},
		"small":                  {3, map[string]string{"max.message.bytes": "70000"}, weakMaxMessage, false},
		"large":                  {3, map[string]string{"max.message.bytes": "16777217"}, weakMaxMessage, false},
	} {
		makeTopic(t, c, name, 1, test.replication, test.but)
		check := func(weak ...string) []Finding {
			cfg := configOf(c, weak...)
			cfg.Topic = name
			found, err := Check(bounded(t), cfg)
			if err != nil {
				t.Fatal(err)
			}
			return found
		}
		found := check(slices.DeleteFunc(WeakSettings(), func(s string) bool { return s == test.setting })...)
		if test.setting == "" {
			if len(found) > 0 {
				t.Errorf("%s: %v", name, found)
			}
			continue
		}
		if len(found) != 1 || found[0].Setting != test.setting || found[0].Topic != name || found[0].Allowed || found[0].Never != test.never {
			t.Errorf("%s: %+v", name, found)
			continue
		}
		if f := found[0]; f.Value == "" || f.Want == "" || !strings.HasSuffix(f.Cost, ".") {
			t.Errorf("%s: it does not say all: %+v", name, f)
		}
		var weak *WeakError
		if err := refused(found); !errors.As(err, &weak) || !strings.Contains(err.Error(), test.setting) {
			t.Errorf("%s: refused with %v", name, err)
		}
		for _, word := range []string{test.setting, weakAll} {
			found := check(word)
			if found[0].Allowed == test.never || (refused(found) == nil) == test.never {
				t.Errorf("%s: allowed by %q: %v", name, word, found[0].Allowed)
			}
		}
	}
}

// TestInputsAreHeldToTheSame: a revocation that an input lost is lost.
func TestInputsAreHeldToTheSame(t *testing.T) {
	c := fakeCluster(t, kfake.NumBrokers(3))
	makeTopic(t, c, "log", 2, 3, nil)
	makeTopic(t, c, "risk", 1, 3, map[string]string{"min.insync.replicas": "1", "max.message.bytes": "70000"})
	cfg := configOf(c)
	cfg.Inputs = []Input{{Topic: "risk"}}
	found, err := Check(bounded(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	// An input need not take what replicas wrap a signal in.
	if len(found) != 1 || found[0].Topic != "risk" || found[0].Setting != weakMinInsync {
		t.Errorf("%+v", found)
	}
}

func TestWhatCannotBeSeenCannotBeAllowed(t *testing.T) {
	c := fakeCluster(t, kfake.NumBrokers(3))
	found, err := Check(bounded(t), configOf(c, weakAll))
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || found[0].Setting != settingTopic || found[0].Allowed || !found[0].Never || !strings.Contains(found[0].Cost, "pdp topics create") {
		t.Errorf("%+v", found)
	}
}

// TestWhatCannotBeReadMustBeAllowedByName: it may be anything.
func TestWhatCannotBeReadMustBeAllowedByName(t *testing.T) {
	c := fakeCluster(t, kfake.NumBrokers(3))
	makeTopic(t, c, "log", 1, 3, nil)
	c.ControlKey(int16(kmsg.DescribeConfigs), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := kreq.(*kmsg.DescribeConfigsRequest)
		resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
		for _, r := range req.Resources {
			of := kmsg.NewDescribeConfigsResponseResource()
			of.ResourceName, of.ResourceType, of.ErrorCode = r.ResourceName, r.ResourceType, kerr.TopicAuthorizationFailed.Code
			resp.Resources = append(resp.Resources, of)
		}
		return resp, nil, true
	})
	found, err := Check(bounded(t), configOf(c, weakRetention))
	if err != nil {
		t.Fatal(err)
	}
	want := slices.Sorted(slices.Values(WeakSettings()))
	want = slices.DeleteFunc(want, func(s string) bool { return s == weakReplication }) // metadata tells it
	if !slices.Equal(settingNames(found), want) {
		t.Errorf("%v", found)
	}
	for _, f := range found {
		if f.Allowed != (f.Setting == weakRetention) || f.Never || !strings.Contains(f.Value, "TOPIC_AUTHORIZATION_FAILED") {
			t.Errorf("%+v", f)
		}
	}
	if n := (&settings{code: errTopicAuthorization}).minInsync(); n != 1 {
		t.Errorf("min.insync.replicas counts as %d, so that fewer replicas would have to confirm a leader", n)
	}
}

func TestWhatABrokerDoesNotKnowYetIsAskedAgain(t *testing.T) {
	c := fakeCluster(t, kfake.NumBrokers(3))
	makeTopic(t, c, "log", 1, 3, nil)
	asked := 0 // by one connection, one request after the other
	c.ControlKey(int16(kmsg.DescribeConfigs), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if asked++; asked > 2 {
			return nil, nil, false
		}
		req := kreq.(*kmsg.DescribeConfigsRequest)
		resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
		of := kmsg.NewDescribeConfigsResponseResource()
		of.ResourceName, of.ResourceType, of.ErrorCode = "log", kmsg.ConfigResourceTypeTopic, kerr.UnknownTopicOrPartition.Code
		resp.Resources = append(resp.Resources, of)
		return resp, nil, true
	})
	if found, err := Check(bounded(t), configOf(c)); err != nil || len(found) > 0 || asked != 3 {
		t.Errorf("%v, %v, asked %d times", found, err, asked)
	}
}

func TestMoreLogPartitionsThanAPositionCanNameAreFound(t *testing.T) {
	c := fakeCluster(t, kfake.NumBrokers(3))
	makeTopic(t, c, "log", 300, 3, nil)
	makeTopic(t, c, "risk", 101, 3, nil)
	cfg := configOf(c, weakAll)
	cfg.Inputs = []Input{{Topic: "risk"}}
	found, err := Check(bounded(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || found[0].Setting != settingPartitions || !found[0].Never || found[0].Allowed {
		t.Errorf("%+v", found)
	}
}

func TestCheckTriesEveryBroker(t *testing.T) {
	c := fakeCluster(t, kfake.NumBrokers(3))
	makeTopic(t, c, "log", 1, 3, nil)
	cfg := configOf(c)
	cfg.Brokers = append([]string{"127.0.0.1:1"}, cfg.Brokers...)
	if found, err := Check(bounded(t), cfg); err != nil || len(found) > 0 {
		t.Errorf("%v, %v", found, err)
	}
	cfg.Brokers = cfg.Brokers[:1]
	if _, err := Check(bounded(t), cfg); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("no broker: %v", err)
	}
}

// TestABrokerThatFetchesByNameIsRefused: there a topic that is made anew under its name could
// be read in the place of the old one.
func TestABrokerThatFetchesByNameIsRefused(t *testing.T) {
	for version, of := range map[string]*kversion.Versions{"2.7": kversion.V2_7_0(), "3.0": kversion.V3_0_0()} {
		old := fakeCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "log"), kfake.MaxVersions(of))
		cfg := configOf(old)
		_, ofCheck := Check(bounded(t), cfg)
		cfg.AllowWeak, cfg.Now = []string{"all"}, func() authz.Instant { return 1 }
		l, ofOpen := Open(bounded(t), cfg)
		if l != nil {
			_ = l.Close()
		}
		for _, err := range []error{ofCheck, ofOpen} {
			if !errors.Is(err, errTooOld) || !strings.Contains(err.Error(), "3.1") {
				t.Errorf("Kafka %s: %v", version, err)
			}
		}
	}
	good := fakeCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "log"), kfake.MaxVersions(kversion.V3_1_0()))
	if _, err := Check(bounded(t), configOf(good)); err != nil {
		t.Errorf("Kafka 3.1: %v", err)
	}
}
