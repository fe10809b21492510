package kafka

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
	"github.com/segmentio/kafka-go/protocol/listoffsets"
	"github.com/segmentio/kafka-go/protocol/produce"
)

// script is what a broker says to each kind of request, after the correlation id. Where it
// has nothing, the broker closes the connection.
type script map[protocol.ApiKey]func(request []byte) []byte

func always(answer []byte) func([]byte) []byte { return func([]byte) []byte { return answer } }

// scripted returns the address of a broker that follows the script.
func scripted(t *testing.T, s script) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			for {
				request, err := readRequest(c)
				if err != nil {
					break
				}
				say := s[protocol.ApiKey(binary.BigEndian.Uint16(request))]
				if say == nil {
					break
				}
				answer := say(request)
				frame := appendInt32(nil, int32(4+len(answer)))
				frame = append(frame, request[4:8]...)
				if _, err := c.Write(append(frame, answer...)); err != nil {
					break
				}
			}
			_ = c.Close()
		}
	}()
	return l.Addr().String()
}

// hangingUp returns the address of a broker that closes what it cannot read.
func hangingUp(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = l.Close(); <-done })
	go func() {
		defer close(done)
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			_, _ = c.Read(make([]byte, 1<<10)) // so that it is closed, and not reset
			_ = c.Close()
		}
	}()
	return l.Addr().String()
}

func readRequest(c net.Conn) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	request := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err := io.ReadFull(c, request)
	return request, err
}

// knows is an answer to ApiVersions v2 of a broker that knows Fetch, without which nothing
// begins, and these, in all versions.
func knows(keys ...protocol.ApiKey) []byte {
	if !slices.Contains(keys, protocol.Fetch) {
		keys = append(slices.Clone(keys), protocol.Fetch)
	}
	b := appendInt32([]byte{0, 0}, int32(len(keys)))
	for _, k := range keys {
		b = append(b, 0, byte(k), 0, 0, 0, 100)
	}
	return appendInt32(b, 0)
}

func TestABrokerThatRefusesCredentialsIsQuoted(t *testing.T) {
	refusal := append([]byte{0, byte(errSASLAuthentication)}, "\x00\x09no \x07entry\x00\x00\x00\x00"...)
	refusal = appendInt64(refusal, 0)
	address := scripted(t, script{
		protocol.ApiVersions:      always(knows(protocol.SaslHandshake, protocol.SaslAuthenticate)),
		protocol.SaslHandshake:    always(make([]byte, 6)),
		protocol.SaslAuthenticate: always(refusal),
	})
	_, err := newDialer(&Config{SASL: &Credentials{Mechanism: "PLAIN", User: "u", Password: "horse"}}).dial(bounded(t), address)
	if !errors.Is(err, errAuthentication) || !strings.Contains(err.Error(), `"no entry"`) || strings.Contains(err.Error(), "horse") {
		t.Errorf("%v", err)
	}
	address = scripted(t, script{
		protocol.ApiVersions:   always(knows(protocol.SaslHandshake, protocol.SaslAuthenticate)),
		protocol.SaslHandshake: always(append([]byte{0, byte(errUnsupportedMechanism), 0, 0, 0, 1, 0, 11}, "OAUTHBEARER"...)),
	})
	_, err = newDialer(&Config{SASL: &Credentials{Mechanism: "PLAIN", User: "u", Password: "horse"}}).dial(bounded(t), address)
	if !errors.Is(err, errAuthentication) || !strings.Contains(err.Error(), "OAUTHBEARER, not PLAIN") {
		t.Errorf("%v", err)
	}
}

