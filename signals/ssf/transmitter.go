package ssf

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The delivery methods.
const (
	MethodPush = "urn:ietf:rfc:8935"
	MethodPoll = "urn:ietf:rfc:8936"
)

// Delivery is how the SETs of a stream come.
type Delivery struct {
	Method   string `json:"method"`
	Endpoint string `json:"endpoint_url,omitempty"`
	// Authorization is the header that the transmitter is to send with each push. It is a
	// secret, and left out of what a Transmitter gives.
	Authorization string `json:"authorization_header,omitempty"`
}

// Stream is the configuration of a stream (SSF 1.0 section 8.1.1). What one leaves out when
// it is created or updated is left to the transmitter.
type Stream struct {
	ID              string    `json:"stream_id,omitempty"`
	Issuer          string    `json:"iss,omitempty"`
	Audience        Audience  `json:"aud,omitempty"`
	Supported       []string  `json:"events_supported,omitempty"`
	Requested       []string  `json:"events_requested,omitempty"`
	Delivered       []string  `json:"events_delivered,omitempty"`
	Delivery        *Delivery `json:"delivery,omitempty"`
	Description     string    `json:"description,omitempty"`
	MinVerification int64     `json:"min_verification_interval,omitzero"` // seconds
	Inactivity      int64     `json:"inactivity_timeout,omitzero"`        // seconds
}

// Audience is a text or a list of texts on the wire.
type Audience []string

// UnmarshalJSONFrom reads either.
func (a *Audience) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if dec.PeekKind() == '"' {
		var one string
		if err := json.UnmarshalDecode(dec, &one); err != nil {
			return err
		}
		*a = Audience{one}
		return nil
	}
	return json.UnmarshalDecode(dec, (*[]string)(a))
}

// Transmitter manages streams at a transmitter, as a receiver does (SSF 1.0 section 8). It
// is safe for concurrent use. Errors of the transmitter are *StatusError.
type Transmitter struct {
	web      *Web
	meta     Metadata
	receiver *Receiver
}

// NewTransmitter makes one whose streams go to receiver. web.Authorize gives the
// credentials.
func NewTransmitter(web *Web, meta *Metadata, receiver *Receiver) (*Transmitter, error) {
	if meta.Issuer != receiver.issuer.cfg.Issuer {
		return nil, fmt.Errorf("the transmitter is %q, and the receiver takes what is of %q", clip(meta.Issuer), clip(receiver.issuer.cfg.Issuer))
	}
	return &Transmitter{web: web, meta: *meta, receiver: receiver}, nil
}

