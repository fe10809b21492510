package control

import (
	"slices"

	"vigil/authz"
)

// sourcesStatus says how the required sources do, with the exceptions of these tenants.
func sourcesStatus(parts *Parts, now authz.Instant, tenants []string) (all []SourceStatus) {
	if parts.Sources == nil {
		return nil
	}
	for _, s := range parts.Sources(now) {
		out := SourceStatus{
			Source: s.Source, HeardAt: s.Heard.String(), MaxSilence: s.MaxSilence.Seconds(),
			Silent: s.Silent, Profiles: []SourceProfile{},
		}
		if s.Heard != 0 {
			out.SilentFrom = s.Heard.Add(s.MaxSilence).String()
		}
		for _, p := range s.Profiles {
			out.Profiles = append(out.Profiles, SourceProfile{Profile: p.Name, OnSilence: p.OnSilence.String()})
		}
		for _, w := range s.Waivers {
			if slices.Contains(tenants, w.Tenant) {
				out.WaivedBy = append(out.WaivedBy, SourceWaiver{Tenant: w.Tenant, Fact: factOf(&w.Fact, now)})
			}
		}
		all = append(all, out)
	}
	return all
}

// knowSource fills in whether anybody knows a source that a signal was about: the rules
// require it, or it was heard. No record of it says so, for its first is that of a waiver.
func knowSource(parts *Parts, key authz.Key, now authz.Instant, out *SignalEntity, names bool) {
	var required []string
	if parts.Sources != nil {
		for _, s := range parts.Sources(now) {
			required = append(required, s.Source)
		}
	}
	out.Known = slices.Contains(required, key.ID) || parts.Posture.Heard(key.ID) != 0
	if !out.Known && names {
		for _, name := range nearestOf(key.ID, required) {
			out.Nearest = append(out.Nearest, authz.Ref{Kind: authz.KindSource, ID: name}.String())
		}
	}
}
