package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// processorTime is what a process has used of processors so far, all its threads that
// still live together. Linux counts it in nanoseconds in schedstat.
func processorTime(pid int) time.Duration {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	var sum int64
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			continue // the thread has ended
		}
		var ran int64
		if _, err := fmt.Sscan(string(data), &ran); err == nil {
			sum += ran
		}
	}
	return time.Duration(sum)
}

// busyTime is how long the machine's processors have been at work together, in hundredths of
// a second; what others took from a virtual machine is in it.
func busyTime() time.Duration {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	var user, nice, system, idle, iowait, irq, softirq, steal int64
	if _, err := fmt.Sscanf(string(data), "cpu %d %d %d %d %d %d %d %d", &user, &nice, &system, &idle, &iowait, &irq, &softirq, &steal); err != nil {
		return 0
	}
	return time.Duration(user+nice+system+irq+softirq+steal) * 10 * time.Millisecond
}

// sockets is what the connections that a process has opened, and has open still, have
// carried so far. Those that it was dialled on do not count.
type sockets struct {
	open     int
	received int64 // bytes
	sent     int64 // segments with data: one for each request that is smaller than a segment
}

// socketsOf looks at the sockets of a child of this process, by way of copies of their
// descriptors; ports are those that the child listens on.
func socketsOf(pid int, ports ...int) (sockets, error) {
	var all sockets
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return all, fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(process)
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return all, err
	}
	for _, e := range entries {
		link, err := os.Readlink(filepath.Join(dir, e.Name()))
		number, bad := strconv.Atoi(e.Name())
		if err != nil || bad != nil || !strings.HasPrefix(link, "socket:") {
			continue
		}
		copied, err := unix.PidfdGetfd(process, number, 0)
		if err == unix.EBADF {
			continue // closed meanwhile
		}
		if err != nil {
			return all, fmt.Errorf("pidfd_getfd: %w", err)
		}
		all.add(copied, ports)
		_ = unix.Close(copied)
	}
	return all, nil
}

func (s *sockets) add(fd int, ports []int) {
	local, err := unix.Getsockname(fd)
	if err != nil {
		return
	}
	var port int
	switch at := local.(type) {
	case *unix.SockaddrInet4:
		port = at.Port
	case *unix.SockaddrInet6:
		port = at.Port
	default:
		return
	}
	for _, p := range ports {
		if p == port {
			return
		}
	}
	if info, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO); err == nil {
		s.open++
		s.received += int64(info.Bytes_received)
		s.sent += int64(info.Data_segs_out)
	}
}
