package spool

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vigil/authz"
	"vigil/disk/disktest"
	"vigil/posture"
	"vigil/signals"
)

// TestWhatOnlyWithdrawsIsInForceHereWhileTheLogIsAway, and nothing else is taken.
func TestWhatOnlyWithdrawsIsInForceHereWhileTheLogIsAway(t *testing.T) {
	ahead := fmt.Sprintf(`"time":%q`, start.Add(time.Second))
	for _, c := range []struct {
		name   string
		sender signals.Sender
		body   string
		why    string // "" where it is taken
	}{
		{"quarantine", boss, body("1", "quarantine", "agent:a"), ""},
		{"quarantine for a while", boss, body("1", "quarantine", "agent:a", fmt.Sprintf(`"expires":%q`, start.Add(time.Hour))), ""},
		{"revoke", boss, body("1", "revoke", "agent:a"), ""},
		{"revoke what was issued until now", boss, body("1", "revoke", "user:u", fmt.Sprintf(`"issued_before":%q`, start)), ""},
		{"narrow", boss, body("1", "narrow", "agent:a", `"scopes":["s"]`), ""},
		{"taint", boss, body("1", "taint", "agent:a"), ""},
		{"require approval", boss, body("1", "require_approval", "agent:a"), ""},
		{"decommission", boss, body("1", "decommission", "agent:a"), ""},
		{"failed attestation", boss, body("1", "attest", "agent:a", `"result":"fail"`), ""},
		{"a risk that is higher", boss, body("1", "risk", "agent:risky", `"risk":51`), ""},
		{"a risk of one without any", boss, body("1", "risk", "agent:a", `"risk":1`), ""},
		{"a batch", boss, "[" + body("1", "revoke", "agent:a") + "," + body("2", "taint", "agent:b") + "]", ""},
		{"in another source's line", boss, body("1", "quarantine", "agent:held", `"source":"client:soar"`), ""},
		{"dated now", boss, body("1", "quarantine", "agent:a", fmt.Sprintf(`"time":%q`, start)), ""},

		{"a risk that is as high", boss, body("1", "risk", "agent:risky", `"risk":50`), "signal 1 does not raise the risk of agent:risky"},
		{"a risk that is higher for one of two", boss, strings.Replace(body("1", "risk", "agent:a", `"risk":40`), `"agent:a"`, `"agent:a","agent:risky"`, 1), "signal 1 does not raise the risk of agent:risky"},
		{"release", boss, body("1", "release", "agent:held"), "signal 1 may permit something"},
		{"release in another source's line", boss, body("1", "release", "agent:held", `"source":"client:soar"`), "signal 1 may permit something"},
		{"lift", boss, body("1", "lift", "agent:a", `"lifts":{"type":"taint","id":"x"}`), "signal 1 may permit something"},
		{"register", boss, body("1", "register", "agent:a", `"class":"c"`), "signal 1 may permit something"},
		{"passed attestation", boss, body("1", "attest", "agent:a", `"result":"pass"`), "signal 1 may permit something"},
		{"a batch with one that may permit", boss, "[" + body("1", "revoke", "agent:a") + "," + body("2", "release", "agent:held") + "]", "signal 2 may permit something"},
		{"dated ahead", boss, body("1", "quarantine", "agent:a", ahead), "signal 1 is dated ahead of this clock"},
		{"a cut-off that is ahead", boss, body("1", "revoke", "user:u", fmt.Sprintf(`"issued_before":%q`, start+1)), "signal 1 is dated ahead of this clock"},
	} {
		for _, how := range []string{"in ill health", "an append that fails", "a broken feed"} {
			t.Run(c.name+", "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					cl := newCluster()
					broken := make(chan struct{})
					main := mainLog{follow: func(error) error {
						select {
						case <-broken:
							return errors.New("a hole")
						default:
							return nil
						}
					}}
					r := cl.start(t, options{disk: disktest.New(), main: main})
					defer r.stop()
					r.mustPush(as("soar"), body("Q", "quarantine", "agent:held"))
					r.mustPush(as("soar"), body("R", "risk", "agent:risky", `"risk":50`))
					switch how {
					case "in ill health":
						cl.main.SetHealth(errAway)
					case "an append that fails":
						for range 3 {
							cl.main.FailAppend(fmt.Errorf("%w: %w", signals.ErrUnavailable, errAway), false)
						}
					case "a broken feed":
						close(broken)
						wake := [][]byte{signals.EncodeRecord(nil, &signals.Record{Source: boss.Source, Tenant: "default", Body: []byte(body("W", "taint", "agent:w"))})}
						if _, err := cl.main.Append(t.Context(), wake); err != nil {
							t.Fatal(err)
						}
						synctest.Wait()
						if r.applier.Err() == nil {
							t.Fatal("the feed is not broken")
						}
					}
					before := cl.start(t, options{}) // what the others know
					defer before.stop()
					asOf := r.store.AsOf()
					receipt, err := r.push(c.sender, c.body)
					if c.why != "" {
						if !errors.Is(err, signals.ErrUnavailable) || !strings.Contains(err.Error(), c.why) {
							t.Errorf("got %+v, %v", receipt, err)
						}
						if n := r.spool.Stats().Applied; n != 0 {
							t.Errorf("%d records were taken all the same", n)
						}
						return
					}
					if err != nil || !receipt.Spooled || receipt.AsOf != asOf || r.store.AsOf() != asOf {
						t.Fatalf("got %+v, %v; as of %s", receipt, err, asOf)
					}
					for _, result := range receipt.Results {
						if result.Outcome != posture.Applied {
							t.Errorf("%s: %v", result.ID, result.Outcome)
						}
					}
				})
			})
		}
	}
}

