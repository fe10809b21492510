package decision

import (
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
)

// failing is a listener whose Accept meets errors before what is behind it.
type failing struct {
	net.Listener
	errs []error
}

func (l *failing) Accept() (net.Conn, error) {
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: os.NewSyscallError("accept4", err)}
	}
	return l.Listener.Accept()
}

// TestNoLackOfDescriptorsEndsThePort: whoever opens connections decides on EMFILE, and
// must not decide on our end.
func TestNoLackOfDescriptorsEndsThePort(t *testing.T) {
	p := newPort(t, nil)
	ln, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.addr = ln.Addr().String()
	p.serve(&failing{ln, []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED}})
	if got := p.call(call{body: goodBody}); got.status != 200 {
		t.Fatal(got)
	}
}

type closedListener struct{ net.Listener }

func (closedListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (closedListener) Addr() net.Addr            { return &net.TCPAddr{} }

func TestAcceptWaitsLongerAndLogsLittle(t *testing.T) {
	p := newPort(t, nil)
	synctest.Test(t, func(t *testing.T) {
		errs := make([]error, 60)
		for i := range errs {
			errs[i] = syscall.EMFILE
		}
		_, err := Patient(&failing{closedListener{}, errs}, p.cfg.Logger).Accept()
		if !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	if lines := strings.Count(p.logs.String(), "\n"); lines < 10 || lines > 60 {
		t.Errorf("%d lines", lines)
	}
}
