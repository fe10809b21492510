package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"
)

// The exit codes of every command. They are part of the interface.
const (
	exitOK          = 0 // done, or the decision is allow
	exitDeny        = 1 // the decision is not allow, a test failed, topics are weaker than was allowed, a stream is not enabled, or an engine makes no decisions
	exitInput       = 2 // something given is wrong: a flag, a file, a configuration
	exitNoEffect    = 3 // a signal was accepted and changed nothing that it was meant to, or nothing is known of an entity
	exitUnreachable = 4 // no answer, so that the outcome may be unknown; not in force everywhere; or a server failed while it ran
)

// app is the program, apart from its process: a test runs it with its own arguments,
// environment and output.
type app struct {
	env    environment
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	// interactive: a person at a terminal can answer a question.
	interactive bool
}

func newApp() *app {
	info, err := os.Stdin.Stat()
	return &app{
		env:         os.Environ(),
		stdin:       os.Stdin,
		interactive: err == nil && info.Mode()&os.ModeCharDevice != 0,
	}
}

// failure is an error with the exit code that it ends the program with, and what to do
// about it.
type failure struct {
	code int
	err  error
	hint string // a sentence; "" where there is nothing to add
	// unknown: what was asked for may have been done.
	unknown bool
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func badInput(format string, args ...any) error {
	return &failure{code: exitInput, err: fmt.Errorf(format, args...)}
}

// silent ends the program with a code and no message: what there is to say was said.
func silent(code int) error { return &failure{code: code} }

// Run runs one command and gives its exit code.
func (a *app) Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	a.stdout, a.stderr = stdout, stderr
	var tree commands
	ended := -1 // what kong's own --help ends with
	parser, err := kong.New(&tree,
		kong.Name("pdp"),
		kong.Description(description),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { ended = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, FlagsLast: true, WrapUpperBound: 100}),
		kong.Vars{"decision": "http://" + defaultDecision, "control": "http://" + defaultControl},
		kong.Bind(a),
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
	if err != nil {
		fmt.Fprintln(stderr, "pdp:", err) // the tree of commands itself is wrong: a defect
		return exitInput
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if ended >= 0 {
		return ended
	}
	if err != nil {
		fmt.Fprintln(stderr, "pdp:", err)
		fmt.Fprintf(stderr, "See %q.\n", helpFor(err))
		return exitInput
	}
	return a.report(parsed.Run())
}

// report says what went wrong, if anything, and gives the exit code.
func (a *app) report(err error) int {
	if err == nil {
		return exitOK
	}
	var f *failure
	if !errors.As(err, &f) {
		f = &failure{code: exitInput, err: err}
	}
	var all problems
	switch {
	case f.err == nil:
	case errors.As(f.err, &all):
		for _, p := range all {
			fmt.Fprintln(a.stderr, p)
		}
	default:
		fmt.Fprintln(a.stderr, "pdp:", f.err)
	}
	if f.hint != "" {
		fmt.Fprintln(a.stderr, f.hint)
	}
	return f.code
}

// helpFor names the help of the command that an error of the command line belongs to.
func helpFor(err error) string {
	text := "pdp"
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil && parse.Context.Selected() != nil {
		text = parse.Context.Selected().FullPath()
	} else if parse != nil && parse.Context != nil {
		for _, step := range parse.Context.Path {
			if step.Command != nil {
				text = step.Command.FullPath()
			}
		}
	}
	return text + " --help"
}
