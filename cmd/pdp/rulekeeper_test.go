package main

import (
	"log/slog"
	"os"
	"path/filepath"
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
