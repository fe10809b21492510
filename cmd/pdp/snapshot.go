package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"vigil/authz"
	"vigil/signals/snapshot"
)

type snapshotCmd struct {
	Save snapshotSaveCmd `cmd:"" help:"Save the posture of a running engine to a file."`
	Load snapshotLoadCmd `cmd:"" help:"Put a saved posture into the data folder of a stopped engine."`
}

type snapshotSaveCmd struct {
	File string `arg:"" help:"Where to write it; must not exist."`
	connection
}

func (c *snapshotSaveCmd) Run(ctx context.Context, a *app) (err error) {
	cl, err := a.controlClient(&c.connection)
	if err != nil {
		return err
	}
	cl.http.Timeout = 0 // a large one takes its time
	f, err := os.OpenFile(c.File, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return badInput("%s exists already; choose another name", c.File)
	}
	if err != nil {
		return badInput("%s: %s", c.File, notMade(c.File, err))
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(c.File) // half a snapshot is none
		}
	}()
	resp, err := cl.open(ctx, http.MethodGet, "/v1/snapshot", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := readAllBounded(resp.Body, maxConfig)
		return cl.problem(&answer{status: resp.StatusCode, header: resp.Header, body: body})
	}
	if _, err := io.Copy(f, resp.Body); err != nil {
		return cl.unreachable(err, false)
	}
	if err := f.Sync(); err != nil {
		return badInput("%s: %s", c.File, plainOSError(err))
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return badInput("%s: %s", c.File, plainOSError(err))
	}
	meta, err := snapshot.Check(f)
	if err != nil {
		return &failure{code: exitUnreachable, err: fmt.Errorf("what %s sent is not whole: %w", cl.shown, err), hint: "Nothing was saved; try again."}
	}
	fmt.Fprintf(a.stdout, "saved: %s: %s\n", c.File, meta)
	return nil
}

// dataFolder names the data folder of an engine.
type dataFolder struct {
	configFile
	DataDir string `help:"The data folder. By default that of the configuration." env:"VIGIL_DATA_DIR"`
}

// path gives the folder, which an engine may be using.
func (d *dataFolder) path(a *app) (string, error) {
	dir := d.DataDir
	if dir == "" && d.Config != "" {
		cfg, err := loadSettings(d.Config, a.env, nil)
		if err != nil {
			return "", &failure{code: exitInput, err: err}
		}
		dir = cfg.DataDir
	}
	if dir == "" {
		dir = defaultDataDir(a.env)
	}
	if dir == "" {
		return "", badInput("want the data folder: --data-dir")
	}
	return dir, nil
}

// openExisting is open for what only makes sense where an engine has been: a slip in the
// name of the folder must not make a new one.
func (d *dataFolder) openExisting(a *app) (dir string, lock io.Closer, err error) {
	if dir, err = d.path(a); err != nil {
		return "", nil, err
	}
	if _, err := os.Stat(dir); err != nil {
		return "", nil, badInput("data folder %s: %s", dir, plainOSError(err))
	}
	return d.open(a)
}

// open gives the folder, locked: no engine may run on it meanwhile.
func (d *dataFolder) open(a *app) (dir string, lock io.Closer, err error) {
	if dir, err = d.path(a); err != nil {
		return "", nil, err
	}
	lock, err = openDataDir(dir, false)
	if err != nil {
		return "", nil, &failure{code: exitInput, err: err, hint: lockedHint(err)}
	}
	return dir, lock, nil
}

type snapshotLoadCmd struct {
	File string `arg:"" help:"A file that \"pdp snapshot save\" wrote."`
	dataFolder
}

func (c *snapshotLoadCmd) Run(a *app) error {
	f, err := os.Open(c.File)
	if err != nil {
		return badInput("%s: %s", c.File, plainOSError(err))
	}
	defer f.Close()
	dir, lock, err := c.open(a)
	if err != nil {
		return err
	}
	defer lock.Close()
	meta, store, err := snapshot.Read(f, authz.InstantOf(time.Now()))
	if err != nil {
		return badInput("%s: %s", c.File, err)
	}
	snapshots := snapshot.Dir{Path: filepath.Join(dir, snapshotsName)}
	path, err := snapshots.Save(meta, store)
	if err != nil {
		return badInput("%s", err)
	}
	// One of another log may stand at a higher record and mean less.
	aside, err := snapshots.SetAside(snapshot.Of(meta.Log))
	if err != nil {
		return badInput("%s", err)
	}
	for _, other := range aside {
		fmt.Fprintln(a.stdout, "set aside, for it is not of this log:", other)
	}
	fmt.Fprintf(a.stdout, "loaded: %s: %s\n", path, meta)
	fmt.Fprintf(a.stdout, "With a log on Kafka that is all. With a journal: unless the log in %s is log %s, start a new one behind this snapshot: pdp journal adopt --data-dir %s\n", dir, shortLog(meta.Log), dir)
	return nil
}

// anyLog accepts the snapshots of every log.
func anyLog(snapshot.Meta) error { return nil }
