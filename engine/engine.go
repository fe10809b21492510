package engine

import (
	"time"

	"vigil/authz"
	"vigil/posture"
	"vigil/rules"
)

// CacheMode says what the engine does with its decision cache.
type CacheMode uint8

// The modes.
const (
	CacheOn CacheMode = iota
	CacheOff
	CacheVerify // evaluate beside every hit and count differences
)

// Config is what an engine needs besides rules and posture.
type Config struct {
	Cache        CacheMode
	CacheEntries int // 0 for 100,000
	// Now reads the clock. It never goes back. Required.
	Now func() authz.Instant
	// FeedAge says how old the view of the signals is at now. Nil means never old.
	FeedAge func(now authz.Instant) time.Duration
}

// Engine decides. It is safe for concurrent use.
type Engine struct{}

// New makes an engine. It cannot decide before the first Use.
func New(cfg Config) (*Engine, error) { panic("unwritten") }

// Use makes set and store what the engine decides by, from now on and at once. Cached
// decisions of another set or store are never served again.
func (e *Engine) Use(set *rules.Set, store *posture.Store) { panic("unwritten") }

// Rules gives the rule set in use, or nil.
func (e *Engine) Rules() *rules.Set { panic("unwritten") }

// Decide answers one request. It does not keep req or p.
func (e *Engine) Decide(caller *authz.Caller, req *authz.Request, p *authz.Principal) authz.Answer {
	panic("unwritten")
}

// Item is one request of a batch.
type Item struct {
	Request   *authz.Request
	Principal *authz.Principal
}

// DecideBatch answers all items as of one instant. stop is called after each answer
// and ends the batch when it returns true.
func (e *Engine) DecideBatch(caller *authz.Caller, items []Item, answers []authz.Answer, stop func(authz.Answer) bool) []authz.Answer {
	panic("unwritten")
}

// Explain decides without the cache and says how. It evaluates past a failed gate.
func (e *Engine) Explain(caller *authz.Caller, req *authz.Request, p *authz.Principal) Explanation {
	panic("unwritten")
}

// Explanation is a decision and how it came about.
type Explanation struct {
	Answer   authz.Answer
	Action   string
	Agent    authz.Ref
	User     authz.Ref
	Resource string // "type:id"
	Gates    []GateTrace
	Rules    []rules.Trace
	Without  authz.Decision // what it would have been without the failed gate; as Answer where none failed
}

// GateTrace is what one gate said.
type GateTrace struct {
	Gate   string
	OK     bool
	Entity authz.Ref
	Detail string
}

// Stats counts what the cache did since the start.
type Stats struct {
	Lookups  [6]uint64 // by authz.Lookup
	Mismatch uint64    // differences found by CacheVerify
}

// Stats reads the counters.
func (e *Engine) Stats() Stats { panic("unwritten") }

// Close ends the cache's own goroutines.
func (e *Engine) Close() { panic("unwritten") }
