package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// line is a socket that the runtime knows nothing of. The client waits for all of them at
// once and then reads what is there: two calls of the system for a request and a share of
// a third. A goroutine for each connection would cost half as much again.
type line struct{ fd int }

func dial(address string) (line, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !at.Addr().Is4() {
		return line{}, fmt.Errorf("%q: want an IPv4 address and a port", address)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return line{}, err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}); err != nil {
		return line{}, errors.Join(err, unix.Close(fd))
	}
	return line{fd}, errors.Join(unix.SetNonblock(fd, true), unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
}

// drive keeps one request under way on each connection until then, and gives how many were
// answered.
func drive(conns []*connection, until time.Time, next func(*connection) []byte) (answered int64, err error) {
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, unix.Close(poll)) }()
	ask := func(c *connection) error {
		request := next(c)
		if n, err := unix.Write(c.fd, request); err != nil || n < len(request) {
			return fmt.Errorf("%d bytes written: %w", n, err)
		}
		return nil
	}
	for i, c := range conns {
		if err := unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, c.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}); err != nil {
			return 0, err
		}
		if err := ask(c); err != nil {
			return 0, err
		}
	}
	events := make([]unix.EpollEvent, len(conns))
	for open := len(conns); open > 0; {
		n, err := unix.EpollWait(poll, events, 10_000)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return answered, fmt.Errorf("no answer for 10 s: %w", err)
		}
		more := time.Now().Before(until)
		for _, event := range events[:n] {
			c := conns[event.Fd]
			size, err := unix.Read(c.fd, c.buffer[c.have:])
			if err != nil || size == 0 {
				return answered, fmt.Errorf("a connection ended: %w", err)
			}
			whole, err := c.took(size)
			if err != nil {
				return answered, err
			}
			if !whole {
				continue
			}
			answered++
			if !more {
				open--
			} else if err := ask(c); err != nil {
				return answered, err
			}
		}
	}
	return answered, nil
}
