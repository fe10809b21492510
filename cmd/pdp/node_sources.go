package main

import (
	"fmt"
	"slices"
	"time"

	"vigil/authz"
	"vigil/rules"
	"vigil/server/control"
	"vigil/server/credential"
	"vigil/signals"
)

// sources says how the sources do that the rules in use require, at now. Before there are
// records it says nothing.
func (n *node) sources(now authz.Instant) []control.SourceState {
	n.using.Lock()
	set, store := n.set, n.posture
	n.using.Unlock()
	if set == nil || store == nil {
		return nil
	}
	var all []control.SourceState
	for _, required := range set.Required() {
		s := control.SourceState{
			Source: required.Source, Heard: store.Heard(required.Source),
			MaxSilence: required.MaxSilence, Profiles: required.Profiles,
		}
		s.Silent = s.Heard == 0 || now >= s.Heard.Add(s.MaxSilence)
		tenants := n.cfg.tenants()
		s.Waived = len(tenants) > 0
		for _, tenant := range tenants {
			effect := store.Get(authz.Ref{Kind: authz.KindSource, ID: s.Source}.In(tenant)).At(now)
			for _, f := range effect.WaivedBy() {
				s.Waivers = append(s.Waivers, control.Waiver{Tenant: tenant, Fact: f})
			}
			s.Waived = s.Waived && effect.Waived
		}
		all = append(all, s)
	}
	return all
}

// maxSilence is for how long the rules in use let a source be silent; 0 where they do not
// require it.
func (n *node) maxSilence(source string) time.Duration {
	n.using.Lock()
	set := n.set
	n.using.Unlock()
	if set != nil {
		for _, required := range set.Required() {
			if required.Source == source {
				return required.MaxSilence
			}
		}
	}
	return 0
}

// silent says that sources are silent, in words that are fit for anyone: which ones is for
// those who may read the status.
func (n *node) silent(now authz.Instant) []string {
	silent := 0
	for _, s := range n.sources(now) {
		if s.Silent && !s.Waived {
			silent++
		}
	}
	switch silent {
	case 0:
		return nil
	case 1:
		return []string{"a source of signals that the rules require is silent"}
	}
	return []string{fmt.Sprintf("%d sources of signals that the rules require are silent", silent)}
}

// sourceSeen is what was logged last of a required source.
type sourceSeen struct{ silent, ahead bool }

// followSources logs which of the required sources fall silent at now, which are heard again,
// and which the log dated further ahead of now than clocks may differ: here that puts nothing
// off, but a replica that starts meanwhile hears them as of its start. was is what it gave the
// last time; nil for the first.
func (n *node) followSources(now authz.Instant, was map[string]sourceSeen) map[string]sourceSeen {
	is := map[string]sourceSeen{}
	for _, s := range n.sources(now) {
		byLog, before := n.posture.HeardByLog(s.Source), was[s.Source]
		seen := sourceSeen{silent: s.Silent, ahead: byLog > now.Add(signals.MaxAhead)}
		is[s.Source] = seen
		if seen.ahead && !before.ahead {
			n.log.Warn("the log dated what a required source said ahead of this clock", "source", s.Source,
				"by_log", byLog.String(), "heard", s.Heard.String())
		}
		switch {
		case s.Silent && !before.silent:
			heard := s.Heard.String()
			if s.Heard == 0 {
				heard = "never"
			}
			n.log.Warn("A REQUIRED SOURCE IS SILENT", "source", s.Source, "heard", heard, "max_silence", s.MaxSilence,
				"degrades", degrades(s.Profiles), "waivers", len(s.Waivers))
		case !s.Silent && before.silent:
			n.log.Info("a required source is heard again", "source", s.Source, "heard", s.Heard.String())
		}
	}
	return is
}

// degrades names profiles with what happens to them: "high-high: deny".
func degrades(profiles []*rules.Profile) []string {
	var all []string
	for _, p := range profiles {
		all = append(all, p.Name+": "+p.OnSilence.String())
	}
	return all
}

// tenants are those of the callers that this configuration has, sorted.
func (c *config) tenants() []string {
	var all []string
	if len(c.Clients) == 0 || c.Anonymous == "loopback" {
		all = append(all, authz.DefaultTenant)
	}
	for i := range c.Clients {
		all = append(all, c.Clients[i].Caller.Tenants...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// senders are the sources that this configuration has.
func (c *config) senders() []string {
	var all []string
	for i := range c.Clients {
		all = append(all, c.Clients[i].Sender.Source.String())
	}
	if len(c.Clients) == 0 {
		all = append(all, localSender().Source.String())
	}
	for i := range c.Issuers {
		all = append(all, "issuer:"+c.Issuers[i].SSF.Name)
	}
	for i := range c.Log.Kafka.Inputs {
		all = append(all, "topic:"+c.Log.Kafka.Inputs[i].Topic)
	}
	slices.Sort(all)
	return all
}

// unheard says which sources the rules require though this configuration has no such
// source, or lets it send nothing: what was misspelt is silent for ever.
func (c *config) unheard(bundle *rules.Bundle) []string {
	known := c.senders()
	var all, mute []string
	for i := range c.Clients {
		if c.Clients[i].Scopes&credential.Signal == 0 {
			mute = append(mute, c.Clients[i].Sender.Source.String())
		}
	}
	for name, source := range bundle.Required {
		if slices.Contains(mute, name) {
			all = append(all, fmt.Sprintf("%s:%d: the rules require the source %s, which lacks the scope signal in this configuration: it is never heard",
				source.Pos.File, source.Pos.Line, name))
		}
		if !slices.Contains(known, name) {
			all = append(all, fmt.Sprintf("%s:%d: the rules require the source %s, which is no client, issuer or input of this configuration%s",
				source.Pos.File, source.Pos.Line, name, didYouMean(name, known)))
		}
	}
	slices.Sort(all)
	return all
}
