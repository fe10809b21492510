package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"vigil/disk"
)

type serveCmd struct {
	configFile
	settingFlags
	BootstrapFrom []string `help:"Control ports of other replicas, to take a snapshot from where the log on Kafka no longer has its beginning (log.bootstrap_from). May be repeated." placeholder:"URL,..." group:"Settings (over the environment VIGIL_..., over the file):"`
	AllowWeakLog  bool     `help:"Accept topics with settings that are weaker than the contract needs, as one broker on one machine has (log.kafka.allow_weak: [all])." group:"For trying things out:"`

	Fresh       bool   `help:"Empty the data folder first. For trying things out." group:"For trying things out:"`
	Ephemeral   bool   `help:"Use a data folder that is gone afterwards." group:"For trying things out:" xor:"fresh"`
	Seed        string `help:"File of signals to send at the start, as POST /v1/signals takes them." placeholder:"FILE" group:"For trying things out:"`
	AddressFile string `help:"Write the addresses of both ports to this file, as JSON, once they answer." placeholder:"FILE" group:"For trying things out:"`
}

// Run runs the engine until ctx ends or the process is told to stop.
func (c *serveCmd) Run(ctx context.Context, a *app) (err error) {
	flags := c.byPath()
	if c.Ephemeral {
		dir, err := os.MkdirTemp("", "vigil-")
		if err != nil {
			return badInput("a data folder: %s", plainOSError(err))
		}
		defer os.RemoveAll(dir)
		flags["data_dir"] = dir
	}
	if c.AllowWeakLog {
		flags["log.kafka.allow_weak"] = "all"
	}
	if len(c.BootstrapFrom) > 0 {
		flags["log.bootstrap_from"] = strings.Join(c.BootstrapFrom, ",")
	}
	cfg, err := loadConfig(c.Config, a.env, flags)
	if err != nil {
		return &failure{code: exitInput, err: err}
	}
	if (c.Fresh || c.Ephemeral) && cfg.at["decision.drain"] == "" {
		cfg.Drain = 0 // nobody balances load over a trial
	}
	lock, err := openDataDir(cfg.DataDir, c.Fresh)
	if err != nil {
		return &failure{code: exitInput, err: err, hint: lockedHint(err)}
	}
	defer lock.Close()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := make(chan os.Signal, 1)
	hangup := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	go func() {
		select {
		case s := <-stop:
			signal.Stop(stop) // a second one ends the process at once
			cancel(fmt.Errorf("told to stop by %s", s))
		case <-ctx.Done():
			signal.Stop(stop)
		}
	}()

	return newNode(cfg, a).run(ctx, hangup, c.Seed, c.AddressFile)
}

func lockedHint(err error) string {
	var locked *disk.LockedError
	if errors.As(err, &locked) {
		return "One process per data folder: stop the other one, or choose another folder with --data-dir."
	}
	return ""
}

// seedBatch reads the file of a seed.
func seedBatch(name string) ([]byte, error) {
	data, err := readBounded(name, maxSeed)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, badInput("--seed: %s: no such file", name)
	}
	if err != nil {
		return nil, badInput("--seed: %s: %s", name, plainOSError(err))
	}
	return data, nil
}