// TestEveryReplicaHasTheFactsThatTheSpoolHad: who has only the forwarded copies, who has
// both, and who started again in between have one posture, whatever time has done meanwhile.
func TestEveryReplicaHasTheFactsThatTheSpoolHad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster()
		sent := new(recorder)
		r := cl.start(t, options{disk: disktest.New(), main: mainLog{sent: sent}})
		defer r.stop()
		other := cl.start(t, options{})
		defer other.stop()
		r.mustPush(as("soar"), body("Q", "quarantine", "agent:held", fmt.Sprintf(`"expires":%q`, start.Add(30*time.Minute))))
		cl.main.SetHealth(errAway)
		for i, b := range []string{
			body("1", "quarantine", "agent:a", fmt.Sprintf(`"expires":%q`, start.Add(time.Minute))), // over before it is forwarded
			body("2", "quarantine", "agent:held", `"source":"client:soar"`, fmt.Sprintf(`"expires":%q`, start.Add(20*time.Minute))),
			body("3", "revoke", "user:u", fmt.Sprintf(`"issued_before":%q`, start)),
			body("4", "risk", "agent:a", `"risk":70`, fmt.Sprintf(`"expires":%q`, start.Add(time.Hour))),
			body("5", "taint", "agent:a", fmt.Sprintf(`"time":%q`, start)),
			"[" + body("6", "narrow", "agent:a", `"scopes":[]`) + "," + body("7", "decommission", "agent:b") + "]",
		} {
			receipt := r.mustPush(boss, b)
			if !receipt.Spooled {
				t.Fatalf("push %d was not spooled", i)
			}
			again := r.mustPush(boss, b) // as someone does who lost the answer
			if again.Results[0].Outcome != posture.Duplicate {
				t.Errorf("push %d again: %+v", i, again.Results[0])
			}
		}
		if other.status("agent:b") == authz.Decommissioned || r.status("agent:b") != authz.Decommissioned {
			t.Fatal("it should be in force here and nowhere else")
		}
		if st := r.spool.Stats(); st.Waiting != 14 || st.Applied != 14 || st.Forwarded != 0 || st.Oldest != start {
			t.Errorf("%+v", st)
		}
		cl.now.Add(int64(10 * time.Minute))
		settle()
		if st := r.spool.Stats(); st.Retries == 0 || !strings.Contains(st.LastError, signals.ErrUnavailable.Error()) {
			t.Errorf("while it is away: %+v", st)
		}
		sent.take()
		cl.main.SetHealth(nil)
		settle()
		if st := r.spool.Stats(); st.Waiting != 0 || st.WaitingBytes != 0 || st.Forwarded != 14 || st.LastError != "" || st.Oldest != 0 {
			t.Errorf("afterwards: %+v", st)
		}
		late := cl.start(t, options{})
		defer late.stop()
		for _, after := range []time.Duration{0, 15 * time.Minute, time.Hour, 24 * time.Hour} {
			now := cl.Now().Add(after)
			if d := r.store.Digest(now); d != other.store.Digest(now) || d != late.store.Digest(now) {
				t.Errorf("%v later they differ", after)
			}
		}
		var ids []string
		for _, data := range sent.take() {
			rec, err := signals.DecodeRecord(data)
			if err != nil {
				t.Fatal(err)
			}
			s, err := signals.DecodeOne(rec.Body)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, s.ID)
		}
		if got := strings.Join(ids, ""); got != "11223344556767" {
			t.Errorf("forwarded in the order %s", got)
		}
		if receipt := r.mustPush(boss, body("8", "release", "agent:a")); receipt.Spooled {
			t.Error("with the log back, it still spools")
		}
	})
}

