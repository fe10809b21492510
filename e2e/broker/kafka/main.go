//go:build unix

// Command kafka starts and ends a real Apache Kafka for development. It runs in the
// background, on loopback, and keeps its data until it is wiped.
//
//	go run ./e2e/broker/kafka --cache DIR [--dir DIR] [--port 19092] start|stop|kill|status|wipe
//
// start and stop of what is started or stopped already change nothing. It exits with 0, also
// when a broker cannot be had on this machine (then it says "skipped"), with 1 when
// something failed or, for status, when none runs, and with 2 when it was called wrongly.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"vigil/e2e/broker"
)

func main() { os.Exit(run()) }

func run() int {
	cache := flag.String("cache", "", "folder that keeps the jars of Kafka, below it; only start needs it")
	port := flag.Int("port", 19092, "port for clients; the controller has the next one")
	dir := flag.String("dir", "", "folder for data, log and pid; one for this user and port in the folder for temporary files where it is left out")
	flag.Parse()
	if flag.NArg() != 1 || *port < 1 || *port > 65534 {
		flag.Usage()
		return 2
	}
	if *dir == "" {
		*dir = filepath.Join(os.TempDir(), fmt.Sprintf("vigil-kafka-%d-%d", os.Getuid(), *port))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := act(ctx, flag.Arg(0), broker.Config{Dir: *dir, Port: *port, Detached: true}, *cache)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, broker.ErrMissing):
		fmt.Fprintln(os.Stderr, "skipped:", err)
		return 0
	case errors.Is(err, errUsage):
		flag.Usage()
		return 2
	}
	fmt.Fprintln(os.Stderr, "kafka:", err)
	return 1
}

var errUsage = errors.New("called wrongly")

func act(ctx context.Context, verb string, cfg broker.Config, cache string) (err error) {
	if verb == "start" {
		if cache == "" {
			return errUsage
		}
		if cfg.Jars, err = broker.Jars(ctx, cache); err != nil {
			return err
		}
	}
	b, err := broker.New(cfg)
	if err != nil {
		return err
	}
	switch verb {
	case "start":
		ran := b.Pid() != 0
		if err := b.Start(ctx); err != nil {
			return err
		}
		said := "runs"
		if ran {
			said = "runs already"
		}
		fmt.Printf("Apache Kafka %s %s on %s, process %d\n  log  %s\n  data %s\n", broker.Version, said, b.Address(), b.Pid(), b.Log(), cfg.Dir)
		return nil
	case "stop", "kill":
		if b.Pid() == 0 {
			fmt.Println("no broker runs in", cfg.Dir)
			return nil
		}
		if verb == "kill" {
			err = b.Kill()
		} else {
			err = b.Stop()
		}
		if err == nil {
			fmt.Println("the broker has ended; its data stays in", cfg.Dir)
		}
		return err
	case "wipe":
		return b.Wipe()
	case "status":
		if b.Pid() == 0 {
			return fmt.Errorf("no broker runs in %s", cfg.Dir)
		}
		fmt.Printf("process %d on %s, log %s\n", b.Pid(), b.Address(), b.Log())
		return nil
	}
	return errUsage
}
