package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"

	"vigil/authz"
	"vigil/rules"
	"vigil/server/control"
)

// ruleKeeper holds the rule set in use. It compiles a bundle aside, puts it in use with
// one store, and then keeps a copy of it in the data folder, so that a start that finds
// a broken bundle can go on with the last good one.
type ruleKeeper struct {
	dir      string // the configured folder
	lastGood string // where the copy is kept
	options  rules.LoadOptions
	loadDir  func(string, rules.LoadOptions) (*rules.Bundle, *rules.Set, rules.Errors) // nil: rules.LoadDirWith
	use      func(*rules.Set)                                                          // puts a set in use, at once
	check    func(*rules.Bundle) []string
	now      func() authz.Instant
	log      *slog.Logger

	// loading is held over a whole load, so that two loads never finish in the wrong
	// order. Readers of state do not take it.
	loading sync.Mutex
	// state is stored after its set was put in use.
	state atomic.Pointer[control.RulesState]

	// unkept is the bundle in use while no copy of it is kept. It is stored under loading
	// and read without.
	unkept atomic.Pointer[rules.Bundle]
}

// State gives what is known of the rule set in use. It is nil-safe before the first load.
func (k *ruleKeeper) State() control.RulesState {
	if s := k.state.Load(); s != nil {
		return *s
	}
	return control.RulesState{}
}

// declares reports whether the rules in use have a profile for class.
func (k *ruleKeeper) declares(class string) bool {
	s := k.state.Load()
	return s != nil && s.Set.Profile(class) != nil
}

// load compiles a bundle. Files that are being watched may hold anything, also what the
// compiler has a defect for: that is a bundle that cannot be read, and no end of a process
// that decides by another one.
func (k *ruleKeeper) load(dir string) (bundle *rules.Bundle, set *rules.Set, errs rules.Errors) {
	defer func() {
		if v := recover(); v != nil {
			k.log.Error("panic while loading rules", "dir", dir, "panic", v, "stack", string(debug.Stack()))
			what, _, _ := strings.Cut(fmt.Sprint(v), "\n")
			bundle, set, errs = nil, nil, rules.Errors{{Message: "a defect in Vigil, whose stack is in the log: " + what}}
		}
	}()
	if k.loadDir != nil {
		return k.loadDir(dir, k.options)
	}
	return rules.LoadDirWith(dir, k.options)
}

// Start loads the bundle, or the last good one where the folder's is broken. Its error
// says that there is neither.
func (k *ruleKeeper) Start() error {
	k.loading.Lock()
	defer k.loading.Unlock()
	bundle, set, errs := k.load(k.dir)
	if len(errs) == 0 {
		k.put(bundle, set)
		return nil
	}
	old, oldSet, oldErrs := k.load(k.lastGood)
	if len(oldErrs) > 0 {
		return inDir(k.dir, errs)
	}
	now := k.now()
	k.use(oldSet)
	k.state.Store(&control.RulesState{
		Set: oldSet, Bundle: old, Loaded: now, Tried: now, Err: inDir(k.dir, errs), LastGood: true,
	})
	k.log.Error("THE RULES ARE BROKEN: deciding by the last good ones", "dir", k.dir, "last_good", oldSet.Digest(), "errors", len(errs))
	k.sayEach(inDir(k.dir, errs))
	return nil
}

// Reload compiles the bundle anew and puts it in use. An empty expect takes any bundle;
// otherwise its digest must be that one.
func (k *ruleKeeper) Reload(ctx context.Context, expect string) (control.RulesState, error) {
	k.loading.Lock()
	defer k.loading.Unlock()
	if err := ctx.Err(); err != nil {
		return k.State(), err // whoever asked has gone while another load ran
	}
	bundle, set, errs := k.load(k.dir)
	var err error
	switch {
	case len(errs) > 0:
		err = inDir(k.dir, errs)
	case expect != "" && set.Digest() != expect:
		err = &control.DigestError{Want: expect, Got: set.Digest()}
	}
	if err != nil {
		k.keepOld(err)
		return k.State(), err
	}
	k.put(bundle, set)
	return k.State(), nil
}

// keepOld notes that a load failed. The old rules decide on.
func (k *ruleKeeper) keepOld(err error) {
	s := k.State()
	s.Tried, s.Err = k.now(), err
	k.state.Store(&s)
	var mismatch *control.DigestError
	if errors.As(err, &mismatch) {
		k.log.Warn("rules not taken: another digest was expected", "expected", mismatch.Want, "found", mismatch.Got, "in_use", s.Set.Digest())
		return
	}
	var errs rules.Errors
	if !errors.As(err, &errs) {
		k.log.Error("rules not taken; the old ones decide on", "dir", k.dir, "in_use", s.Set.Digest(), "error", err)
		return
	}
	k.log.Error("rules not taken: they are broken; the old ones decide on", "dir", k.dir, "in_use", s.Set.Digest(), "errors", len(errs))
	k.sayEach(errs)
}

// maxSaid bounds the lines that one broken bundle writes into the log.
const maxSaid = 20

func (k *ruleKeeper) sayEach(errs rules.Errors) {
	for i, e := range errs {
		if i == maxSaid {
			k.log.Error("more rule errors; \"pdp rules check\" lists all", "more", len(errs)-i)
			return
		}
		k.log.Error("rule error", "at", e.Pos.String(), "rule", e.Rule, "message", e.Message)
	}
}

// put puts a good bundle in use and keeps a copy of it. A bundle with the very same
// files as the one in use is left alone, for another set would empty the cache.
func (k *ruleKeeper) put(bundle *rules.Bundle, set *rules.Set) {
	old := k.State()
	now := k.now()
	if old.Set != nil && !old.LastGood && maps.EqualFunc(old.Bundle.Sources, bundle.Sources, bytes.Equal) {
		old.Tried, old.Err = now, nil
		k.state.Store(&old)
		k.log.Info("rules unchanged", "digest", old.Set.Digest())
		return
	}
	k.use(set)
	k.state.Store(&control.RulesState{Set: set, Bundle: bundle, Loaded: now, Tried: now})
	before := ""
	if old.Set != nil {
		before = old.Set.Digest()
	}
	k.log.Info("rules in use", "digest", set.Digest(), "rules", len(bundle.Rules), "before", before)
	if k.check != nil {
		for _, warning := range k.check(bundle) {
			k.log.Warn(warning)
		}
	}
	// They decide already; a copy that cannot be kept only matters at the next start.
	k.unkept.Store(nil)
	if err := bundle.Save(k.lastGood); err != nil {
		k.unkept.Store(bundle)
		k.log.Error("no copy of the rules could be kept for a start that finds them broken; trying again", "error", err)
	}
}

// keepCopy tries again to keep the copy that could not be kept, if there is one. When
// that fails too, it drops the older copy: a start that finds the rules broken must not
// decide by rules that were replaced long ago.
func (k *ruleKeeper) keepCopy() {
	if k.unkept.Load() == nil || !k.loading.TryLock() {
		return // or a load is at work, which keeps its own
	}
	defer k.loading.Unlock()
	bundle := k.unkept.Load()
	if bundle == nil {
		return
	}
	err := bundle.Save(k.lastGood)
	if err == nil {
		k.unkept.Store(nil)
		k.log.Info("a copy of the rules is kept again")
		return
	}
	// Only the link that Save puts in place, and not whatever else may be there.
	if os.Remove(filepath.Join(k.lastGood, "..data")) == nil {
		k.log.Error("the older copy of the rules was dropped, for that of the rules in use cannot be kept", "error", err)
	}
}
