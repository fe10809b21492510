package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"vigil/signals/ssf"
)

type discoverCmd struct{ streamFlags }

func (c *discoverCmd) Run(ctx context.Context, a *app) error {
	ctx, cancel := context.WithTimeout(ctx, streamTime)
	defer cancel()
	m, err := c.open(ctx, a)
	if err != nil {
		return err
	}
	if c.json() {
		return a.printJSON(m.meta)
	}
	table(a.stdout, [][]string{
		{"issuer", m.meta.Issuer}, {"version", orDash(m.meta.SpecVersion)}, {"keys", orDash(m.meta.JWKSURI)},
		{"deliveries", orDash(strings.Join(m.meta.DeliveryMethods, " "))}, {"subjects by default", orDash(m.meta.DefaultSubjects)},
		{"critical members", orDash(strings.Join(m.meta.Critical, " "))}, {"configuration", orDash(m.meta.Configuration)},
		{"status", orDash(m.meta.Status)}, {"add subject", orDash(m.meta.AddSubject)}, {"remove subject", orDash(m.meta.RemoveSubject)},
		{"verification", orDash(m.meta.Verification)},
	})
	if uri := m.issuer.SSF.Keys.URI; uri != "" && uri != m.meta.JWKSURI {
		fmt.Fprintf(a.stderr, "warning: its keys are configured to be at %s\n", printable(uri))
	}
	return nil
}

type streamListCmd struct{ streamFlags }

func (c *streamListCmd) Run(ctx context.Context, a *app) error {
	ctx, cancel := context.WithTimeout(ctx, streamTime)
	defer cancel()
	m, err := c.open(ctx, a)
	if err != nil {
		return err
	}
	all, err := m.List(ctx)
	if err != nil {
		return ofTransmitter(err, false)
	}
	if c.json() {
		shown := make([]listedStream, len(all))
		for i := range all {
			shown[i].Stream = all[i].Stream
			if all[i].Problem != nil {
				shown[i].Problem = all[i].Problem.Error()
			}
		}
		return a.printJSON(shown)
	}
	rows := [][]string{{"STREAM", "DELIVERY", "AUDIENCE", "EVENTS", "DESCRIPTION"}}
	for i := range all {
		s := &all[i]
		delivery := "-"
		if s.Delivery != nil {
			delivery = map[string]string{ssf.MethodPush: "push", ssf.MethodPoll: "poll"}[s.Delivery.Method]
		}
		rows = append(rows, []string{s.ID, orDash(delivery), strings.Join(s.Audience, " "), fmt.Sprint(len(s.Delivered)), s.Description})
	}
	table(a.stdout, rows)
	for i := range all {
		if all[i].Problem != nil {
			fmt.Fprintf(a.stderr, "warning: %s\n", printable(fmt.Sprintf("%s: %v", all[i].ID, all[i].Problem)))
		}
	}
	return nil
}

// listedStream is a stream of a list, for machines.
type listedStream struct {
	ssf.Stream
	Problem string `json:"problem,omitzero"` // why it is none for this receiver
}

type streamShowCmd struct{ streamFlags }

func (c *streamShowCmd) Run(ctx context.Context, a *app) error {
	return c.with(ctx, a, func(_ context.Context, _ *managed, s *ssf.Stream) error { return a.showStream(c.json(), s) })
}

func (a *app) showStream(asJSON bool, s *ssf.Stream) error {
	if asJSON {
		return a.printJSON(s)
	}
	a.printStream(s)
	return nil
}

