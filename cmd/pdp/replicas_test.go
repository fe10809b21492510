package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"vigil/authz"
	"vigil/disk/disktest"
	"vigil/engine"
	"vigil/rules"
	"vigil/signals"
	"vigil/signals/kafka"
)

// sharer is a node over brokers and a disk, which outlive it.
type sharer struct {
	t       *testing.T
	brokers *cluster
	disk    *disktest.Memory
	rules   *ruleSet
	cache   engine.CacheMode
	opened  func()       // called when the log has been opened; nil for nothing
	alone   atomic.Bool  // it is cut off from the brokers
	skew    atomic.Int64 // of its wall clock, against the bubble's
	// See clusterLog.
	behind    atomic.Uint64
	delivered atomic.Pointer[func()]
	*running
}

func newSharer(t *testing.T, b *cluster, rules *ruleSet) *sharer {
	return &sharer{t: t, brokers: b, disk: disktest.New(), rules: rules}
}

// inBubble gives brokers whose clock is the bubble's.
func inBubble(partitions int32) *cluster {
	return newCluster(partitions, func() authz.Instant { return authz.InstantOf(time.Now()) })
}

func (r *sharer) boot() error {
	begun := time.Now()
	n, err := startNode(&config{DataDir: "data", Snapshot: snapshotConfig{Keep: 2}, Cache: r.cache, CacheEntries: 100, Log: logConfig{Kind: "kafka"}},
		machine{
			fs: r.disk, time: func() (authz.Instant, time.Duration) {
				return authz.InstantOf(time.Now()).Add(time.Duration(r.skew.Load())), time.Since(begun)
			},
			kafka: func(ctx context.Context, cfg kafka.Config) (kafkaLog, error) {
				log, err := r.brokers.open(ctx, cfg)
				if err == nil {
					seen := log.(*clusterLog)
					seen.alone, seen.behind, seen.delivered = &r.alone, &r.behind, &r.delivered
				}
				if r.opened != nil {
					r.opened()
				}
				return log, err
			},
		}, r.rules.set)
	if err == nil {
		r.running = n
	}
	return err
}

func (r *sharer) mustBoot() *sharer {
	r.t.Helper()
	must(r.t, r.boot())
	return r
}

// kill ends the node as kill -9 does: nothing more reaches the disk.
func (r *sharer) kill() {
	r.disk.StopAfter(0)
	r.halt()
	r.disk.Kill()
	r.running = nil
}

// stop ends the node as SIGTERM does.
func (r *sharer) stop() {
	r.stopFollowing()
	r.followers.Wait()
	r.store.snapshot()
	r.halt()
	r.running = nil
}

func (r *sharer) push(id, kind, ref, more string) (signals.Receipt, error) {
	body := fmt.Sprintf(`{"v":1,"id":%q,"type":%q,"entities":[%q],"time":%q%s}`, id, kind, ref, r.now(), more)
	return r.intake.Push(context.Background(), boss, []byte(body))
}

func (r *sharer) mustPush(id, kind, ref, more string) signals.Receipt {
	r.t.Helper()
	receipt, err := r.push(id, kind, ref, more)
	must(r.t, err)
	return receipt
}

// ask asks about agent 1 in a session.
func (r *sharer) ask(session string) authz.Answer {
	r.t.Helper()
	if err := r.ready(); err != nil {
		r.t.Fatal(err)
	}
	req := &authz.Request{Subject: authz.Party{Type: "agent", ID: "1"}, Action: authz.Action{Name: "look"}, Resource: authz.Party{Type: "payment", ID: "1",
		Properties: authz.Object{{Name: "amount", Value: authz.Value{Kind: authz.Number, Num: 5}}, {Name: "supplier", Value: authz.Value{Kind: authz.String, Str: "acme"}}}}}
	return r.engine.Decide(gateway, req, &authz.Principal{Tenant: authz.DefaultTenant, Agent: "1", Session: session})
}

