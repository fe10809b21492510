package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// newFlags makes the flags of a command.
func newFlags(command string, log io.Writer) *flag.FlagSet {
	set := flag.NewFlagSet("loadtest "+command, flag.ContinueOnError)
	set.SetOutput(log)
	return set
}

func parse(set *flag.FlagSet, args []string) error {
	err := set.Parse(args)
	if err == nil && set.NArg() > 0 {
		err = fmt.Errorf("%q is no flag", set.Arg(0))
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		return usageError{err}
	}
	return err
}

// options is what every command that asks an engine can be told.
type options struct {
	decisionURL, controlURL, tokenFile string
	start, unix, remote                bool
	pdp, cache                         string
	workload                           string
	snapshotEvery                      time.Duration // of an engine that is started; 0 leaves it as it is
	json, thresholds                   string
	timeout                            time.Duration
	quiet                              bool
	shape                              shape
}

func (o *options) flags(set *flag.FlagSet) {
	set.StringVar(&o.decisionURL, "decision-url", "", "decision port: http://127.0.0.1:7070 or unix:/path")
	set.StringVar(&o.controlURL, "control-url", "", "control port: http://127.0.0.1:7071")
	set.StringVar(&o.tokenFile, "token-file", "", "file with the token for the control port")
	set.BoolVar(&o.start, "start", false, "start an engine for the time of the load, on free ports, with a data folder that is gone afterwards")
	set.StringVar(&o.pdp, "pdp", "", "program to start; built from this module where it is left out")
	set.StringVar(&o.cache, "cache", "on", "decision cache of the engine that is started: on, off or verify")
	set.BoolVar(&o.unix, "unix", false, "with --start: ask over a Unix socket")
	set.BoolVar(&o.remote, "allow-remote", false, "allow addresses of other machines")
	set.StringVar(&o.workload, "workload", "", "file of a workload; one is generated where it is left out")
	set.StringVar(&o.json, "json", "", "file to write the results to")
	set.StringVar(&o.thresholds, "thresholds", "", "file of what the results have to be")
	set.DurationVar(&o.timeout, "timeout", 5*time.Second, "how long to wait for one answer, at most a minute")
	set.BoolVar(&o.quiet, "quiet", false, "show no progress")
	o.shape.flags(set)
}

// check looks at what concerns all commands.
func (o *options) check() error {
	if o.start == (o.decisionURL != "") {
		return badUsage("want either --start or --decision-url")
	}
	if !o.start && (o.unix || o.pdp != "") {
		return badUsage("--unix and --pdp go with --start")
	}
	if o.cache != "on" && o.cache != "off" && o.cache != "verify" {
		return badUsage("--cache: want on, off or verify, not %q", o.cache)
	}
	if o.timeout <= 0 || o.timeout > time.Minute {
		return badUsage("--timeout: want more than nothing and at most a minute")
	}
	return o.shape.check()
}

// load reads or generates the workload.
func (o *options) load() (*Workload, error) {
	if o.workload != "" {
		return readWorkload(o.workload)
	}
	return generate(o.shape)
}

// maxDuration bounds every load in time.
const maxDuration = 24 * time.Hour

func checkDuration(name string, d time.Duration) error {
	if d <= 0 || d > maxDuration {
		return badUsage("--%s: want more than nothing and at most %s", name, maxDuration)
	}
	return nil
}

func checkRange[N int | int64 | float64](name string, n, low, high N) error {
	if !(n >= low && n <= high) {
		return badUsage("--%s: want %v to %v, not %v", name, low, high, n)
	}
	return nil
}

// readToken reads a file that holds one token.
func readToken(name string) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", usageError{err}
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, 4097))
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(data))
	if token == "" || len(data) > 4096 || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", badUsage("%s does not hold one token in one line", name)
	}
	return token, nil
}
