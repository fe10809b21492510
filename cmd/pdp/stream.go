package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"vigil/authz"
	"vigil/signals/ssf"
)

// streamCmd manages the streams of security events at their transmitters (SSF 1.0 section
// 8). It asks the transmitter itself, with what the configuration says of the issuer, so
// that running engines need no credential that could end a stream.
type streamCmd struct {
	Discover discoverCmd      `cmd:"" help:"Print what the transmitter says of itself."`
	List     streamListCmd    `cmd:"" help:"List the streams that the transmitter has."`
	Show     streamShowCmd    `cmd:"" help:"Show the stream."`
	Create   streamCreateCmd  `cmd:"" help:"Make a stream, pushed to push_endpoint, or polled where there is none."`
	Update   streamUpdateCmd  `cmd:"" help:"Bring the stream to what the configuration says of it."`
	Delete   streamDeleteCmd  `cmd:"" help:"End the stream."`
	Status   streamStatusCmd  `cmd:"" help:"Say whether the stream is enabled. Exit 1 where it is not."`
	Enable   streamEnableCmd  `cmd:"" help:"Let the stream send again."`
	Pause    streamPauseCmd   `cmd:"" help:"Let the transmitter keep its events for a while."`
	Disable  streamDisableCmd `cmd:"" help:"Let the transmitter drop its events."`
	Verify   streamVerifyCmd  `cmd:"" help:"Ask for a verification event, and with --wait see it come."`
	Add      addSubjectCmd    `cmd:"" name:"add-subject" help:"Ask for the events about a subject."`
	Remove   removeSubjectCmd `cmd:"" name:"remove-subject" help:"Ask for no more events about a subject."`
}

// streamFlags say which stream: that of an issuer of the configuration.
type streamFlags struct {
	Issuer string `arg:"" help:"The name of the issuer in the configuration."`
	Stream string `help:"The id of the stream. By default that of the configuration, or the only one there is." placeholder:"ID"`
	configFile
	format
}

// managed is a transmitter that is being asked, and the configuration that says how.
type managed struct {
	cfg      *config
	issuer   *issuerConfig
	verifier *ssf.Issuer
	web      *ssf.Web
	meta     *ssf.Metadata
	*ssf.Transmitter
}

// streamTime bounds a command, besides what it waits for; each request has a bound of its own.
const streamTime = 90 * time.Second

// open reads the configuration and asks the transmitter for its metadata.
func (f *streamFlags) open(ctx context.Context, a *app) (*managed, error) {
	m, err := f.configured(a)
	if err != nil {
		return nil, err
	}
	if m.meta, err = ssf.Discover(ctx, m.web, m.issuer.SSF.Issuer, m.issuer.Stream.Discovery); err != nil {
		return nil, ofTransmitter(err, false)
	}
	if m.Transmitter, err = ssf.NewTransmitter(m.web, m.meta, ssf.NewReceiver(m.verifier, nil, nil)); err != nil {
		return nil, ofTransmitter(err, false)
	}
	return m, nil
}

// configured reads what the configuration says of the issuer, and its secrets.
func (f *streamFlags) configured(a *app) (*managed, error) {
	cfg, err := loadSettings(f.Config, a.env, nil)
	if err != nil {
		return nil, f.unread(err)
	}
	m := &managed{cfg: cfg}
	var names []string
	for i := range cfg.Issuers {
		names = append(names, cfg.Issuers[i].SSF.Name)
		if cfg.Issuers[i].SSF.Name == f.Issuer {
			m.issuer = &cfg.Issuers[i]
		}
	}
	switch {
	case f.Config == "":
		return nil, &failure{code: exitInput, err: errors.New("no configuration was named, and it says which issuers there are"), hint: "Name it with --config."}
	case len(names) == 0:
		return nil, &failure{code: exitInput, err: errors.New("the configuration has no issuers"), hint: "Name a configuration that has them, with --config."}
	case m.issuer == nil:
		return nil, badInput("the configuration has no issuer %q%s", f.Issuer, didYouMean(f.Issuer, names))
	case m.issuer.Stream == nil:
		return nil, &failure{code: exitInput, err: fmt.Errorf("%s: issuer %q has no `stream`", m.issuer.where, f.Issuer),
			hint: "stream: {token_file: FILE} says how its stream is managed; docs/ssf.md has the rest."}
	}
	fault := func(err error) error {
		return &failure{code: exitInput, err: fmt.Errorf("%s: issuer %q: %w", m.issuer.where, f.Issuer, err)}
	}
	now := func() authz.Instant { return authz.InstantOf(time.Now()) }
	ssfConfig := m.issuer.SSF
	ssfConfig.Now = now
	if m.issuer.KeysFile != "" { // nothing is verified here
		ssfConfig.Keys.URI = "https://localhost/"
	}
	if ssfConfig.StateSecret, err = m.issuer.Stream.stateSecret(); err != nil {
		return nil, fault(err)
	}
	if m.verifier, err = ssf.New(ssfConfig); err != nil {
		return nil, fault(err)
	}
	if m.web, err = m.issuer.Stream.web(now); err != nil {
		return nil, fault(err)
	}
	return m, nil
}

