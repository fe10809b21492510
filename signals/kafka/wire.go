package kafka

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
)

const (
	// dialTimeout bounds all of dial, and requestTimeout an answer that no broker has a
	// reason to hold back.
	dialTimeout    = 10 * time.Second
	requestTimeout = 10 * time.Second

	// What an answer may be long: one of a broker that has shown no credentials yet, any
	// other, and records.
	maxGreeting = 64 << 10
	maxAnswer   = 4 << 20
	maxFetched  = maxBatch + 64<<10
)

// dialer opens connections to brokers. Its methods may be called concurrently.
type dialer struct {
	clientID string
	tls      *tls.Config  // nil for none
	sasl     *Credentials // nil for none
}

func newDialer(cfg *Config) *dialer {
	return &dialer{clientID: cmp.Or(cfg.ClientID, "vigil"), tls: cfg.TLS, sasl: cfg.SASL}
}

// dial connects to a broker (host:port) and learns what it can do: TCP, TLS, ApiVersions
// and SASL, as configured, within 10 s. Where the broker takes the connection but not the
// credentials, the error wraps errAuthentication; it holds no secret. A broker that cannot be
// read from is refused as errTooOld.
func (d *dialer) dial(ctx context.Context, address string) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("connect to the broker %q: %w", address, err)
	}
	tcp, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect to the broker %s: %w", address, err)
	}
	c := &conn{tcp: tcp, stream: tcp, clientID: d.clientID, anonymous: d.sasl == nil}
	if err := d.open(ctx, c, host); err != nil {
		c.close()
		return nil, fmt.Errorf("connect to the broker %s: %w", address, err)
	}
	return c, nil
}

// open makes a connection of a fresh stream.
func (d *dialer) open(ctx context.Context, c *conn, host string) error {
	if d.tls != nil {
		config := d.tls.Clone()
		config.ServerName = cmp.Or(config.ServerName, host)
		secure := tls.Client(c.tcp, config)
		switch err := secure.HandshakeContext(ctx); {
		case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
			return fmt.Errorf("TLS: %w: the broker closes it at once, as one does that takes no TLS on this port", err)
		case err != nil:
			return fmt.Errorf("TLS: %w", err)
		}
		c.stream = secure
	}
	c.room = maxGreeting
	err := c.learnVersions(ctx)
	if err != nil && errors.Is(err, io.EOF) && d.tls == nil {
		return fmt.Errorf("%w: the broker closes it at once, as one does that wants TLS", err)
	}
	if err != nil {
		return err
	}
	if err := c.canFetch(); err != nil {
		return err
	}
	if d.sasl != nil {
		if err := c.authenticate(ctx, d.sasl); err != nil {
			return err
		}
	}
	c.room = maxAnswer
	return nil
}

// conn is a connection to one broker, for one caller at a time but for close, which may be
// called at any time and again. Any error of a method closes it.
type conn struct {
	tcp      net.Conn
	stream   net.Conn // tcp, or TLS over it
	clientID string
	// anonymous is without credentials: a broker that wants some closes such a connection
	// instead of answering.
	anonymous bool

	versions map[protocol.ApiKey]versionRange
	room     int       // what an answer may be long
	ends     time.Time // when the session ends; zero for never
	last     int32     // the latest correlation id
}

type versionRange struct{ min, max int16 }

// roundTrip sends a request and returns its answer, in the newest version of it that both
// sides know. It ends with ctx, and after 10 s at the latest. The error wraps errNotSent
// where the broker cannot have acted on the request, and errTooOld where the sides have no
// version in common.
func (c *conn) roundTrip(ctx context.Context, req protocol.Message) (answer protocol.Message, err error) {
	defer func() {
		// Neither the library's encoder nor reflection may end the process.
		if p := recover(); p != nil {
			answer, err = nil, fmt.Errorf("%w: panic: %v", errMalformed, p)
		}
		if err != nil {
			c.close()
			answer, err = nil, fmt.Errorf("%s: %w", req.ApiKey(), err)
		}
	}()
	key := req.ApiKey()
	answer, err = answerTo(key)
	if err != nil {
		return nil, err
	}
	version, err := c.version(key, key.MinVersion(), key.MaxVersion())
	if err != nil {
		return nil, err
	}
	if p, ok := req.(protocol.PreparedMessage); ok {
		p.Prepare(version)
	}
	c.last++
	var frame bytes.Buffer
	if err := protocol.WriteRequest(&frame, version, c.last, c.clientID, req); err != nil {
		return nil, fmt.Errorf("%w: %w", errNotSent, err)
	}
	body, err := c.exchange(ctx, frame.Bytes(), requestTimeout, c.room)
	if err != nil {
		return nil, err
	}
	return answer, decodeAnswer(body, version, answer)
}

