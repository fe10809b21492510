package signals

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"vigil/authz"
	"vigil/posture"
)

// applied is what one entry of the log did.
type applied struct {
	push    *push // that it is of, or nil
	index   int   // in push
	results []posture.Result
	detail  string // why nothing was applied
	count   SignalCount
	dead    *DeadLetter

	// For who looks on.
	id, tenant string
	changes    []posture.Change
}

// reading is an entry as far as it could be read.
type reading struct {
	rec     Record
	push    *push  // that rec is of, or nil
	index   int    // in push
	id      string // of the signal, where that was read
	typ     string // label of the counter
	changes []posture.Change
	dated   authz.Instant // when the signal says that it happened
	dead    string        // why there is nothing to apply
	unread  error         // why an unreadable signal stands in for it
}

// apply joins one entry into the store. A signal that makes the store panic is one that
// this version cannot read: its entities are held, and the feed goes on, for the next
// start and every replica would meet the same entry. An error stops the feed: the store
// failed twice, and going on would leave out a signal that nobody would miss.
func (a *Applier) apply(e *Entry) (out applied, err error) {
	in := a.read(e)
	out.push, out.index = in.push, in.index
	defer func() { out.id, out.tenant, out.changes = in.id, in.rec.Tenant, in.changes }()
	out.count = SignalCount{Type: in.typ, Source: a.intern(in.rec.Source)}
	if in.dead != "" {
		out.count.Outcome, out.detail = "dead_letter", in.dead
		out.dead = a.deadLetter(e, out.count.Source, in.id, in.dead)
		a.warn("a record of the log was not applied", e, &in, in.dead)
		return out, nil
	}
	var now authz.Instant
	if out.results, now, err = a.join(in.changes); err != nil {
		in.unread = err
		if in.standIn(e); in.dead == "" {
			out.results, now, err = a.join(in.changes)
		}
		if err != nil {
			return out, err
		}
		out.count.Type = in.typ
	}
	at := heardAt(&in.rec, in.dated, e.Appended)
	if in.typ == string(TypeHeartbeat) {
		out.results = heartbeat(a.cfg.Store, &in.rec, min(at, now))
	}
	if e.Position.Partition != SpoolPartition {
		a.cfg.Store.Hear(out.count.Source, at, now)
	}
	out.count.Outcome = strongest(out.results).String()
	if in.unread != nil {
		a.warn("a signal could not be read; its entities are held", e, &in, in.unread.Error())
	}
	return out, nil
}

// heardAt is when a record that was accepted shows that its source was alive: when the log
// took it, so that replicas that applied the same have heard the same. What was spooled has
// been dated by this machine alone, and is heard when the log has it. An issuer signs what
// it says, and whoever has caught that can send it again: it shows that the issuer was alive
// at the time that is signed, and where that is yet to come by more than clocks may differ,
// nothing (0): it could be sent again until then.
func heardAt(rec *Record, dated, appended authz.Instant) authz.Instant {
	switch {
	case rec.Source.Kind != "issuer":
		return appended
	case dated > appended.Add(MaxIssuerSkew):
		return 0
	}
	return min(dated, appended)
}

// heartbeat says what a heartbeat does that shows its source alive at an instant. There is
// no record for it to change: its source is known by who it is.
func heartbeat(store *posture.Store, rec *Record, at authz.Instant) []posture.Result {
	ref := authz.Ref{Kind: authz.KindSource, ID: rec.Source.String()}
	outcome := posture.NoChange
	if store.Heard(ref.ID) < at {
		outcome = posture.Applied
	}
	return []posture.Result{{Key: ref.In(rec.Tenant), Outcome: outcome, Known: true}}
}