// TestACrashAtAnyPointForwardsAgainAndLosesNothing: after it, all that was acknowledged is
// in force before anything may be decided, and in the end every replica has it.
func TestACrashAtAnyPointForwardsAgainAndLosesNothing(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 7))
			cl, d := newCluster(), disktest.New()
			r := cl.start(t, options{disk: d})
			acknowledged := map[string]bool{}
			n := 0
			for round := range 4 {
				if random.IntN(4) > 0 {
					cl.main.SetHealth(errAway)
				}
				for range random.IntN(8) {
					n++
					ref := fmt.Sprint("agent:", n)
					if receipt, err := r.push(boss, body(fmt.Sprint(n), "revoke", ref)); err == nil {
						acknowledged[ref] = receipt.Spooled
					}
				}
				if random.IntN(2) == 0 { // it is forwarded, up to a disk that stops at some call
					if random.IntN(2) == 0 {
						d.StopAfter(random.IntN(12))
					}
					cl.main.SetHealth(nil)
					if random.IntN(3) == 0 {
						cl.main.FailAppend(signals.ErrUnknownOutcome, random.IntN(2) == 0)
					}
					settle()
				}
				r.stop()
				if random.IntN(2) == 0 {
					d.Crash(random)
				} else {
					d.Kill()
				}
				cl.now.Add(int64(time.Minute))
				// With the log away, or nothing forwarded yet: only the spool can know.
				r = cl.start(t, options{disk: d})
				select {
				case <-r.spool.Applied():
				default:
					t.Fatalf("round %d: it has not applied what it has", round)
				}
				for ref := range acknowledged {
					if r.status(ref) != authz.Revoked {
						t.Fatalf("round %d: %s was acknowledged, and is %v", round, ref, r.status(ref))
					}
				}
			}
			cl.main.SetHealth(nil)
			settle()
			other := cl.start(t, options{})
			if st := r.spool.Stats(); st.Waiting != 0 {
				t.Fatalf("it does not come to an end: %+v", st)
			}
			for ref := range acknowledged {
				if other.status(ref) != authz.Revoked {
					t.Fatalf("%s was acknowledged, and is %v elsewhere", ref, other.status(ref))
				}
			}
			if r.store.Digest(cl.Now()) != other.store.Digest(cl.Now()) {
				t.Fatal("they differ")
			}
			r.stop()
			other.stop()
		})
	}
}

// TestWhatIsForwardedIsNotForwardedAgain, but for what a mark that cannot be read leaves open.
func TestWhatIsForwardedIsNotForwardedAgain(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(d *disktest.Memory)
		again int
	}{
		{"a mark", func(*disktest.Memory) {}, 0},
		{"no mark", func(d *disktest.Memory) { d.Delete("/forwarded") }, 3},
		{"a flipped bit", func(d *disktest.Memory) {
			data := bytes.Clone(d.Contents("/forwarded"))
			data[len(data)-12] ^= 1 // in the offset
			d.Put("/forwarded", data)
		}, 3},
		{"an empty file", func(d *disktest.Memory) { d.Put("/forwarded", nil) }, 3},
		{"a huge file", func(d *disktest.Memory) { d.Put("/forwarded", make([]byte, 1<<20)) }, 3},
		{"past the end", func(d *disktest.Memory) {
			data := d.Contents("/forwarded")
			s := &Spool{cfg: Config{Log: named{id: knownAs{data[len("vigil-spool 1 "):][:32]}}}}
			d.Put("/forwarded", []byte(s.markAt(1000)))
		}, 3},
		{"of another log", func(d *disktest.Memory) {
			s := &Spool{cfg: Config{Log: named{id: knownAs{[]byte("09")}}}}
			d.Put("/forwarded", []byte(s.markAt(3)))
		}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl, d := newCluster(), disktest.New()
				r := cl.start(t, options{disk: d})
				cl.main.SetHealth(errAway)
				for i := range 3 {
					r.mustPush(boss, body(fmt.Sprint(i), "revoke", "agent:a"))
				}
				cl.main.SetHealth(nil)
				settle()
				r.stop()
				d.Kill()
				c.spoil(d)
				sent := new(recorder)
				r = cl.start(t, options{disk: d, main: mainLog{sent: sent}})
				defer r.stop()
				settle()
				if n := len(sent.take()); n != c.again {
					t.Errorf("%d were sent again, want %d", n, c.again)
				}
			})
		})
	}
}

