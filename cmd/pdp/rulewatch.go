package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long a folder must be quiet before its rules are loaded: an editor
// writes a file in several steps, and a copy several files.
const settle = 200 * time.Millisecond

// maxUnsettled bounds the wait where a folder is never quiet.
const maxUnsettled = 2 * time.Second

// ruleWatcher calls changed after the files of a folder have changed. It follows the
// folder's name and not only the folder: a volume of Kubernetes swaps a link (..data)
// within it, and git-sync swaps the folder itself, which may be a link.
type ruleWatcher struct {
	dir     string
	events  *fsnotify.Watcher
	changed func()
	log     *slog.Logger
}

func newRuleWatcher(dir string, changed func(), log *slog.Logger) (*ruleWatcher, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	events, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	w := &ruleWatcher{dir: dir, events: events, changed: changed, log: log}
	if err := w.attach(); err != nil {
		return nil, errors.Join(err, events.Close())
	}
	return w, nil
}

// attach watches the folder that has the name now, and the one that the name stands in.
// Watching what is watched already changes nothing.
func (w *ruleWatcher) attach() error {
	parent := w.events.Add(filepath.Dir(w.dir))
	return errors.Join(parent, w.events.Add(w.dir))
}

// Run calls changed, one call at a time, until ctx ends.
func (w *ruleWatcher) Run(ctx context.Context) {
	defer w.events.Close()
	quiet := time.NewTimer(time.Hour)
	quiet.Stop()
	var first time.Time // of the changes that were not acted on; zero for none
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-w.events.Events:
			if !w.concerns(event) {
				continue
			}
			if first.IsZero() {
				first = time.Now()
			}
			quiet.Reset(max(0, min(settle, maxUnsettled-time.Since(first))))
		case err := <-w.events.Errors:
			// Events were lost. What they would have said is found by looking.
			w.log.Warn("watching the rules", "error", err)
			if first.IsZero() {
				first = time.Now()
				quiet.Reset(settle)
			}
		case <-quiet.C:
			first = time.Time{}
			// The folder may be another one by now. While it is away there is nothing to
			// load; its coming back is an event of the folder above.
			if err := w.attach(); err != nil {
				w.log.Warn("watching the rules", "dir", w.dir, "error", err)
			}
			w.changed()
		}
	}
}

// concerns reports whether an event is about the folder's name or something in it.
// A change of permissions only is none: reading a file must not count as one.
func (w *ruleWatcher) concerns(event fsnotify.Event) bool {
	if event.Op == fsnotify.Chmod {
		return false
	}
	return event.Name == w.dir || filepath.Dir(event.Name) == w.dir
}
