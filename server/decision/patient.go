package decision

import (
	"errors"
	"log/slog"
	"net"
	"time"
)

// The pauses after a connection could not be accepted.
const (
	firstPause   = 5 * time.Millisecond
	longestPause = time.Second
)

// Patient makes a listener whose Accept fails only once it is closed. Anything else, such
// as a process or a machine without file descriptors (EMFILE, ENFILE, ENOBUFS), is what
// strangers can bring about by connecting: it passes, and must not end the server. Each
// longest pause logs at most one line.
func Patient(ln net.Listener, log *slog.Logger) net.Listener { return &patient{ln, log} }

type patient struct {
	net.Listener
	log *slog.Logger
}

func (l *patient) Accept() (net.Conn, error) {
	pause := firstPause
	var logged time.Time
	for {
		c, err := l.Listener.Accept()
		if err == nil || errors.Is(err, net.ErrClosed) {
			return c, err
		}
		if time.Since(logged) >= longestPause {
			logged = time.Now()
			l.log.Error("a connection could not be accepted; trying again", "address", l.Addr().String(), "error", err)
		}
		time.Sleep(pause)
		pause = min(2*pause, longestPause)
	}
}