// learnVersions asks what the broker can do. Version 2 of the question is known to every
// broker that has topic ids.
func (c *conn) learnVersions(ctx context.Context) error {
	c.versions = map[protocol.ApiKey]versionRange{protocol.ApiVersions: {0, 2}}
	answer, err := c.roundTrip(ctx, &apiversions.Request{})
	if err != nil {
		return err
	}
	list := answer.(*apiversions.Response)
	if err := errorCode(list.ErrorCode).err(); err != nil {
		return fmt.Errorf("ApiVersions: %w", err)
	}
	for _, k := range list.ApiKeys {
		c.versions[protocol.ApiKey(k.ApiKey)] = versionRange{k.MinVersion, k.MaxVersion}
	}
	return nil
}

// version is the newest version of a request that the broker and this side know.
func (c *conn) version(key protocol.ApiKey, lowest, highest int16) (int16, error) {
	broker, ok := c.versions[key]
	if version := min(highest, broker.max); ok && version >= max(lowest, broker.min) {
		return version, nil
	}
	if !ok {
		return 0, fmt.Errorf("%w, %w: it does not know %s", errNotSent, errTooOld, key)
	}
	return 0, fmt.Errorf("%w, %w or too new: it knows the versions %d to %d of %s, and this side %d to %d",
		errNotSent, errTooOld, broker.min, broker.max, key, lowest, highest)
}

// begin starts a frame with the header of a request of a flexible version (header v2).
func (c *conn) begin(key protocol.ApiKey, version int16) []byte {
	c.last++
	b := binary.BigEndian.AppendUint16(make([]byte, 4, 256), uint16(key))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = appendInt32(b, c.last)
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.clientID)))
	b = append(b, c.clientID...)
	return append(b, 0)
}

// end puts the frame's size in its place.
func end(frame []byte) []byte {
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	return frame
}

// exchange sends a frame, whose correlation id is the latest, and returns the answer from
// after its correlation id on. It waits no longer than the limit, and takes no answer of
// more than room bytes.
func (c *conn) exchange(ctx context.Context, frame []byte, limit time.Duration, room int) (body []byte, err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", errNotSent, err)
	}
	// An answer that came whole counts also if ctx ended meanwhile; then the connection is
	// closed all the same, and the next exchange fails.
	defer context.AfterFunc(ctx, c.close)()
	sent := false
	defer func() {
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			err = ctx.Err() // rather than that the connection is closed
		}
		if !sent {
			err = fmt.Errorf("%w: %w", errNotSent, err)
		}
	}()
	if err := c.stream.SetDeadline(time.Now().Add(limit)); err != nil {
		return nil, err
	}
	// A frame that was not written to its end is none to the broker.
	if _, err := c.stream.Write(frame); err != nil {
		return nil, err
	}
	sent = true
	return c.readFrame(room)
}

// readFrame reads the answer to the latest request.
func (c *conn) readFrame(room int) ([]byte, error) {
	var head [8]byte
	if n, err := io.ReadFull(c.stream, head[:]); err != nil {
		if n >= 3 && head[0] == 0x15 && head[1] == 3 {
			return nil, errors.New("the broker answers with an alert of TLS: it wants TLS")
		}
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	size := int32(binary.BigEndian.Uint32(head[:4]))
	if size < 4 || int(size)-4 > room {
		return nil, fmt.Errorf("%w: it is said to have %d bytes, of 4 to %d", errMalformed, size, room+4)
	}
	if id := int32(binary.BigEndian.Uint32(head[4:])); id != c.last {
		return nil, fmt.Errorf("%w: it is to request %d, not %d", errMalformed, id, c.last)
	}
	// Memory grows with what has come, not to what was announced.
	const step = 1 << 20
	left := int(size) - 4
	body := make([]byte, 0, min(left, step))
	for left > 0 {
		if len(body) == cap(body) {
			grown := make([]byte, len(body), min(len(body)+left, 2*cap(body)))
			copy(grown, body)
			body = grown
		}
		part := body[len(body):cap(body)]
		if _, err := io.ReadFull(c.stream, part); err != nil {
			return nil, fmt.Errorf("read the answer: %w", err)
		}
		body = body[:cap(body)]
		left -= len(part)
	}
	return body, nil
}

// ending reports whether the broker is soon going to end the connection because the
// session of its credentials ends (KIP-368). There is no renewal; whoever sees it connects
// anew.
func (c *conn) ending() bool { return !c.ends.IsZero() && time.Now().After(c.ends) }

// close closes the stream below TLS too, which does not wait for the other side.
func (c *conn) close() { _ = c.tcp.Close() }
