package signals

import (
	"bytes"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"vigil/authz"
	"vigil/posture"
)

// riskTopic is an input whose grants change at start and end an hour later.
var riskTopic = &Input{Source: Source{Kind: "topic", Name: "risk"}, Grants: []Grant{
	{Until: start, Authority: Authority{Types: []string{"risk", "release", "quarantine"}, Kinds: []string{"agent", "session", "tenant"}, Tenants: []string{"default", "acme"}}},
	{From: start, Until: start.Add(time.Hour), Authority: Authority{Types: []string{"risk"}, Kinds: []string{"*"}, Tenants: []string{"default"}}},
}}

// anything is an input that may say anything that an input can be permitted.
var anything = &Input{Source: Source{Kind: "topic", Name: "any"}, Grants: []Grant{
	{Authority: Authority{Types: []string{"*"}, Kinds: []string{"*", "everything"}, Tenants: []string{"default"}}},
}}

// follower is an applier that is given entries by hand, as a log would.
type follower struct {
	*Applier
	t     testing.TB
	store *posture.Store
	next  map[int32]int64
}

func newFollower(t testing.TB, change ...func(*ApplierConfig)) *follower {
	t.Helper()
	cfg := ApplierConfig{Store: posture.NewStore(), Now: func() authz.Instant { return start }}
	for _, f := range change {
		f(&cfg)
	}
	a, err := NewApplier(cfg)
	if err != nil {
		t.Fatal(err)
	}
	a.reached.Store(&reached{log: LogID{1}, at: Positions{}})
	return &follower{a, t, cfg.Store, map[int32]int64{}}
}

// take delivers one entry, at the next offset of its partition where it has none.
func (f *follower) take(e Entry) {
	f.t.Helper()
	if e.Position.Offset == 0 {
		e.Position.Offset = f.next[e.Position.Partition]
	}
	f.next[e.Position.Partition] = max(f.next[e.Position.Partition], e.Position.Offset+1)
	if err := f.deliver([]Entry{e}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *follower) status(ref string) authz.Status {
	r, err := authz.ParseRef(ref)
	if err != nil {
		f.t.Fatal(err)
	}
	return f.store.Get(r.In("default")).At(start).Status
}

// TestAnInputIsJudgedByTheGrantOfItsAppendTime: nothing but the record, the time at which
// the log took it and the input's configuration counts.
func TestAnInputIsJudgedByTheGrantOfItsAppendTime(t *testing.T) {
	before, after := start.Add(-time.Nanosecond), start
	for _, c := range []struct {
		name     string
		appended authz.Instant
		body     string
		dead     string // "" where it is applied
	}{
		{"granted", before, signalJSON("quarantine"), ""},
		{"granted to speak for a second tenant", before, signalJSON("quarantine", `"tenant":"acme"`), ""},
		{"its own line by name", before, signalJSON("release", `"source":"topic:risk"`), ""},
		{"a type that is granted no more", after, signalJSON("quarantine"), "topic:risk may not send quarantine"},
		{"a type that is granted still", after, signalJSON("risk", `"risk":7`), ""},
		{"a kind that is granted now", after, signalJSON("risk", `"risk":7`, about("user:u")), ""},
		{"a kind that was not granted yet", before, signalJSON("risk", `"risk":7`, about("agent:a", "user:u")), "topic:risk may not speak about a user"},
		{"everything is not in a star", after, signalJSON("risk", `"risk":7`, about("everything")), "topic:risk may not speak about everything"},
		{"a tenant that is granted no more", after, signalJSON("risk", `"risk":7`, `"tenant":"acme"`), `topic:risk does not speak for tenant "acme"`},
		{"another tenant as an entity", before, signalJSON("risk", `"risk":7`, about("tenant:acme")), `topic:risk speaks for tenant "default" here, not for "acme"`},
		{"after the last grant", start.Add(time.Hour), signalJSON("risk", `"risk":7`), "no grant covers what topic:risk took at " + start.Add(time.Hour).String()},
		{"in another source's line", before, signalJSON("release", `"source":"client:soar"`), "topic:risk may not overrule client:soar"},
		{"an id of what overrules", before, signalJSON("release", id("client:boss/R-1")), `its id begins with "client:boss/": such ids are those of what client:boss says in other sources' lines`},
		{"permissive and dated ahead of the log", before, signalJSON("release", when(before.Add(MaxAhead)+1)), "its time is 5s ahead of the log's"},
		{"restrictive and dated ahead of the log", before, signalJSON("quarantine", when(before.Add(time.Hour))), ""},
		{"no JSON", before, "quarantine agent:a", "unreadable: syntax: invalid character 'q' at start of value (byte 0)"},
		{"nothing", before, "", "unreadable: syntax: the body is empty"},
		{"a batch", before, "[" + signalJSON("quarantine") + "]", "unreadable: wrong_type: want an object, got an array"},
		{"a record of a replica", before, string(record(signalJSON("quarantine"))), "unreadable: syntax: invalid character '\\xf1' at start of value (byte 0)"},
		{"not a number", before, signalJSON("risk", `"risk":NaN`), "unreadable: syntax: /risk: invalid character 'N' at start of value (byte 94)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFollower(t)
			f.take(Entry{Position: Position{Partition: 5<<12 | 3}, Appended: c.appended, Record: []byte(c.body), Input: riskTopic})
			letters := f.DeadLetters()
			if c.dead == "" {
				if len(letters) != 0 {
					t.Errorf("dead: %s", letters[0].Reason)
				}
				return
			}
			if len(letters) != 1 || letters[0].Reason != c.dead || letters[0].Source != "topic:risk" || string(letters[0].Record) != c.body {
				t.Errorf("got %+v\nwant %s", letters, c.dead)
			}
			if n := sum(f.store.Len()); n != 0 {
				t.Errorf("%d entities have a record all the same", n)
			}
			if f.Progress().Applied[5<<12|3] != 1 {
				t.Error("the position did not move")
			}
		})
	}
}

