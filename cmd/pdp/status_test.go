package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"vigil/server/control"
)

func TestStatusSaysWhatWaitsInTheSpoolAndHowFarEachPartitionIs(t *testing.T) {
	var out bytes.Buffer
	s := &control.StatusResponse{Ready: true, Feed: control.FeedStatus{
		Kind: "kafka", Log: strings.Repeat("ab", 16), Positions: map[string]int64{"log/0": 7, "risk/0": 9}, Lag: map[string]int64{"risk/0": 3},
		Health: "no broker answers", DeadLetters: 4,
		Spool: &control.SpoolStatus{Waiting: 2, Oldest: "2026-11-23T09:00:00Z", Forwarded: 5, Health: "the disk is full", LastError: "no \x1b broker"},
	}, Posture: control.PostureStatus{Digest: "d1", DigestAt: "now"}}
	(&app{stdout: &out}).printStatus(s)
	for _, want := range []string{
		"log/0 at 7, risk/0 at 9 (3 behind)", "4 since the start", "2 WAITING since 2026-11-23T09:00:00Z", "5 forwarded", "no \ufffd broker",
		"IT TAKES NOTHING: the disk is full", "d1 at now",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	many := map[string]int64{}
	for i := range 400 {
		many[fmt.Sprintf("log/%03d", i)] = 1
	}
	if text := positionsText(many, nil); !strings.HasSuffix(text, "log/015 at 1, and 384 more") {
		t.Error(text)
	}
}
