package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Results is one run, as a file.
type Results struct {
	V            int               `json:"v"`    // 1
	Kind         string            `json:"kind"` // quick or full
	Date         string            `json:"date"` // UTC
	Took         string            `json:"took"`
	Machine      Machine           `json:"machine"`
	Dependencies map[string]string `json:"dependencies"`
	Rows         []Row             `json:"rows"`
	Series       []Series          `json:"series"`
}

// Machine is where a run was.
type Machine struct {
	Go         string `json:"go"`
	System     string `json:"system"`
	Processor  string `json:"processor"`
	Processors int    `json:"processors"`
	Memory     string `json:"memory"`
	LoadBefore string `json:"load_before"`       // load average of the machine before the run
	Revision   string `json:"revision,omitzero"` // see revision
}

// Series is the lines of one plot.
type Series struct {
	ID    string `json:"id"`
	Title string `json:"title"`
	X     string `json:"x"`
	Y     string `json:"y"`
	LogX  bool   `json:"log_x,omitzero"`
	LogY  bool   `json:"log_y,omitzero"`
	Lines []Line `json:"lines"`
}

// Line is one line of a plot.
type Line struct {
	Name   string  `json:"name"`
	Points []Point `json:"points"`
}

// Point is x and y.
type Point [2]float64

func newResults(full bool, now time.Time) Results {
	kind := "quick"
	if full {
		kind = "full"
	}
	r := Results{V: 1, Kind: kind, Date: now.UTC().Format("2006-01-02 15:04"), Dependencies: map[string]string{}}
	r.Machine = Machine{
		Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, Processors: runtime.NumCPU(),
		Processor: lineOf("/proc/cpuinfo", "model name"), Memory: memory(), LoadBefore: loadAverage(), Revision: revision(),
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		wanted := []string{"cel.dev/cel-go", "github.com/valyala/fasthttp", "github.com/dgraph-io/ristretto/v2", "github.com/klauspost/compress", "github.com/go-json-experiment/json"}
		for _, d := range info.Deps {
			if slices.Contains(wanted, d.Path) {
				r.Dependencies[d.Path] = d.Version
			}
		}
	}
	return r
}

// lineOf gives what stands behind a name in a file such as /proc/cpuinfo, or "".
func lineOf(file, name string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if before, after, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(before) == name {
			return strings.TrimSpace(after)
		}
	}
	return ""
}

func memory() string {
	var kib int64
	if _, err := fmt.Sscanf(lineOf("/proc/meminfo", "MemTotal"), "%d kB", &kib); err != nil {
		return ""
	}
	return fmt.Sprintf("%.0f GiB", float64(kib)/(1<<20))
}

// revision is the commit that was measured, with a + where files differ from it; "" where
// there is no repository.
func revision() string {
	commit, err := exec.Command("git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return ""
	}
	changed, err := exec.Command("git", "status", "--porcelain", "--untracked-files=no").Output()
	if err != nil || len(bytes.TrimSpace(changed)) > 0 {
		return string(bytes.TrimSpace(commit)) + "+"
	}
	return string(bytes.TrimSpace(commit))
}

func loadAverage() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(data), " ")
	return first
}

func readResults(name string) (*Results, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	r := &Results{}
	if err := json.Unmarshal(data, r, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if r.V != 1 {
		return nil, fmt.Errorf("%s: /v: version %d; this program reads version 1", name, r.V)
	}
	return r, nil
}

func (r *Results) write(name string) error {
	var data bytes.Buffer
	if err := json.MarshalWrite(&data, r, json.Deterministic(true), jsontext.Multiline(true), jsontext.WithIndent(" ")); err != nil {
		return err
	}
	data.WriteByte('\n')
	return os.WriteFile(name, data.Bytes(), 0o644)
}
