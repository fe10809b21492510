//go:build e2e && linux

package e2e

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestDeadLettersAreInTheFileAndInTheTopic: the same line in both, for whoever looks at one
// replica and whoever collects those of all.
func TestDeadLettersAreInTheFileAndInTheTopic(t *testing.T) {
	needKafka(t)
	const log, risk, dead = "dead-log", "dead-risk", "dead-letters"
	for _, topic := range []string{log, risk, dead} {
		createTopic(t, topic, 1)
	}
	c := &cluster{t: t, log: log, risk: risk, scores: "dead-scores", brokers: []string{kafka.Address()}, weak: true}
	createTopic(t, c.scores, 1)
	r := newReplica(t, "A", strings.Replace(c.section(), "    inputs:", "    dead_letter_topic: "+dead+"\n    inputs:", 1))
	r.start()
	produce(t, risk, []byte("no signal at all"))

	type letter struct {
		Partition string `json:"partition"`
		Offset    int64  `json:"offset"`
		Reason    string `json:"reason"`
		Record    []byte `json:"record"`
	}
	same := func(l letter) bool {
		return l.Partition == risk+"/0" && l.Offset == 0 && l.Reason != "" && string(l.Record) == "no signal at all"
	}
	var file struct {
		Letters []letter `json:"letters"`
	}
	until(t, "the file has the letter", func() bool {
		out, err := exec.Command(pdp, "deadletters", "--data-dir", filepath.Join(r.dir, "data"), "-o", "json").Output()
		must(t, err)
		must(t, json.Unmarshal(out, &file))
		return len(file.Letters) > 0
	})
	if len(file.Letters) != 1 || !same(file.Letters[0]) {
		t.Errorf("the file has %+v", file.Letters)
	}
	reader := outsider(t, kgo.ConsumeTopics(dead))
	var forwarded letter
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	until(t, "the topic has the letter", func() bool {
		found := false
		reader.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			must(t, json.Unmarshal(r.Value, &forwarded))
			found = true
		})
		return found
	})
	if !same(forwarded) {
		t.Errorf("the topic has %+v", forwarded)
	}
}