// join is Store.Apply, which leaves all of the changes in force or none when it panics. now is
// when it is done, by this replica's clock, read before: nothing is learned later than that.
func (a *Applier) join(changes []posture.Change) (results []posture.Result, now authz.Instant, err error) {
	defer func() {
		if p := recover(); p != nil {
			a.log.Error("panic while applying a signal", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			err = fmt.Errorf("panic while applying a signal: %v", p)
		}
	}()
	now = a.cfg.Now()
	return a.cfg.Store.Apply(now, changes), now, nil
}

// read makes the changes of an entry. Whatever the bytes, it returns.
func (a *Applier) read(e *Entry) (in reading) {
	defer func() {
		if p := recover(); p != nil {
			in.unread = fmt.Errorf("panic while reading it: %v", p)
			in.standIn(e)
		}
	}()
	var err error
	switch {
	case e.Refused != "":
		err = errors.New(e.Refused)
		if e.Input != nil {
			in.rec.Source = e.Input.Source
		}
	case e.Input != nil:
		in.rec, err = e.Input.record(e) // never one of this process, whatever it says
	default:
		if in.rec, err = DecodeRecord(e.Record); err == nil {
			in.push, in.index = a.own(&in.rec)
		}
	}
	if err != nil {
		in.typ, in.dead = "none", err.Error()
		return in
	}
	if testHookRead != nil {
		testHookRead(e)
	}
	if in.rec.Foreign {
		in.unread = errors.New("a newer version wrote the record")
		in.standIn(e)
		return in
	}
	s, known := in.push.signal(in.index, e.Record)
	if !known {
		one, err := DecodeOne(in.rec.Body)
		if err != nil {
			in.unread = err
			in.standIn(e)
			return in
		}
		s = &one
	}
	in.id, in.typ, in.dated = s.ID, string(s.Type), s.Time
	if in.rec.Under != nil {
		if err := in.rec.judge(s); err != nil {
			in.dead = err.Error()
			return in
		}
	}
	if in.changes, err = Facts(&in.rec, s, e.Appended); err != nil {
		in.dead = err.Error()
	}
	return in
}

// testHookRead, set by tests only, stands for a fault in the reading of an entry.
var testHookRead func(*Entry)

// standIn puts an unreadable signal in the place of one that could not be read.
func (in *reading) standIn(e *Entry) {
	defer func() {
		if p := recover(); p != nil {
			in.changes, in.dead = nil, fmt.Sprintf("panic while reading it: %v", p)
		}
	}()
	in.typ, in.changes = string(TypeUnreadable), nil
	env, err := ReadEnvelope(in.rec.Body)
	if err != nil {
		in.dead = "unreadable: " + err.Error()
		return
	}
	in.id, in.dated = env.ID, env.Time
	if in.rec.Under != nil {
		if err := in.rec.judgeEnvelope(&env); err != nil {
			in.dead = err.Error()
			return
		}
	}
	if env.Tenant != "" && env.Tenant != in.rec.Tenant {
		in.dead = fmt.Sprintf("it says tenant %q, but was accepted for %q", clip(env.Tenant), clip(in.rec.Tenant))
		return
	}
	if in.changes = unreadable(&in.rec, &env, e); len(in.changes) == 0 {
		in.dead = fmt.Sprintf("unreadable (%v), and it names no entity that its source may hold", in.unread)
	}
}

// outcomes orders outcomes by how much they say that something happened.
var outcomeRank = [...]int{
	posture.Duplicate:  0,
	posture.Lifted:     1,
	posture.Superseded: 2,
	posture.NoChange:   3,
	posture.Applied:    4,
}

// strongest is the outcome of a signal as a whole.
func strongest(results []posture.Result) posture.Outcome {
	best := posture.Duplicate
	if len(results) == 0 {
		best = posture.NoChange
	}
	for i := range results {
		if o := results[i].Outcome; outcomeRank[o] > outcomeRank[best] {
			best = o
		}
	}
	return best
}

const maxInterned = 4096

// intern gives the label of a source without making its string anew for every signal.
func (a *Applier) intern(s Source) string {
	if s.Kind == "" {
		return ""
	}
	if text, ok := a.sources[s]; ok {
		return text
	}
	text := s.String()
	if len(a.sources) < maxInterned {
		a.sources[s] = text
	}
	return text
}

// warnings limits the log lines about bad records to a burst and then one a second, so
// that a flood of them is no flood of lines. Dead letters are counted all the same.
type warnings struct {
	from       authz.Instant
	n          int
	suppressed int
}

func (a *Applier) warn(msg string, e *Entry, in *reading, reason string) {
	const burst = 10
	w, now := &a.warnings, a.cfg.Now()
	if now-w.from >= authz.Instant(time.Second) {
		w.from, w.n = now, max(0, w.n-burst)
	}
	if w.n++; w.n > burst {
		w.n--
		w.suppressed++
		return
	}
	partition := slog.Int("partition", int(e.Position.Partition))
	if name := a.partitionName(e.Position.Partition); name != "" {
		partition = slog.String("partition", name)
	}
	a.log.Warn(msg, partition, slog.Int64("offset", e.Position.Offset),
		slog.String("source", a.intern(in.rec.Source)), slog.String("id", in.id),
		slog.String("reason", reason), slog.Int("suppressed", w.suppressed))
	w.suppressed = 0
}
