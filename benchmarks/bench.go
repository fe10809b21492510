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
	memory  *memoryProbe
	results Results
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.log, "%5.0fs  %s\n", time.Since(b.begin).Seconds(), fmt.Sprintf(format, args...))
}

func (b *bench) add(r Row) {
	r.Section = b.section
	b.results.Rows = append(b.results.Rows, r)
}

// plot adds a series, in place of one that was measured before.
func (b *bench) plot(s Series) {
	same := func(o Series) bool { return o.ID == s.ID }
	b.results.Series = append(slices.DeleteFunc(b.results.Series, same), s)
}

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

// run measures the sections one after the other, and one again that misses a limit. A
// failing one ends the run: what was measured until then is in b.results.
func (b *bench) run(ctx context.Context, names []string, limits *Thresholds) (err error) {
	if b.memory, err = newMemoryProbe(); err != nil {
		return err
	}
	for _, s := range sections {
		if !slices.Contains(names, s.name) {
			continue
		}
		if err := b.measure(ctx, s, limits); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
	}
	b.section = "machine"
	b.add(b.memory.worst)
	b.results.Took = time.Since(b.begin).Round(time.Second).String()
	return nil
}

// attempts is how often a section is measured that misses a limit. What makes the engine
// slower does so each time; what others do to the machine passes.
const attempts = 3

// measure measures a section. Where it misses limits that noise can miss, it is measured
// again, and a row counts that keeps its limit in any attempt.
func (b *bench) measure(ctx context.Context, s section, limits *Thresholds) error {
	before := b.results.Rows
	var rows []Row
	for attempt := 1; ; attempt++ {
		b.section, b.results.Rows = s.name, nil
		err := b.attempt(ctx, s)
		if err == nil {
			rows = limits.better(rows, b.results.Rows, b.memory.worst.Value)
		}
		b.results.Rows = append(before[:len(before):len(before)], rows...)
		if err != nil {
			return err
		}
		noisy := limits.noisy(rows, b.memory.worst.Value)
		if len(noisy) == 0 || attempt == attempts {
			return nil
		}
		b.say("%s: measured again, since these may be noise: %s", s.name, strings.Join(noisy, ", "))
	}
}

// attempt measures a section once, and the machine's memory on both sides of it.
func (b *bench) attempt(ctx context.Context, s section) error {
	if err := b.memory.measure(ctx); err != nil {
		return err
	}
	if err := s.run(b, ctx); err != nil {
		return err
	}
	return b.memory.measure(ctx)
}

func percent(share float64) string { return number(100*share) + " %" }
