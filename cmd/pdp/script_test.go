package main

import (
	"context"
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

// run runs pdp in this process and gives its exit code and what it wrote.
func run(t *testing.T, env environment, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs buffer
	a := &app{env: env, stdin: &buffer{}}
	code = a.Run(context.Background(), args, &out, &errs)
	return code, out.String(), errs.String()
}
