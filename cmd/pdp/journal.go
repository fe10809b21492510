package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"vigil/authz"
	"vigil/clock"
	"vigil/signals"
	"vigil/signals/journal"
	"vigil/signals/snapshot"
)

type journalCmd struct {
	Adopt      journalAdoptCmd `cmd:"" help:"Start a new log behind what a data folder holds: after a restore, or when acknowledged signals are lost for good."`
	ResetClock resetClockCmd   `cmd:"" help:"Believe the wall clock again, after it was far ahead once."`
}

type journalAdoptCmd struct {
	dataFolder
	Yes bool `short:"y" help:"Do not ask for confirmation."`
}

func (c *journalAdoptCmd) Run(a *app) error {
	dir, lock, err := c.openExisting(a)
	if err != nil {
		return err
	}
	defer lock.Close()
	now := authz.InstantOf(time.Now())
	snapshots := snapshot.Dir{Path: filepath.Join(dir, snapshotsName), Logger: newLogger(&loggingConfig{}, a.stderr)}
	meta, _, err := snapshots.Newest(anyLog, now)
	var at *journal.SnapshotAt
	with := "no snapshot"
	switch {
	case err == nil:
		at = &journal.SnapshotAt{Log: meta.Log, Next: meta.Positions[0]}
		with = "the snapshot of " + meta.String()
	case !errors.Is(err, snapshot.ErrNone):
		return badInput("%s", err)
	}
	folder := filepath.Join(dir, journalName)
	if _, err := os.Stat(folder); err != nil && at == nil {
		return &failure{code: exitInput, err: fmt.Errorf("data folder %s: it holds neither a journal nor a snapshot that can be read", dir),
			hint: "Is it the right folder? With a log on Kafka there is nothing to adopt."}
	}
	question := fmt.Sprintf("This starts a new signal log in %s, with %s. Signals that were acknowledged and are not in there stay lost, revocations among them; send those again. Positions (as_of) of the old log will be refused.", dir, with)
	if err := a.ask(c.Yes, question); err != nil {
		return err
	}
	if at != nil {
		// A snapshot alone is enough: the journal that it was taken from may be gone.
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return badInput("%s: %s", folder, plainOSError(err))
		}
	}
	done, err := journal.Adopt(folder, journal.Options{Logger: newLogger(&loggingConfig{}, a.stderr)}, at)
	if err != nil {
		return badInput("%s", err)
	}
	// Before, they would have been the only trace of what they are of.
	aside, err := snapshots.SetAside(snapshot.Of(meta.Log))
	if err != nil {
		return badInput("%s", err)
	}
	before := "no log was here, or nothing says which"
	if done.Old != (signals.LogID{}) {
		before = "it was log " + shortLog(done.Old)
	}
	fmt.Fprintf(a.stdout, "log %s, from record %d on; %s\n", shortLog(done.New), done.From, before)
	if done.Damage != nil {
		fmt.Fprintln(a.stdout, "damage:", done.Damage)
	}
	if done.LostFrom < done.LostTo {
		fmt.Fprintf(a.stdout, "LOST: the acknowledged records %d to %d. Send their signals again, revocations first.\n", done.LostFrom, done.LostTo-1)
	}
	for _, path := range slices.Concat(done.Void, aside) {
		fmt.Fprintln(a.stdout, "set aside:", path)
	}
	return nil
}

// ask puts a question that takes a yes. It never waits for an answer that cannot come.
func (a *app) ask(yes bool, question string) error {
	if yes {
		return nil
	}
	if !a.interactive {
		return &failure{code: exitInput, err: errors.New(question), hint: "Say --yes to do it."}
	}
	fmt.Fprintf(a.stderr, "%s Go on? [y/N] ", question)
	line, err := bufio.NewReader(a.stdin).ReadString('\n')
	if err != nil {
		fmt.Fprintln(a.stderr)
		return &failure{code: exitInput, err: errors.New("nobody answered; nothing was done"), hint: "Say --yes to do it."}
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return &failure{code: exitInput, err: errors.New("nothing was done")}
	}
	return nil
}

type resetClockCmd struct {
	dataFolder
	Yes bool `short:"y" help:"Do not ask for confirmation."`
}

func (c *resetClockCmd) Run(a *app) error {
	dir, lock, err := c.openExisting(a)
	if err != nil {
		return err
	}
	defer lock.Close()
	question := fmt.Sprintf("Is it %s now? What was to end between then and the time that %s remembers will be in force again.", time.Now().UTC().Format(time.RFC3339), dir)
	if err := a.ask(c.Yes, question); err != nil {
		return err
	}
	if err := clock.Reset(filepath.Join(dir, clockName)); err != nil {
		return badInput("%s", err)
	}
	fmt.Fprintln(a.stdout, "The clock's floor is the wall clock again.")
	return nil
}