type named struct {
	Log
	id knownAs
}

func (l named) ID() signals.LogID { return l.id.ID() }

// knownAs is a log with an identity that is given in hex.
type knownAs struct{ hex []byte }

func (l knownAs) ID() (id signals.LogID) {
	if _, err := hex.Decode(id[:], l.hex); err != nil {
		panic(err)
	}
	return id
}

// TestAFullSpoolTakesNothing until something of it was forwarded, and counts nothing twice.
func TestAFullSpoolTakesNothing(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		fit    func(size int64) int // how many records of a size
	}{
		{"records", func(cfg *Config) { cfg.MaxRecords = 5 }, func(int64) int { return 5 }},
		{"bytes", func(cfg *Config) { cfg.MaxBytes = 1000 }, func(size int64) int { return int(1000 / size) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl := newCluster()
				r := cl.start(t, options{disk: disktest.New(), spool: c.change})
				defer r.stop()
				for round := range 3 {
					cl.main.SetHealth(errAway)
					fit := 1
					for i := range 9 {
						_, err := r.push(boss, body(fmt.Sprint(round, i), "revoke", fmt.Sprint("agent:", i)))
						if i == 0 {
							fit = c.fit(r.spool.Stats().WaitingBytes)
						}
						if full := i >= fit; full != errors.Is(err, signals.ErrUnavailable) || !full && err != nil {
							t.Fatalf("round %d, push %d: %v", round, i, err)
						}
					}
					cl.main.SetHealth(nil)
					settle()
				}
			})
		})
	}
}

// TestASpoolThatCannotBeWrittenTakesNothing: nothing is acknowledged that is not durable.
func TestASpoolThatCannotBeWrittenTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl, d := newCluster(), disktest.New()
		r := cl.start(t, options{disk: d})
		defer r.stop()
		cl.main.SetHealth(errAway)
		r.mustPush(boss, body("1", "revoke", "agent:a"))
		d.SetCapacity(d.Used())
		for i := range 3 {
			if _, err := r.push(boss, body("2", "revoke", "agent:b")); !errors.Is(err, signals.ErrUnavailable) {
				t.Fatalf("push %d: %v", i, err)
			}
		}
		if r.status("agent:b") != authz.Active {
			t.Error("it is in force, and not durable")
		}
		if r.spool.Health() == nil {
			t.Error("it says that it is well")
		}
		d.SetCapacity(-1)
		settle()
		r.mustPush(boss, body("2", "revoke", "agent:b"))
		if st := r.spool.Stats(); st.Waiting != 2 || r.spool.mu.reserved != 0 || r.spool.mu.reservedBytes != 0 {
			t.Errorf("%+v, %d reserved", st, r.spool.mu.reserved)
		}
	})
}

// TestWithoutWhoFollowsItTheSpoolTakesNothing, nor before the log was read for the first
// time: who may speak about whom is in there.
func TestWithoutWhoFollowsItTheSpoolTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster()
		cl.main.SetHealth(errAway)
		idle := cl.start(t, options{disk: disktest.New(), idle: true})
		defer idle.stop()
		if _, err := idle.push(boss, body("1", "revoke", "agent:a")); !errors.Is(err, signals.ErrUnavailable) || idle.spool.Health() == nil {
			t.Errorf("nobody follows it: %v, health %v", err, idle.spool.Health())
		}
		unread := cl.start(t, options{disk: disktest.New(), main: mainLog{follow: func(error) error { return errAway }}})
		defer unread.stop()
		if _, err := unread.push(boss, body("1", "revoke", "agent:a")); !errors.Is(err, signals.ErrUnavailable) {
			t.Errorf("the log was never read: %v", err)
		}
		select {
		case <-unread.spool.Applied():
		default:
			t.Error("what the spool has waits for the log")
		}
	})
}

