//go:build e2e && linux

package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// pushing is revocations that are pushed all the time, whatever happens.
type pushing struct {
	t                       *testing.T
	taken, spooled, refused atomic.Int64 // spooled are some of taken

	stopping atomic.Bool
	group    sync.WaitGroup

	mu           sync.Mutex
	acknowledged []string
}

// keepRevoking pushes revocations of sessions of its own to each of these replicas, with a
// pause after each, and tells the witness of those that are acknowledged. It ends with the
// test, or by stop.
func (c *cluster) keepRevoking(w *witness, prefix string, pause time.Duration, to ...*replica) *pushing {
	p := &pushing{t: c.t}
	for n, r := range to {
		p.group.Go(func() {
			for i := 0; !p.stopping.Load(); i++ {
				session := fmt.Sprintf("%s-%d-%d", prefix, n, i)
				a := r.push(revocation(session))
				if a.err != nil || a.status != http.StatusOK {
					p.refused.Add(1) // perhaps it is in force: nothing is claimed
					time.Sleep(20 * time.Millisecond)
					continue
				}
				if strings.Contains(a.body, "spooled") {
					p.spooled.Add(1) // in force there alone, for now
				} else {
					w.revoked(session, r.name, a.asOf)
				}
				p.mu.Lock()
				p.acknowledged = append(p.acknowledged, session)
				p.mu.Unlock()
				p.taken.Add(1)
				time.Sleep(pause)
			}
		})
	}
	c.t.Cleanup(func() { p.stop() })
	return p
}

// goOn waits until so many more are acknowledged.
func (p *pushing) goOn(more int64) {
	p.t.Helper()
	before := p.taken.Load()
	until(p.t, fmt.Sprintf("%d more revocations are taken", more), func() bool { return p.taken.Load() >= before+more })
}

// stop ends it and gives the sessions whose revocation was acknowledged.
func (p *pushing) stop() []string {
	p.stopping.Store(true)
	p.group.Wait()
	return p.sessions()
}

// sessions are those whose revocation was acknowledged until now.
func (p *pushing) sessions() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.acknowledged)
}
