package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go/protocol/saslauthenticate"
	"github.com/segmentio/kafka-go/protocol/saslhandshake"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// maxIterations bounds the work that a server can ask of a client that proves a password
// (RFC 5802, i=). Brokers ask for 4096 to 16384.
const maxIterations = 1 << 17

// mechanism is that of the credentials. It is made anew for each connection, for the
// library keeps the keys of every salt that it has met.
func (a *Credentials) mechanism() (sasl.Mechanism, error) {
	algorithm := scram.SHA256
	switch a.Mechanism {
	case "PLAIN":
		return plain.Mechanism{Username: a.User, Password: a.Password}, nil
	case "SCRAM-SHA-256":
	case "SCRAM-SHA-512":
		algorithm = scram.SHA512
	default:
		return nil, fmt.Errorf("%w: %q is none of PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512", errAuthentication, a.Mechanism)
	}
	m, err := scram.Mechanism(algorithm, a.User, a.Password)
	if err != nil {
		// The library's own error may quote the password.
		return nil, fmt.Errorf("%w: the user or the password has characters that %s cannot prove (RFC 4013)", errAuthentication, a.Mechanism)
	}
	return m, nil
}

// authenticate shows the credentials (KIP-43, KIP-152).
func (c *conn) authenticate(ctx context.Context, a *Credentials) error {
	m, err := a.mechanism()
	if err != nil {
		return err
	}
	answer, err := c.roundTrip(ctx, &saslhandshake.Request{Mechanism: m.Name()})
	if err != nil {
		return err
	}
	hello := answer.(*saslhandshake.Response)
	if errorCode(hello.ErrorCode) == errUnsupportedMechanism {
		return fmt.Errorf("%w: the broker takes %s, not %s", errAuthentication, clip(strings.Join(hello.Mechanisms, ", ")), m.Name())
	}
	if errorCode(hello.ErrorCode) == errIllegalSASLState {
		return fmt.Errorf("%w: the broker takes no credentials (SASL) on this port", errAuthentication)
	}
	if err := errorCode(hello.ErrorCode).err(); err != nil {
		return fmt.Errorf("SaslHandshake: %w", err)
	}
	session, say, err := m.Start(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errAuthentication, err)
	}
	scrams := strings.HasPrefix(m.Name(), "SCRAM-")
	for range 4 { // PLAIN says one thing, SCRAM two
		answer, err := c.roundTrip(ctx, &saslauthenticate.Request{AuthBytes: say})
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: the broker closes the connection instead of an answer: %w", errAuthentication, err)
		}
		if err != nil {
			return err
		}
		heard := answer.(*saslauthenticate.Response)
		switch code := errorCode(heard.ErrorCode); {
		case code == errSASLAuthentication:
			return fmt.Errorf("%w: the broker says %q", errAuthentication, clip(heard.ErrorMessage))
		case code != errNone:
			return fmt.Errorf("SaslAuthenticate: %w", code)
		}
		if scrams {
			if err := checkIterations(heard.AuthBytes); err != nil {
				return fmt.Errorf("%w: %w", errAuthentication, err)
			}
		}
		done, next, err := session.Next(ctx, heard.AuthBytes)
		if err != nil {
			return fmt.Errorf("%w: %w", errAuthentication, err)
		}
		if done {
			c.endsAfter(heard.SessionLifetimeMs)
			return nil
		}
		say = next
	}
	return fmt.Errorf("%w: the broker goes on asking", errAuthentication)
}

// endsAfter plans to be gone before the session is: the broker answers nothing after it.
func (c *conn) endsAfter(ms int64) {
	if ms > 0 {
		life := time.Duration(min(ms, int64(365*24*time.Hour/time.Millisecond))) * time.Millisecond
		c.ends = time.Now().Add(life * 8 / 10)
	}
}

// checkIterations refuses a server's message that asks for too many, before they are made.
func checkIterations(message []byte) error {
	for part := range strings.SplitSeq(string(message), ",") {
		if text, ok := strings.CutPrefix(part, "i="); ok {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 || n > maxIterations {
				return fmt.Errorf("the broker asks for %s iterations, of at most %d", clip(text), maxIterations)
			}
		}
	}
	return nil
}

// clip shortens what a broker says, for errors, and leaves out what is not printed.
func clip(s string) string {
	const longest = 200
	r := []rune(s[:min(len(s), 4*longest)])
	r = slices.DeleteFunc(r, func(r rune) bool { return r < ' ' || r == 0x7f })
	return string(r[:min(len(r), longest)])
}