// call asks an endpoint and reads its answer into out, unless that is nil.
func (t *Transmitter) call(ctx context.Context, what, method, endpoint string, in, out any, want ...int) error {
	if endpoint == "" {
		return fmt.Errorf("%s: %w", what, ErrNoEndpoint)
	}
	a := ask{method: method, url: endpoint, authorized: true, most: maxMetadata, want: want}
	if in != nil {
		body, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		a.body = body
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	status, answer, err := t.web.do(ctx, a)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if status == http.StatusAccepted {
		return fmt.Errorf("%s: %w", what, ErrPending)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return doubtful("%s: the answer: %v", what, err)
	}
	return nil
}

// ErrNoEndpoint: the transmitter's metadata do not name an endpoint for that. Nothing was
// asked.
var ErrNoEndpoint = errors.New("the transmitter has no such endpoint")

// AnswerError is an answer that came and cannot be read or believed. What was asked for may
// have been done.
type AnswerError struct{ detail string }

func (e *AnswerError) Error() string { return e.detail }

func doubtful(format string, args ...any) *AnswerError {
	return &AnswerError{fmt.Sprintf(format, args...)}
}

// ErrPending: the transmitter took the request and has not done it yet. Asking again later
// tells.
var ErrPending = errors.New("the transmitter has not decided yet")

// with adds the stream_id to an endpoint.
func with(endpoint, id string) string {
	if endpoint == "" {
		return ""
	}
	sep := "?"
	if strings.Contains(endpoint, "?") {
		sep = "&"
	}
	return endpoint + sep + "stream_id=" + url.QueryEscape(id)
}

// sound checks a stream that the transmitter describes: it is of its issuer, and for us.
// Where the transmitter repeats the secret of its pushes, it goes no further.
func (t *Transmitter) sound(what string, s *Stream) error {
	if s.Delivery != nil {
		s.Delivery.Authorization = ""
	}
	switch {
	case s.ID == "":
		return doubtful("%s: the stream has no id", what)
	case s.Issuer != t.meta.Issuer:
		return doubtful("%s: the stream is of %q, not of %q", what, clip(s.Issuer), clip(t.meta.Issuer))
	case !slices.ContainsFunc(s.Audience, func(a string) bool { return slices.Contains(t.receiver.issuer.cfg.Audience, a) }):
		return doubtful("%s: the stream is for %q, which is not this receiver", what, clip(strings.Join(s.Audience, " ")))
	case s.Delivery == nil || s.Delivery.Method != MethodPush && s.Delivery.Method != MethodPoll:
		return doubtful("%s: the stream has no delivery that is known", what)
	case s.Delivery.Method == MethodPoll:
		if err := t.web.CheckURL(s.Delivery.Endpoint); err != nil {
			return doubtful("%s: %v", what, err)
		}
	}
	return nil
}

// Create makes a stream. A transmitter that allows only one answers 409 where there is
// one.
func (t *Transmitter) Create(ctx context.Context, s Stream) (*Stream, error) {
	return t.configure(ctx, "create stream", http.MethodPost, &s, http.StatusCreated)
}

// Update changes what s states of a stream, which it names.
func (t *Transmitter) Update(ctx context.Context, s Stream) (*Stream, error) {
	return t.configure(ctx, "update stream", http.MethodPatch, &s, http.StatusOK, http.StatusAccepted)
}

// Replace replaces the whole configuration that is the receiver's to state.
func (t *Transmitter) Replace(ctx context.Context, s Stream) (*Stream, error) {
	return t.configure(ctx, "replace stream", http.MethodPut, &s, http.StatusOK, http.StatusAccepted)
}

func (t *Transmitter) configure(ctx context.Context, what, method string, s *Stream, want ...int) (*Stream, error) {
	out := &Stream{}
	if err := t.call(ctx, what, method, t.meta.Configuration, s, out, want...); err != nil {
		return nil, err
	}
	return out, t.sound(what, out)
}

// Read gives the configuration of a stream.
func (t *Transmitter) Read(ctx context.Context, id string) (*Stream, error) {
	out := &Stream{}
	if err := t.call(ctx, "read stream", http.MethodGet, with(t.meta.Configuration, id), nil, out, http.StatusOK); err != nil {
		return nil, err
	}
	return out, t.sound("read stream", out)
}

// Listed is a stream of a list.
type Listed struct {
	Stream
	// Problem says why it is none that this receiver can take events from, or is nil. Others
	// may have streams under the same credential.
	Problem error `json:"-"`
}

// List gives all streams that the transmitter shows us.
func (t *Transmitter) List(ctx context.Context) ([]Listed, error) {
	var streams []Stream
	if err := t.call(ctx, "list streams", http.MethodGet, t.meta.Configuration, nil, &streams, http.StatusOK); err != nil {
		return nil, err
	}
	all := make([]Listed, len(streams))
	for i := range streams {
		all[i].Problem = t.sound("list streams", &streams[i])
		all[i].Stream = streams[i]
	}
	return all, nil
}

// The ways in which Find finds no stream.
var (
	ErrNoStream       = errors.New("the transmitter has no stream for this receiver")
	ErrSeveralStreams = errors.New("the transmitter has several streams for this receiver")
)

// Find reads the stream of an id; for "" it gives the only one that is for this receiver,
// ErrNoStream or ErrSeveralStreams.
func (t *Transmitter) Find(ctx context.Context, id string) (*Stream, error) {
	if id != "" {
		return t.Read(ctx, id)
	}
	all, err := t.List(ctx)
	if err != nil {
		return nil, err
	}
	var found *Stream
	for i := range all {
		switch {
		case all[i].Problem != nil:
			err = errors.Join(err, all[i].Problem)
		case found != nil:
			return nil, ErrSeveralStreams
		default:
			found = &all[i].Stream
		}
	}
	switch {
	case found != nil:
		return found, nil
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrNoStream, err)
	}
	return nil, ErrNoStream
}

