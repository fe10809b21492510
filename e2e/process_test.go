//go:build e2e && linux

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
)

// startOnOwnThread starts a program from a thread that lives until the program ends, and
// gives a channel that is closed then: the death of that thread would end the program.
func startOnOwnThread(t *testing.T, cmd *exec.Cmd) (ended chan struct{}) {
	t.Helper()
	ended = make(chan struct{})
	started := make(chan error)
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	must(t, <-started)
	return ended
}

// untilStill waits until every thread of a process that was stopped stands still.
func untilStill(t *testing.T, name string, pid int) {
	t.Helper()
	until(t, name+" stands still", func() bool {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		must(t, err)
		return bytes.Contains(data, []byte(") T "))
	})
}
