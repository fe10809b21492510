package recent

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"vigil/authz"
)

// Mode says which decisions are logged.
type Mode uint8

// The modes, as configured.
const (
	Off Mode = iota
	Denied
	All
)

// ParseMode reads off, denied or all.
func ParseMode(s string) (Mode, error) {
	for i, name := range [...]string{"off", "denied", "all"} {
		if s == name {
			return Mode(i), nil
		}
	}
	return Off, fmt.Errorf("decision log %q: want off, denied or all", s)
}

// maxField bounds each text in a line, in bytes.
const maxField = 256

// Log writes a line for each decision, with the fields request_id trace_id client agent
// user action resource effect class code rules waived bundle as_of duration_us. It holds names
// and never a credential or the value of a property. One goroutine writes; Close ends it.
type Log struct {
	mode    Mode
	handler slog.Handler
	queue   chan line
	closed  atomic.Bool // set before quit is closed; Add looks at it first
	quit    chan struct{}
	done    sync.WaitGroup
	dropped atomic.Uint64 // statistics only
}

// line is one decision on its way to the writer. Its texts are its own.
type line struct {
	requestID, traceID, client, agent, user, action, resource, asOf string
	decision                                                        *authz.Decision
	at                                                              authz.Instant
	took                                                            time.Duration
}

// NewLog starts a log that writes to logger and keeps up to queue lines waiting (4,096
// where it is 0). A log that is off has no goroutine.
func NewLog(logger *slog.Logger, mode Mode, queue int) *Log {
	if queue <= 0 {
		queue = 4096
	}
	l := &Log{mode: mode, handler: logger.Handler()}
	if mode == Off || !l.handler.Enabled(context.Background(), slog.LevelInfo) {
		l.mode = Off
		return l
	}
	l.queue, l.quit = make(chan line, queue), make(chan struct{})
	l.done.Go(l.write)
	return l
}

// Add logs e if the mode says so. It never waits: when the queue is full the line is
// dropped and counted.
func (l *Log) Add(e *Event) {
	d := e.Answer.Decision
	if l.mode == Off || d == nil || l.mode == Denied && d.Effect == authz.Allow || l.closed.Load() {
		return
	}
	// One allocation for all texts, none where the queue is full for long.
	if len(l.queue) == cap(l.queue) {
		l.dropped.Add(1)
		return
	}
	var space [512]byte
	all := space[:0]
	var ends [9]int
	for i, s := range [...]string{
		e.RequestID, e.TraceID, e.Client, e.Principal.Agent, e.Principal.User, e.Request.Action.Name,
		e.Request.Resource.Type, e.Request.Resource.ID, e.Answer.AsOf,
	} {
		if i == 7 {
			all = append(all, ':')
		}
		all = append(all, s[:min(len(s), maxField)]...)
		ends[i] = len(all)
	}
	text := string(all)
	select {
	case l.queue <- line{
		requestID: text[:ends[0]], traceID: text[ends[0]:ends[1]], client: text[ends[1]:ends[2]],
		agent: text[ends[2]:ends[3]], user: text[ends[3]:ends[4]], action: text[ends[4]:ends[5]],
		resource: text[ends[5]:ends[7]], asOf: text[ends[7]:],
		decision: d, at: e.Answer.At, took: e.Took,
	}:
	default:
		l.dropped.Add(1)
	}
}

// Dropped counts lines that were to be written and were not.
func (l *Log) Dropped() uint64 { return l.dropped.Load() }

// Close writes what waits and ends the writer.
func (l *Log) Close() {
	if l.mode == Off || l.closed.Swap(true) {
		return
	}
	close(l.quit)
	l.done.Wait()
}

func (l *Log) write() {
	for {
		select {
		case next := <-l.queue:
			l.emit(&next)
		case <-l.quit:
			for {
				select {
				case next := <-l.queue:
					l.emit(&next)
				default:
					return
				}
			}
		}
	}
}

func (l *Log) emit(n *line) {
	attrs := make([]slog.Attr, 0, 15)
	add := func(name, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(name, value))
		}
	}
	add("request_id", n.requestID)
	add("trace_id", n.traceID)
	add("client", n.client)
	add("agent", n.agent)
	add("user", n.user)
	add("action", n.action)
	add("resource", n.resource)
	add("effect", n.decision.Effect.String())
	add("class", n.decision.Class.String())
	add("code", string(n.decision.Code))
	if len(n.decision.Rules) > 0 {
		attrs = append(attrs, slog.Any("rules", n.decision.Rules))
	}
	if len(n.decision.Waived) > 0 {
		attrs = append(attrs, slog.Any("waived", n.decision.Waived))
	}
	add("bundle", n.decision.Bundle)
	add("as_of", n.asOf)
	attrs = append(attrs, slog.Int64("duration_us", n.took.Microseconds()))
	record := slog.NewRecord(n.at.Time(), slog.LevelInfo, "decision", 0)
	record.AddAttrs(attrs...)
	if l.handler.Handle(context.Background(), record) != nil {
		l.dropped.Add(1)
	}
}

// Wants reports whether decisions with that effect are logged.
func (l *Log) Wants(effect authz.Effect) bool {
	return l.mode == All || l.mode == Denied && effect != authz.Allow
}
