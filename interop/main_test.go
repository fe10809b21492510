package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// pdp is the program that all tests start, built from the tree that this module stands in.
var pdp string

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "vigil-interop-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	pdp = filepath.Join(dir, "pdp")
	if out, err := exec.Command("go", "-C", "..", "build", "-o", pdp, "./cmd/pdp").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("go build ./cmd/pdp: %w\n%s", err, out)
	}
	if code = m.Run(); code == 0 {
		err = goleak.Find()
	}
	return code, err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
