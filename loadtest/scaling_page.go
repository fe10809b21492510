package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/go-json-experiment/json"
)

// rates are the signals per second that are measured, and that the tables are about.
var rates = []float64{10, 1000, 50_000}

// What is between the markers of the page is generated; the rest is kept by hand.
const (
	scalingBegin = "<!-- results: begin; what follows is written by `make scaling` -->\n"
	scalingEnd   = "<!-- results: end -->\n"
)

// rewrite writes the results in a file into the page, measuring nothing.
func rewrite(results, page string, log io.Writer) error {
	r, err := readReport(results)
	if err != nil {
		return usageError{err}
	}
	if page == "" {
		return badUsage("--from goes with --page")
	}
	if err := writePage(page, r); err != nil {
		return err
	}
	fmt.Fprintln(log, "written:", page)
	return nil
}

func readReport(name string) (*Report, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	r := &Report{}
	if err := json.Unmarshal(data, r, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if r.V != 1 || r.Command != "scaling" {
		return nil, fmt.Errorf("%s: not a result of `scaling` of version 1", name)
	}
	return r, nil
}

func writePage(page string, r *Report) error {
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	generated, err := r.scalingTables()
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), scalingBegin)
	_, after, closed := strings.Cut(rest, scalingEnd)
	if !ok || !closed {
		return fmt.Errorf("%s does not have the markers %q and %q in this order", page, strings.TrimSpace(scalingBegin), strings.TrimSpace(scalingEnd))
	}
	return os.WriteFile(page, []byte(before+scalingBegin+generated+scalingEnd+after), 0o644)
}

// costs reads the metrics of a report, and keeps the first that is missing.
type costs struct {
	r       *Report
	missing error
}

func (c *costs) of(name string) float64 {
	m, ok := c.r.metric(name)
	if !ok && c.missing == nil {
		c.missing = errors.New("the results lack " + name)
	}
	return m.Value
}

// at is a metric that was measured at a rate of signals.
func (c *costs) at(rate float64, name string) float64 {
	return c.of(fmt.Sprintf("rate_%.0f.%s", rate, name))
}