func sum(counts [authz.NumKinds]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// TestAnInputOverrulesNobody, though a configuration that nobody has checked says so.
func TestAnInputOverrulesNobody(t *testing.T) {
	unchecked := &Input{Source: anything.Source, Grants: []Grant{{Authority: Authority{
		Types: []string{"*"}, Kinds: []string{"*"}, Tenants: []string{"default"}, Overrule: true, Classes: []string{"low"},
	}}}}
	f := newFollower(t)
	f.take(Entry{Appended: start, Record: record(signalJSON("taint"))})
	f.take(Entry{Appended: start, Record: []byte(signalJSON("lift", id("2"), `"lifts":{"type":"taint","source":"client:boss","id":"INC-1"}`)), Input: unchecked})
	f.take(Entry{Appended: start, Record: []byte(signalJSON("register", id("3"), `"class":"high"`)), Input: unchecked})
	e := f.store.Get(agentA).At(start)
	if !e.Tainted || e.Class != "high" {
		t.Errorf("tainted %v, class %q; want the taint to stand, and classes to count for nothing", e.Tainted, e.Class)
	}
}

// TestAnInputRevokesNothingThatIsYetToBeIssued: over HTTP that is refused by the clock of the
// moment; here the time at which the log took it counts, on every replica.
func TestAnInputRevokesNothingThatIsYetToBeIssued(t *testing.T) {
	f := newFollower(t)
	f.take(Entry{Appended: start, Record: []byte(signalJSON("revoke", about("user:u"), `"issued_before":"2027-01-01T00:00:00Z"`)), Input: anything})
	if got := f.store.Get(authz.Ref{Kind: authz.KindUser, ID: "u"}.In("default")).At(start).Cutoff; got != start {
		t.Errorf("what was issued before %s is revoked, want %s", got, start)
	}
}

// TestAnInputSaysWhatAPushSays: the same JSON from an input makes the fact that it makes
// over HTTP, or is refused where that is, but for what needs the posture of the moment.
func TestAnInputSaysWhatAPushSays(t *testing.T) {
	n := 0
	for _, c := range goodSignals {
		w := newWorld(t, worldOptions{})
		batch, err := Decode([]byte(c.body))
		if err != nil {
			t.Fatal(err)
		}
		sender := Sender{anything.Source, anything.Grants[0].Authority}
		records, err := w.intake.prepare(sender, batch)
		w.stop()
		for i, body := range batch.Bodies {
			a := newReaderOf(t, nil, 1)
			in := a.read(&Entry{Appended: start, Record: body, Input: anything})
			if (err != nil) != (in.dead != "") {
				t.Fatalf("%s\nover HTTP: %v\nfrom an input: %q, %v", body, err, in.dead, in.unread)
			}
			if err != nil {
				continue
			}
			want, err := Facts(&records[i], &batch.Signals[i], start)
			if err != nil || !reflect.DeepEqual(in.changes, want) {
				t.Fatalf("%s\nover HTTP %+v, %v\nfrom an input %+v", body, want, err, in.changes)
			}
			n++
		}
	}
	if n < 10 {
		t.Errorf("only %d signals were compared", n)
	}
}

// TestWhatIsUnreadableOfAnInputHoldsWhatItMayQuarantine, unless no version of Vigil would
// let it pass.
func TestWhatIsUnreadableOfAnInputHoldsWhatItMayQuarantine(t *testing.T) {
	before := start.Add(-time.Second)
	for _, c := range []struct {
		name     string
		appended authz.Instant
		body     string
		held     []string // else a dead letter
		dead     string
	}{
		{"a newer version", before, signalJSON("risk", `"v":2`), []string{"default/agent:a"}, ""},
		{"a type of a newer version", before, signalJSON("suspend", about("agent:a", "session:s")), []string{"default/agent:a", "default/session:s"}, ""},
		{"a member of a newer version", before, signalJSON("release", `"until_called":true`), []string{"default/agent:a"}, ""},
		{"a kind of a newer version beside a known one", before, signalJSON("quarantine", about("flock:f", "agent:a")), []string{"default/agent:a"}, ""},
		{"for its second tenant", before, signalJSON("suspend", `"tenant":"acme"`), []string{"acme/agent:a"}, ""},

		{"a newer form of a type that it may not send", before, signalJSON("taint", `"v":2`), nil, "topic:risk may not send taint"},
		{"a newer form, about what it may not speak about", before, signalJSON("suspend", about("agent:a", "user:u")), nil, "topic:risk may not speak about a user"},
		{"for a tenant that it does not speak for", before, signalJSON("suspend", `"tenant":"evil"`), nil, `topic:risk does not speak for tenant "evil"`},
		{"about another tenant", before, signalJSON("suspend", about("tenant:acme")), nil, `topic:risk speaks for tenant "default" here, not for "acme"`},
		{"under an id of what overrules", before, signalJSON("suspend", id("client:boss/1")), nil, `its id begins with "client:boss/"`},
		{"who may not quarantine", start, signalJSON("suspend"), nil, `unreadable (bad_value: /type: unknown type "suspend"), and it names no entity that its source may hold`},
		{"kinds of a newer version only", before, signalJSON("suspend", about("flock:f")), nil, `unreadable (bad_value: /type: unknown type "suspend"), and it names no entity that its source may hold`},
		{"without an id", before, signalJSON("suspend", "-id"), nil, `unreadable: missing_member: "id" is missing`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFollower(t)
			f.take(Entry{Appended: c.appended, Record: []byte(c.body), Input: riskTopic})
			var held []string
			f.store.Walk(func(k authz.Key, r *posture.Record) bool {
				if r.At(start).Status == authz.Unreadable {
					held = append(held, k.Tenant+"/"+k.Ref().String())
				}
				return true
			})
			slices.Sort(held)
			if !slices.Equal(held, c.held) {
				t.Errorf("held %q, want %q", held, c.held)
			}
			if letters := f.DeadLetters(); (c.dead == "") != (len(letters) == 0) || c.dead != "" && letters[0].Reason != c.dead {
				t.Errorf("dead letters %+v, want %s", letters, c.dead)
			}
		})
	}
}

