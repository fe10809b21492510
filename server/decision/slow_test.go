package decision

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// beside keeps a well-behaved caller deciding, on a connection that it keeps, until the
// function that it returns is called. That reports how many answers came, all of them right.
func (p *port) beside() (stop func() int) {
	p.t.Helper()
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	p.exchange(conn, r, call{body: goodBody})
	ending, ended := make(chan struct{}), make(chan int)
	go func() {
		defer conn.Close()
		for n := 1; ; n++ {
			select {
			case <-ending:
				ended <- n
				return
			default:
			}
			action, want := "pay", `{"decision":true`
			if n%2 == 0 {
				action, want = "deny", `{"decision":false`
			}
			if got, err := p.tryExchange(conn, r, call{body: actionBody(action)}); err != nil || got.status != 200 || !strings.HasPrefix(got.body, want) {
				p.t.Errorf("beside: %+v, %v", got, err)
				<-ending
				ended <- n
				return
			}
		}
	}()
	return func() int { close(ending); return <-ended }
}

// stall sends requests on conn and takes no answer, until nothing moves any more: the port
// cannot send, and therefore reads no further. TCP goes on in spurts for a while. answered counts what it has answered.
func stall(t *testing.T, conn net.Conn, request string, answered func() uint64) {
	t.Helper()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(4 << 10) // the sooner it is full
	}
	many := strings.Repeat(request, 20)
	var sent atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for sent.Load() < 256<<20 {
			if _, err := io.WriteString(conn, many); err != nil {
				return // it was closed at last
			}
			sent.Add(int64(len(many)))
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-ended
	})
	for last, still := uint64(0), 0; still < 60; {
		select {
		case <-ended:
			t.Error("requests were taken without end while no answer was read")
			return
		case <-time.After(10 * time.Millisecond):
		}
		if now := answered() + uint64(sent.Load()); now != last {
			last, still = now, 0
		} else {
			still++
		}
	}
}

// TestWhoTakesNoAnswersKeepsNoCallerOut fills every place with connections that ask and do
// not read: strangers, who need no credential for that, and callers.
func TestWhoTakesNoAnswersKeepsNoCallerOut(t *testing.T) {
	for name, secure := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPort(t, func(c *Config) { c.Limits.Connections, c.Limits.WriteTime = 4, time.Hour })
			dial := p.listenEither(secure)
			ready := "GET " + pathReady + " HTTP/1.1\r\nHost: localhost\r\n\r\n"
			answered := func() (n uint64) {
				for _, responses := range p.Stats().Responses {
					n += responses
				}
				return n
			}
			var stalling sync.WaitGroup
			for _, request := range []string{ready, ready, p.text(call{body: goodBody}), p.text(call{body: goodBody})} {
				conn, err := dial()
				if err != nil {
					t.Fatal(err)
				}
				stalling.Go(func() { stall(t, conn, request, answered) })
			}
			stalling.Wait()
			for deadline := time.Now().Add(20 * time.Second); ; {
				conn, err := dial()
				if err == nil {
					var got reply
					got, err = p.tryExchange(conn, bufio.NewReader(conn), call{body: goodBody})
					conn.Close()
					if err == nil {
						if got.status != 200 || !strings.HasPrefix(got.body, `{"decision":true`) {
							t.Error(got)
						}
						break
					}
				}
				if time.Now().After(deadline) {
					t.Fatal("who takes no answers kept a caller out:", err)
				}
			}
			if n := p.Stats().Connections; n > 4 {
				t.Error(n, "connections")
			}
		})
	}
}

// drip sends one byte after another, and never ends by itself.
func drip(conn net.Conn, begin string, then byte) {
	if _, err := io.WriteString(conn, begin); err != nil {
		return
	}
	for {
		if _, err := conn.Write([]byte{then}); err != nil {
			return
		}
		time.Sleep(time.Millisecond) // the pace of the attack, nothing waits for it
	}
}

