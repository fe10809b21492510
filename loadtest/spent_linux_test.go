package main

import (
	"io"
	"net"
	"os"
	"testing"
	"time"
)

func testSockets(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	port := server.Addr().(*net.TCPAddr).Port
	client, err := net.Dial("tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	peer, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	// Three questions of a segment each, answered by a thousand bytes each.
	question, answer := make([]byte, 10), make([]byte, 1000)
	for range 3 {
		for _, way := range []struct {
			from, to net.Conn
			what     []byte
		}{{client, peer, question}, {peer, client, answer}} {
			if _, err := way.from.Write(way.what); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(way.to, way.what); err != nil {
				t.Fatal(err)
			}
		}
	}
	var both sockets
	for _, c := range []net.Conn{client, peer} {
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.Control(func(fd uintptr) { both.add(int(fd), []int{port}) }); err != nil {
			t.Fatal(err)
		}
	}
	// The end that was dialled on has the port, and does not count.
	if want := (sockets{open: 1, received: 3000, sent: 3}); both != want {
		t.Errorf("counted %+v, want %+v", both, want)
	}
	// By way of the process it is among all that the process has open.
	all, err := socketsOf(os.Getpid(), port)
	if err != nil {
		t.Skipf("the system does not let sockets be looked at: %v", err)
	}
	if all.open < 1 || all.received < 3000 || all.sent < 3 {
		t.Errorf("of the whole process %+v", all)
	}
}

func TestProcessorTimeGoesOnWithWork(t *testing.T) {
	before := processorTime(os.Getpid())
	if before == 0 {
		t.Skip("the system does not count it")
	}
	for begun := time.Now(); processorTime(os.Getpid()) == before; {
		if time.Since(begun) > time.Minute {
			t.Fatal("a minute of work took no time")
		}
	}
}
