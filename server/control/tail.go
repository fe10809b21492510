package control

import (
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"vigil/authz"
	"vigil/posture"
	"vigil/server/credential"
	"vigil/signals"
)

// TailLine is one line of GET /v1/tail.
type TailLine struct {
	// Kind is "begin", "signal", "dropped", "alive" or "end".
	Kind string `json:"kind"`
	At   string `json:"at"` // when the line was made
	// AsOf comes with begin and alive: every signal after that of begin has its line, or is
	// counted as dropped.
	AsOf    string      `json:"as_of,omitzero"`
	Signal  *TailSignal `json:"signal,omitzero"`
	Dropped uint64      `json:"dropped,omitzero"` // lines left out here: the client was too slow
	Detail  string      `json:"detail,omitzero"`  // why it ends
}

// TailSignal is what one record of the signal log did on this replica.
type TailSignal struct {
	Partition string         `json:"partition,omitzero"`
	Offset    int64          `json:"offset"`
	Appended  string         `json:"appended,omitzero"` // when the log took it
	Source    string         `json:"source,omitzero"`
	ID        string         `json:"id,omitzero"`
	Type      string         `json:"type,omitzero"`
	Tenant    string         `json:"tenant,omitzero"`
	Outcome   string         `json:"outcome"` // applied, superseded, duplicate, lifted, no_change or dead_letter
	Detail    string         `json:"detail,omitzero"`
	Fact      *Fact          `json:"fact,omitzero"`
	Entities  []SignalEntity `json:"entities"`
}

const (
	maxTails  = 8   // clients that follow at once
	tailQueue = 256 // lines that wait for one of them
)

// Tail tells those who follow of what is applied. The goroutine that applies calls Signal;
// each client has a goroutine of its own, that of its request, and a bounded queue.
type Tail struct {
	now func() authz.Instant
	// watched counts listeners. One is counted before it loads the as-of position that it
	// begins with, and Signal is called after the position was published: so whoever does
	// not see the listener here told of what that position covers.
	watched atomic.Int32
	dropped atomic.Uint64 // over all listeners, since the start

	mu        sync.Mutex // never held over anything that waits
	listeners map[*listener]struct{}
}

// listener is a client that follows.
type listener struct {
	tenants []string
	all     bool        // also what is of no known tenant
	lines   chan []byte // filled by Signal, never closed
	dropped atomic.Uint64
}

// NewTail makes a Tail that nobody follows. now is the clock of the process.
func NewTail(now func() authz.Instant) *Tail {
	return &Tail{now: now, listeners: make(map[*listener]struct{})}
}

// Signal is for signals.ApplierConfig.Observe. It never waits: a line that has no place in
// a queue is dropped and counted there.
func (t *Tail) Signal(o *signals.Observation) {
	if t.watched.Load() == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var whole, shared []byte // made for the first who wants them
	for l := range t.listeners {
		line := &whole
		switch {
		case slices.Contains(l.tenants, o.Tenant), o.Tenant == "" && l.all:
		case aboveTenants(o):
			line = &shared
		default:
			continue
		}
		if len(l.lines) == cap(l.lines) { // nobody else fills it
			l.dropped.Add(1)
			t.dropped.Add(1)
			continue
		}
		if *line == nil {
			*line = t.line(o, line == &shared)
		}
		l.lines <- *line
	}
}

// aboveTenants reports whether o is about everything.
func aboveTenants(o *signals.Observation) bool {
	return slices.ContainsFunc(o.Results, func(r posture.Result) bool { return r.Key.Kind == authz.KindEverything })
}

// line writes o; for another tenant only what stands above tenants.
func (t *Tail) line(o *signals.Observation, shared bool) []byte {
	now := t.now()
	out := TailSignal{
		Partition: o.Partition, Offset: o.Position.Offset, Appended: o.Appended.String(), Source: o.Source, ID: o.ID,
		Type: o.Type, Tenant: o.Tenant, Outcome: o.Outcome, Detail: o.Detail, Entities: []SignalEntity{},
	}
	if o.Fact != nil {
		fact := factOf(o.Fact, now)
		out.Fact = &fact
	}
	if shared {
		out.Tenant = ""
	}
	for _, r := range o.Results {
		if r.Key.Kind == authz.KindEverything || !shared {
			out.Entities = append(out.Entities, signalEntity(r, now))
		}
	}
	return tailLine(&TailLine{Kind: "signal", At: now.String(), Signal: &out})
}

