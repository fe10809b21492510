package decision

import (
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"time"
)

// The pauses after a connection could not be accepted.
const (
	firstPause   = 5 * time.Millisecond
	longestPause = time.Second
)

// Patient makes a listener whose Accept fails only once it is closed. Anything else, such
// as a process or a machine without file descriptors (EMFILE, ENFILE, ENOBUFS), is what
// strangers can bring about by connecting: it passes, and must not end the server. It logs
// at most one line a second.
func Patient(ln net.Listener, log *slog.Logger) net.Listener {
	return &patient{Listener: ln, log: log}
}

type patient struct {
	net.Listener
	log    *slog.Logger
	logged atomic.Int64 // Unix time of the last line
}

func (l *patient) Accept() (net.Conn, error) {
	pause := firstPause
	for {
		c, err := l.Listener.Accept()
		if err == nil || errors.Is(err, net.ErrClosed) {
			return c, err
		}
		now, logged := time.Now().Unix(), l.logged.Load()
		if now != logged && l.logged.CompareAndSwap(logged, now) {
			l.log.Error("a connection could not be accepted; trying again", "address", l.Addr().String(), "error", err)
		}
		time.Sleep(pause)
		pause = min(2*pause, longestPause)
	}
}
