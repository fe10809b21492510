package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"vigil/disk"
)

// The names in a data folder. Nothing else may be in it.
const (
	lockName      = "lock"      // held by the one process that uses the folder
	clockName     = "clock"     // the clock's floor
	journalName   = "journal"   // the signal log
	snapshotsName = "snapshots" // posture, with the positions that it stands for
	lastGoodName  = "rules"     // the last good bundle

	spoolName       = "spool"           // signals that the log of several replicas has not taken yet
	forwardedName   = "spool.forwarded" // up to where it has taken them
	deadLettersName = "deadletters"     // records that could not be applied
	eventsName      = "events"          // up to where the topics of issuers were read
)

var dataNames = []string{
	lockName, clockName, journalName, snapshotsName, lastGoodName, localTokenName, spoolName, forwardedName, deadLettersName, eventsName,
}

// openDataDir makes a data folder for this user alone, takes its lock, and empties it
// where that is wanted. The lock ends with Close, and with the process.
func openDataDir(dir string, fresh bool) (io.Closer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data folder %s: %s", dir, plainOSError(err))
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("data folder %s: %s", dir, plainOSError(err))
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("data folder %s: it is no folder", dir)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("data folder %s: other users can write to it (mode %04o); want 0700", dir, info.Mode().Perm())
	}
	lock, err := disk.OS.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, err
	}
	if fresh {
		err = emptyDataDir(dir)
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

// emptyDataDir removes what an engine keeps. It removes nothing at all where anything
// else is in the folder: that may be somebody's home.
func emptyDataDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("data folder %s: %s", dir, plainOSError(err))
	}
	for _, e := range entries {
		if !slices.Contains(dataNames, strings.TrimSuffix(e.Name(), ".tmp")) && !strings.HasPrefix(e.Name(), ".token-") {
			return fmt.Errorf("data folder %s: it holds %s, which is not Vigil's: --fresh empties only a folder that is Vigil's alone", dir, e.Name())
		}
	}
	for _, e := range entries {
		if e.Name() == lockName {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("data folder %s: %s", dir, plainOSError(err))
		}
	}
	return nil
}
