package engine

import (
	"fmt"
	"time"

	"vigil/authz"
	"vigil/rules"
)

// alive reports whether the i-th source that the profile needs was heard lately enough.
func (q *inquiry) alive(i int) bool { return q.now < q.silentFrom(i) }

// silentFrom is when the i-th source falls silent unless it is heard again; 0 where it was
// never heard.
func (q *inquiry) silentFrom(i int) authz.Instant {
	if q.heard[i] == 0 {
		return 0
	}
	return q.heard[i].Add(q.needs[i].MaxSilence)
}

// source is the record of the i-th source: they are what is touched last.
func (q *inquiry) source(i int) *touched { return &q.touched[len(q.touched)-len(q.needs)+i] }

// silent gives the first source that is silent though the profile needs it and nobody has
// waived it; -1 where there is none.
func (q *inquiry) silent() int {
	for i := range q.needs {
		if !q.alive(i) && !q.source(i).effect.Waived {
			return i
		}
	}
	return -1
}

// monitored stops where a source is silent, unless the profile degrades otherwise then.
func (q *inquiry) monitored() *stop {
	i := q.silent()
	if i < 0 || q.profile.OnSilence == rules.StaleApproval {
		return nil // ruled turns an allow into the need of an approval
	}
	return q.source(i).stop(authz.SourceSilent, q.silence(i))
}

// silence says for how long the i-th source has been silent, and what that means.
func (q *inquiry) silence(i int) string {
	since := "was never heard"
	if at := q.heard[i]; at != 0 {
		since = fmt.Sprintf("was last heard at %s, %s ago", at, time.Duration(q.now-at).Round(time.Millisecond))
	}
	return fmt.Sprintf("%s; agents of class %q may act while it is silent for at most %s", since, q.class, q.needs[i].MaxSilence)
}

// sources bounds a decision by what it knows of the sources that its profile needs, and says
// which exceptions it rests on.
//
// A decision that rests on a silence is not kept: it would have to end when the source is
// heard, which no record shows. One that rests on hearing ends when the source falls silent;
// that it was heard again since only puts that off.
func (q *inquiry) sources(d *authz.Decision) {
	for i := range q.needs {
		if q.alive(i) {
			d.ValidUntil = min(d.ValidUntil, q.silentFrom(i))
			continue
		}
		q.cacheable = false
		if d.Effect == authz.Deny {
			continue
		}
		for _, f := range q.source(i).effect.WaivedBy() {
			d.Waived = append(d.Waived, f.Source+"/"+f.ID)
		}
	}
}