// wanted is the stream as the configuration has it.
func (m *managed) wanted() (ssf.Stream, error) {
	c := m.issuer.Stream
	s := ssf.Stream{Requested: c.Events, Description: c.Description, Delivery: &ssf.Delivery{Method: ssf.MethodPoll}}
	if s.Requested == nil {
		s.Requested = m.verifier.Requested()
	}
	if len(s.Requested) == 0 {
		return s, badInput("%s: no event says anything that the issuer may say: see `may`, or name them in stream.events", m.issuer.where)
	}
	if c.PushEndpoint == "" {
		switch {
		case m.issuer.Poll != nil:
		case m.issuer.Push != nil:
			return s, badInput("%s: its events are pushed, and stream.push_endpoint does not say where to: a stream without it would be polled", m.issuer.where)
		case m.issuer.Topic != nil:
			return s, badInput("%s: its events come by a topic, and stream.push_endpoint does not say who is to be sent them and puts them there: a stream without it would be polled", m.issuer.where)
		}
		return s, nil
	}
	header, err := m.issuer.authorization()
	if err != nil {
		return s, &failure{code: exitInput, err: fmt.Errorf("%s: %w", m.issuer.where, err)}
	}
	s.Delivery = &ssf.Delivery{Method: ssf.MethodPush, Endpoint: c.PushEndpoint, Authorization: header}
	return s, nil
}

// settled shows a stream that was made or changed, and says what is left to do.
func (a *app) settled(f *streamFlags, m *managed, s *ssf.Stream) error {
	if err := a.showStream(f.json(), s); err != nil {
		return err
	}
	c := m.issuer
	say := func(format string, args ...any) { fmt.Fprintln(a.stderr, printable(fmt.Sprintf(format, args...))) }
	switch push := s.Delivery.Method == ssf.MethodPush; {
	case push && s.Delivery.Endpoint != c.Stream.PushEndpoint:
		say("warning: it pushes to %s, which is not the configured place", s.Delivery.Endpoint)
	case push && c.Stream.PushTokenFile == "" && c.Push != nil && len(c.Push.Tokens) > 0:
		say("The transmitter has to be told the token for its pushes by another way: stream.push_token_file is not set.")
	case !push && (c.Poll == nil || c.Poll.Endpoint != s.Delivery.Endpoint):
		say("Set poll.endpoint of this issuer to %q, and start the engines again.", s.Delivery.Endpoint)
	}
	if m.meta.DefaultSubjects == "NONE" {
		say("The transmitter sends no events about anybody until `pdp stream add-subject %s` names them.", f.Issuer)
	}
	return nil
}

type streamCreateCmd struct {
	Another bool `help:"Make one though there is one already."`
	streamFlags
}

func (c *streamCreateCmd) Run(ctx context.Context, a *app) error {
	if c.Stream != "" {
		return badInput("--stream: a new stream gets its id from the transmitter")
	}
	ctx, cancel := context.WithTimeout(ctx, streamTime)
	defer cancel()
	m, err := c.open(ctx, a)
	if err != nil {
		return err
	}
	want, err := m.wanted()
	if err != nil {
		return err
	}
	if !c.Another { // as after a first try whose outcome is unknown
		switch s, err := m.Find(ctx, ""); {
		case err == nil:
			return &failure{code: exitInput, err: errors.New(printable("there is a stream already: " + s.ID)), hint: updateHint}
		case errors.Is(err, ssf.ErrSeveralStreams):
			return &failure{code: exitInput, err: err, hint: updateHint}
		case !errors.Is(err, ssf.ErrNoStream):
			return ofTransmitter(err, false)
		}
	}
	s, err := m.Create(ctx, want)
	if err != nil {
		return ofTransmitter(err, true)
	}
	return a.settled(&c.streamFlags, m, s)
}

const updateHint = "`pdp stream update` brings it to what the configuration says; --another makes one more."

type streamUpdateCmd struct {
	Replace bool `help:"State the whole stream (PUT) and not what may have changed (PATCH): the same here, for transmitters that know one of them."`
	streamFlags
}

func (c *streamUpdateCmd) Run(ctx context.Context, a *app) error {
	return c.with(ctx, a, func(ctx context.Context, m *managed, s *ssf.Stream) error {
		want, err := m.wanted()
		if err != nil {
			return err
		}
		want.ID = s.ID
		if want.Delivery.Method == ssf.MethodPoll && s.Delivery.Method == ssf.MethodPoll {
			want.Delivery.Endpoint = s.Delivery.Endpoint // which is the transmitter's
		}
		change := m.Update
		if c.Replace {
			change = m.Transmitter.Replace
		}
		if s, err = change(ctx, want); err != nil {
			return ofTransmitter(err, true)
		}
		return a.settled(&c.streamFlags, m, s)
	})
}

