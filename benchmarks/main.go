// Command benchmarks measures the engine beside what it is compared with, in one run and
// in turn, and says where it stands to its bars.
//
//	go run . run    [flags]   measure; print a table; fail where a threshold is missed thrice
//	go run . report [flags]   put the results of a run into the documentation, with plots
//	go run . table  FILE      print the table of a run again
//
// It exits with 0 when every threshold is kept, 1 when one is missed, 2 when it was called
// wrongly and 3 when it could not measure. It goes to loopback only and ends by itself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	exitOK = iota
	exitMissed
	exitUsage
	exitFailed
)

// errMissed is that a threshold is not kept; what was printed says which.
var errMissed = errors.New("a threshold is missed")

// usageError is a command called wrongly.
type usageError struct{ error }

func badUsage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// commands are those for people, and those that this program starts itself with: parts of
// a measurement that need a process of their own.
var commands = map[string]func(ctx context.Context, args []string, out, log io.Writer) error{
	"run": runCommand, "report": reportCommand, "table": tableCommand,
	"bare": bareCommand, "client": clientCommand, "pinned": pinnedCommand, "decode": decodeCommand,
}

const usage = "usage: benchmarks run|report|table [flags]; benchmarks COMMAND --help says which"

// run is the program: results go to out, progress and errors to log.
func run(ctx context.Context, args []string, out, log io.Writer) int {
	if len(args) == 0 || commands[args[0]] == nil {
		fmt.Fprintln(log, usage)
		return exitUsage
	}
	err := commands[args[0]](ctx, args[1:], out, log)
	var usage usageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.Is(err, errMissed):
		return exitMissed
	case errors.As(err, &usage):
		fmt.Fprintln(log, "benchmarks:", err)
		return exitUsage
	}
	fmt.Fprintln(log, "benchmarks:", err)
	return exitFailed
}

func newFlags(command string, log io.Writer) *flag.FlagSet {
	set := flag.NewFlagSet("benchmarks "+command, flag.ContinueOnError)
	set.SetOutput(log)
	return set
}

func parse(set *flag.FlagSet, args []string, rest int) error {
	err := set.Parse(args)
	if err == nil && set.NArg() != rest {
		err = fmt.Errorf("want %d arguments besides flags, not %q", rest, set.Args())
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		return usageError{err}
	}
	return err
}

// runCommand measures, prints the table and judges it.
func runCommand(ctx context.Context, args []string, out, log io.Writer) (err error) {
	set := newFlags("run", log)
	full := set.Bool("full", false, "measure all sizes, a million agents among them, and longer")
	only := set.String("only", "", fmt.Sprintf("sections to measure, separated by commas, of %q", sectionNames()))
	pdp := set.String("pdp", "", "the engine's program; built where it is left out")
	file := set.String("json", "", "file to write the results to")
	thresholds := set.String("thresholds", "", "file of what the rows have to be; the ones built in where it is left out")
	if err := parse(set, args, 0); err != nil {
		return err
	}
	names, err := chosen(*only)
	if err != nil {
		return err
	}
	limits, err := thresholdsFor(*thresholds, *full)
	if err != nil {
		return usageError{err}
	}
	dir, err := os.MkdirTemp("", "vigil-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	now := time.Now()
	b := &bench{full: *full, pdp: *pdp, dir: dir, rounds: 41, log: log, begin: now, results: newResults(*full, now)}
	if *full {
		b.rounds = 201
	}
	failed := b.run(ctx, names, limits)
	printTable(out, b.results.Rows)
	if failed != nil {
		return failed
	}
	if *file != "" {
		if err := b.results.write(*file); err != nil {
			return err
		}
	}
	missed := limits.missed(b.results.Rows, b.memory.worst.Value, leftOut(names))
	for _, m := range missed {
		fmt.Fprintln(out, "MISSED:", m)
	}
	if len(missed) > 0 {
		return errMissed
	}
	fmt.Fprintf(out, "every threshold is kept; %s\n", time.Since(now).Round(time.Second))
	return nil
}

func tableCommand(_ context.Context, args []string, out, log io.Writer) error {
	set := newFlags("table FILE", log)
	if err := parse(set, args, 1); err != nil {
		return err
	}
	r, err := readResults(set.Arg(0))
	if err != nil {
		return usageError{err}
	}
	printTable(out, r.Rows)
	return nil
}