// TestALaterVersionJudgesWhatItHeldOfAnInput: nobody judged the signal when it came, and
// the input may have another configuration by now, or none.
func TestALaterVersionJudgesWhatItHeldOfAnInput(t *testing.T) {
	lifter := &Input{Source: riskTopic.Source, Grants: []Grant{{Authority: Authority{Types: []string{"quarantine", "lift"}, Kinds: []string{"*"}, Tenants: []string{"acme"}}}}}
	for _, c := range []struct {
		name  string
		input *Input
		body  string
		until authz.Status // what the entity is in the end
	}{
		{"what it might say", riskTopic, signalJSON("quarantine", `"tenant":"acme"`), authz.Quarantined},
		{"what it might not say in another's line", riskTopic, signalJSON("release", `"tenant":"acme"`, `"source":"client:edr"`), authz.Unreadable},
		{"what it might not lift", lifter, signalJSON("lift", `"lifts":{"type":"taint","source":"client:edr","id":"1"}`), authz.Unreadable},
		{"what no version lets pass", riskTopic, signalJSON("release", `"tenant":"acme"`, id("topic:x/1")), authz.Active},
	} {
		t.Run(c.name, func(t *testing.T) {
			old := newFollower(t)
			e := Entry{Position: Position{Partition: 1<<12 | 1}, Appended: start.Add(-time.Second), Record: []byte(c.body), Input: c.input}
			testHookRead = func(*Entry) { panic("this version does not know it") }
			old.take(e)
			testHookRead = nil
			var snapshot bytes.Buffer
			if err := old.store.WriteSnapshot(&snapshot, start); err != nil {
				t.Fatal(err)
			}
			store, err := posture.ReadSnapshot(&snapshot, start)
			if err != nil {
				t.Fatal(err)
			}
			store.Walk(func(_ authz.Key, r *posture.Record) bool {
				for f := range r.Facts() {
					e, ok := entryOf(f.Record)
					rec, err := DecodeRecord(e.Record)
					if !ok || err != nil || rec.Under == nil || rec.Verdict != (Verdict{}) || rec.Tenant != "acme" {
						t.Errorf("kept is %+v, %v: want what it is under, and nothing that versions find differently", rec, err)
					}
				}
				return true
			})
			late := newFollower(t, func(cfg *ApplierConfig) { cfg.Store = store })
			late.reread()
			key := authz.Ref{Kind: authz.KindAgent, ID: "a"}.In("acme")
			if got := store.Get(key).At(start).Status; got != c.until {
				t.Errorf("%v, want %v", got, c.until)
			}
			if c.until != authz.Quarantined {
				return
			}
			known := newFollower(t)
			known.take(e)
			if store.Digest(start) != known.store.Digest(start) {
				t.Error("a late reader has another posture than one that read it at once")
			}
			late.take(e)
			if store.Digest(start) != known.store.Digest(start) {
				t.Error("reading it once more changes something")
			}
		})
	}
}