type streamDeleteCmd struct {
	Yes bool `short:"y" help:"Do not ask for confirmation."`
	streamFlags
}

func (c *streamDeleteCmd) Run(ctx context.Context, a *app) error {
	return c.with(ctx, a, func(ctx context.Context, m *managed, s *ssf.Stream) error {
		if err := a.ask(c.Yes, printable(fmt.Sprintf("The stream %s of %s ends, and nothing more is heard of it.", s.ID, c.Issuer))); err != nil {
			return err
		}
		if err := m.Delete(ctx, s.ID); err != nil {
			return ofTransmitter(err, true)
		}
		return a.streamDone(c.json(), s.ID, "deleted")
	})
}

// streamDone says that something was done that the transmitter has nothing to add to.
func (a *app) streamDone(asJSON bool, id, done string) error {
	if asJSON {
		return a.printJSON(map[string]string{"stream_id": id, "done": done})
	}
	fmt.Fprintln(a.stdout, printable(id+": "+done))
	return nil
}

type streamStatusCmd struct{ streamFlags }

func (c *streamStatusCmd) Run(ctx context.Context, a *app) error {
	return c.with(ctx, a, func(ctx context.Context, m *managed, s *ssf.Stream) error {
		got, err := m.Transmitter.Status(ctx, s.ID)
		if err != nil {
			return ofTransmitter(err, false)
		}
		if err := a.printStreamStatus(c.json(), s.ID, got); err != nil {
			return err
		}
		if got.Status != "enabled" {
			return silent(exitDeny)
		}
		return nil
	})
}

func (a *app) printStreamStatus(asJSON bool, id string, s ssf.StreamStatus) error {
	if asJSON {
		return a.printJSON(struct {
			ID     string `json:"stream_id"`
			Status string `json:"status"`
			Reason string `json:"reason,omitzero"`
		}{id, s.Status, s.Reason})
	}
	text := id + ": " + s.Status
	if s.Reason != "" {
		text += " (" + s.Reason + ")"
	}
	fmt.Fprintln(a.stdout, printable(text))
	return nil
}

type reasonFlag struct {
	Reason string `help:"Why, for the people of the transmitter." placeholder:"TEXT"`
}

type streamEnableCmd struct {
	reasonFlag
	streamFlags
}

func (c *streamEnableCmd) Run(ctx context.Context, a *app) error {
	return c.turn(ctx, a, "enabled", c.Reason)
}

type streamPauseCmd struct {
	reasonFlag
	streamFlags
}

func (c *streamPauseCmd) Run(ctx context.Context, a *app) error {
	return c.turn(ctx, a, "paused", c.Reason)
}

type streamDisableCmd struct {
	Yes bool `short:"y" help:"Do not ask for confirmation."`
	reasonFlag
	streamFlags
}

func (c *streamDisableCmd) Run(ctx context.Context, a *app) error {
	if err := a.ask(c.Yes, printable(fmt.Sprintf("What %s has to say while its stream is disabled is lost.", c.Issuer))); err != nil {
		return err
	}
	return c.turn(ctx, a, "disabled", c.Reason)
}

// turn sets the status of the stream.
func (f *streamFlags) turn(ctx context.Context, a *app, status, reason string) error {
	return f.with(ctx, a, func(ctx context.Context, m *managed, s *ssf.Stream) error {
		got, err := m.SetStatus(ctx, s.ID, status, reason)
		if err != nil {
			return ofTransmitter(err, true)
		}
		if err := a.printStreamStatus(f.json(), s.ID, got); err != nil {
			return err
		}
		if got.Status != status {
			return &failure{code: exitNoEffect, err: errors.New("the transmitter has not done it")}
		}
		return nil
	})
}
