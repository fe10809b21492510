package kafka

import (
	"context"
	"errors"

	"github.com/segmentio/kafka-go/protocol"
)

// dialer opens connections to brokers. Its methods may be called concurrently.
type dialer struct {
	cfg *Config
}

func newDialer(cfg *Config) *dialer { return &dialer{cfg: cfg} }

// dial connects to a broker (host:port) and learns what it can do: TCP, TLS, ApiVersions
// and SASL, as configured, within 10 s. Where the broker takes the connection but not the
// credentials, the error wraps errAuthentication; it holds no secret.
func (d *dialer) dial(ctx context.Context, address string) (*conn, error) {
	return nil, errors.ErrUnsupported
}

// conn is a connection to one broker, for one caller at a time but for close, which may be
// called at any time and again. Any error of a method closes it.
type conn struct {
}

// roundTrip sends a request and returns its answer, in the newest version of it that both
// sides know. It ends with ctx, and after 10 s at the latest. The error wraps errNotSent
// where the broker cannot have acted on the request, and errTooOld where the sides have no
// version in common.
func (c *conn) roundTrip(ctx context.Context, req protocol.Message) (protocol.Message, error) {
	return nil, errors.ErrUnsupported
}

// ending reports whether the broker is soon going to end the connection because the
// session of its credentials ends (KIP-368). There is no renewal; whoever sees it connects
// anew.
func (c *conn) ending() bool { return false }

func (c *conn) close() {}