// TestAKeptRecordSaysWhatItIsUnder: types and kinds survive, in one spelling, whatever the
// order in which replicas have them configured.
func TestAKeptRecordSaysWhatItIsUnder(t *testing.T) {
	r := Record{Source: riskTopic.Source, Tenant: "acme", Body: []byte(`{}`), Under: &Authority{Types: []string{"b", "a", "b"}, Kinds: []string{"*"}}}
	one := EncodeRecord(nil, &r)
	r.Under.Types = []string{"a", "b"}
	if !bytes.Equal(one, EncodeRecord(nil, &r)) {
		t.Error("the order shows")
	}
	got, err := DecodeRecord(one)
	if err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("got %+v, %v", got, err)
	}
	base := EncodeRecord(nil, &Record{Source: soar, Tenant: "default", Body: []byte(`{}`)})
	for _, value := range []string{"\x00", "a\n", "a\x00", "a\n\x00b", "\n\x00", "b\na\n\x00", "a\na\n\x00", "\xff\n\x00", strings.Repeat("a", maxUnder) + "\n\x00"} {
		data := appendField(bytes.Clone(base), tagUnder, value)
		if r, err := DecodeRecord(data); err == nil {
			t.Errorf("%q was taken for %+v", value, r.Under)
		}
	}
}

