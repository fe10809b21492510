package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// bench is one run: it gathers rows.
type bench struct {
	full    bool
	pdp     string // the program to start; built where it is empty
	dir     string // for what is needed while it runs
	rounds  int    // of interleaved slices
	log     io.Writer
	begin   time.Time
	section string // the one under way
	results Results
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.log, "%5.0fs  %s\n", time.Since(b.begin).Seconds(), fmt.Sprintf(format, args...))
}

func (b *bench) add(r Row) {
	r.Section = b.section
	b.results.Rows = append(b.results.Rows, r)
}
func (b *bench) plot(s Series) { b.results.Series = append(b.results.Series, s) }

// choose gives the size for this kind of run.
func choose[T any](b *bench, quick, full T) T {
	if b.full {
		return full
	}
	return quick
}

// section is a group of rows that are measured together.
type section struct {
	name, title string
	prefixes    []string // of the ids of its rows
	run         func(*bench, context.Context) error
}

var sections = []section{
	{"http", "Over HTTP, beside a bare server", []string{"http."}, (*bench).measureHTTP},
	{"process", "In process", []string{"cached.", "json.", "fresh.", "batch."}, (*bench).measureProcess},
	{"rules", "More rules", []string{"rules."}, (*bench).measureRules},
	{"agents", "More agents", []string{"agents.", "gc."}, (*bench).measureAgents},
	{"signals", "Signals beside decisions", []string{"signals."}, (*bench).measureSignals},
	{"race", "Stale allows", []string{"race."}, (*bench).measureRace},
	{"start", "Start", []string{"start."}, (*bench).measureStart},
}

// sectionNames are those to choose from.
func sectionNames() []string {
	names := make([]string, len(sections))
	for i := range sections {
		names[i] = sections[i].name
	}
	return names
}

// chosen checks a list of sections; empty means all.
func chosen(list string) ([]string, error) {
	if list == "" {
		return sectionNames(), nil
	}
	names := strings.Split(list, ",")
	for _, name := range names {
		if !slices.Contains(sectionNames(), name) {
			return nil, badUsage("--only: %q is none of %s", name, strings.Join(sectionNames(), ", "))
		}
	}
	return names, nil
}

// leftOut says whether a row is of a section that is not among the names.
func leftOut(names []string) func(id string) bool {
	return func(id string) bool {
		for _, s := range sections {
			if slices.ContainsFunc(s.prefixes, func(p string) bool { return strings.HasPrefix(id, p) }) {
				return !slices.Contains(names, s.name)
			}
		}
		return false
	}
}

// run measures the sections one after the other. A failing one ends the run: what was
// measured until then is in b.results.
func (b *bench) run(ctx context.Context, names []string) error {
	for _, s := range sections {
		if !slices.Contains(names, s.name) {
			continue
		}
		b.section = s.name
		if err := s.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
	}
	b.results.Took = time.Since(b.begin).Round(time.Second).String()
	return nil
}

func percent(share float64) string { return number(100*share) + " %" }