// TestWhatIsConfiguredOnOneSideOnlyIsSaid: of TLS and credentials, brokers say no more than
// that they close the connection.
func TestWhatIsConfiguredOnOneSideOnlyIsSaid(t *testing.T) {
	credentials := &Credentials{Mechanism: "PLAIN", User: "u", Password: "horse"}
	for want, tc := range map[string]struct {
		cfg    Config
		broker script
	}{
		"wants credentials": {Config{}, script{protocol.ApiVersions: always(knows(protocol.Metadata))}},
		"takes no credentials": {Config{SASL: credentials}, script{
			protocol.ApiVersions:   always(knows(protocol.SaslHandshake, protocol.SaslAuthenticate)),
			protocol.SaslHandshake: always([]byte{0, byte(errIllegalSASLState), 0, 0, 0, 0}),
		}},
		"takes no TLS": {Config{TLS: &tls.Config{}}, nil},
	} {
		address := hangingUp(t)
		if tc.broker != nil {
			address = scripted(t, tc.broker)
		}
		c, err := newDialer(&tc.cfg).dial(bounded(t), address)
		if err == nil {
			_, err = c.metadata(bounded(t), nil)
		}
		if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, errAuthentication) != (want == "takes no credentials") {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// A server may say how often a client must hash. It must not be an hour's worth.
func TestABrokerCannotKeepAClientHashing(t *testing.T) {
	address := scripted(t, script{
		protocol.ApiVersions:   always(knows(protocol.SaslHandshake, protocol.SaslAuthenticate)),
		protocol.SaslHandshake: always(make([]byte, 6)),
		protocol.SaslAuthenticate: func(request []byte) []byte {
			_, nonce, _ := strings.Cut(string(request), "r=")
			first := "r=" + nonce + "more,s=QSXCR+Q6sek8bf92,i=2000000000"
			return appendInt64(append(appendInt32([]byte{0, 0, 0xff, 0xff}, int32(len(first))), first...), 0)
		},
	})
	_, err := newDialer(&Config{SASL: &Credentials{Mechanism: "SCRAM-SHA-256", User: "u", Password: "horse"}}).dial(bounded(t), address)
	if !errors.Is(err, errAuthentication) || !strings.Contains(err.Error(), "2000000000 iterations") {
		t.Errorf("%v", err)
	}
}

// An answer that claims arrays of billions must neither end the process nor take its memory.
func TestAnswersThatClaimMoreThanTheyHoldCostNothing(t *testing.T) {
	huge := []byte{0x7f, 0xff, 0xff, 0xff}
	for name, answer := range map[string][]byte{
		"versions": append([]byte{0, 0}, huge...),
		"nothing":  {},
	} {
		address := scripted(t, script{protocol.ApiVersions: always(answer)})
		if _, err := newDialer(&Config{}).dial(bounded(t), address); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	varint := []byte{0xff, 0xff, 0xff, 0xff, 0x0f}
	address := scripted(t, script{
		protocol.ApiVersions: always(knows(protocol.ListOffsets, protocol.Produce, protocol.Metadata, protocol.Fetch)),
		protocol.ListOffsets: always(append([]byte{0, 0, 0, 0}, huge...)),
		protocol.Produce:     always(append([]byte{0, 0, 0, 1, 0, 1, 'a'}, huge...)),
		protocol.Metadata:    always(slices.Concat([]byte{0, 0, 0, 0, 0}, varint)),
		protocol.Fetch:       always(slices.Concat([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, varint)),
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for name, ask := range map[string]func(*conn) error{
		"offsets":  func(c *conn) error { _, _, err := c.offset(bounded(t), "log", 0, -1, latest); return err },
		"produce":  func(c *conn) error { _, err := c.roundTrip(bounded(t), &produce.Request{Acks: -1}); return err },
		"metadata": func(c *conn) error { _, err := c.metadata(bounded(t), []string{"log"}); return err },
		"fetch":    func(c *conn) error { _, err := c.fetch(bounded(t), fetchRequest{}); return err },
	} {
		c := dial(t, Config{}, address)
		if err := ask(c); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := c.metadata(bounded(t), nil); !errors.Is(err, errNotSent) {
			t.Errorf("%s: the connection goes on: %v", name, err)
		}
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 4<<20 {
		t.Errorf("%d bytes", took)
	}
}

// pipe is a connection whose other side sends these bytes, and then nothing more.
func pipe(t *testing.T, sends []byte) *conn {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := readRequest(far); err == nil {
			_, _ = far.Write(sends)
		}
		_ = far.Close()
	}()
	t.Cleanup(func() { _ = near.Close(); <-done })
	return &conn{tcp: near, stream: near, clientID: "vigil", room: maxAnswer, versions: map[protocol.ApiKey]versionRange{
		protocol.ApiVersions: {0, 2}, protocol.ListOffsets: {0, 5}, protocol.Metadata: {11, 11}, protocol.Fetch: {12, 12},
	}}
}

func TestFramesThatLieAreRefused(t *testing.T) {
	frame := func(size uint32, id uint32, body ...byte) []byte {
		return append(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, size), id), body...)
	}
	for name, sends := range map[string][]byte{
		"negative":        frame(1<<31, 1),
		"too short":       frame(3, 1),
		"too long":        frame(4+maxAnswer+1, 1),
		"another request": frame(14, 2, make([]byte, 10)...),
	} {
		_, err := pipe(t, sends).roundTrip(bounded(t), &apiversions.Request{})
		if !errors.Is(err, errMalformed) || errors.Is(err, errNotSent) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := pipe(t, frame(4+maxAnswer, 1, make([]byte, 100)...)).roundTrip(bounded(t), &apiversions.Request{})
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; !errors.Is(err, io.ErrUnexpectedEOF) || took > 2<<20 {
		t.Errorf("%v, %d bytes", err, took)
	}
}

func TestAnAnswerCutShortAnywhereIsAnError(t *testing.T) {
	whole := appendInt32([]byte{0, 0, 0, 0, 0, 0, 0, 1, 0, 3, 'l', 'o', 'g'}, 1)
	whole = appendInt64(appendInt64(append(appendInt32(whole, 7), 0, 0), -1), 42)
	whole = appendInt32(whole, 3)
	ask := func(sends []byte) (int64, error) {
		at, code, err := pipe(t, sends).offset(bounded(t), "log", 7, -1, latest)
		return at, errors.Join(code.err(), err)
	}
	framed := func(body []byte, size int) []byte {
		return append(appendInt32(appendInt32(nil, int32(size)), 1), body...)
	}
	if at, err := ask(framed(whole, 4+len(whole))); at != 42 || err != nil {
		t.Fatalf("%d, %v", at, err)
	}
	if _, _, err := pipe(t, framed(whole, 4+len(whole))).offset(bounded(t), "log", 8, -1, latest); !errors.Is(err, errMalformed) {
		t.Errorf("of another partition: %v", err)
	}
	all := framed(whole, 4+len(whole))
	for n := range all {
		if _, err := ask(all[:n]); err == nil {
			t.Errorf("the connection ends after %d bytes: no error", n)
		}
	}
	for n := range whole {
		if _, err := ask(framed(whole[:n], 4+n)); !errors.Is(err, errMalformed) {
			t.Errorf("a frame of the first %d bytes: %v", n, err)
		}
	}
	if _, err := ask(framed(append(whole, 0), 5+len(whole))); !errors.Is(err, errMalformed) {
		t.Errorf("a byte too many: %v", err)
	}
}

// panics is a request whose encoding panics, as that of the library may.
type panics struct{ listoffsets.Request }

func (*panics) Prepare(int16) { panic("oops") }

func TestAPanicOfTheLibraryIsAnError(t *testing.T) {
	_, err := pipe(t, nil).roundTrip(bounded(t), &panics{})
	if err == nil || !strings.Contains(err.Error(), "oops") {
		t.Errorf("%v", err)
	}
}
