package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"vigil/authzen"
	"vigil/signals"
)

func TestATemplateMakesTheSameRequestAsMakingItAnew(t *testing.T) {
	tpl := newTemplate()
	for _, c := range [][2]int{{0, 100_000_000}, {9_999, 999_999_999}, {17, 123_456_789}} {
		// The user's number is the serial's end; the template leaves that as it is.
		want := bytes.Replace(request(c[0], c[1]), fmt.Appendf(nil, "kim-%04d", c[1]%1000), fmt.Appendf(nil, "kim-%04d", serialMarker%1000), 1)
		if got := tpl.with(c[0], c[1]); !bytes.Equal(got, want) {
			t.Errorf("%d:\n%s\nwant\n%s", c, got, want)
		}
	}
}

func TestAgentsHaveDifferentNames(t *testing.T) {
	seen := map[string]int{}
	for i := range 1_000_000 {
		id := agentID(i)
		if other, ok := seen[id]; ok {
			t.Fatalf("%d and %d are both %s", i, other, id)
		}
		seen[id] = i
	}
}

func TestEveryRequestIsReadable(t *testing.T) {
	var d authzen.Decoder
	for i := range 100 {
		if _, err := d.Evaluation(bodyOf(i*37, i)); err != nil {
			t.Fatal(err)
		}
	}
	items, err := itemsOf(100, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	agents := map[string]bool{}
	for _, it := range items {
		if it.Principal.Problem != "" {
			t.Fatal(it.Principal.Problem, it.Principal.Input)
		}
		agents[it.Principal.Agent] = true
	}
	if len(agents) != len(items) {
		t.Errorf("%d requests are of %d agents", len(items), len(agents))
	}
}

func TestABatchOfSignalsIsAcceptedAndItsIdsAreItsOwn(t *testing.T) {
	b := newSignalBatch(100)
	ids := map[string]bool{}
	for round := range 3 {
		batch, err := signals.Decode(b.fill(round*100, 40, time.Now()))
		if err != nil {
			t.Fatal(err)
		}
		agents := map[string]bool{}
		for _, s := range batch.Signals {
			ids[s.ID] = true
			agents[s.Entities[0].ID] = true
			if s.Risk < 10 || s.Risk >= 70 {
				t.Errorf("risk %d changes an answer", s.Risk)
			}
		}
		if len(agents) != 40 {
			t.Errorf("%d agents", len(agents))
		}
	}
	if len(ids) != 300 {
		t.Errorf("%d ids of 300 signals", len(ids))
	}
}

const goodAnswer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{\"decision\":true}"

func TestAnAnswerIsWholeWhenAllOfItIsThere(t *testing.T) {
	for _, step := range []int{1, 7, len(goodAnswer)} {
		c := &connection{buffer: make([]byte, 256), want: -1}
		for again := range 2 { // the state is that of a new answer again
			for from := 0; from < len(goodAnswer); from += step {
				part := goodAnswer[from:min(from+step, len(goodAnswer))]
				copy(c.buffer[c.have:], part)
				whole, err := c.took(len(part))
				if err != nil {
					t.Fatal(err)
				}
				if whole != (from+step >= len(goodAnswer)) {
					t.Fatalf("step %d, round %d: whole after %d bytes: %v", step, again, from+step, whole)
				}
			}
		}
	}
}

func TestAnAnswerThatIsNoAllowEndsTheLoad(t *testing.T) {
	for name, answer := range map[string]string{
		"denied":      strings.Replace(goodAnswer, `true}`, `nope}`, 1),
		"unavailable": strings.Replace(goodAnswer, "200 OK", "503 No", 1),
		"no length":   strings.Replace(goodAnswer, "Content-Length", "Content-Lengths", 1),
		"too much":    goodAnswer + "HTTP",
		"endless":     strings.Replace(goodAnswer, "Length: 17", "Length: 17000", 1),
	} {
		c := &connection{buffer: make([]byte, 256), want: -1}
		copy(c.buffer, answer)
		if _, err := c.took(len(answer)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