// scalingTables are the results for people: what was measured, and what follows.
func (r *Report) scalingTables() (string, error) {
	c := &costs{r: r}
	var b strings.Builder
	fmt.Fprintf(&b, "\nA run of %s UTC, %s long, on %s/%s, %d processors, %s.\n", r.Started.Format("2006-01-02 15:04"), r.Took, r.Machine.OS, r.Machine.Arch, r.Machine.CPUs, r.Machine.Go)
	for _, line := range r.About {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	c.writeBeside(&b)
	c.writeUnits(&b)
	c.writeRates(&b)
	c.writeFanOut(&b)
	c.writeHeld(&b)
	c.writeEnds(&b)
	b.WriteString("\n")
	return b.String(), c.missing
}

// table is the heading of a section and the head of its table.
func table(b *strings.Builder, title string, heads ...string) {
	fmt.Fprintf(b, "\n### %s\n\n| %s |\n|%s\n", title, strings.Join(heads, " | "), strings.Repeat("---|", len(heads)))
}

func row(b *strings.Builder, cells ...string) { fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | ")) }

func (c *costs) writeBeside(b *strings.Builder) {
	table(b, "Decisions beside signals from Kafka", "signals/s", "decisions/s", "p50", "p99", "p99 beside that without", "processors of the replica", "of the generator", "of the broker", "of the whole machine")
	for _, m := range c.r.Metrics {
		name, ok := strings.CutSuffix(m.Name, "decisions")
		if !ok || !strings.HasPrefix(name, "beside_") {
			continue
		}
		signals := 0.0
		if name != "beside_0." {
			signals = c.of(name + "signals")
		}
		row(b, number(signals), number(m.Value), span(c.of(name+"p50")), span(c.of(name+"p99")), fmt.Sprintf("%.1f", c.of(name+"p99_ratio")),
			number(c.of(name+"replica_cores")), number(c.of(name+"generator_cores")), number(c.of(name+"broker_cores")), number(c.of(name+"machine_cores")))
	}
}

func (c *costs) writeUnits(b *strings.Builder) {
	table(b, "What one of each costs", "what", "measured")
	for _, u := range []struct{ what, value string }{
		{"a replica that nothing happens to: processors, requests to the brokers, bytes from them", fmt.Sprintf("%s, %s/s, %s/s", number(c.of("idle.cores")), number(c.of("idle.requests")), size(c.of("idle.received")))},
		{"its connections to the brokers", number(c.of("idle.connections"))},
		{"its memory: heap, resident", size(c.of("empty.heap")) + ", " + size(c.of("empty.resident"))},
		{"its start: by the clock, on a processor", span(c.of("empty.start")) + ", " + span(c.of("empty.start_cpu"))},
		{"applying a signal of the log, pushed 500 at a time: processor time, bytes fetched", span(c.of("log.cpu_per_signal")) + ", " + size(c.of("log.received_per_signal"))},
		{"taking a push over HTTP, appending, applying: processor time for a signal", span(c.of("log.taker_cpu_per_signal"))},
		{"an agent, registered: heap, bytes fetched for it", size(c.of("held.agent")) + ", " + size(c.of("held.agent_received"))},
		{"one fact more of an entity: heap", size(c.of("held.fact"))},
		{"a revoked session, with a name of 32 characters: heap", size(c.of("held.session"))},
		{"resident memory beside heap, of what is held", fmt.Sprintf("%.1f", c.of("held.resident_to_heap"))},
		{"an entity in a snapshot", size(c.of("snapshot.per_entity"))},
		{"taking a snapshot and sending it, per million entities: by the clock, on a processor", span(c.of("snapshot.take_per_million")) + ", " + span(c.of("snapshot.take_cpu_per_million"))},
		{"a new replica that takes it from a peer, per million entities: by the clock, on a processor", span(c.of("bootstrap.per_million")) + ", " + span(c.of("bootstrap.cpu_per_million"))},
		{"a replica that was away: signals/s until it is ready", number(c.of("away.caught_up"))},
		{"the same records by readers of kafka-go that do nothing with them: signals/s", number(c.of("away.bare"))},
		{"the first to the second", fmt.Sprintf("%.2f", c.of("away.to_bare"))},
		{"processor time of one of those signals; of one that is only read", span(c.of("away.cpu_per_signal")) + "; " + span(c.of("away.bare_cpu_per_signal"))},
		{"the broker's processor time for one fetch that finds nothing", span(c.of("broker.cpu_per_fetch"))},
	} {
		row(b, u.what, u.value)
	}
}

func (c *costs) writeRates(b *strings.Builder) {
	table(b, "One replica, by signals per second", "signals/s", "processors", "processor time of a signal", "bytes of a signal, as fetched", "fetched", "requests to the brokers")
	row(b, "0", number(c.of("idle.cores")), "", "", size(c.of("idle.received"))+"/s", number(c.of("idle.requests"))+"/s")
	for _, rate := range rates {
		row(b, number(c.at(rate, "signals")), number(c.at(rate, "cores")), span(c.at(rate, "cpu_per_signal")), size(c.at(rate, "received_per_signal")),
			size(c.at(rate, "received"))+"/s", number(c.at(rate, "requests"))+"/s")
	}
}

var fleets = []float64{1, 10, 100, 1000}

// writeFanOut multiplies what one replica takes from the brokers.
func (c *costs) writeFanOut(b *strings.Builder) {
	table(b, "All replicas together, computed", "signals/s", "replicas", "connections to the brokers", "out of the brokers", "requests to them", "their processors, for those", "processors of all replicas, for signals")
	for _, rate := range rates {
		for _, n := range fleets {
			requests := n * c.at(rate, "requests")
			row(b, number(rate), number(n), number(n*c.of("idle.connections")), size(n*c.at(rate, "received"))+"/s", number(requests)+"/s",
				number(requests*c.of("broker.cpu_per_fetch")), number(n*c.at(rate, "cores")))
		}
	}
}

// memoryOf is what a replica has resident with so many agents, each with a risk and a
// revoked session, in bytes.
func (c *costs) memoryOf(agents float64) float64 {
	return c.of("empty.resident") + agents*c.heapOfAgent()*c.of("held.resident_to_heap")
}

func (c *costs) heapOfAgent() float64 {
	return c.of("held.agent") + c.of("held.fact") + c.of("held.session")
}

// writeHeld is about what replicas hold.
func (c *costs) writeHeld(b *strings.Builder) {
	heads := []string{"agents", "heap of a replica", "resident", "its snapshot", "a new one from a peer, longer than an empty start by"}
	for _, n := range fleets[1:] {
		heads = append(heads, fmt.Sprintf("resident on %s replicas", number(n)))
	}
	table(b, "What replicas hold, computed", heads...)
	for _, agents := range []float64{10_000, 1_000_000} {
		entities := 2 * agents
		cells := []string{number(agents), size(c.of("empty.heap") + agents*c.heapOfAgent()), size(c.memoryOf(agents)),
			size(entities * c.of("snapshot.per_entity")), span(entities / 1e6 * c.of("bootstrap.per_million"))}
		for _, n := range fleets[1:] {
			cells = append(cells, size(n*c.memoryOf(agents)))
		}
		row(b, cells...)
	}
}

// The cluster that the limits are computed for.
const (
	clusterBrokers = 3
	clusterCores   = 8        // of each broker
	fetchShare     = 0.5      // of those, for fetches; the rest takes records, copies them and collects garbage
	clusterLink    = 10e9 / 8 // bytes per second out of each broker: 10 Gbit/s
)

// writeEnds is how many replicas a cluster serves until something of it is used up.
func (c *costs) writeEnds(b *strings.Builder) {
	table(b, "Where it ends, computed", "signals/s", "replicas until the brokers have no processor left, by the requests measured", "the same where each signal comes alone and is an answer of its own", "replicas until the links are full", "used up first", "share of a replica's one applying thread")
	fetches := fetchShare * clusterBrokers * clusterCores / c.of("broker.cpu_per_fetch")
	idle := c.of("idle.requests")
	for _, rate := range append([]float64{0}, rates...) {
		requests, received := idle, c.of("idle.received")
		if rate > 0 {
			requests, received = c.at(rate, "requests"), c.at(rate, "received")
		}
		byRequests, byBytes := fetches/requests, clusterBrokers*clusterLink/received
		alone := "they come faster than answers go"
		if rate <= 1000 {
			alone = number(fetches / (rate + idle))
		}
		first := "processors of the brokers, by requests"
		if byBytes < byRequests {
			first = "links of the brokers"
		}
		row(b, number(rate), number(byRequests), alone, number(byBytes), first, percent(rate/c.of("away.caught_up")))
	}
	fmt.Fprintf(b, "\nFor %d brokers of %d processors each, of which fetches may have half, with 10 Gbit/s out of each. One replica applies %s signals/s at most, whatever the\ncluster: that is where partitions no longer help.\n",
		clusterBrokers, clusterCores, number(c.of("away.caught_up")))
}

// number has two digits where it is small, and all before the point otherwise.
func number(x float64) string {
	switch {
	case x == 0:
		return "0"
	case x < 0.1:
		return fmt.Sprintf("%.3f", x)
	case x < 10 && x != float64(int(x)):
		return fmt.Sprintf("%.2f", x)
	}
	digits := fmt.Sprintf("%.0f", x)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func size(bytes float64) string {
	for _, u := range []struct {
		name  string
		least float64
	}{{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}} {
		if bytes >= u.least {
			return fmt.Sprintf("%.3g %s", min(bytes/u.least, 999), u.name)
		}
	}
	return fmt.Sprintf("%.0f B", bytes)
}

func span(s float64) string { return Metric{Unit: seconds, Value: s}.text() }

func percent(share float64) string { return fmt.Sprintf("%.1f %%", 100*share) }
