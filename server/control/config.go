package control

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"time"

	"vigil/authz"
	"vigil/engine"
	"vigil/posture"
	"vigil/rules"
	"vigil/server/credential"
	"vigil/server/recent"
	"vigil/signals"
)

// Config is what a control port is made of. Members without a default are required.
type Config struct {
	// Clients says who is calling.
	Clients Clients
	// Now is the one clock of the process; it never goes back.
	Now func() authz.Instant
	// Clock says what is wrong with that clock. Nil says nothing.
	Clock func() ClockStatus
	// Ready says whether this replica decides. It is called for /readyz, which is open to
	// all: what it says must be fit for anyone.
	Ready func() Readiness
	// Principal makes p what req claims, for caller.
	Principal func(caller *authz.Caller, req *authz.Request, p *authz.Principal)
	// Decisions counts what the decision port answered. Nil counts nothing.
	Decisions func() DecisionCounts

	Build Build
	Log   *slog.Logger // nil discards

	// TLS serves HTTPS where it is not nil. A client certificate counts only where TLS
	// demands or verifies it.
	TLS *tls.Config
	// Hosts are names that the Host header may carry besides IP addresses and localhost.
	// An address cannot be rebound by DNS; a name can.
	Hosts []string
	// Origins are browser origins that may call, "https://console.example". None by default.
	Origins []string
	// Pprof serves /debug/pprof/ to administrators.
	Pprof bool

	Limits Limits
}

// Limits bound what the port may take. Zero members have the defaults named.
type Limits struct {
	Connections  int           // 512; one more ends an idle one, or is refused
	HeaderBytes  int           // 16 KiB
	HeaderTime   time.Duration // 5 s to send the header
	BodyTime     time.Duration // 10 s to send the body
	IdleTime     time.Duration // 60 s between requests
	WriteTime    time.Duration // 30 s to take the answer; for a snapshot, each part of it
	PushTime     time.Duration // 10 s for a signal to be durable and in force
	SlowTime     time.Duration // 30 s for explain, lists and digests
	QueueTime    time.Duration // 2 s to wait for a free place before 429
	TailBeat     time.Duration // 10 s between signs of life to who follows
	TailTime     time.Duration // 1 h that somebody follows in one request
	BodyBytes    int64         // 64 MiB of bodies in memory, over all requests
	RequestBytes int64         // signals.MaxBody for one body
}

// Build names the program.
type Build struct {
	Version, Revision, GoVersion string
}

// Clients finds a configured client. Both take as long for a stranger as for a client.
type Clients interface {
	// ByToken gives the client that holds a bearer token, or nil.
	ByToken(token string) *credential.Client
	// ByCertificate gives the client that a verified certificate names, or nil.
	ByCertificate(cert *x509.Certificate) *credential.Client
}

// Parts are the rooms behind the port. They may come later than the port itself, which
// then answers health and status and nothing else (see Server.Attach). All are required
// but the functions.
type Parts struct {
	Intake  Intake
	Posture Posture
	Engine  Engine
	// CacheMode is the mode that Engine was made with.
	CacheMode engine.CacheMode
	Rules     Rules
	Recent    Recent
	Feed      Feed
	// Tail is told of what is applied. Nil: nobody can follow.
	Tail *Tail
	// Snapshot writes what a peer or a backup needs to start from here. Nil: there is none.
	Snapshot func(ctx context.Context, w io.Writer) error
	// Journal counts what the embedded signal log did. Nil: there is none.
	Journal func() JournalCounts
	// Kafka counts what the log on Kafka did. Nil: there is none.
	Kafka func() KafkaCounts
	// Spool says what waits for the log. Nil: there is none.
	Spool func() SpoolCounts
	// Sources says how the sources do that the rules in use require. Nil: they require none.
	Sources func(now authz.Instant) []SourceState
	// DeadLetters counts what became of the records that could not be applied. Nil: nothing.
	DeadLetters func() DeadLetterCounts
}

// Intake is signals.Intake.
type Intake interface {
	Push(ctx context.Context, sender signals.Sender, body []byte) (signals.Receipt, error)
	Rehearse(sender signals.Sender, body []byte, beside func(named []authz.Key) []authz.Key) (signals.Rehearsal, error)
}

// Posture is what is read of posture.Store.
type Posture interface {
	Get(authz.Key) *posture.Record
	Walk(func(authz.Key, *posture.Record) bool)
	Len() [authz.NumKinds]int
	Held() [authz.NumKinds]int
	AsOf() string
	// Heard is when a source was heard last; 0 for never.
	Heard(source string) authz.Instant
	Digest(now authz.Instant) [32]byte
}

// Engine is what is asked of engine.Engine.
type Engine interface {
	Explain(*authz.Caller, *authz.Request, *authz.Principal) engine.Explanation
	ExplainAgain(*engine.Evidence, *authz.Caller, *authz.Request, *authz.Principal) engine.Explanation
	Suppose(store *posture.Store, now authz.Instant, caller *authz.Caller, req *authz.Request, p *authz.Principal) authz.Answer
	Stats() engine.Stats
}

// Feed is how the signals come in.
type Feed interface {
	Progress() signals.Progress
	// WaitApplied is that of signals.Applier.
	WaitApplied(ctx context.Context, asOf string) error
	// Age is how old the view of the signals is at now, as the engine sees it.
	Age(now authz.Instant) time.Duration
	// Health says what is wrong with the log, or nil.
	Health() error
	// Kind is "journal" or "kafka".
	Kind() string
	// PartitionName names a partition of the log for people.
	PartitionName(partition int32) string
}