func (r *sharer) want(session string, effect authz.Effect, code authz.Code) {
	r.t.Helper()
	if got := r.ask(session); got.Effect != effect || got.Code != code {
		r.t.Errorf("session %s: %v %s, %s; want %v %s", session, got.Effect, got.Code, got.ReasonAdmin, effect, code)
	}
}

const registered = `,"class":"default"`

func TestReplicasOfOneLogHoldTheSame(t *testing.T) {
	set := loadRuleSets(t)[0]
	synctest.Test(t, func(t *testing.T) {
		b := inBubble(3)
		one, two := newSharer(t, b, set).mustBoot(), newSharer(t, b, set).mustBoot()
		defer two.halt()
		defer one.halt()
		one.mustPush("r", "register", "agent:1", registered)
		var last signals.Receipt
		for i := range 20 {
			last = one.mustPush(fmt.Sprint("s", i), "revoke", fmt.Sprint("session:", i), "")
		}
		must(t, two.feed.WaitFor(context.Background(), last.AsOf))
		for i := range 20 {
			two.want(fmt.Sprint(i), authz.Deny, authz.EntityRevoked)
		}
		two.want("other", authz.Allow, two.ask("other").Code)
		synctest.Wait()
		if one.posture.Digest(one.now()) != two.posture.Digest(one.now()) {
			t.Error("they differ")
		}
		if name := two.feed.PartitionName(2); name != "log/2" {
			t.Errorf("a partition is called %s", name)
		}
	})
}

// TestAnOldViewAllowsNothingHoweverOftenItWasAsked: decisions that are cached are as old as
// the view, and the age is that of the question to the brokers, not of their answer.
func TestAnOldViewAllowsNothingHoweverOftenItWasAsked(t *testing.T) {
	set := loadRuleSets(t)[0] // max_feed_age: 30s
	synctest.Test(t, func(t *testing.T) {
		b := inBubble(2)
		r := newSharer(t, b, set).mustBoot()
		defer r.halt()
		r.mustPush("r", "register", "agent:1", registered)
		synctest.Wait()
		r.ask("1")
		synctest.Wait()
		if got := r.ask("1"); got.Effect != authz.Allow || got.Cache != authz.Hit {
			t.Fatalf("%v, %v", got.Effect, got.Cache)
		}
		profiles := profilesOf(t)
		b.change(func() { b.silent = true })
		time.Sleep(29 * time.Second)
		if got := r.ask("1"); got.Effect != authz.Allow || got.Cache != authz.Hit {
			t.Errorf("after 29 s: %v, %v", got.Effect, got.Cache)
		}
		if all := r.feed.tooOld(r.now(), profiles); len(all) != 1 {
			t.Errorf("older than the strictest profile allows, and strict readiness says %v", all)
		}
		time.Sleep(1100 * time.Millisecond)
		for range 3 {
			got := r.ask("1")
			if got.Effect != authz.Deny || got.Code != authz.StaleView || got.Class != authz.ClassStale || !strings.Contains(got.ReasonAdmin, "30.") {
				t.Errorf("after 30 s: %v %s %s", got.Effect, got.Code, got.ReasonAdmin)
			}
		}
		b.change(func() { b.silent = false })
		synctest.Wait()
		r.want("1", authz.Allow, r.ask("1").Code)
		if all := r.feed.tooOld(r.now(), profiles); len(all) != 0 {
			t.Errorf("fresh again: %v", all)
		}
	})
}

