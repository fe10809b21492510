//go:build !linux

package main

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// line is a connection as the standard library has it.
type line struct{ net.Conn }

func dial(address string) (line, error) {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	return line{conn}, err
}

// drive keeps one request under way on each connection until then, and gives how many were
// answered, and the processor time that this took. It cannot stay awake.
func drive(conns []*connection, _ bool, until time.Time, next func(*connection) []byte) (int64, time.Duration, error) {
	used := processorTime(os.Getpid())
	var group sync.WaitGroup
	var answered atomic.Int64
	errs := make([]error, len(conns))
	for i, c := range conns {
		group.Go(func() {
			if errs[i] = c.SetDeadline(until.Add(10 * time.Second)); errs[i] != nil {
				return
			}
			for time.Now().Before(until) {
				if errs[i] = c.ask(next(c)); errs[i] != nil {
					return
				}
				answered.Add(1)
			}
		})
	}
	group.Wait()
	return answered.Load(), processorTime(os.Getpid()) - used, errors.Join(errs...)
}

func (c *connection) ask(request []byte) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	for {
		n, err := c.Read(c.buffer[c.have:])
		if err != nil {
			return err
		}
		if whole, err := c.took(n); err != nil || whole {
			return err
		}
	}
}
