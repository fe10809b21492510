package main

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"vigil/authz"
	"vigil/engine"
	"vigil/rules"
	"vigil/server/credential"
	"vigil/signals"
	"vigil/signals/kafka"
	"vigil/signals/ssf"
)

// say is mustPush for another sender than the boss.
func (r *sharer) say(sender signals.Sender, id, kind, ref, more string) signals.Receipt {
	r.t.Helper()
	body := fmt.Sprintf(`{"v":1,"id":%q,"type":%q,"entities":[%q],"time":%q%s}`, id, kind, ref, r.now(), more)
	receipt, err := r.intake.Push(context.Background(), sender, []byte(body))
	must(r.t, err)
	return receipt
}

// TestEveryReplicaHearsASourceAndNoticesItsSilence: whatever replica a source speaks to, all
// hear it as of the same instant; each of them stops its agents when it falls silent, by its
// own clock and though nothing comes; and an exception is in force on all of them.
func TestEveryReplicaHearsASourceAndNoticesItsSilence(t *testing.T) {
	set := loadRuleSets(t)[len(lifeRules)] // the class default needs client:soar, heard within a minute
	synctest.Test(t, func(t *testing.T) {
		b := inBubble(3)
		one, two := newSharer(t, b, set).mustBoot(), newSharer(t, b, set).mustBoot()
		defer two.halt()
		defer one.halt()
		both := func(receipt signals.Receipt, effect authz.Effect, code authz.Code) {
			t.Helper()
			must(t, one.feed.WaitFor(context.Background(), receipt.AsOf))
			must(t, two.feed.WaitFor(context.Background(), receipt.AsOf))
			one.want("s", effect, code)
			two.want("s", effect, code)
			synctest.Wait()
			if one.posture.Digest(one.now()) != two.posture.Digest(one.now()) {
				t.Error("the digests differ")
			}
		}
		both(one.mustPush("r", "register", "agent:1", registered), authz.Deny, authz.SourceSilent)
		if all := one.silent(one.now()); len(all) != 1 || all[0] != "2 sources of signals that the rules require are silent" {
			t.Errorf("strict readiness says %q", all)
		}
		heard := one.say(soar, "h1", "heartbeat", "source:client:soar", "")
		both(heard, authz.Allow, authz.Allowed)
		time.Sleep(time.Minute - time.Nanosecond)
		both(heard, authz.Allow, authz.Allowed)
		time.Sleep(time.Nanosecond)
		both(heard, authz.Deny, authz.SourceSilent)
		both(two.say(soar, "t1", "taint", "tool:mail", ""), authz.Allow, authz.Allowed)

		time.Sleep(time.Hour)
		both(heard, authz.Deny, authz.SourceSilent)
		waive := func(id string) signals.Receipt {
			return one.mustPush(id, "waive", "source:client:soar", fmt.Sprintf(`,"expires":%q,"reason":"r"`, one.now().Add(10*time.Minute)))
		}
		both(waive("w1"), authz.Allow, authz.Allowed)
		if got := two.ask("s"); len(got.Waived) != 1 || got.Waived[0] != "client:boss/w1" {
			t.Errorf("waived by %q", got.Waived)
		}
		time.Sleep(10 * time.Minute)
		both(heard, authz.Deny, authz.SourceSilent)
		both(waive("w2"), authz.Allow, authz.Allowed)
		both(two.mustPush("l", "lift", "source:client:soar", `,"lifts":{"type":"waive","id":"w2"}`), authz.Deny, authz.SourceSilent)
	})
}

