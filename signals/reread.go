package signals

import (
	"encoding/binary"
	"log/slog"

	"vigil/authz"
	"vigil/posture"
)

// kept is what an unreadable fact keeps of its entry: when the log took it, and the
// record. The log may be trimmed before a version that reads it comes. Of what came by an
// input it is the record that Input.record makes, so that it can be judged without the
// input's configuration, which may be another by then.
func kept(appended authz.Instant, record []byte) string {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(record)), uint64(appended))
	return string(append(b, record...))
}

// entryOf is the inverse of kept, but for the position.
func entryOf(kept string) (*Entry, bool) {
	if len(kept) < 8 {
		return nil, false
	}
	return &Entry{
		Appended: authz.Instant(binary.BigEndian.Uint64([]byte(kept[:8]))),
		Record:   []byte(kept[8:]),
	}, true
}

// reread applies the signals that an earlier version could not read and this one can.
// They take the place of the facts that stood in for them, as if they had been read at
// once, so that replicas of both versions agree. It runs once, before anything is
// followed; whoever lifted such a fact before has lifted the signal in it, too.
func (a *Applier) reread() {
	if a.cfg.Store.Unreadable() == 0 {
		return // as good as always, and a walk through a million records takes a while
	}
	a.applying.Lock()
	defer a.applying.Unlock()
	records := map[string]bool{}
	a.cfg.Store.Walk(func(_ authz.Key, r *posture.Record) bool {
		if r.At(a.cfg.Now()).Status != authz.Unreadable {
			return true
		}
		for f := range r.Facts() {
			if f.Facet == posture.UnreadableSignal && f.Record != "" {
				records[f.Record] = true
			}
		}
		return true
	})
	done, still := 0, 0
	for record := range records {
		e, ok := entryOf(record)
		if !ok {
			still++
			continue
		}
		in := a.read(e)
		if in.unread != nil || in.dead != "" {
			still++
			continue
		}
		a.cfg.Store.Replace(a.cfg.Now(), record, in.changes)
		done++
	}
	if done+still > 0 {
		a.log.Warn("signals that an earlier version could not read", slog.Int("read_now", done), slog.Int("still_unreadable", still))
	}
}
