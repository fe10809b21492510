package main

import (
	"math"
	"strings"
	"testing"
)

// TestStrangersCannotTakeAllMemoryNorAllFiles: what a connection may hold before anybody
// knows whose it is, times connections, is bounded.
func TestStrangersCannotTakeAllMemoryNorAllFiles(t *testing.T) {
	for _, c := range []struct {
		name              string
		body              int64
		wanted, files     int
		decision, control int
		warning           string
	}{
		{"as it comes", 64 << 10, 4096, math.MaxInt, 4096, 512, ""},
		{"large bodies", 16 << 20, 4096, math.MaxInt, 16, 512, "decision.max_connections: 16, not 4096, for with decision.max_body of 16777216 bytes"},
		{"many connections", 64 << 10, 100_000, 1 << 20, 4096, 512, "decision.max_connections: 4096, not 100000"},
		{"small bodies", 1 << 10, 100_000, 1 << 20, 100_000, 512, ""},
		{"few files", 64 << 10, 4096, 1024, 512, 256, "decision.max_connections: 512, not 4096, for the process may open only 1024 files (nofile)"},
		{"hardly any files", 64 << 10, 4096, 1, 1, 1, "(nofile)"},
	} {
		cfg := defaultConfig(nil)
		cfg.MaxBody, cfg.MaxConnections = c.body, c.wanted
		decision, control, warnings := cfg.connectionLimits(c.files)
		if decision != c.decision || control != c.control {
			t.Errorf("%s: %d and %d", c.name, decision, control)
		}
		if all := strings.Join(warnings, " "); (c.warning == "") != (all == "") || !strings.Contains(all, c.warning) {
			t.Errorf("%s: %q", c.name, all)
		}
	}
	if n := descriptors(); n < 16 {
		t.Error(n, "files")
	}
}