// Recent is what is asked of recent.Ring.
type Recent interface {
	Query(recent.Query) []recent.Entry
	Get(tenant, id string) (recent.Entry, bool)
	Remembered() int
	Dropped() uint64
}

// Rules is the holder of the rule set in use.
type Rules interface {
	State() RulesState
	// Reload compiles the bundle anew and puts it in use. Its error is a rules.Errors
	// (the bundle is broken), a *DigestError (it is not the expected one), or says why
	// the bundle could not be read. After an error the old rules decide on. An empty
	// expect takes any bundle.
	Reload(ctx context.Context, expect string) (RulesState, error)
}

// RulesState is what is known of the rule set in use. It is not changed after it was given.
type RulesState struct {
	Set    *rules.Set
	Bundle *rules.Bundle // what Set was made of
	Loaded authz.Instant
	// Tried is when loading was last tried, and Err how that ended.
	Tried authz.Instant
	Err   error
	// LastGood: Set is the copy of the last good bundle, for the folder's own is broken.
	LastGood bool
}

// DigestError says that a bundle is not the one that was expected. The old one decides on.
type DigestError struct{ Want, Got string }

func (e *DigestError) Error() string {
	return "the bundle's digest is " + e.Got + ", not " + e.Want
}

// Readiness is whether a replica decides.
type Readiness struct {
	Ready    bool
	Reasons  []string // why not
	Degraded []string // what makes strict readiness fail besides
}

// DecisionCounts is what the decision port counted since its start.
type DecisionCounts struct {
	Decisions  map[DecisionLabel]uint64
	RuleErrors map[string]uint64           // by rule
	Observed   map[ObservationLabel]uint64 // by rule and effect
	Duration   Histogram                   // seconds per request
	LogDropped uint64                      // lines of the decision log that were left out

	Responses   map[int]uint64 // by HTTP status, 0 being any other
	Unavailable uint64         // requests that came while there could be no decision
	Overloaded  uint64         // of them, those that there was no place for
	Panics      uint64

	Connections, InFlight, Waiting int // now
}

// JournalCounts is how the embedded signal log does.
type JournalCounts struct {
	Segments    int
	Bytes       int64
	Failures    uint64 // groups, segments and watermarks that could not be written
	LastSync    time.Duration
	LongestSync time.Duration
	Pending     int // records that wait to be durable
}

// KafkaCounts is how the log on Kafka does. The errors are counted since the start.
type KafkaCounts struct {
	Partitions int // that are followed, those of inputs included
	// Lag is how many records each is known to hold that were not applied, by its name.
	Lag           map[string]int64
	Reconnects    uint64
	FetchErrors   uint64
	ProduceErrors uint64
}

// DeadLetterCounts is what became of records that could not be applied, since the start.
type DeadLetterCounts struct {
	Written, Skipped   uint64 // to the file of this replica, and not: too many at once, or the disk failed
	Forwarded, Dropped uint64 // to a topic, and not
}

// SpoolCounts is how the spool does.
type SpoolCounts struct {
	Waiting      int   // records that are in force here and not in the log
	WaitingBytes int64 // of these
	Oldest       authz.Instant
	Forwarded    uint64 // records, since the start
	Retries      uint64 // attempts that failed, since the start
	LastError    string // why the last one failed, until one succeeds
	Health       error  // why it takes nothing, or nil
}

// SourceState is how a source does that profiles need.
type SourceState struct {
	Source     string
	Heard      authz.Instant // when it was heard last; 0 for never
	MaxSilence time.Duration
	Silent     bool
	Waivers    []Waiver // the exceptions in force, by tenant
	Profiles   []*rules.Profile
	// Waived: in every tenant an exception is in force.
	Waived bool
}

// Waiver is an exception that is in force in a tenant.
type Waiver struct {
	Tenant string
	Fact   posture.Fact
}

// DecisionLabel labels a counter of decisions.
type DecisionLabel struct {
	Effect authz.Effect
	Class  authz.Class
}

// ObservationLabel labels a counter of what observing rules would have said.
type ObservationLabel struct {
	Rule   string
	Effect authz.Effect
}

// Histogram is a count of values by upper bound, cumulative as Prometheus has it.
type Histogram struct {
	Count   uint64
	Sum     float64
	Buckets map[float64]uint64
}

func (c *Config) validate() error {
	var errs []error
	for _, m := range []struct {
		name    string
		missing bool
	}{
		{"Clients", c.Clients == nil}, {"Now", c.Now == nil}, {"Ready", c.Ready == nil},
		{"Principal", c.Principal == nil},
	} {
		if m.missing {
			errs = append(errs, errors.New("control: Config."+m.name+" is required"))
		}
	}
	return errors.Join(errs...)
}

func (c *Config) setDefaults() {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = func() ClockStatus { return ClockStatus{} }
	}
	if c.Decisions == nil {
		c.Decisions = func() DecisionCounts { return DecisionCounts{} }
	}
	l := &c.Limits
	orDefault(&l.Connections, 512)
	orDefault(&l.HeaderBytes, 16<<10)
	orDefault(&l.HeaderTime, 5*time.Second)
	orDefault(&l.BodyTime, 10*time.Second)
	orDefault(&l.IdleTime, time.Minute)
	orDefault(&l.WriteTime, 30*time.Second)
	orDefault(&l.PushTime, 10*time.Second)
	orDefault(&l.SlowTime, 30*time.Second)
	orDefault(&l.QueueTime, 2*time.Second)
	orDefault(&l.TailBeat, 10*time.Second)
	orDefault(&l.TailTime, time.Hour)
	orDefault(&l.BodyBytes, 64<<20)
	orDefault(&l.RequestBytes, signals.MaxBody)
}

func orDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}
