package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes this test binary be pdp too, so that the scripts run the real program
// in processes of their own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"pdp": main})
}

// TestScripts tells stories with the real program; see testdata/script.
func TestScripts(t *testing.T) {
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                scriptCommands,
		Setup: func(env *testscript.Env) error {
			env.Setenv("EXAMPLES", examples)
			env.Setenv("XDG_RUNTIME_DIR", filepath.Join(env.WorkDir, ".runtime"))
			env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, ".state"))
			env.Setenv("VIGIL_DECISION_DRAIN", "0s")
			env.Setenv("VIGIL_ACTOR", "tester")
			return os.Mkdir(filepath.Join(env.WorkDir, ".runtime"), 0o700)
		},
	})
}
