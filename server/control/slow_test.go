package control

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

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
		_ = conn.Close()
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

// TestStrangersKeepNobodyOut fills every place with connections that no client was
// recognized on, or whose client takes no answer: the SOC must get its signal through.
func TestStrangersKeepNobodyOut(t *testing.T) {
	slowBody := "POST /v1/signals HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
	open := "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
	mine := "GET /v1/whoami HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + kimToken + "\r\n\r\n"
	for _, c := range []struct {
		name string
		hold func(t *testing.T, conn net.Conn, answered func() uint64)
	}{
		{"silent", func(*testing.T, net.Conn, func() uint64) {}},
		{"half a head", func(_ *testing.T, conn net.Conn, _ func() uint64) { fmt.Fprint(conn, open[:20]) }},
		{"refused, and the body never comes", func(t *testing.T, conn net.Conn, _ func() uint64) {
			fmt.Fprint(conn, slowBody)
			if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != 401 {
				t.Errorf("%v, %v", resp, err)
			}
		}},
		{"asks for health and takes no answer", func(t *testing.T, conn net.Conn, answered func() uint64) { stall(t, conn, open, answered) }},
		{"is refused and takes no answer", func(t *testing.T, conn net.Conn, answered func() uint64) {
			stall(t, conn, strings.Replace(mine, kimToken, "nobody", 1), answered)
		}},
		{"is recognized and takes no answer", func(t *testing.T, conn net.Conn, answered func() uint64) { stall(t, conn, mine, answered) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(c *Config, _ *Parts) {
				c.Limits.Connections = 3
				c.Limits.HeaderTime, c.Limits.BodyTime, c.Limits.WriteTime = time.Hour, time.Hour, time.Hour
			})
			var answered atomic.Uint64
			serve := w.server.http.Handler
			w.server.http.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				serve.ServeHTTP(rw, r)
				answered.Add(1)
			})
			address := w.listen()
			var holding sync.WaitGroup
			for range 3 {
				conn, err := net.Dial("tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				holding.Go(func() { c.hold(t, conn, answered.Load) })
			}
			holding.Wait()
			body := signal("quarantine", "agent:a", "")
			for deadline := time.Now().Add(15 * time.Second); ; {
				conn := dial(t, address)
				fmt.Fprintf(conn, "POST /v1/signals HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", soarToken, len(body), body)
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				conn.Close()
				if err == nil {
					if resp.StatusCode != 200 {
						t.Errorf("status %d", resp.StatusCode)
					}
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("it never got in:", err)
				}
			}
		})
	}
}
