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

// patience is how long an answer may take.
const patience = 10 * time.Second

// drive keeps one request under way on each connection until then, and gives how many were
// answered, and how long it was at work for them. With awake it looks for answers all the
// time instead of sleeping until one comes: to wake it would be the work of the server that
// writes one, and more of it the slower the server is.
func drive(conns []*connection, awake bool, until time.Time, next func(*connection) []byte) (answered int64, worked time.Duration, err error) {
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return 0, 0, err
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
			return 0, 0, err
		}
		if err := ask(c); err != nil {
			return 0, 0, err
		}
	}
	events := make([]unix.EpollEvent, len(conns))
	sleep := int(patience.Milliseconds())
	if awake {
		sleep = 0
	}
	last := time.Now() // that something came
	for open := len(conns); open > 0; {
		n, err := unix.EpollWait(poll, events, sleep)
		now := time.Now()
		switch {
		case errors.Is(err, unix.EINTR), err == nil && n == 0 && now.Sub(last) < patience:
			continue
		case err != nil || n == 0:
			return answered, worked, fmt.Errorf("no answer for %s: %w", patience, err)
		}
		last = now
		more := now.Before(until)
		for _, event := range events[:n] {
			c := conns[event.Fd]
			size, err := unix.Read(c.fd, c.buffer[c.have:])
			if err != nil || size == 0 {
				return answered, worked, fmt.Errorf("a connection ended: %w", err)
			}
			whole, err := c.took(size)
			if err != nil {
				return answered, worked, err
			}
			if !whole {
				continue
			}
			answered++
			if !more {
				open--
			} else if err := ask(c); err != nil {
				return answered, worked, err
			}
		}
		worked += time.Since(now)
	}
	return answered, worked, nil
}
