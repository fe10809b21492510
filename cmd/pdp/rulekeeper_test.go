package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vigil/authz"
	"vigil/rules"
)

// TestTheCopyOfTheRulesIsTheLastGoodOneOrNone: a start that finds the rules broken must
// not decide by ones that were replaced.
func TestTheCopyOfTheRulesIsTheLastGoodOneOrNone(t *testing.T) {
	lastGood := filepath.Join(t.TempDir(), "rules")
	k := &ruleKeeper{
		dir: "../../examples/invoice/rules", lastGood: lastGood,
		use: func(*rules.Set) {}, now: func() authz.Instant { return 0 }, log: slog.New(slog.DiscardHandler),
	}
	good := func() bool {
		_, _, errs := rules.LoadDir(lastGood)
		return len(errs) == 0
	}
	must(t, k.Start())
	if !good() || k.unkept.Load() != nil {
		t.Fatal("no copy was kept")
	}
	// Something in the way fails every Save, as a full disk does.
	obstacle := filepath.Join(lastGood, "obstacle")
	must(t, os.WriteFile(obstacle, nil, 0o600))
	bundle, set, errs := rules.LoadDir("../../examples/invoice/rules")
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	bundle.Sources["other.yaml"] = []byte("vigil: 1\n")
	k.put(bundle, set)
	if k.unkept.Load() != bundle {
		t.Fatal("the failure was forgotten")
	}
	k.keepCopy()
	if _, err := os.Lstat(filepath.Join(lastGood, "..data")); err == nil {
		t.Error("the older copy stayed")
	}
	must(t, os.Remove(obstacle))
	k.keepCopy()
	if _, err := os.Lstat(filepath.Join(lastGood, "..data", "other.yaml")); err != nil || k.unkept.Load() != nil {
		t.Errorf("not kept once there was room: %v", err)
	}
}

// TestAPanicWhileLoadingRulesIsABrokenBundle: a watched folder is loaded by a goroutine that
// nobody waits for, so that a defect of the compiler would end every replica at once.
func TestAPanicWhileLoadingRulesIsABrokenBundle(t *testing.T) {
	var logged bytes.Buffer
	panics := map[string]bool{}
	var used *rules.Set
	k := &ruleKeeper{
		dir: "../../examples/invoice/rules", lastGood: filepath.Join(t.TempDir(), "rules"),
		loadDir: func(dir string, options rules.LoadOptions) (*rules.Bundle, *rules.Set, rules.Errors) {
			if panics[dir] {
				panic("a fault\nwith its stack")
			}
			return rules.LoadDirWith(dir, options)
		},
		use: func(set *rules.Set) { used = set }, now: func() authz.Instant { return 0 }, log: slog.New(slog.NewTextHandler(&logged, nil)),
	}
	panics[k.dir], panics[k.lastGood] = true, true
	if err := k.Start(); err == nil || !strings.Contains(err.Error(), "a defect in Vigil, whose stack is in the log: a fault") || used != nil {
		t.Fatalf("without any rules: %v", err)
	}
	panics[k.dir], panics[k.lastGood] = false, false
	must(t, k.Start())
	first := used
	panics[k.dir] = true
	state, err := k.Reload(t.Context(), "")
	if err == nil || strings.Contains(err.Error(), "with its stack") || state.Set != first || used != first {
		t.Fatalf("a reload: %v", err)
	}
	if all := logged.String(); !strings.Contains(all, "panic while loading rules") || !strings.Contains(all, "rulekeeper_test.go") {
		t.Error("the log has no stack")
	}
	// The next start: the last good ones decide.
	must(t, k.Start())
	if !k.State().LastGood || used.Digest() != first.Digest() {
		t.Error("the last good rules do not decide")
	}
	panics[k.dir] = false
	if _, err := k.Reload(t.Context(), ""); err != nil || k.State().LastGood {
		t.Errorf("afterwards: %v", err)
	}
}
