//go:build unix && !linux

package broker

import (
	"os/exec"
	"strconv"
	"syscall"
)

// attributes puts the broker in a session of its own, so that Ctrl-C at a terminal is not
// for it.
func attributes(bool) *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

func lockThread() {}

// commandLine gives the command line of a process, "" where there is none.
func commandLine(pid int) string {
	out, err := exec.Command("ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return ""
	}
	return string(out)
}