// TestAnInputIsNeverTakenForAPush: its bytes may say anything, of this process, too.
func TestAnInputIsNeverTakenForAPush(t *testing.T) {
	w := newWorld(t, worldOptions{idle: true})
	w.applier.mu.ready, w.applier.mu.running = true, true
	w.applier.reached.Store(&reached{log: LogID{1}, at: Positions{}})
	p, err := w.applier.expect([]Record{{Source: boss.Source, Tenant: "default", Body: []byte(signalJSON("revoke"))}}, make([]Signal, 1), false)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.applier.deliver([]Entry{{Appended: start, Record: p.encoded[0], Input: anything}}); err != nil {
		t.Fatal(err)
	}
	if p.left != 1 || w.of("agent:a").Status != authz.Active {
		t.Errorf("%d are left; agent:a is %v", p.left, w.of("agent:a").Status)
	}
}

// TestARefusedEntryIsADeadLetterAndTheFeedGoesOn, whatever its bytes are.
func TestARefusedEntryIsADeadLetterAndTheFeedGoesOn(t *testing.T) {
	var lines bytes.Buffer
	f := newFollower(t, func(cfg *ApplierConfig) {
		cfg.Logger = slog.New(slog.NewTextHandler(&lines, nil))
		cfg.PartitionName = func(p int32) string { return fmt.Sprint("risk/", p) }
	})
	for i, e := range []Entry{
		{Record: record(signalJSON("revoke")), Refused: "of a transaction"},
		{Record: []byte(signalJSON("quarantine")), Refused: "of a transaction", Input: anything},
		{Refused: "10 GB, decompressed", Input: anything},
		{Record: bytes.Repeat([]byte("x"), MaxDeadRecord+1), Refused: "too large"},
	} {
		e.Position.Partition, e.Appended = 3, start
		f.take(e)
		letters := f.DeadLetters()
		if len(letters) != i+1 {
			t.Fatalf("entry %d: %d dead letters", i, len(letters))
		}
		got := letters[i]
		if got.Reason != e.Refused || got.Partition != "risk/3" || (got.Source == "topic:any") != (e.Input != nil) ||
			got.Size != len(e.Record) || !bytes.Equal(got.Record, e.Record[:min(len(e.Record), MaxDeadRecord)]) {
			t.Errorf("entry %d: %+v", i, got)
		}
	}
	if n := strings.Count(lines.String(), "partition=risk/3 offset="); n != 4 {
		t.Errorf("%d lines name the partition:\n%s", n, lines.String())
	}
	f.take(Entry{Position: Position{Partition: 3}, Appended: start, Record: record(signalJSON("revoke", about("agent:b")))})
	if f.status("agent:a") != authz.Active || f.status("agent:b") != authz.Revoked || f.Progress().Applied[3] != 5 || f.Progress().DeadLetters != 4 {
		t.Errorf("agent:a %v, agent:b %v, %+v", f.status("agent:a"), f.status("agent:b"), f.Progress())
	}
}

