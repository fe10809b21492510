package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"vigil/authz"
	"vigil/server/control"
	"vigil/signals"
	"vigil/signals/kafka"
	"vigil/signals/ssf"
)

// receiveEvents takes the security events of the configured issuers: it opens the
// endpoints that they are pushed to, and polls while ctx lasts. It is called once there is
// an intake.
func (n *node) receiveEvents(ctx context.Context) error {
	receivers := make([]*ssf.Receiver, len(n.cfg.Issuers))
	events := control.Events{Endpoints: map[string]http.Handler{}}
	// Each nil for an issuer that is not polled, has no topic, is not asked.
	pollers := make([]*ssf.Poller, len(receivers))
	consumers := make([]*kafka.Consumer, len(receivers))
	verifiers := make([]*ssf.Verifier, len(receivers))
	for i := range n.cfg.Issuers {
		c := &n.cfg.Issuers[i]
		fault := func(err error) error {
			return &failure{code: exitInput, err: fmt.Errorf("%s: issuer %q: %w", c.where, c.SSF.Name, err)}
		}
		cfg := c.SSF
		cfg.Now = n.now
		source := signals.Source{Kind: "issuer", Name: cfg.Name}.String()
		cfg.MaxSilence = func() time.Duration { return n.maxSilence(source) }
		if c.KeysFile != "" {
			set, err := readBounded(c.KeysFile, maxConfig)
			if err != nil {
				return fault(fmt.Errorf("%s: %s", c.KeysFile, plainOSError(err)))
			}
			cfg.Keys.Static = set
		}
		if c.Stream != nil {
			var err error
			if cfg.StateSecret, err = c.Stream.stateSecret(); err != nil {
				return fault(err)
			}
		}
		issuer, err := ssf.New(cfg)
		if err != nil {
			return fault(err)
		}
		receivers[i] = ssf.NewReceiver(issuer, n.intake, n.log)
		if c.Stream != nil {
			receivers[i].SetStream(c.Stream.ID)
		}
		if c.Push != nil {
			push := *c.Push
			push.Certified = c.certified(n.now)
			if events.Endpoints[cfg.Name], err = ssf.NewPush(receivers[i], push); err != nil {
				return fault(err)
			}
		}
		if c.Poll != nil {
			if pollers[i], err = n.poller(receivers[i], c.Poll); err != nil {
				return fault(err)
			}
		}
		if c.Topic != nil {
			if consumers[i], err = n.consumer(receivers[i], c); err != nil {
				return fault(err)
			}
		}
		if c.Stream != nil && c.Stream.VerifyEvery != 0 {
			if verifiers[i], err = n.verifier(receivers[i], c.Stream); err != nil {
				return fault(err)
			}
		}
	}
	events.Counts = func() map[control.EventCount]uint64 {
		all := map[control.EventCount]uint64{}
		for i, r := range receivers {
			for label, count := range r.Status().Counts {
				all[control.EventCount{Issuer: n.cfg.Issuers[i].SSF.Name, Event: label.Event, Outcome: label.Outcome}] = count
			}
		}
		return all
	}
	events.Verifications = func() map[control.VerificationCount]uint64 {
		all := map[control.VerificationCount]uint64{}
		for i, v := range verifiers {
			if v != nil {
				name, s := n.cfg.Issuers[i].SSF.Name, v.Status()
				all[control.VerificationCount{Issuer: name, Outcome: "asked"}] = s.Asked
				all[control.VerificationCount{Issuer: name, Outcome: "throttled"}] = s.Throttled
				all[control.VerificationCount{Issuer: name, Outcome: "failed"}] = s.Failed
			}
		}
		return all
	}
	events.Issuers = func() []control.Issuer {
		all := make([]control.Issuer, len(receivers))
		for i, r := range receivers {
			all[i] = issuerStatus(&n.cfg.Issuers[i].SSF, r, pollers[i], verifiers[i])
			if consumers[i] != nil {
				topic := topicStatus(n.cfg.Issuers[i].Topic, consumers[i])
				all[i].Topic = &topic
			}
		}
		return all
	}
	events.Topics = func() map[string]control.EventTopic {
		all := map[string]control.EventTopic{}
		for i, k := range consumers {
			if k != nil {
				all[n.cfg.Issuers[i].SSF.Name] = topicStatus(n.cfg.Issuers[i].Topic, k)
			}
		}
		return all
	}
	n.control.Receive(events)
	for _, r := range receivers {
		n.follow(func() { passOn(ctx, r) })
	}
	for _, p := range pollers {
		if p != nil {
			n.follow(func() { _ = p.Run(ctx) }) // which ends with ctx alone
		}
	}
	for _, k := range consumers {
		if k != nil {
			n.follow(func() { _ = k.Run(ctx) }) // likewise
		}
	}
	for _, v := range verifiers {
		if v != nil {
			n.start(func() { _ = v.Run(ctx) }) // likewise; it does not touch the log
		}
	}
	return nil
}

