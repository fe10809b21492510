package ssf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"vigil/authz"
	"vigil/signals"
)

// TopicConfig says how the SETs of a topic are taken.
type TopicConfig struct {
	// Authentic: the topic takes records of nobody but the issuer, and whoever runs the
	// brokers answers for that. Signatures are not looked at then (see Channel).
	Authentic bool
	// DeadLetter is told of each record that was refused for good, by several goroutines at
	// once: it must not wait for anything. The letter is its to keep. nil for nobody.
	DeadLetter func(signals.DeadLetter)
}

// Topic takes the SETs of one issuer that come as records of a topic, where nobody waits for
// an answer: each is taken, or refused to the dead letters, or to be tried again. It is safe
// for concurrent use.
//
// SETs are verified when they are read and not when they are applied: whether a signature is
// good depends on the keys of the moment, and replicas that apply a log must not depend on
// those. What they say goes through the log like all signals.
type Topic struct {
	cfg      TopicConfig
	receiver *Receiver
}

// NewTopic makes what takes the SETs of a topic. An issuer of Config.Unsigned must be
// authentic.
func NewTopic(receiver *Receiver, cfg TopicConfig) (*Topic, error) {
	if receiver.issuer.cfg.Unsigned && !cfg.Authentic {
		return nil, errors.New("topic: its SETs are to be verified, and nothing is known to verify them with")
	}
	return &Topic{cfg: cfg, receiver: receiver}, nil
}

// Take takes the SET in a record. It returns nil when what the SET says is durable and in
// force, or when it was refused for good; and an error, which wraps ErrTemporary, when the
// record is to be given again. read is when the record had come.
func (t *Topic) Take(ctx context.Context, partition string, e *signals.Entry, read authz.Instant) error {
	id, err := t.take(ctx, e, read)
	var refused *Error
	if !errors.As(err, &refused) {
		return err
	}
	if t.cfg.DeadLetter != nil {
		reason := refused.Error()
		if refused.cause != nil && refused.Code == AccessDenied {
			reason += ": " + refused.cause.Error() // which is for people here alone
		}
		t.cfg.DeadLetter(e.DeadLetter(partition, t.receiver.issuer.Source().String(), clip(id), reason))
	}
	return nil
}

func (t *Topic) take(ctx context.Context, e *signals.Entry, read authz.Instant) (id string, err error) {
	defer func() {
		// Tried again it would only panic again, and nothing behind it would ever be read.
		if p := recover(); p != nil {
			t.receiver.log.Error("panic while taking a security event token", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			err = refuse(InvalidRequest, "panic while taking it: %s", clip(fmt.Sprint(p)))
		}
	}()
	if e.Refused != "" {
		err := refuse(InvalidRequest, "%s", e.Refused)
		t.receiver.refused("", err)
		return "", err
	}
	taken, err := t.receiver.takeFrom(ctx, e.Record, Channel{Authentic: t.cfg.Authentic, Since: read, Shared: true})
	return taken.ID, err
}
