package decision

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// Server is a decision port. It is safe for concurrent use.
type Server struct {
	cfg     Config
	http    *fasthttp.Server
	conns   *connections
	hosts   map[string]bool // lower case, without port; immutable
	prefix  string          // of generated request ids
	started time.Time       // durations are counted from it, which reads one clock instead of two

	states    sync.Pool     // of *state
	numStates atomic.Uint32 // made so far; gives each its shard and its part of request ids
	shards    [numShards]shard

	inFlight atomic.Int64 // bounds; orders nothing
	waiting  atomic.Int64 // likewise

	// draining makes /readyz fail; stopping, set later, refuses decisions. Both are
	// looked at once per request.
	draining atomic.Bool
	stopping atomic.Bool
	stopOnce sync.Once
	stopWith error
}

// New makes a port that is not listening yet.
func New(cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	var random [6]byte
	rand.Read(random[:])
	s := &Server{
		cfg:     cfg,
		conns:   newConnections(cfg.Limits.Connections, cfg.Limits.PerAddress),
		hosts:   hostSet(cfg.Hosts),
		prefix:  hex.EncodeToString(random[:]),
		started: time.Now(),
	}
	s.states.New = func() any { return s.newState() }
	s.http = &fasthttp.Server{
		Handler:        s.handle,
		ErrorHandler:   s.unreadable,
		HeaderReceived: framed,
		Logger:         &quietLogger{to: cfg.Logger},

		// conns bounds the connections. Those that it has just closed still have their
		// goroutine for a moment.
		Concurrency:           2*cfg.Limits.Connections + 64,
		ConnState:             answered,
		ReadBufferSize:        cfg.Limits.Header,
		WriteBufferSize:       4 << 10,
		MaxRequestBodySize:    cfg.Limits.Body,
		ReadTimeout:           cfg.Limits.ReadTime,
		WriteTimeout:          cfg.Limits.WriteTime,
		IdleTimeout:           cfg.Limits.IdleTime,
		MaxIdleWorkerDuration: time.Second,

		CloseOnShutdown:               true,
		DisablePreParseMultipartForm:  true,
		NoDefaultServerHeader:         true,
		NoDefaultContentType:          true,
		LazyRequestTime:               true,
		SecureErrorLogMessage:         true,
		GetOnly:                       false,
		ReduceMemoryUsage:             false,
		StreamRequestBody:             false,
		DisableHeaderNamesNormalizing: false,
	}
	return s, nil
}

// bodyPool is the largest body buffer that is kept for another request, in bytes. It is
// for all servers of the process, as fasthttp has it.
const bodyPool = 64 << 10

func init() { fasthttp.SetBodySizePoolLimit(bodyPool, bodyPool) }

// Serve answers on ln until Shutdown or Close, and returns nil then. It may be called for
// several listeners, which share Limits.Connections.
func (s *Server) Serve(ln net.Listener) error { return s.serve(ln, nil) }

// ServeTLS is Serve with TLS, configured as TLSConfig does it.
func (s *Server) ServeTLS(ln net.Listener, cfg *tls.Config) error { return s.serve(ln, cfg) }

func (s *Server) serve(ln net.Listener, cfg *tls.Config) error {
	if s.draining.Load() {
		ln.Close()
		return nil
	}
	return s.http.Serve(&listener{Listener: Patient(ln, s.cfg.Logger), set: s.conns, tls: cfg})
}

// answered marks connections that wait for the next request.
func answered(c net.Conn, state fasthttp.ConnState) {
	if state != fasthttp.StateIdle {
		return
	}
	if l := linkOf(c); l != nil {
		l.busy.Store(false)
	}
}

// Shutdown ends the port: /readyz fails at once; decisions go on for Config.Drain, each
// answer then ending its connection; then the listeners close, requests that still come
// get 503, and those at work are waited for. When ctx ends first, everything is closed
// at once and its error returned. Further calls wait for nothing and return the same.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopOnce.Do(func() {
		s.draining.Store(true)
		if s.cfg.Drain > 0 {
			pause := time.NewTimer(s.cfg.Drain)
			select {
			case <-pause.C:
			case <-ctx.Done():
				pause.Stop()
			}
		}
		s.stopping.Store(true)
		s.stopWith = s.stop(ctx)
	})
	return s.stopWith
}

func (s *Server) stop(ctx context.Context) error {
	s.conns.closeAll(true)
	err := s.http.ShutdownWithContext(ctx)
	if err != nil {
		s.conns.closeAll(false)
	}
	return err
}

// Close ends the port at once.
func (s *Server) Close() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := s.Shutdown(ctx)
	if err == context.Canceled {
		err = nil
	}
	return err
}

// unavailable says why there can be no decision now, or nil.
func (s *Server) unavailable() error {
	if s.stopping.Load() {
		return errStopping
	}
	return s.cfg.Ready()
}

// elapsed reads the monotonic clock alone.
func (s *Server) elapsed() time.Duration { return time.Since(s.started) }

// quietLogger takes what fasthttp logs, at most one line a second: callers cause it.
type quietLogger struct {
	to   *slog.Logger
	last atomic.Int64
}

func (l *quietLogger) Printf(format string, args ...any) {
	now, last := time.Now().Unix(), l.last.Load()
	if now != last && l.last.CompareAndSwap(last, now) {
		l.to.Warn("decision port", "detail", fmt.Sprintf(format, args...))
	}
}
