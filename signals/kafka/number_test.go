package kafka

import (
	"strings"
	"testing"

	"vigil/authz"
	"vigil/signals"
)

func inputs(names ...string) []Input {
	var all []Input
	for _, n := range names {
		all = append(all, Input{Topic: n, Grants: []signals.Grant{{Authority: signals.Authority{
			Tenants: []string{authz.DefaultTenant}, Types: []string{"risk"}, Kinds: []string{"agent"},
		}}}})
	}
	return all
}

// These numbers stand in snapshots and in tokens that clients hold.
func TestNumbersOfPartitionsNeverChange(t *testing.T) {
	for name, want := range map[string]int32{"risks": 233910272, "soc.signals": 66560000, "": 955006976} {
		if got := base(name); got != want {
			t.Errorf("%q begins at %d, not %d", name, got, want)
		}
	}
}

func TestNumbersDoNotDependOnWhatElseIsConfigured(t *testing.T) {
	some, err := topics(&Config{Topic: "log", Inputs: inputs("a", "b")})
	if err != nil {
		t.Fatal(err)
	}
	more, err := topics(&Config{Topic: "log", Inputs: inputs("c", "b", "a")})
	if err != nil {
		t.Fatal(err)
	}
	if some[1].base != more[3].base || some[2].base != more[2].base || some[0].base != 0 || some[1].base == some[2].base {
		t.Errorf("%+v, %+v", some, more)
	}
	for _, all := range [][]*topic{some, more} {
		for _, tp := range all {
			for _, p := range []int32{0, 1, maxTopicPartitions - 1} {
				if got, at := topicOf(all, tp.number(p)); got != tp || at != p || tp.number(p) < 0 {
					t.Errorf("partition %d of %s has the number %d, which is %d of %v", p, tp.name, tp.number(p), at, got)
				}
			}
		}
	}
	if got, _ := topicOf(some, signals.SpoolPartition); got != nil {
		t.Errorf("the spool's partition is one of %s", got.name)
	}
}

func TestConfigurationsThatCannotBeFollowedAreRefused(t *testing.T) {
	for want, cfg := range map[string]Config{
		"no topic":                {},
		"is there twice":          {Topic: "log", Inputs: inputs("a", "a")},
		"only replicas may write": {Topic: "log", Inputs: inputs("log")},
		"permits nothing": {Topic: "log", Inputs: []Input{{Topic: "a", Grants: []signals.Grant{{Authority: signals.Authority{
			Tenants: []string{authz.DefaultTenant}}}}}}},
	} {
		if _, err := topics(&cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	a, b := twins(t)
	_, err := topics(&Config{Topic: "log", Inputs: inputs(a, "c", b)})
	if err == nil || !strings.Contains(err.Error(), "rename one") || !strings.Contains(err.Error(), a) || !strings.Contains(err.Error(), b) {
		t.Errorf("%v", err)
	}
}

// twins are two names with one base.
func twins(t *testing.T) (string, string) {
	seen := map[int32]string{}
	for i := range 10_000 {
		name := "topic" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676))
		if other, there := seen[base(name)]; there && other != name {
			return other, name
		}
		seen[base(name)] = name
	}
	t.Fatal("there are none")
	return "", ""
}