// find gives the stream that is meant.
func (f *streamFlags) find(ctx context.Context, m *managed) (*ssf.Stream, error) {
	id := f.Stream
	if id == "" {
		id = m.issuer.Stream.ID
	}
	s, err := m.Find(ctx, id)
	switch {
	case errors.Is(err, ssf.ErrNoStream):
		return nil, &failure{code: exitInput, err: err, hint: fmt.Sprintf("To make one: pdp stream create %s", f.Issuer)}
	case errors.Is(err, ssf.ErrSeveralStreams):
		return nil, &failure{code: exitInput, err: err, hint: fmt.Sprintf("pdp stream list %s shows them; name one with --stream, or as stream.id in the configuration.", f.Issuer)}
	}
	return s, ofTransmitter(err, false)
}

// with runs what a command is for, on the stream that is meant.
func (f *streamFlags) with(ctx context.Context, a *app, do func(context.Context, *managed, *ssf.Stream) error) error {
	ctx, cancel := context.WithTimeout(ctx, streamTime)
	defer cancel()
	m, err := f.open(ctx, a)
	if err != nil {
		return err
	}
	s, err := f.find(ctx, m)
	if err != nil {
		return err
	}
	return do(ctx, m, s)
}

// ofTransmitter gives an error of a transmitter its exit code, and says what to do. changes:
// the request was one that may change something.
func ofTransmitter(err error, changes bool) error {
	if err == nil {
		return nil
	}
	f := &failure{code: exitInput, err: errors.New(printable(err.Error()))}
	var (
		status *ssf.StatusError
		answer *ssf.AnswerError
	)
	switch {
	case errors.Is(err, ssf.ErrNoEndpoint):
		f.hint = "`pdp stream discover` shows what it has."
	case errors.As(err, &answer):
		if changes {
			f.unknown, f.hint = true, mayBeDone+" `pdp stream list` says what there is."
		}
	case errors.Is(err, ssf.ErrPending):
		f.code, f.hint = exitNoEffect, "It was accepted; `pdp stream status` and `show` say when it is done."
	case !errors.As(err, &status):
		f.code = exitUnreachable
		if changes {
			f.unknown, f.hint = true, "The request may have arrived: its outcome is unknown. `pdp stream list` says what there is."
		}
	case status.Status == http.StatusUnauthorized:
		f.hint = "The transmitter does not know the credential of `stream`, or it is over."
	case status.Status == http.StatusForbidden:
		f.hint = "The credential of `stream` may not do this: the scopes are ssf.read to look and ssf.manage to change."
	case status.Status == http.StatusNotFound:
		f.hint = "`pdp stream list` shows what there is."
	case status.Status == http.StatusConflict:
		f.hint = "There is a stream already. `pdp stream update` brings it to what the configuration says."
	case status.Status == http.StatusTooManyRequests:
		f.code, f.hint = exitUnreachable, "Nothing was done; try again later."
	case status.Status >= 500:
		f.code = exitUnreachable
		if changes {
			f.unknown, f.hint = true, mayBeDone
		}
	}
	return f
}

// printStream prints a stream for people.
func (a *app) printStream(s *ssf.Stream) {
	delivery, endpoint := "-", ""
	if s.Delivery != nil {
		endpoint = s.Delivery.Endpoint
		switch delivery = s.Delivery.Method; delivery {
		case ssf.MethodPush:
			delivery = "push to"
		case ssf.MethodPoll:
			delivery = "poll"
		}
	}
	rows := [][]string{
		{"stream", s.ID}, {"issuer", s.Issuer}, {"audience", strings.Join(s.Audience, " ")}, {"delivery", delivery + " " + endpoint},
		{"delivered", eventNames(s.Delivered)},
	}
	var missing []string
	for _, uri := range s.Requested {
		if !slices.Contains(s.Delivered, uri) {
			missing = append(missing, uri)
		}
	}
	if len(missing) > 0 {
		rows = append(rows, []string{"requested, and not delivered", eventNames(missing)})
	}
	if s.Description != "" {
		rows = append(rows, []string{"description", s.Description})
	}
	if s.MinVerification != 0 {
		rows = append(rows, []string{"verified at most every", (time.Duration(min(s.MinVerification, 1e9)) * time.Second).String()})
	}
	if s.Inactivity != 0 {
		rows = append(rows, []string{"ends without a sign of life after", (time.Duration(min(s.Inactivity, 1e9)) * time.Second).String()})
	}
	table(a.stdout, rows)
}

// eventNames are events as people know them: short where they are those of CAEP or RISC.
func eventNames(uris []string) string {
	names := make([]string, len(uris))
	for i, uri := range uris {
		names[i] = ssf.EventName(uri)
	}
	slices.Sort(names)
	return orDash(strings.Join(names, " "))
}
