package ssf

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The delivery methods.
const (
	MethodPush = "urn:ietf:rfc:8935"
	MethodPoll = "urn:ietf:rfc:8936"
)

// Metadata is what a transmitter says of itself: SSF 1.0 section 7.1. What it leaves out
// is "" or nil.
type Metadata struct {
	SpecVersion     string   `json:"spec_version"`
	Issuer          string   `json:"issuer"`
	JWKSURI         string   `json:"jwks_uri"`
	DeliveryMethods []string `json:"delivery_methods_supported"`
	Configuration   string   `json:"configuration_endpoint"`
	Status          string   `json:"status_endpoint"`
	AddSubject      string   `json:"add_subject_endpoint"`
	RemoveSubject   string   `json:"remove_subject_endpoint"`
	Verification    string   `json:"verification_endpoint"`
	Critical        []string `json:"critical_subject_members"`
	DefaultSubjects string   `json:"default_subjects"`
}

// Documents of discovery. The second is that of RISC transmitters from before SSF.
const (
	SSFConfiguration  = "ssf-configuration"
	RISCConfiguration = "risc-configuration"
)

const (
	maxMetadata = 256 << 10 // bytes
	callTime    = 15 * time.Second
)

// WellKnown is where a transmitter's metadata are: /.well-known/DOCUMENT between the host
// and the path of the issuer (SSF 1.0 section 7.2).
func WellKnown(issuer, document string) (string, error) {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", fmt.Errorf("the issuer %q is not a URL without query and fragment", clip(issuer))
	}
	return u.Scheme + "://" + u.Host + "/.well-known/" + document + strings.TrimSuffix(u.EscapedPath(), "/"), nil
}

// Discover asks a transmitter for its metadata. They are of this issuer, exactly, and every
// endpoint in them is a URL that may be asked.
func Discover(ctx context.Context, web *Web, issuer, document string) (*Metadata, error) {
	where, err := WellKnown(issuer, document)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	_, body, err := web.do(ctx, ask{method: http.MethodGet, url: where, most: maxMetadata, want: []int{http.StatusOK}})
	if err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	m := &Metadata{}
	if err := json.Unmarshal(body, m); err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	if m.Issuer != issuer {
		return nil, fmt.Errorf("discovery: the metadata are those of %q, not of %q", clip(m.Issuer), clip(issuer))
	}
	for name, endpoint := range map[string]string{
		"jwks_uri": m.JWKSURI, "configuration_endpoint": m.Configuration, "status_endpoint": m.Status,
		"add_subject_endpoint": m.AddSubject, "remove_subject_endpoint": m.RemoveSubject, "verification_endpoint": m.Verification,
	} {
		if endpoint == "" {
			continue
		}
		if err := web.CheckURL(endpoint); err != nil {
			return nil, fmt.Errorf("discovery: %s: %w", name, err)
		}
	}
	return m, nil
}

// Delivery is how the SETs of a stream come.
type Delivery struct {
	Method   string `json:"method"`
	Endpoint string `json:"endpoint_url,omitempty"`
	// Authorization is the header that the transmitter is to send with each push. It is a
	// secret.
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
		return fmt.Errorf("%s: the transmitter has no such endpoint", what)
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
		return fmt.Errorf("%s: the answer: %w", what, err)
	}
	return nil
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
func (t *Transmitter) sound(what string, s *Stream) error {
	switch {
	case s.ID == "":
		return fmt.Errorf("%s: the stream has no id", what)
	case s.Issuer != t.meta.Issuer:
		return fmt.Errorf("%s: the stream is of %q, not of %q", what, clip(s.Issuer), clip(t.meta.Issuer))
	case !slices.ContainsFunc(s.Audience, func(a string) bool { return slices.Contains(t.receiver.issuer.cfg.Audience, a) }):
		return fmt.Errorf("%s: the stream is for %q, which is not this receiver", what, clip(strings.Join(s.Audience, " ")))
	case s.Delivery == nil || s.Delivery.Method != MethodPush && s.Delivery.Method != MethodPoll:
		return fmt.Errorf("%s: the stream has no delivery that is known", what)
	case s.Delivery.Method == MethodPoll:
		if err := t.web.CheckURL(s.Delivery.Endpoint); err != nil {
			return fmt.Errorf("%s: %w", what, err)
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

// List gives all streams that the transmitter has for us.
func (t *Transmitter) List(ctx context.Context) ([]Stream, error) {
	var out []Stream
	if err := t.call(ctx, "list streams", http.MethodGet, t.meta.Configuration, nil, &out, http.StatusOK); err != nil {
		return nil, err
	}
	for i := range out {
		if err := t.sound("list streams", &out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
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
		return StreamStatus{}, fmt.Errorf("%s: the answer is about another stream", what)
	case s.Status != "enabled" && s.Status != "paused" && s.Status != "disabled":
		return StreamStatus{}, fmt.Errorf("%s: the status %q is not known", what, clip(s.Status))
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

// AddSubject asks for the events about a subject, which is JSON: SSF 1.0 section 8.1.3.2.
// That it succeeds does not say that there will be any.
func (t *Transmitter) AddSubject(ctx context.Context, id string, subject []byte, verified bool) error {
	if _, err := parseSubject(subject, false); err != nil {
		return fmt.Errorf("add subject: %w", err)
	}
	return t.call(ctx, "add subject", http.MethodPost, t.meta.AddSubject, subjectRequest{id, subject, &verified}, nil, http.StatusOK)
}

// RemoveSubject asks for no more events about a subject. Some may still come.
func (t *Transmitter) RemoveSubject(ctx context.Context, id string, subject []byte) error {
	if _, err := parseSubject(subject, false); err != nil {
		return fmt.Errorf("remove subject: %w", err)
	}
	return t.call(ctx, "remove subject", http.MethodPost, t.meta.RemoveSubject, subjectRequest{id, subject, nil}, nil, http.StatusNoContent)
}

// Verify asks for a verification event and gives the state that it will have. It has come
// when the receiver's Status.Verified is later than the call: when is the transmitter's
// business.
func (t *Transmitter) Verify(ctx context.Context, id string) (state string, err error) {
	state = rand.Text()
	t.receiver.Expect(state) // before it can come
	return state, t.call(ctx, "verify stream", http.MethodPost, t.meta.Verification, struct {
		ID    string `json:"stream_id"`
		State string `json:"state"`
	}{id, state}, nil, http.StatusNoContent)
}