// TestWhoComesToNoEndIsEnded: whatever a connection does instead of sending a whole
// request within its bounds, it is ended, and told why where it sent enough to be told, while a caller beside
// it is answered.
func TestWhoComesToNoEndIsEnded(t *testing.T) {
	p := newPort(t, func(c *Config) {
		c.Limits.ReadTime, c.Limits.IdleTime = 500*time.Millisecond, time.Second
		c.Limits.Body, c.Limits.Header = 2000, 2048
	}).listen()
	whole := p.text(call{body: goodBody})
	head := whole[:strings.Index(whole, "Content-Length")]
	chunked := head + "Transfer-Encoding: chunked\r\n\r\n"
	send := func(s string) func(net.Conn) {
		return func(c net.Conn) { _, _ = io.WriteString(c, s) }
	}
	dripping := func(begin string, then byte) func(net.Conn) {
		return func(c net.Conn) { drip(c, begin, then) }
	}
	half := func(s string) func(net.Conn) {
		return func(c net.Conn) { _, _ = io.WriteString(c, s); _ = c.(*net.TCPConn).CloseWrite() }
	}
	stop := p.beside()
	var all sync.WaitGroup // all at once
	for _, c := range []struct {
		name   string
		attack func(net.Conn)
		want   string
	}{
		{"silent from the start", send(""), "408 closed"},
		{"silent in the head", send(head), "408 closed"},
		{"silent in the body", send(whole[:len(whole)-1]), "408 closed"},
		{"silent before a chunk", send(chunked), "408 closed"},
		{"silent in a chunk", send(chunked + "5\r\n12"), "408 closed"},
		{"silent before the trailer's end", send(chunked + inHex(len(goodBody)) + "\r\n" + goodBody + "\r\n0\r\n"), "408 closed"},
		{"silent after an expectation", send(head + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"), "408 closed"},
		{"silent after an answer", send(whole), "200"},
		{"silent in the second request", send(whole + head), "200 408 closed"},
		{"dripping the head", dripping(head+"X: ", 'x'), "408 closed"},
		{"dripping the body", dripping(head+"Content-Length: 1999\r\n\r\n", ' '), "408 closed"},
		{"dripping a chunk's extension", dripping(chunked+"5;", 'x'), "400 closed"},
		{"dripping a chunk's size", dripping(chunked, '0'), "400 closed"},
		{"dripping empty lines", dripping("", '\n'), ""},

		{"ends at once", half(""), ""},
		{"ends in the request line", half("POST /acc"), "400 closed"},
		{"ends in the head", half(head), "400 closed"},
		{"ends in the body", half(whole[:len(whole)-1]), "400 closed"},
		{"ends in a chunk", half(chunked + "5\r\n12"), "400 closed"},
		{"ends before the last chunk", half(chunked + inHex(len(goodBody)) + "\r\n" + goodBody + "\r\n"), ""},
		{"ends before the trailer's end", half(chunked + inHex(len(goodBody)) + "\r\n" + goodBody + "\r\n0\r\n"), "400 closed"},
		{"ends after the request", half(whole), "200"},

		{"request line too long", send("GET /" + strings.Repeat("x", 3000)), "431 closed"},
		{"a header too long", send(head + "X: " + strings.Repeat("x", 3000)), "431 closed"},
		{"too many headers", send(head + strings.Repeat("X: x\r\n", 500)), "431 closed"},
		{"empty lines without end", send(strings.Repeat("\r\n", 2000)), ""},
		{"length over the limit", send(head + "Content-Length: 2001\r\n\r\n"), "413 closed"},
		{"length far over the limit", send(head + "Content-Length: 9223372036854775807\r\n\r\n"), "413 closed"},
		{"length over the limit, after an expectation", send(head + "Expect: 100-continue\r\nContent-Length: 2001\r\n\r\n"), "413 closed"},
		{"length over the limit at a path that takes none", send("GET " + pathReady + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2001\r\n\r\n"), "413 closed"},
		{"chunk over the limit", send(chunked + "7d1\r\n"), "413 closed"},
		{"chunk far over the limit", send(chunked + "fffffffffffffff\r\n"), "413 closed"},
		{"chunks over the limit", send(chunked + strings.Repeat("190\r\n"+strings.Repeat(" ", 400)+"\r\n", 5) + "1\r\n"), "413 closed"},
		{"trailer too long", send(chunked + "1\r\nx\r\n0\r\nX: " + strings.Repeat("x", 3000)), "431 closed"},
	} {
		all.Go(func() {
			conn, err := net.Dial("tcp", p.addr)
			if err != nil {
				t.Error(err)
				return
			}
			ended := make(chan struct{})
			go func() {
				c.attack(conn)
				close(ended)
			}()
			conn.SetReadDeadline(time.Now().Add(20 * time.Second))
			answers, err := replies(conn)
			if got := outcome(answers); got != c.want || err != nil {
				t.Errorf("%s: %q, %v, want %q", c.name, got, err, c.want)
			}
			conn.Close()
			<-ended
		})
	}
	all.Wait()
	if n := stop(); n < 2 {
		t.Errorf("%d answers beside", n)
	}
}
