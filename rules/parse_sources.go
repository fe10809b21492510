package rules

import (
	"cmp"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"vigil/authz"
	"vigil/spell"
)

var sourceKeys = []string{"max_silence"}

const (
	maxSources = 64
	maxNeeds   = 16 // of one profile
	minSilence = time.Second
)

// parseSources reads the sources that somebody must hear.
func (b *Bundle) parseSources(d *document, n *yaml.Node) {
	list, ok := d.entries(n, "sources")
	switch {
	case !ok:
		return
	case len(list) > maxSources:
		d.fail(n, "%d sources, more than %d", len(list), maxSources)
		return
	}
	for _, e := range list {
		if err := authz.CheckSource(e.name); err != nil {
			d.fail(e.key, "the source %s: %v", quoted(e.name), err)
			continue
		}
		// Known from here on, so that what needs it is not reported, too.
		s := &RequiredSource{Name: e.name, Pos: d.pos(e.key)}
		b.Required[e.name] = s
		fields, ok := d.fields(e.value, "the source "+quoted(e.name), sourceKeys)
		if !ok {
			continue
		}
		d.require(e.value, fields, "max_silence")
		if e, ok := fields["max_silence"]; ok {
			s.MaxSilence, _ = d.duration(e.value, "max_silence", minSilence, authz.MaxSilence)
		}
	}
}

// needs reads which sources a profile needs, and what it does where one is silent.
func (d *document) needs(p *Profile, fields map[string]entry) {
	if e, ok := fields["needs"]; ok {
		d.words(e.value, "needs", maxNeeds, func(n *yaml.Node) (string, bool) {
			name, ok := d.str(n, "a source", 1024)
			if !ok {
				return "", false
			}
			source := d.bundle.Required[name]
			if source == nil {
				hint := d.errs.hint(name, keys(d.bundle.Required))
				if hint == "" {
					hint = ": declare it under sources"
				}
				if meant := d.bundle.Required[spell.Nearest(name, keys(d.bundle.Required))]; meant != nil {
					meant.misspelt = true
				}
				d.fail(n, "unknown source %s%s", quoted(name), hint)
				return "", false
			}
			if !slices.ContainsFunc(p.Needs, func(have Need) bool { return have.Source == name }) {
				p.Needs = append(p.Needs, Need{name, source.MaxSilence})
			}
			return name, true
		})
		slices.SortFunc(p.Needs, func(a, b Need) int { return cmp.Compare(a.Source, b.Source) })
	}
	if e, ok := fields["on_silence"]; ok {
		i, _ := d.choice(e.value, "on_silence", staleNames)
		p.OnSilence = OnStale(i)
		if _, needs := fields["needs"]; !needs {
			d.fail(e.key, "on_silence without needs: there is no source whose silence would count")
		}
	}
}

// checkSources reports the sources that no profile needs: whoever declared one believes
// that something stops when it falls silent. Where a profile means it and misspells it, the
// misspelt name is reported, and is all that is wrong.
func (b *Bundle) checkSources(errs *errorList) {
	for _, name := range keys(b.Required) {
		needed := b.Required[name].misspelt
		for _, p := range b.Profiles {
			needed = needed || slices.ContainsFunc(p.Needs, func(n Need) bool { return n.Source == name })
		}
		if !needed {
			errs.addAt(b, b.Required[name].Pos, "", "no profile needs the source %s", quoted(name))
		}
	}
}
