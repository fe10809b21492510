package decision

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// gone reports whether the port has closed a connection.
func gone(t *testing.T, c net.Conn) bool {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, err := c.Read(make([]byte, 1))
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

// TestStrangersKeepNoCallerOut fills the port with connections that never ask anything:
// silent ones, ones in the middle of a request, and refused ones.
func TestStrangersKeepNoCallerOut(t *testing.T) {
	p := newPort(t, func(c *Config) { c.Limits.Connections = 12 }).listen()
	gateway, r := p.dial()
	if got := p.exchange(gateway, r, call{body: goodBody}); got.status != 200 {
		t.Fatal(got)
	}
	for i := range 30 {
		stranger, sr := p.dial()
		switch i % 3 {
		case 1:
			if _, err := io.WriteString(stranger, "POST /access/v1/evaluation HTTP/1.1\r\nHost:"); err != nil {
				t.Fatal(err)
			}
		case 2:
			if got := p.exchange(stranger, sr, call{body: goodBody, header: []string{"Authorization: -"}}); got.status != 401 {
				t.Fatal(got)
			}
		}
		if got := p.call(call{body: goodBody}); got.status != 200 {
			t.Fatal(i, got)
		}
		if n := p.Stats().Connections; n > 12 {
			t.Fatal(n, "connections")
		}
	}
	// A recognized one is the last to go.
	if got := p.exchange(gateway, r, call{body: goodBody}); got.status != 200 {
		t.Fatal(got)
	}
}

// TestWorkIsNeverCutOffForANewConnection: where every place is at work, the new one goes.
func TestWorkIsNeverCutOffForANewConnection(t *testing.T) {
	p := newPort(t, func(c *Config) { c.Limits.Connections = 1 }).listen()
	conn, r := p.dial()
	if _, err := io.WriteString(conn, p.text(call{body: actionBody("hang")})); err != nil {
		t.Fatal(err)
	}
	<-p.engine.entered
	two, _ := p.dial()
	if !gone(t, two) {
		t.Fatal("one connection too many was kept")
	}
	p.engine.release <- struct{}{}
	if got := p.read(conn, r, "POST"); got.status != 200 {
		t.Fatal(got)
	}
	// Now it is idle, if a recognized one.
	for deadline := time.Now().Add(20 * time.Second); ; {
		c, cr := p.dial()
		if _, err := io.WriteString(c, p.text(call{body: goodBody})); err == nil {
			if _, err := cr.Peek(1); err == nil {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("an idle connection kept another one out")
		}
	}
	if !gone(t, conn) {
		t.Fatal("both were kept")
	}
}