// TestTheAgeOfAViewIsTheLargerOfTwo: since the feed broke, and since the view was complete.
func TestTheAgeOfAViewIsTheLargerOfTwo(t *testing.T) {
	set := loadRuleSets(t)[0]
	synctest.Test(t, func(t *testing.T) {
		b := inBubble(1)
		r := newSharer(t, b, set).mustBoot()
		defer r.halt()
		b.change(func() { b.silent = true })
		time.Sleep(10 * time.Second)
		b.change(func() { b.id = signals.LogID{9} }) // the topic is made anew
		time.Sleep(20 * time.Second)
		if since := r.now() - r.feed.applier.BrokenSince(); time.Duration(since) != 20*time.Second {
			t.Errorf("broken for %s", time.Duration(since))
		}
		if age := r.feed.Age(r.now()); age < 30*time.Second || age > 31*time.Second {
			t.Errorf("the age is %s", age)
		}
		if all := r.feed.wrong(); !slices.Contains(all, "the signal feed is broken") {
			t.Errorf("%v", all)
		}
		f := &feed{applier: r.feed.applier, log: r.feed.log, freshAt: func() authz.Instant { return 0 }}
		f.attached.Store(true)
		if age := f.Age(r.now()); age < 100*365*24*time.Hour {
			t.Errorf("a view that was never complete is %s old", age)
		}
		now := r.now()
		if n := testing.AllocsPerRun(100, func() { r.feed.Age(now) }); n > 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// TestRevocationsAreTakenWhileTheBrokersAreAway, in force here at once and elsewhere when
// they are back; what permits is not.
func TestRevocationsAreTakenWhileTheBrokersAreAway(t *testing.T) {
	set := loadRuleSets(t)[0]
	synctest.Test(t, func(t *testing.T) {
		b := inBubble(2)
		one, two := newSharer(t, b, set).mustBoot(), newSharer(t, b, set).mustBoot()
		defer two.halt()
		defer one.halt()
		receipt := one.mustPush("r", "register", "agent:1", registered)
		must(t, two.feed.WaitFor(context.Background(), receipt.AsOf))
		b.change(func() { b.away = true })
		if got := one.mustPush("a", "revoke", "session:1", ""); !got.Spooled {
			t.Error("nothing says that the others do not know")
		}
		one.want("1", authz.Deny, authz.EntityRevoked)
		if _, err := one.push("b", "release", "agent:1", ""); !errors.Is(err, signals.ErrUnavailable) {
			t.Errorf("a release: %v", err)
		}
		if all := one.feed.wrong(); len(all) != 2 {
			t.Errorf("strict readiness says %v", all)
		}
		if c := one.spoolCounts(); c.Waiting != 1 || c.Health != nil || c.Oldest == 0 {
			t.Errorf("%+v", c)
		}
		b.change(func() { b.away = false })
		time.Sleep(10 * time.Second)
		two.want("1", authz.Deny, authz.EntityRevoked)
		if c := one.spoolCounts(); c.Waiting != 0 || c.Forwarded != 1 {
			t.Errorf("%+v", c)
		}
		if one.posture.Digest(one.now()) != two.posture.Digest(one.now()) {
			t.Error("they differ")
		}
		if all := one.feed.wrong(); len(all) != 0 {
			t.Errorf("strict readiness says %v", all)
		}
	})
}

// TestWhatWaitsInTheSpoolIsInForceBeforeTheFirstDecision: it was acknowledged here, and the
// log does not have it.
func TestWhatWaitsInTheSpoolIsInForceBeforeTheFirstDecision(t *testing.T) {
	set := loadRuleSets(t)[0]
	synctest.Test(t, func(t *testing.T) {
		b := inBubble(1)
		r := newSharer(t, b, set).mustBoot()
		r.mustPush("r", "register", "agent:1", registered)
		b.change(func() { b.deaf = true })
		if got := r.mustPush("a", "revoke", "session:1", ""); !got.Spooled {
			t.Fatal("not spooled")
		}
		r.kill()
		// The log can be read to its end, and the spool cannot.
		r.opened = func() {
			r.disk.SetFault(func(op disktest.Op, name string, asked int) (int, error) {
				if op == disktest.OpRead && strings.Contains(name, filepath.Join("data", spoolName)) {
					return 0, errors.New("cannot be read")
				}
				return asked, nil
			})
		}
		if err := r.boot(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it is ready without what the spool has: %v", err)
			r.ask("1")
		}
		r.opened = nil
		r.disk.SetFault(nil)
		r.mustBoot()
		defer r.halt()
		r.want("1", authz.Deny, authz.EntityRevoked)
		r.want("2", authz.Allow, r.ask("2").Code)
		if c := r.spoolCounts(); c.Waiting != 1 || c.Forwarded != 0 {
			t.Errorf("%+v", c)
		}
	})
}

// TestAStartWaitsForTheBrokersAndEndsWhenItIsTold.
func TestAStartWaitsForTheBrokersAndEndsWhenItIsTold(t *testing.T) {
	set := loadRuleSets(t)[0]
	synctest.Test(t, func(t *testing.T) {
		b := inBubble(1)
		b.away = true
		r := newSharer(t, b, set)
		begun := time.Now()
		if err := r.boot(); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) < 5*time.Second {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
		time.AfterFunc(2*time.Second, func() { b.change(func() { b.away = false }) })
		r.mustBoot()
		r.halt()
	})
}

// TestALogThatIsNotTheOneOfTheSnapshotEndsTheStart: nothing that is tried again makes it so.
func TestALogThatIsNotTheOneOfTheSnapshotEndsTheStart(t *testing.T) {
	set := loadRuleSets(t)[0]
	for _, c := range []struct {
		name string
		do   func(b *cluster)
		want string
	}{
		{"its end is gone", func(b *cluster) { b.parts[0].entries = b.parts[0].entries[:1] }, kafka.ErrTruncated.Error()},
		{"it was made anew", func(b *cluster) { b.id, b.parts[0] = signals.LogID{3}, new(part) }, "not the log that the snapshots are of"},
		{"its beginning is gone", func(b *cluster) { b.parts[0] = &part{start: 100} }, "begins at offset 100"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := inBubble(1)
				r := newSharer(t, b, set).mustBoot()
				for i := range 5 {
					r.mustPush(fmt.Sprint("s", i), "revoke", fmt.Sprint("session:", i), "")
				}
				r.stop()
				b.change(func() { c.do(b) })
				err := r.boot()
				var f *failure
				if !errors.As(err, &f) || f.code != exitInput || !strings.Contains(err.Error(), c.want) || f.hint == "" {
					t.Errorf("%+v, want %q", err, c.want)
				}
			})
		})
	}
}

