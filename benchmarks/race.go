package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/go-json-experiment/json"
)

// measureRace lets loadtest race decisions with revocations in process. It judges every
// answer; this only counts.
func (b *bench) measureRace(ctx context.Context) error {
	program, report := filepath.Join(b.dir, "loadtest"), filepath.Join(b.dir, "race.json")
	b.say("race: building loadtest")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "vigil/loadtest").CombinedOutput(); err != nil {
		return fmt.Errorf("go build vigil/loadtest: %w\n%s", err, out)
	}
	decisions := choose(b, 100_000, 1_000_000)
	b.say("race: %s decisions", thousands(float64(decisions)))
	out, err := exec.CommandContext(ctx, program, "race", "--in-process", "--decisions", strconv.Itoa(decisions), "--json", report, "--quiet").CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1) {
		return fmt.Errorf("loadtest: %w\n%s", err, out)
	}
	data, err := os.ReadFile(report)
	if err != nil {
		return err
	}
	stale, raced, err := readRace(data)
	if err != nil {
		return err
	}
	b.add(alone("race.stale", fmt.Sprintf("stale allows in %s decisions raced with signals", thousands(raced)), counted, stale, "in process; `make revocations` races over the wire too"))
	return nil
}

// readRace finds the two metrics in a report of loadtest.
func readRace(data []byte) (stale, decisions float64, err error) {
	var report struct {
		Metrics []struct {
			Name  string  `json:"name"`
			Value float64 `json:"value"`
		} `json:"metrics"`
	}
	if err := json.Unmarshal(data, &report); err != nil {
		return 0, 0, err
	}
	found := 0
	for _, m := range report.Metrics {
		switch m.Name {
		case "race.stale_allows":
			stale = m.Value
			found++
		case "race.decisions":
			decisions = m.Value
			found++
		}
	}
	if found != 2 {
		return 0, 0, errors.New("loadtest's report does not say how many stale allows it found")
	}
	return stale, decisions, nil
}
