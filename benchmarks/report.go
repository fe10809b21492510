package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// What is between the markers in a document is generated; the rest is kept by hand.
const (
	beginMark = "<!-- results: begin; what follows is written by `make bench-full` -->\n"
	endMark   = "<!-- results: end -->\n"
)

// reportCommand writes the results of a run into the documentation.
func reportCommand(_ context.Context, args []string, _, log io.Writer) error {
	set := newFlags("report", log)
	name := set.String("results", "results/full.json", "file of the results, as run --json writes it")
	docs := set.String("docs", "../docs", "folder of performance.md; the plots go to its folder plots")
	if err := parse(set, args, 0); err != nil {
		return err
	}
	r, err := readResults(*name)
	if err != nil {
		return usageError{err}
	}
	page := filepath.Join(*docs, "performance.md")
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	whole, err := between(string(text), r.markdown())
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	plots := filepath.Join(*docs, "plots")
	if err := os.MkdirAll(plots, 0o755); err != nil {
		return err
	}
	for name, svg := range r.pictures() {
		if err := os.WriteFile(filepath.Join(plots, name), []byte(svg), 0o644); err != nil {
			return err
		}
	}
	if err := os.WriteFile(page, []byte(whole), 0o644); err != nil {
		return err
	}
	fmt.Fprintln(log, "written:", page, "and", plots)
	return nil
}

// between puts a text in the place of what is between the markers.
func between(page, text string) (string, error) {
	before, rest, ok := strings.Cut(page, beginMark)
	_, after, closed := strings.Cut(rest, endMark)
	if !ok || !closed || strings.Contains(after, beginMark) {
		return "", fmt.Errorf("it does not have the markers %q and %q once each, in this order", strings.TrimSpace(beginMark), strings.TrimSpace(endMark))
	}
	return before + beginMark + text + endMark + after, nil
}

// pictures are the plots by file name.
func (r *Results) pictures() map[string]string {
	all := map[string]string{"bars.svg": barsSVG(r.Rows)}
	for i := range r.Series {
		all[r.Series[i].ID+".svg"] = r.Series[i].svg()
	}
	return all
}

// markdown is the results for people: where, the rows of each section, the plots.
func (r *Results) markdown() string {
	var b strings.Builder
	m := r.Machine
	fmt.Fprintf(&b, "\nA %s run of %s UTC, %s long, on %d processors (%s, %s), %s, %s. The load average was %s when it began.\n",
		r.Kind, r.Date, r.Took, m.Processors, orUnknown(m.Processor), orUnknown(m.Memory), m.System, m.Go, orUnknown(m.LoadBefore))
	if m.Revision != "" {
		fmt.Fprintf(&b, "Measured at commit %s.\n", m.Revision)
	}
	var versions []string
	for _, path := range slices.Sorted(maps.Keys(r.Dependencies)) {
		versions = append(versions, path+" "+r.Dependencies[path])
	}
	if len(versions) > 0 {
		fmt.Fprintf(&b, "With %s.\n", strings.Join(versions, ", "))
	}
	b.WriteString("\n![how much of its bar each measurement uses](plots/bars.svg)\n")
	for _, s := range sections {
		r.section(&b, s)
	}
	b.WriteString("\n")
	return b.String()
}

func (r *Results) section(b *strings.Builder, s section) {
	var rows []Row
	for _, row := range r.Rows {
		if row.Section == s.name {
			rows = append(rows, row)
		}
	}
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(b, "\n### %s\n\n| %s |\n|%s\n", s.title, strings.Join(heads, " | "), strings.Repeat("---|", len(heads)))
	for i := range rows {
		cells := rows[i].cells()
		for k := range cells {
			cells[k] = strings.ReplaceAll(cells[k], "|", "\\|")
		}
		fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
	}
	b.WriteString("\n")
	for i := range rows {
		if rows[i].Note != "" {
			fmt.Fprintf(b, "- %s: %s.\n", rows[i].What, rows[i].Note)
		}
	}
	for _, plot := range r.Series {
		if plot.ID == s.name {
			fmt.Fprintf(b, "\n![%s](plots/%s.svg)\n", plot.Title, plot.ID)
		}
	}
}

func orUnknown(text string) string {
	if text == "" {
		return "unknown"
	}
	return text
}
