package control

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"vigil/authz"
)

// Server is a control port. It is safe for concurrent use.
type Server struct {
	cfg     Config
	http    *http.Server
	routes  *router
	parts   atomic.Pointer[Parts]  // nil until Attach
	events  atomic.Pointer[Events] // nil until Receive
	started authz.Instant

	bodies    budget     // bytes of request bodies in memory
	pushes    *turnstile // signals
	explain   *turnstile
	bulky     *turnstile // large answers
	lists     *turnstile // walks over posture: lists, digests, nearest names
	reload    *turnstile
	snapshots *turnstile
	profiles  *turnstile
	scrapes   *turnstile
	tails     *turnstile // who follows

	ending chan struct{} // closed when Shutdown begins: who follows must go

	searching spared // for names like an unknown one
	metrics   *metrics
	refused   *throttled // log lines about strangers
	conns     *connections
}

// New makes a control port.
func New(cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	l := cfg.Limits
	s := &Server{
		cfg:       cfg,
		started:   cfg.Now(),
		bodies:    budget{max: l.BodyBytes},
		pushes:    newTurnstile(64, 256, l.QueueTime),
		explain:   newTurnstile(2, 32, l.QueueTime),
		bulky:     newTurnstile(4, 32, l.QueueTime),
		lists:     newTurnstile(1, 16, l.QueueTime),
		reload:    newTurnstile(1, 1, l.SlowTime),
		snapshots: newTurnstile(1, 1, l.QueueTime),
		scrapes:   newTurnstile(2, 4, l.QueueTime),
		profiles:  newTurnstile(1, 0, l.QueueTime),
		refused:   &throttled{log: cfg.Log, now: cfg.Now},
		conns:     newConnections(l.Connections),
		tails:     newTurnstile(maxTails, 0, 0),
		ending:    make(chan struct{}),
	}
	s.metrics = newMetrics(s)
	s.routes = newRouter(s)
	s.http = &http.Server{
		Handler:           s.Handler(),
		TLSConfig:         cfg.TLS,
		ReadHeaderTimeout: l.HeaderTime,
		// ReadTimeout is an outer bound, also for bodies that nobody reads; receive sets a
		// narrower one. Neither counts the time that a handler takes.
		ReadTimeout:    l.HeaderTime + l.BodyTime,
		WriteTimeout:   l.WriteTime,
		IdleTimeout:    l.IdleTime,
		MaxHeaderBytes: l.HeaderBytes,
		ConnState:      s.conns.changed,
		ConnContext:    withConnection,
		ErrorLog:       slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
		Protocols:      http1(),
	}
	s.http.RegisterOnShutdown(sync.OnceFunc(func() { close(s.ending) }))
	return s, nil
}

// http1 leaves HTTP/2 out: a few people and tools call here, none needs its streams, and
// limits per connection then bound requests too.
func http1() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return p
}

// Attach puts the rooms behind the port, once they are ready. Until then it answers
// health and status, and 503 to everything else. It panics where a part is missing: that
// is a defect of the wiring, not of a request.
func (s *Server) Attach(p Parts) {
	if p.Intake == nil || p.Posture == nil || p.Engine == nil || p.Rules == nil || p.Recent == nil || p.Feed == nil {
		panic("control: Attach without all parts")
	}
	s.parts.Store(&p)
}

// Handler serves the port without its listener, its time limits and its bound on
// connections.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// Serve accepts connections on l until Shutdown, and closes l. It returns nil after a
// Shutdown. With Config.TLS it speaks HTTPS.
func (s *Server) Serve(l net.Listener) error {
	l = s.conns.bound(l)
	var err error
	if s.cfg.TLS != nil {
		err = s.http.ServeTLS(l, "", "")
	} else {
		err = s.http.Serve(l)
	}
	if err == http.ErrServerClosed {
		return nil
	}
	return err
}

// Shutdown stops accepting, waits until the requests in flight are answered, and ends
// what is left when ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		_ = s.http.Close()
	}
	return err
}
