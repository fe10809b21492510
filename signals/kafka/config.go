package kafka

import (
	"crypto/tls"
	"iter"
	"log/slog"
	"time"

	"vigil/authz"
	"vigil/signals"
)

// Config says which cluster and which topics.
type Config struct {
	// Brokers are host:port of some brokers of the cluster; the rest is learnt from them.
	// At least one.
	Brokers []string
	// Topic is the log, which only replicas may write. Required.
	Topic string
	// Inputs are topics that others write.
	Inputs []Input
	// ClientID names this replica to the brokers; "vigil" where it is "".
	ClientID string
	// TLS is nil for plain connections. The server's name is that of each broker unless
	// it is set.
	TLS *tls.Config
	// SASL is nil for none.
	SASL *Credentials
	// AllowWeak names the settings of the topics that may be weaker than the contract
	// needs; see Check. "all" is any that can be allowed.
	AllowWeak []string
	// Poll is how long a broker may hold back the answer to a fetch that finds nothing; 0
	// for 500 ms. It bounds how old a view is that nothing happens to, not how fast a
	// signal comes.
	Poll time.Duration
	// Now reads the clock. It never goes back. Required.
	Now func() authz.Instant
	// Logger is told what goes wrong; nil for none.
	Logger *slog.Logger
}

// Input is a topic that others than replicas write, with what it may say.
type Input struct {
	Topic  string
	Grants []signals.Grant
	// Decode finds the signal in a record; nil where the record's value is the signal. It is
	// the topic's for good: another one would read the old records in another way, so that a
	// replica which reads them again would not agree with the others.
	Decode Decoder
}

// Decoder makes what is delivered of a record's headers, in their order, and of its value,
// which is nil where that is null. It is a pure function, for every replica does it and all
// must come to the same; the error says why the record is a dead letter. It is called from
// several goroutines at once. What it returns may share value's memory. A header whose value
// is null has "".
type Decoder func(headers iter.Seq2[string, string], value []byte) ([]byte, error)

// Credentials are those of SASL. They are never logged.
type Credentials struct {
	Mechanism      string // PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
	User, Password string
}
