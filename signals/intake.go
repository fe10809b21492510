package signals

import (
	"context"
	"errors"

	"vigil/authz"
	"vigil/posture"
)

// The ways a push can fail besides *DecodeError and *RefusedError.
var (
	// ErrUnavailable: nothing was written; try again later.
	ErrUnavailable = errors.New("the signal log is not available")
	// ErrUnknownOutcome: the signal may or may not have been made durable. Sending it
	// again with the same id is safe.
	ErrUnknownOutcome = errors.New("the outcome is unknown: the signal may have been accepted")
	// ErrConflict: the same source used the id for another signal.
	ErrConflict = errors.New("the id was used for another signal")
	// ErrOverloaded: too many pushes are waiting.
	ErrOverloaded = errors.New("too many signals are waiting to be accepted")
)

// Intake accepts signals: it decodes, judges, appends to the log, waits until this
// replica has applied them, and says what they did.
type Intake struct{}

// Result is what one accepted signal did.
type Result struct {
	ID       string
	Outcome  posture.Outcome // the strongest of its entities'
	Entities []posture.Result
	Tenant   string
}

// Receipt answers a push.
type Receipt struct {
	Results []Result
	AsOf    string
}

// Push accepts one signal or a batch as JSON. On return without an error every signal
// is durable and in force, and every decision that starts from now on knows it.
func (in *Intake) Push(ctx context.Context, sender Sender, body []byte) (Receipt, error) {
	panic("unwritten")
}

// Applier follows a log and joins what it delivers into a store.
type Applier struct{}

// Progress is how far an applier has come.
type Progress struct {
	Log      LogID
	Applied  Positions
	AsOf     string
	CaughtUp bool
	Last     authz.Instant // append time of the last applied record
	Counts   map[SignalCount]uint64
	Err      error // what stopped it
}

// SignalCount labels a counter of applied signals.
type SignalCount struct {
	Type, Source, Outcome string
}