// TestAReplicaComesBackFromItsSnapshotWhenTheLogWasCutBehindIt.
func TestAReplicaComesBackFromItsSnapshotWhenTheLogWasCutBehindIt(t *testing.T) {
	set := loadRuleSets(t)[0]
	synctest.Test(t, func(t *testing.T) {
		b := inBubble(2)
		r := newSharer(t, b, set).mustBoot()
		r.mustPush("r", "register", "agent:1", registered)
		r.mustPush("a", "revoke", "session:1", "")
		r.stop()
		b.cut(0)
		b.cut(1)
		r.mustBoot()
		defer r.halt()
		r.want("1", authz.Deny, authz.EntityRevoked)
		r.want("2", authz.Allow, r.ask("2").Code)
		r.mustPush("b", "revoke", "session:2", "")
		r.want("2", authz.Deny, authz.EntityRevoked)
	})
}

// TestDeadLettersAreWrittenDownWithTheNameOfTheirPartition, with either kind of log.
func TestDeadLettersAreWrittenDownWithTheNameOfTheirPartition(t *testing.T) {
	set := loadRuleSets(t)[0]
	synctest.Test(t, func(t *testing.T) {
		b := inBubble(1)
		r := newSharer(t, b, set).mustBoot()
		_, err := r.kafka.Append(context.Background(), [][]byte{[]byte("no signal")})
		must(t, err)
		time.Sleep(2 * time.Second)
		r.halt()
		if got := string(r.disk.Contents("data/deadletters/dead-letters.jsonl")); !strings.Contains(got, `"partition":"log/0"`) {
			t.Errorf("%q", got)
		}
	})
}

// profilesOf are those of the rules that lives have.
func profilesOf(t *testing.T) map[string]*rules.Profile {
	t.Helper()
	bundle, _, problems := rules.Load(fstest.MapFS{
		"bundle.yaml": {Data: []byte(lifeManifest)}, "rules.yaml": {Data: []byte(lifeVocabulary + lifeRules[0])},
	})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return bundle.Profiles
}
