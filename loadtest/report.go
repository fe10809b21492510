package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// unit says what a metric counts. Thresholds are for the first three only: what depends on
// the machine is for people to compare on one machine.
type unit string

const (
	count          unit = "count"
	ratio          unit = "ratio"
	perCall        unit = "per call" // allocations
	seconds        unit = "seconds"
	perSecond      unit = "per second"
	byteCount      unit = "bytes"
	bytesEach      unit = "bytes each" // of something small
	bytesPerSecond unit = "bytes per second"
)

// Metric is one measured number.
type Metric struct {
	Name  string  `json:"name"`
	Unit  unit    `json:"unit"`
	Value float64 `json:"value"`
}

// Report is what a command found, as it is printed and as --json writes it.
type Report struct {
	V       int       `json:"v"` // 1
	Command string    `json:"command"`
	Started time.Time `json:"started"`
	Took    string    `json:"took"`
	Machine Machine   `json:"machine"`
	About   []string  `json:"about"` // what was done, in words
	Metrics []Metric  `json:"metrics"`
	Stalls  []string  `json:"stalls,omitzero"` // the longest
	Stories []string  `json:"stories,omitzero"`
	Missed  []string  `json:"missed,omitzero"` // what is not as it has to be
	// Interrupted: it was told to end before it had measured all.
	Interrupted bool `json:"interrupted,omitzero"`
}

// Machine is where it was measured.
type Machine struct {
	OS   string `json:"os"`
	Arch string `json:"arch"`
	CPUs int    `json:"cpus"`
	Go   string `json:"go"`
}

func newReport(command string) *Report {
	return &Report{V: 1, Command: command, Started: time.Now().UTC(), Machine: Machine{runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version()}}
}

func (r *Report) aboutf(format string, args ...any) {
	r.About = append(r.About, fmt.Sprintf(format, args...))
}

func (r *Report) add(name string, u unit, value float64) {
	r.Metrics = append(r.Metrics, Metric{name, u, value})
}

func (r *Report) missf(format string, args ...any) {
	r.Missed = append(r.Missed, fmt.Sprintf(format, args...))
}

func (r *Report) metric(name string) (Metric, bool) {
	for _, m := range r.Metrics {
		if m.Name == name {
			return m, true
		}
	}
	return Metric{}, false
}

// latency adds the quantiles of a histogram.
func (r *Report) latency(prefix string, h *histogram) {
	if h.total == 0 {
		return
	}
	for _, q := range []struct {
		name string
		q    float64
	}{{"p50", .5}, {"p90", .9}, {"p99", .99}, {"p99.9", .999}, {"p99.99", .9999}} {
		r.add(prefix+"."+q.name, seconds, h.quantile(q.q).Seconds())
	}
	r.add(prefix+".max", seconds, h.max.Seconds())
	r.add(prefix+".mean", seconds, h.mean().Seconds())
}

// load adds the results of a load.
func (r *Report) load(prefix string, l *loadResult) {
	r.add(prefix+".answered", count, float64(l.answered))
	r.add(prefix+".failed", count, float64(l.failed))
	r.add(prefix+".wrong", count, float64(l.wrong))
	r.add(prefix+".unsent", count, float64(l.unsent))
	r.add(prefix+".connections_made", count, float64(l.dials))
	r.add(prefix+".throughput", perSecond, l.throughput())
	r.latency(prefix+".latency", &l.latency)
	r.latency(prefix+".generator_late", &l.lateness)
	r.add(prefix+".stalls", count, float64(len(l.stalls)))
	for _, s := range l.stalls[:min(len(l.stalls), 10)] {
		r.Stalls = append(r.Stalls, fmt.Sprintf("%s: at %s for %s, %d requests", prefix, s.At.Round(time.Millisecond), s.Length.Round(10*time.Microsecond), s.Requests))
	}
	if l.answered == 0 {
		r.missf("%s: nothing was answered", prefix)
	}
	if l.failed+l.wrong+l.unsent > 0 {
		r.missf("%s: %d failed, %d answered wrongly, %d never sent, such as: %s", prefix, l.failed, l.wrong, l.unsent, l.example)
	}
}

// finish prints the report, writes it where that is wanted, and says whether something
// was missed.
func (r *Report) finish(o *options, out io.Writer) error {
	r.Took = time.Since(r.Started).Round(time.Millisecond).String()
	var limits *Thresholds
	if o.thresholds != "" {
		var err error
		if limits, err = readThresholds(o.thresholds); err != nil {
			return err
		}
		r.Missed = append(r.Missed, limits.missed(r)...)
	}
	r.print(out)
	if o.json != "" {
		var data bytes.Buffer
		if err := json.MarshalWrite(&data, r, jsontext.Multiline(true), jsontext.WithIndent(" ")); err != nil {
			return err
		}
		data.WriteByte('\n')
		if err := os.WriteFile(o.json, data.Bytes(), 0o644); err != nil {
			return err
		}
	}
	switch {
	case r.Interrupted:
		return errors.New("interrupted")
	case len(r.Missed) > 0:
		return errMissed
	}
	return nil
}

func (r *Report) print(out io.Writer) {
	fmt.Fprintf(out, "\n%s: %s on %s/%s, %d processors, %s\n", r.Command, r.Took, r.Machine.OS, r.Machine.Arch, r.Machine.CPUs, r.Machine.Go)
	for _, line := range r.About {
		fmt.Fprintf(out, "  %s\n", line)
	}
	group := ""
	for _, m := range r.Metrics {
		if head, _, _ := strings.Cut(m.Name, "."); head != group {
			group = head
			fmt.Fprintln(out)
		}
		fmt.Fprintf(out, "  %-40s %14s\n", m.Name, m.text())
	}
	section := func(title string, lines []string) {
		if len(lines) > 0 {
			fmt.Fprintf(out, "\n%s\n", title)
		}
		for _, line := range lines {
			fmt.Fprintf(out, "  %s\n", strings.ReplaceAll(line, "\n", "\n  "))
		}
	}
	section("Stalls", r.Stalls)
	section("Stories", r.Stories)
	section("MISSED", r.Missed)
	if len(r.Missed) == 0 && !r.Interrupted {
		fmt.Fprintln(out, "\neverything is as it has to be")
	}
}

func (m Metric) text() string {
	switch m.Unit {
	case count:
		return fmt.Sprintf("%.0f", m.Value)
	case seconds:
		d := time.Duration(m.Value * float64(time.Second))
		step := time.Duration(1) // three digits
		for d/step >= 1000 {
			step *= 10
		}
		return d.Round(step).String()
	case perSecond:
		return fmt.Sprintf("%.0f/s", m.Value)
	case byteCount:
		return fmt.Sprintf("%.1f MiB", m.Value/(1<<20))
	case bytesEach:
		return fmt.Sprintf("%.0f B", m.Value)
	case bytesPerSecond:
		return fmt.Sprintf("%.1f kB/s", m.Value/1e3)
	}
	return fmt.Sprintf("%.3f", m.Value)
}

// closing closes what a command has opened, and makes what goes wrong with it an error of
// the command's.
func closing(err *error, close func() error) { *err = errors.Join(*err, close()) }