// TestAMarkThatCannotBeWrittenIsWrittenLater, and what is forwarded waits for nothing.
func TestAMarkThatCannotBeWrittenIsWrittenLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl, d := newCluster(), disktest.New()
		r := cl.start(t, options{disk: d})
		defer r.stop()
		cl.main.SetHealth(errAway)
		r.mustPush(boss, body("1", "revoke", "agent:a"))
		d.SetFault(func(op disktest.Op, name string, asked int) (int, error) {
			if op == disktest.OpRename && strings.HasPrefix(name, "/forwarded") {
				return 0, errors.New("no")
			}
			return asked, nil
		})
		cl.main.SetHealth(nil)
		settle()
		if st := r.spool.Stats(); st.Waiting != 0 || st.Forwarded != 1 {
			t.Errorf("%+v", st)
		}
		if d.Contents("/forwarded") != nil {
			t.Fatal("it is written")
		}
		d.SetFault(nil)
		settle()
		if got := string(d.Contents("/forwarded")); got != r.spool.markAt(1) {
			t.Errorf("the mark is %q", got)
		}
	})
}

// TestASpoolIsTrimmed: what the log of all replicas has needs no room on this disk.
func TestASpoolIsTrimmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl, d := newCluster(), disktest.New()
		r := cl.start(t, options{disk: d})
		defer r.stop()
		for round := range 20 {
			cl.main.SetHealth(errAway)
			for i := range 20 {
				r.mustPush(boss, body(fmt.Sprint(round, "/", i), "taint", fmt.Sprint("agent:", i)))
			}
			cl.main.SetHealth(nil)
			settle()
		}
		if used := d.Used(); used > 32<<10 {
			t.Errorf("%d bytes are left of 400 records that were forwarded", used)
		}
		if r.journal.FirstOffset() == 0 {
			t.Error("nothing was trimmed")
		}
	})
}

// TestMoreThanABatchIsForwardedInOrder, none left out and none twice.
func TestMoreThanABatchIsForwardedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl, sent := newCluster(), new(recorder)
		r := cl.start(t, options{disk: disktest.New(), main: mainLog{sent: sent}})
		defer r.stop()
		cl.main.SetHealth(errAway)
		n := 0
		next := func() string {
			n++
			return body(fmt.Sprint(n), "taint", fmt.Sprint("agent:", n%7))
		}
		for range 2 {
			all := make([]string, 700)
			for i := range all {
				all[i] = next()
			}
			r.mustPush(boss, "["+strings.Join(all, ",")+"]")
		}
		sent.take()
		cl.main.SetHealth(nil)
		settle()
		want := 0
		for _, data := range sent.take() {
			rec, err := signals.DecodeRecord(data)
			if err != nil {
				t.Fatal(err)
			}
			s, err := signals.DecodeOne(rec.Body)
			if err != nil {
				t.Fatal(err)
			}
			if want++; s.ID != fmt.Sprint(want) {
				t.Fatalf("signal %s is forwarded where %d is next", s.ID, want)
			}
		}
		if want != n || r.spool.Stats().Waiting != 0 {
			t.Errorf("%d of %d were forwarded: %+v", want, n, r.spool.Stats())
		}
	})
}

// TestOnlyWhatWasAppendedGivesBackItsRoom: what was there at the start had none.
func TestOnlyWhatWasAppendedGivesBackItsRoom(t *testing.T) {
	s := &Spool{cfg: Config{MaxRecords: 10, MaxBytes: 10}, start: 2, wake: make(chan struct{}, 1)}
	if !s.reserve(3, 3) {
		t.Fatal("there is room")
	}
	for offset, want := range []int{3, 3, 2, 1, 0} {
		s.take([]signals.Entry{{Position: signals.Position{Offset: int64(offset)}, Record: []byte{1}}})
		if s.mu.reserved != want || s.mu.reservedBytes != int64(want) {
			t.Errorf("after record %d: %d reserved, %d bytes", offset, s.mu.reserved, s.mu.reservedBytes)
		}
	}
	if s.reserve(6, 1) || s.reserve(1, 6) || !s.reserve(5, 5) {
		t.Error("what waits does not count")
	}
}
