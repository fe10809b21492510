package ssf

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// PushConfig says who may push, and how much.
type PushConfig struct {
	// Tokens are the SHA-256 of the bearer tokens that the transmitter may send (RFC 6750):
	// two while one is being replaced. At most 16.
	Tokens [][sha256.Size]byte
	// Certified reports whether a connection shows a certificate of the transmitter, which
	// needs no token then; nil where none counts. It is called with what TLS has verified,
	// nil without TLS, for each push.
	Certified func(*tls.ConnectionState) bool
	// Anonymous takes SETs from whoever sends them, on the strength of their signatures
	// alone. Whoever has seen a SET can send it again, which changes nothing; and anybody
	// can make us verify, which costs. It is refused together with Tokens and Certified.
	Anonymous bool
	// MaxBody bounds a request in bytes; 0 for MaxSET.
	MaxBody int64
	// BodyTime bounds how long a body may take to come; 0 for 10 s.
	BodyTime time.Duration
	// TakeTime bounds how long a SET may take to be in force, once it is here; 0 for 10 s.
	// One that takes longer is answered with 503.
	TakeTime time.Duration
	// MaxAtOnce bounds the requests whose SETs are being taken; 0 for 64.
	MaxAtOnce int
}

// Push is the endpoint of a stream that is pushed (RFC 8935). A SET is answered with 202
// only when what it says is durable and in force here. Others than an error of RFC 8935 are
// answered with 503: the transmitter keeps the SET and sends it again.
type Push struct {
	cfg      PushConfig
	receiver *Receiver
	places   chan struct{} // one for each request whose SET is being taken
}

// NewPush makes an endpoint. Tokens or Certified are required unless Anonymous says otherwise.
func NewPush(receiver *Receiver, cfg PushConfig) (*Push, error) {
	switch {
	case len(cfg.Tokens) == 0 && cfg.Certified == nil && !cfg.Anonymous:
		return nil, errors.New("push: a token is needed that the transmitter sends, or a certificate that it shows, or the word that there is neither")
	case (len(cfg.Tokens) > 0 || cfg.Certified != nil) && cfg.Anonymous:
		return nil, errors.New("push: there are tokens or certificates, and anybody may push without one")
	case len(cfg.Tokens) > 16:
		return nil, errors.New("push: more than 16 tokens")
	case cfg.MaxBody < 0 || cfg.BodyTime < 0 || cfg.TakeTime < 0 || cfg.MaxAtOnce < 0:
		return nil, errors.New("push: a negative limit")
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = MaxSET
	}
	if cfg.BodyTime == 0 {
		cfg.BodyTime = 10 * time.Second
	}
	if cfg.TakeTime == 0 {
		cfg.TakeTime = 10 * time.Second
	}
	if cfg.MaxAtOnce == 0 {
		cfg.MaxAtOnce = 64
	}
	return &Push{cfg: cfg, receiver: receiver, places: make(chan struct{}, cfg.MaxAtOnce)}, nil
}

// ServeHTTP takes one SET.
func (p *Push) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		plain(w, http.StatusMethodNotAllowed, "a SET is pushed with POST")
		return
	}
	if !p.authentic(r.Header) && (p.cfg.Certified == nil || !p.cfg.Certified(r.TLS)) {
		e := refuse(AuthenticationFailed, "neither the Authorization header nor a certificate is that of a transmitter that may push here")
		p.receiver.refused("", e)
		answer(w, e)
		return
	}
	if status, problem := checkSETHeader(r.Header); problem != "" {
		plain(w, status, problem)
		return
	}
	// net/http clears the deadline at the end of the body.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(p.cfg.BodyTime))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, p.cfg.MaxBody))
	if err != nil {
		var (
			large   *http.MaxBytesError
			network net.Error
		)
		switch {
		case errors.As(err, &large):
			plain(w, http.StatusRequestEntityTooLarge, "a SET may have "+strconv.FormatInt(p.cfg.MaxBody, 10)+" bytes")
		case errors.As(err, &network) && network.Timeout():
			plain(w, http.StatusRequestTimeout, "the body did not come in time")
		default:
			plain(w, http.StatusBadRequest, "the body could not be read")
		}
		return
	}
	select {
	case p.places <- struct{}{}:
		defer func() { <-p.places }()
	default:
		later(w, "too many events are being taken")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), p.cfg.TakeTime)
	defer cancel()
	_, err = p.receiver.Take(ctx, bytes.TrimSpace(body))
	var e *Error
	switch {
	case err == nil:
		w.WriteHeader(http.StatusAccepted)
	case errors.As(err, &e):
		answer(w, e)
	default: // temporary, or unknown how far it came: either way it is to be sent again
		later(w, ErrTemporary.Error())
	}
}

// authentic compares in the same time whatever the token is: hashes of one length, all of
// them.
func (p *Push) authentic(h http.Header) bool {
	if p.cfg.Anonymous {
		return true
	}
	list := h.Values("Authorization")
	if len(list) != 1 {
		return false
	}
	scheme, token, _ := strings.Cut(list[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	sum, found := sha256.Sum256([]byte(token)), 0
	for i := range p.cfg.Tokens {
		found |= subtle.ConstantTimeCompare(sum[:], p.cfg.Tokens[i][:])
	}
	return found == 1
}

// checkSETHeader takes application/secevent+jwt, uncompressed, from who takes JSON.
func checkSETHeader(h http.Header) (status int, problem string) {
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return http.StatusUnsupportedMediaType, "the body must not be compressed"
	}
	mediaType, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || mediaType != "application/secevent+jwt" {
		return http.StatusUnsupportedMediaType, "the body must be application/secevent+jwt"
	}
	return 0, ""
}

// answer sends an error as RFC 8935 section 2.3 has it.
func answer(w http.ResponseWriter, e *Error) {
	body, err := json.Marshal(errorBody{e.Code, e.Description})
	if err != nil { // not of two texts, but for invalid UTF-8
		body = []byte(`{"err":"` + e.Code + `"}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Language", "en")
	w.WriteHeader(http.StatusBadRequest)
	_, _ = w.Write(body)
}

// errorBody is an error on the wire: RFC 8935 section 2.3, RFC 8936 section 2.3.
type errorBody struct {
	Err         string `json:"err"`
	Description string `json:"description,omitempty"`
}

func later(w http.ResponseWriter, text string) {
	w.Header().Set("Retry-After", "2")
	plain(w, http.StatusServiceUnavailable, text+"; send it again")
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
}