// Delete ends a stream.
func (t *Transmitter) Delete(ctx context.Context, id string) error {
	return t.call(ctx, "delete stream", http.MethodDelete, with(t.meta.Configuration, id), nil, nil, http.StatusNoContent)
}

// streamStatus is a StreamStatus on the wire.
type streamStatus struct {
	ID     string `json:"stream_id"`
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"`
}

// Status asks how a stream is.
func (t *Transmitter) Status(ctx context.Context, id string) (StreamStatus, error) {
	var out streamStatus
	err := t.call(ctx, "stream status", http.MethodGet, with(t.meta.Status, id), nil, &out, http.StatusOK)
	return t.note("stream status", id, out, err)
}

// SetStatus enables, pauses or disables a stream.
func (t *Transmitter) SetStatus(ctx context.Context, id, status, reason string) (StreamStatus, error) {
	var out streamStatus
	err := t.call(ctx, "set stream status", http.MethodPost, t.meta.Status, streamStatus{id, status, reason}, &out,
		http.StatusOK, http.StatusAccepted)
	return t.note("set stream status", id, out, err)
}

// note checks a status and lets the receiver know it.
func (t *Transmitter) note(what, id string, s streamStatus, err error) (StreamStatus, error) {
	switch {
	case err != nil:
		return StreamStatus{}, err
	case s.ID != id:
		return StreamStatus{}, doubtful("%s: the answer is about another stream", what)
	case s.Status != "enabled" && s.Status != "paused" && s.Status != "disabled":
		return StreamStatus{}, doubtful("%s: the status %q is not known", what, clip(s.Status))
	}
	status := StreamStatus{Status: s.Status, Reason: printable(s.Reason), At: t.receiver.now()}
	t.receiver.noteStatus(status)
	return status, nil
}

// subjectRequest is a subject to be added to a stream or removed from it.
type subjectRequest struct {
	ID       string         `json:"stream_id"`
	Subject  jsontext.Value `json:"subject"`
	Verified *bool          `json:"verified,omitempty"`
}

// CheckSubject says what is wrong with a subject in JSON, or nil.
func CheckSubject(subject []byte) error {
	_, err := parseSubject(subject, false)
	return err
}

// AddSubject asks for the events about a subject, which is JSON: SSF 1.0 section 8.1.3.2.
// That it succeeds does not say that there will be any.
func (t *Transmitter) AddSubject(ctx context.Context, id string, subject []byte, verified bool) error {
	if err := CheckSubject(subject); err != nil {
		return fmt.Errorf("add subject: %w", err)
	}
	return t.call(ctx, "add subject", http.MethodPost, t.meta.AddSubject, subjectRequest{id, subject, &verified}, nil, http.StatusOK)
}

// RemoveSubject asks for no more events about a subject. Some may still come.
func (t *Transmitter) RemoveSubject(ctx context.Context, id string, subject []byte) error {
	if err := CheckSubject(subject); err != nil {
		return fmt.Errorf("remove subject: %w", err)
	}
	return t.call(ctx, "remove subject", http.MethodPost, t.meta.RemoveSubject, subjectRequest{id, subject, nil}, nil, http.StatusNoContent)
}

// Verify asks for a verification event of a stream. It has come when Status.Verified of the
// receiver that it came to is later than before: when, and to which of several, is the
// transmitter's business. Its state is known again by every receiver with the same
// Config.StateSecret, and there is none without.
func (t *Transmitter) Verify(ctx context.Context, id string) error {
	return t.call(ctx, "verify stream", http.MethodPost, t.meta.Verification, struct {
		ID    string `json:"stream_id"`
		State string `json:"state,omitempty"`
	}{id, t.receiver.issuer.states.make(id, t.receiver.now())}, nil, http.StatusNoContent)
}