func TestInputsAreChecked(t *testing.T) {
	with := func(change func(*Input)) *Input {
		in := &Input{Source: riskTopic.Source, Grants: slices.Clone(riskTopic.Grants)}
		change(in)
		return in
	}
	grant := func(change func(*Grant)) *Input { return with(func(in *Input) { change(&in.Grants[1]) }) }
	for _, c := range []struct {
		name string
		in   *Input
		want string
	}{
		{"sound", riskTopic, ""},
		{"without grants, which refuses all", with(func(in *Input) { in.Grants = nil }), ""},
		{"open at both ends", anything, ""},
		{"no topic", with(func(in *Input) { in.Source.Kind = "client" }), "input \"client:risk\": the source of an input is topic:NAME"},
		{"no name", with(func(in *Input) { in.Source.Name = "" }), "input \"topic:\": the source of an input is topic:NAME"},
		{"overlap", grant(func(g *Grant) { g.From-- }), "input topic:risk: grants 1 and 2 overlap: a record would be under both"},
		{"two that are open", grant(func(g *Grant) { g.From, g.Until = 0, 0 }), "input topic:risk: grants 1 and 2 overlap: a record would be under both"},
		{"empty range", grant(func(g *Grant) { g.Until = g.From }), "input topic:risk: grant 2: it ends at " + start.String() + ", which is not after its beginning"},
		{"before time", grant(func(g *Grant) { g.From = -1 }), "input topic:risk: grant 2: it begins or ends before 1970"},
		{"no tenant", grant(func(g *Grant) { g.Authority.Tenants = nil }), "input topic:risk: grant 2: it names no tenant"},
		{"empty tenant", grant(func(g *Grant) { g.Authority.Tenants = []string{""} }), `input topic:risk: grant 2: "" is no tenant`},
		{"no types", grant(func(g *Grant) { g.Authority.Types = nil }), "input topic:risk: grant 2: it permits nothing: name types and kinds"},
		{"classes", grant(func(g *Grant) { g.Authority.Classes = []string{"low"} }), "input topic:risk: grant 2: it is limited to classes: an input cannot be, for the class of an agent is not the same on every replica when a record is applied"},
		{"overruling", grant(func(g *Grant) { g.Authority.Overrule = true }), "input topic:risk: grant 2: it permits overruling: an input cannot, for what there is to overrule is not the same on every replica when a record is applied"},
		{"a name that cannot be kept", grant(func(g *Grant) { g.Authority.Types = []string{"a\nb"} }), "input topic:risk: grant 2: its types or kinds are not fit to be written down"},
		{"too much to be kept", grant(func(g *Grant) { g.Authority.Kinds = []string{strings.Repeat("k", maxUnder)} }), "input topic:risk: grant 2: its types or kinds are not fit to be written down"},
		{"too many", with(func(in *Input) { in.Grants = make([]Grant, maxGrants+1) }), "input topic:risk: 1025 grants, more than 1024"},
	} {
		err := c.in.Check()
		if got := ""; c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want) {
			if err != nil {
				got = err.Error()
			}
			t.Errorf("%s: got %q\nwant %q", c.name, got, c.want)
		}
	}
}

// FuzzInput: no record of an input stops the feed, and none says more than it may.
func FuzzInput(f *testing.F) {
	for _, c := range goodSignals {
		f.Add([]byte(c.body), int64(-1))
	}
	f.Add([]byte(signalJSON("suspend", `"v":2`)), int64(-1))
	f.Fuzz(func(t *testing.T, data []byte, late int64) {
		a := newReaderOf(t, nil, 1)
		out, err := a.apply(&Entry{Appended: start + authz.Instant(late%int64(2*time.Hour)), Record: data, Input: riskTopic})
		if err != nil {
			t.Fatal(err)
		}
		if (out.dead == nil) == (len(out.results) == 0) {
			t.Fatalf("neither applied nor dead: %+v", out)
		}
		a.cfg.Store.Walk(func(k authz.Key, r *posture.Record) bool {
			if k.Tenant != "default" && k.Tenant != "acme" || k.Kind == authz.KindEverything {
				t.Fatalf("it spoke about %v", k)
			}
			for fact := range r.Facts() {
				if fact.Source != "topic:risk" {
					t.Fatalf("it spoke as %s", fact.Source)
				}
			}
			return true
		})
	})
}
