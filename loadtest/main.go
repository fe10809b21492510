// Command loadtest puts load on a running engine, or on one that it starts, and judges
// every answer.
//
//	go run ./loadtest gen  [flags]   write a workload: rules, agents, requests, expected decisions
//	go run ./loadtest run  [flags]   open-loop or closed-loop load, with a storm of signals beside it
//	go run ./loadtest race [flags]   race decisions with revocations; no stale allow may be found
//	go run ./loadtest soak [flags]   all of it for long, watching memory, goroutines and descriptors
//	go run ./loadtest kills [flags]  kill -9 the engine under load, over and over; nothing acknowledged may be lost
//	go run ./loadtest replicas [flags]   how long a revocation takes to every replica of one log
//	go run ./loadtest scaling [flags]    what one replica costs on Kafka, and a thousand would
//
// It exits with 0 when everything is as expected, 1 when an answer, a property of the
// contract or a threshold is not, 2 when it was called wrongly, and 3 when it was
// interrupted or could not measure. It goes to loopback only, unless told otherwise, and
// ends by itself.
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
)

const (
	exitOK = iota
	exitMissed
	exitUsage
	exitFailed
)

// errMissed is that something measured is not as it has to be; the report says what.
var errMissed = errors.New("not as it has to be")

// usageError is a command called wrongly.
type usageError struct{ error }

func badUsage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the program: results go to out, progress and errors to log.
func run(ctx context.Context, args []string, out, log io.Writer) int {
	commands := map[string]func(context.Context, []string, io.Writer, io.Writer) error{
		"gen": generateCommand, "run": runCommand, "race": raceCommand, "soak": soakCommand, "bare": bareCommand,
		"kills": killsCommand, "replicas": replicasCommand, "scaling": scalingCommand,
	}
	if len(args) == 0 || commands[args[0]] == nil {
		fmt.Fprintln(log, "usage: loadtest gen|run|race|soak|kills|replicas|scaling [flags]; loadtest COMMAND -h says which")
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
		fmt.Fprintf(log, "loadtest %s: %v\n", args[0], err)
		return exitUsage
	}
	fmt.Fprintf(log, "loadtest %s: %v\n", args[0], err)
	return exitFailed
}