// TestALogThatIsAheadKeepsNoSourceAlive: brokers whose clock is an hour ahead put no silence
// off, neither in what is computed nor in what is cached; status and readiness say the same,
// and a start in between counts as of the start. Replicas still agree on what the log says.
func TestALogThatIsAheadKeepsNoSourceAlive(t *testing.T) {
	set := loadRuleSets(t)[len(lifeRules)] // the class default needs client:soar, heard within a minute
	synctest.Test(t, func(t *testing.T) {
		b := newCluster(2, func() authz.Instant { return authz.InstantOf(time.Now().Add(time.Hour)) })
		one, two := newSharer(t, b, set), newSharer(t, b, set)
		one.cache = engine.CacheVerify
		one.mustBoot()
		two.skew.Store(int64(-10 * time.Second))
		two.mustBoot()
		defer func() { two.halt() }() // it is another by then
		defer one.halt()
		both := func(effect authz.Effect, code authz.Code) {
			t.Helper()
			synctest.Wait()
			one.want("s", effect, code)
			two.want("s", effect, code)
			if one.posture.Digest(one.now()) != two.posture.Digest(one.now()) {
				t.Error("the digests differ")
			}
		}
		one.mustPush("r", "register", "agent:1", registered)
		said := one.now()
		one.say(soar, "h1", "heartbeat", "source:client:soar", "")
		both(authz.Allow, authz.Allowed)
		if until := one.ask("s").ValidUntil; until != said.Add(time.Minute) {
			t.Errorf("an allow of %v is valid until %v", said, until)
		}
		time.Sleep(time.Minute - time.Nanosecond)
		both(authz.Allow, authz.Allowed)
		time.Sleep(time.Nanosecond)
		both(authz.Deny, authz.SourceSilent)
		if s := one.sources(one.now())[1]; !s.Silent || s.Heard != said {
			t.Errorf("status says %+v", s)
		}
		if all := one.silent(one.now()); len(all) != 1 {
			t.Errorf("strict readiness says %q", all)
		}
		// Its next word counts though the log dated none later than its first.
		b.change(func() { b.now = func() authz.Instant { return authz.InstantOf(time.Now()) } })
		one.say(soar, "h2", "heartbeat", "source:client:soar", "")
		both(authz.Allow, authz.Allowed)
		time.Sleep(time.Minute)
		both(authz.Deny, authz.SourceSilent)

		two.stop()
		must(t, two.boot())
		one.want("s", authz.Deny, authz.SourceSilent)
		two.want("s", authz.Allow, authz.Allowed)
		time.Sleep(time.Minute)
		both(authz.Deny, authz.SourceSilent)
	})
}

// TestWhatIsSpooledIsHeardByAllAtOnce: a replica that took what only withdraws while the log
// was away has heard its source no earlier than the others.
func TestWhatIsSpooledIsHeardByAllAtOnce(t *testing.T) {
	set := loadRuleSets(t)[len(lifeRules)]
	synctest.Test(t, func(t *testing.T) {
		b := inBubble(2)
		one, two := newSharer(t, b, set).mustBoot(), newSharer(t, b, set).mustBoot()
		defer func() { two.halt() }() // it is another by then
		defer one.halt()
		source := soar.Source.String()
		b.change(func() { b.away = true })
		if got := one.say(soar, "a", "revoke", "session:1", ""); !got.Spooled {
			t.Fatal("it is not spooled")
		}
		if at := one.posture.Heard(source); at != 0 {
			t.Errorf("heard at %v by one alone", at)
		}
		b.change(func() { b.away = false })
		time.Sleep(10 * time.Second)
		at := one.posture.Heard(source)
		if at == 0 || at != two.posture.Heard(source) || one.posture.Digest(one.now()) != two.posture.Digest(one.now()) {
			t.Errorf("heard at %v and %v", at, two.posture.Heard(source))
		}
		// From a snapshot, and from the log, it is the same.
		two.stop()
		must(t, two.boot())
		if at != two.posture.Heard(source) {
			t.Errorf("heard at %v before the end and at %v after", at, two.posture.Heard(source))
		}
	})
}

// TestARequiredSourceThatIsNoneOfTheConfigurationIsSaidToBe: nobody would ever be heard under
// a name that is misspelt.
func TestARequiredSourceThatIsNoneOfTheConfigurationIsSaidToBe(t *testing.T) {
	c := &config{
		Clients: []credential.Client{
			{Name: "siem", Scopes: credential.Signal | credential.Read, Sender: signals.Sender{Source: signals.Source{Kind: "client", Name: "siem"}}},
			{Name: "envoy", Scopes: credential.Decide, Sender: signals.Sender{Source: signals.Source{Kind: "client", Name: "envoy"}}},
		},
		Issuers: []issuerConfig{{SSF: ssf.Config{Name: "edr"}}},
	}
	c.Log.Kafka.Inputs = []kafka.Input{{Topic: "risk"}}
	bundle := &rules.Bundle{Required: map[string]*rules.RequiredSource{}}
	for i, name := range []string{"client:siem", "issuer:edr", "topic:risk", "client:seim", "issuer:siem", "topic:edr", "client:envoy"} {
		bundle.Required[name] = &rules.RequiredSource{Name: name, Pos: rules.Pos{File: "bundle.yaml", Line: i + 1}}
	}
	const none = ", which is no client, issuer or input of this configuration"
	want := []string{
		"bundle.yaml:4: the rules require the source client:seim" + none + `; did you mean "client:siem"?`,
		"bundle.yaml:5: the rules require the source issuer:siem" + none,
		"bundle.yaml:6: the rules require the source topic:edr" + none,
		"bundle.yaml:7: the rules require the source client:envoy, which lacks the scope signal in this configuration: it is never heard",
	}
	got := c.unheard(bundle)
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant\n%q", got, want)
	}
}
