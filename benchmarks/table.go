package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// Row is one thing measured, beside what it is compared with.
type Row struct {
	ID      string `json:"id"` // stable: bars and thresholds name it
	What    string `json:"what"`
	Section string `json:"section"`
	// Measured and Reference are medians in Unit; Reference is nil where Value stands alone.
	Measured  float64  `json:"measured"`
	Reference *float64 `json:"reference,omitzero"`
	Unit      Unit     `json:"unit"`
	Beside    string   `json:"beside,omitzero"` // what Reference is of
	// Value is what a bar is about: the ratio of the two, or Measured itself.
	Value float64 `json:"value"`
	// Low and High are the quartiles of Value over the rounds; equal where there was one.
	Low  float64 `json:"low"`
	High float64 `json:"high"`
	// IsRatio: Value compares within the run. Else it is in Unit.
	IsRatio bool   `json:"ratio"`
	Note    string `json:"note,omitzero"`
}

// Unit of a number in a row.
type Unit string

// The units.
const (
	nanoseconds Unit = "ns"
	perSecond   Unit = "/s"
	byteCount   Unit = "B"
	counted     Unit = ""
	allocated   Unit = "allocs"
)

// comparable reports whether a threshold may be about the value: times and rates differ
// from machine to machine, bytes of heap, counts and ratios do not.
func (r *Row) comparable() bool {
	return r.IsRatio || r.Unit == counted || r.Unit == allocated || r.Unit == byteCount
}

// ratio makes a row of two subjects that were measured in turn.
func ratio(id, what, beside string, unit Unit, work, reference []float64, note string) Row {
	against := median(reference)
	s := ratios(work, reference)
	return Row{ID: id, What: what, Measured: median(work), Reference: &against, Unit: unit, Beside: beside,
		Value: s.median, Low: s.low, High: s.high, IsRatio: true, Note: note}
}

// alone makes a row of a value that is compared with nothing.
func alone(id, what string, unit Unit, value float64, note string) Row {
	return Row{ID: id, What: what, Measured: value, Unit: unit, Value: value, Low: value, High: value, Note: note}
}

// cells are what a table shows of a row.
func (r *Row) cells() []string {
	bar, held := barOf(r.ID)
	reference := ""
	if r.Reference != nil {
		reference = quantity(*r.Reference, r.Unit)
	}
	value := ""
	if r.IsRatio {
		value = number(r.Value)
		if r.High > r.Low {
			value += fmt.Sprintf(" (%s–%s)", number(r.Low), number(r.High))
		}
	}
	cells := []string{r.What, quantity(r.Measured, r.Unit), r.Beside, reference, value, "", "", ""}
	if held {
		cells[5], cells[6], cells[7] = bar.limit(), bar.wish(), bar.verdict(r.Value)
	}
	return cells
}

var heads = []string{"what", "measured", "beside", "reference", "ratio (quartiles)", "bar", "aim", ""}

// printTable writes rows for people, in columns.
func printTable(w io.Writer, rows []Row) {
	all := [][]string{heads}
	for i := range rows {
		all = append(all, rows[i].cells())
	}
	widths := make([]int, len(heads))
	for _, cells := range all {
		for i, cell := range cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, cells := range all {
		var line strings.Builder
		for i, cell := range cells {
			line.WriteString(cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
		if n == 0 {
			total := 0
			for _, width := range widths {
				total += width + 2
			}
			fmt.Fprintln(w, strings.Repeat("-", total))
		}
	}
	for i := range rows {
		if rows[i].Note != "" {
			fmt.Fprintf(w, "  %s: %s\n", rows[i].What, rows[i].Note)
		}
	}
}

// quantity prints a number with its unit, to three digits.
func quantity(v float64, unit Unit) string {
	switch unit {
	case nanoseconds:
		for _, step := range []struct {
			size float64
			name string
		}{{1e9, "s"}, {1e6, "ms"}, {1e3, "µs"}} {
			if v >= step.size {
				return number(v/step.size) + " " + step.name
			}
		}
		return number(v) + " ns"
	case byteCount:
		return number(v) + " B"
	case perSecond:
		return thousands(v) + "/s"
	case allocated:
		return number(v) + " allocs"
	}
	return thousands(v)
}

// number prints three digits that count, and no exponent.
func number(v float64) string {
	switch {
	case v == math.Trunc(v) && math.Abs(v) < 1e6:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 10:
		return fmt.Sprintf("%.1f", v)
	case math.Abs(v) >= 0.1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

func thousands(v float64) string {
	if v < 1000 {
		return number(v)
	}
	digits := fmt.Sprintf("%.0f", v)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}
