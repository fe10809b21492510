package broker

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// attributes puts the broker in a group of its own, so that Ctrl-C at a terminal is not
// for it. One that is not detached is killed when the thread that started it ends.
func attributes(detached bool) *syscall.SysProcAttr {
	if detached {
		return &syscall.SysProcAttr{Setsid: true}
	}
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// lockThread keeps the thread of the calling goroutine for as long as it runs.
func lockThread() { runtime.LockOSThread() }

// commandLine gives the command line of a process, "" where there is none.
func commandLine(pid int) string {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return ""
	}
	return strings.ReplaceAll(string(data), "\x00", " ")
}