// passOn has the signs of life of an issuer passed on while ctx lasts, as soon as the rules
// require it.
func passOn(ctx context.Context, r *ssf.Receiver) {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-second.C:
			r.PassOn(ctx)
		}
	}
}

// issuerStatus is how the events of an issuer come in, in the words of the control port.
func issuerStatus(cfg *ssf.Config, r *ssf.Receiver, p *ssf.Poller, v *ssf.Verifier) control.Issuer {
	s := r.Status()
	out := control.Issuer{Tenants: cfg.Authority.Tenants, VerifiedAt: s.Verified, IssuerStatus: control.IssuerStatus{
		Name: cfg.Name, Issuer: cfg.Issuer, Heard: instant(s.Heard), Verified: instant(s.Verified), Stream: s.Stream.Status,
		Missed: make([]control.MissedEvent, len(s.Missed)),
	}}
	for i, m := range s.Missed {
		out.Missed[i] = control.MissedEvent{At: m.At.String(), ID: m.ID, Event: m.Event, Outcome: m.Outcome, Detail: m.Detail, Refs: m.Names}
	}
	if p != nil {
		polling := p.Status()
		out.Polled = instant(polling.Polled)
		if polling.Err != nil {
			out.Polling = polling.Err.Error()
		}
	}
	if v != nil {
		asking := v.Status()
		out.Asked = instant(asking.At)
		if asking.Err != nil {
			out.Asking = asking.Err.Error()
		}
	}
	return out
}

// instant is "" for none.
func instant(i authz.Instant) string {
	if i == 0 {
		return ""
	}
	return i.String()
}

// poller makes what polls a stream, with its credentials.
func (n *node) poller(r *ssf.Receiver, c *pollConfig) (*ssf.Poller, error) {
	web, err := c.web(n.now)
	if err != nil {
		return nil, err
	}
	return ssf.NewPoller(r, ssf.PollConfig{Endpoint: c.Endpoint, Web: web, Logger: n.log})
}

// verifier makes what asks for verifications of a stream, with its credentials.
func (n *node) verifier(r *ssf.Receiver, c *streamConfig) (*ssf.Verifier, error) {
	web, err := c.web(n.now)
	if err != nil {
		return nil, err
	}
	return ssf.NewVerifier(r, ssf.VerifierConfig{Web: web, Discovery: c.Discovery, Stream: c.ID, Every: c.VerifyEvery, Logger: n.log})
}

// readSecret reads a file that holds nothing else. One line end is the editor's.
func readSecret(name string) (string, error) {
	text, err := readBounded(name, 4096)
	if err != nil {
		return "", fmt.Errorf("%s: %s", name, plainOSError(err))
	}
	secret := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if secret == "" {
		return "", fmt.Errorf("%s: %w", name, errors.New("it is empty"))
	}
	return secret, nil
}