func tailLine(l *TailLine) []byte {
	b, err := json.Marshal(l, encoding)
	if err != nil {
		b = []byte(`{"kind":"dropped","dropped":1}`) // a defect: no type here can fail
	}
	return append(b, '\n')
}

var (
	tailClients = gauge("vigil_tail_clients", "Clients that follow what is applied on this replica.")
	tailDropped = counter("vigil_tail_dropped_total", "Lines that a client which follows did not get, for it was too slow.")
)

func (t *Tail) collect(sample func(*family, float64, ...string)) {
	sample(tailClients, float64(t.watched.Load()))
	sample(tailDropped, float64(t.dropped.Load()))
}

func (t *Tail) listen(tenants []string, all bool) *listener {
	l := &listener{tenants: tenants, all: all, lines: make(chan []byte, tailQueue)}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.listeners[l] = struct{}{}
	t.watched.Add(1)
	return l
}

func (t *Tail) leave(l *listener) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.listeners, l)
	t.watched.Add(-1)
}

// follow streams what is applied here, a line for each, until the client goes, the port
// shuts down, or TailTime is over, so that a credential does not outlive its end by more.
func (s *Server) follow(c *call) error {
	query, err := parameters(c.r, "tenant")
	if err != nil {
		return err
	}
	tenants, err := c.tenants(query["tenant"])
	if err != nil {
		return err
	}
	if c.parts.Tail == nil {
		return fail(http.StatusNotFound, CodeNotFound, "nothing is to be followed here")
	}
	if c.r.Method == http.MethodHead {
		c.w.Header().Set("Content-Type", tailType)
		c.w.WriteHeader(http.StatusOK)
		return nil
	}
	if !s.tails.tryEnter() {
		return busy("too many are following")
	}
	defer s.tails.leave()
	l := c.parts.Tail.listen(tenants, c.client.May(credential.Admin))
	defer c.parts.Tail.leave(l)

	out := &tailWriter{c: c, to: http.NewResponseController(c.w), patience: s.cfg.Limits.WriteTime}
	_ = out.to.SetReadDeadline(time.Time{}) // it ends by its own
	c.w.patience = 0
	c.w.Header().Set("Content-Type", tailType)
	now := func() string { return s.cfg.Now().String() }
	out.write(tailLine(&TailLine{Kind: "begin", At: now(), AsOf: c.parts.Posture.AsOf()}))
	beat, whole := time.NewTicker(s.cfg.Limits.TailBeat), time.NewTimer(s.cfg.Limits.TailTime)
	defer beat.Stop()
	defer whole.Stop()
	for since := 0; !out.failed; since++ {
		// Said where the queue has run empty, or else now and then.
		if quiet := len(l.lines) == 0; quiet || since >= tailQueue {
			since = 0
			if n := l.dropped.Swap(0); n > 0 {
				out.write(tailLine(&TailLine{Kind: "dropped", At: now(), Dropped: n}))
			}
		}
		out.flush(len(l.lines) == 0)
		select {
		case line := <-l.lines:
			out.write(line)
		case <-beat.C:
			out.write(tailLine(&TailLine{Kind: "alive", At: now(), AsOf: c.parts.Posture.AsOf()}))
		case <-c.r.Context().Done():
			return nil
		case <-s.ending:
			out.end(tailLine(&TailLine{Kind: "end", At: now(), Detail: "the replica is stopping"}))
			return nil
		case <-whole.C:
			out.end(tailLine(&TailLine{Kind: "end", At: now(), Detail: TailTimeOver}))
			return nil
		}
	}
	c.w.broken = true
	return nil
}

const (
	tailType = "application/x-ndjson"
	// TailTimeOver is the detail of an end after which more can be asked for at once.
	TailTimeOver = "the time is over; ask again"
)

// tailWriter gives the client a limited time for each line.
type tailWriter struct {
	c        *call
	to       *http.ResponseController
	patience time.Duration
	failed   bool
}

func (w *tailWriter) write(line []byte) {
	_ = w.to.SetWriteDeadline(time.Now().Add(w.patience))
	if _, err := w.c.w.Write(line); err != nil {
		w.failed = true
	}
}

func (w *tailWriter) flush(now bool) {
	if now && w.to.Flush() != nil {
		w.failed = true
	}
}

func (w *tailWriter) end(line []byte) {
	w.write(line)
	w.flush(true)
}
