//go:build e2e && linux

package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/twmb/franz-go/pkg/kgo"
)

// story is a random history of three replicas and of those who write to their topics. One
// thing is done at a time; what was acknowledged is known of to the twin, and after each
// step some replica is asked, from a view at least as new as all of that.
type story struct {
	t      *testing.T
	c      *cluster
	random *rand.Rand
	twin   *plain
	writer *kgo.Client
	serial int
	asleep *replica // suspended; nil for none

	tokens  map[*replica][]string // what was acknowledged since a replica was asked last
	written map[string]int64      // where the partitions of the inputs end
	pushed  []sent                // which may be sent again
	raw     []sent
	undone  map[string]bool // ids
	tally   map[string]int
}

// sent is a signal that was sent once.
type sent struct {
	ref   string
	word  word
	text  string
	topic string // "" for one that was pushed
}

func (s *story) oneOf(of ...string) string { return of[s.random.IntN(len(of))] }

// some gives a replica that is not suspended.
func (s *story) some() *replica {
	for {
		if r := s.c.replicas[s.random.IntN(3)]; r != s.asleep {
			return r
		}
	}
}

// draft draws a word of a source that speaks of these kinds of things.
func (s *story) draft(source string, kinds ...string) (ref string, w word) {
	s.serial++
	ref = s.oneOf("agent:g-1", "agent:g-2", "agent:g-3", "agent:g-3", "session:g-1")
	w = word{source: source, id: fmt.Sprint("w-", s.serial), kind: s.oneOf(kinds...), until: never}
	now := time.Now().UTC()
	switch w.kind {
	case "risk":
		ref = s.oneOf("agent:g-1", "agent:g-2", "agent:g-3")
		w.risk = []int{0, 20, 50, 90}[s.random.IntN(4)]
	case "require_approval":
		w.actions = []string{s.oneOf("*", "pay")}
	case "revoke":
		ref = fmt.Sprint("session:gone-", s.random.IntN(5))
	}
	// Mostly newer than all that the source has said on the matter, sometimes older.
	oldest, newest := now, now.Add(-time.Hour)
	for _, o := range s.twin.words[ref] {
		if o.source == source && o.matter() == w.matter() {
			if o.at.Before(oldest) {
				oldest = o.at
			}
			if o.at.After(newest) {
				newest = o.at
			}
		}
	}
	w.at = now.Add(-time.Duration(s.random.IntN(3000)) * time.Millisecond)
	switch s.random.IntN(8) {
	case 0:
		w.at = now.Add(time.Duration(1+s.random.IntN(3)) * time.Second)
		s.tally["dated ahead"]++
	case 1:
		w.at = now.Add(time.Duration(1+s.random.IntN(48)) * time.Hour)
		s.tally["dated far ahead"]++
	case 2:
		w.at = oldest.Add(-time.Duration(1+s.random.IntN(3600)) * time.Second)
		s.tally["late"]++
	}
	if w.at.After(oldest) && !w.at.After(newest) {
		w.at = newest.Add(time.Millisecond)
	}
	if s.random.IntN(3) > 0 && w.kind != "revoke" {
		last := now
		if w.at.Before(now.Add(mostAhead)) && w.at.After(now) {
			last = w.at
		}
		w.until = last.Add(time.Duration(3000+s.random.IntN(20_000)) * time.Millisecond)
		if w.at.After(w.until) {
			w.until = never
		}
	}
	return ref, w
}

func textOf(ref string, w word) string {
	more := ""
	switch w.kind {
	case "risk":
		more = fmt.Sprintf(`,"risk":%d`, w.risk)
	case "require_approval":
		more = fmt.Sprintf(`,"actions":[%q]`, w.actions[0])
	case "narrow":
		more = `,"scopes":[]`
	}
	if w.until != never {
		more += fmt.Sprintf(`,"expires":%q`, w.until.Format(time.RFC3339Nano))
	}
	return fmt.Sprintf(`{"v":1,"id":%q,"type":%q,"entities":[%q],"time":%q%s}`, w.id, w.kind, ref, w.at.Format(time.RFC3339Nano), more)
}

// push pushes a signal to one replica, or to two at once.
func (s *story) push(x sent) {
	to := []*replica{s.some()}
	if s.random.IntN(4) == 0 {
		s.tally["the same to two replicas at once"]++
		to = append(to, s.some())
	}
	answers := make([]answer, len(to))
	var group sync.WaitGroup
	for i, r := range to {
		group.Go(func() { answers[i] = r.push(x.text) })
	}
	group.Wait()
	ahead := x.word.permits() && x.word.at.After(time.Now().Add(mostAhead))
	for i, a := range answers {
		switch {
		case ahead && a.status == http.StatusBadRequest:
			s.tally["refused, for it permits something from too far ahead"]++
		case a.status == http.StatusOK && !ahead:
			s.acknowledged(a.asOf)
			s.tally["pushed"]++
			s.twin.say(x.ref, x.word, time.Now())
		default:
			s.t.Fatalf("%s: %s: %s %s %v", to[i].name, x.text, a, a.body, a.err)
		}
	}
	s.pushed = append(s.pushed, x)
}

// write has somebody write a signal to an input: now and then to two of its partitions.
func (s *story) write(x sent) {
	for range 1 + s.random.IntN(4)/3 {
		record := &kgo.Record{Topic: x.topic, Partition: s.random.Int32N(s.c.partitions), Value: []byte(x.text)}
		must(s.t, s.writer.ProduceSync(s.t.Context(), record).FirstErr())
		s.written[fmt.Sprintf("%s/%d", x.topic, record.Partition)] = record.Offset + 1
		s.tally["written to an input"]++
		if !s.twin.say(x.ref, x.word, time.Now()) {
			s.tally["a dead letter, for it permits something from too far ahead"]++
		}
	}
	s.raw = append(s.raw, x)
}

// undo takes something back by the command.
func (s *story) undo() {
	var all []sent
	for ref, words := range s.twin.words {
		for _, w := range words {
			if w.restricts() && w.kind != "revoke" && w.until.After(time.Now()) && !s.twin.void[w.name(ref)] && w.id != "undo" {
				all = append(all, sent{ref: ref, word: w})
			}
		}
	}
	if len(all) == 0 {
		return
	}
	latest := all[0]
	for _, x := range all { // the order of a map is nobody's
		if s.serialOf(x.word.id) > s.serialOf(latest.word.id) && s.random.IntN(2) == 0 {
			latest = x
		}
	}
	r := s.some()
	args := []string{"signal", "undo", latest.word.id, "-o", "json", "--yes", "--control-url", r.at.Load().control}
	every := s.random.IntN(3) > 0
	if every {
		args = append(args, "--all-sources")
	}
	s.upToDate(r)
	s.clear()
	now := time.Now()
	found := s.twin.undo(latest.ref, now, func(w word) bool {
		return w.id == latest.word.id && (every || w.source == "client:local")
	})
	cmd := exec.Command(pdp, args...)
	cmd.Env = []string{"HOME=" + r.dir, "XDG_RUNTIME_DIR=" + r.dir}
	out, err := cmd.Output()
	var ended *exec.ExitError
	if err != nil && (!errors.As(err, &ended) || ended.ExitCode() != 3) {
		if ended != nil {
			out = append(out, ended.Stderr...)
		}
		s.t.Fatalf("%s: %v: %v\n%s", r.name, args, err, out)
	}
	var said struct {
		AsOf string `json:"as_of"`
	}
	if len(out) > 0 {
		must(s.t, json.Unmarshal(out, &said))
	}
	if found != (said.AsOf != "") {
		stderr := ""
		if ended != nil {
			stderr = string(ended.Stderr)
		}
		s.t.Fatalf("%s: %v of %s: the twin had something to take back: %t; it was told %q\n%s%s", r.name, args, latest.ref, found, out, stderr, listed(s.twin.words[latest.ref]))
	}
	if !found {
		s.tally["undo of what is not kept, or another's"]++
		return
	}
	s.acknowledged(said.AsOf)
	s.undone[latest.word.id] = true
	s.tally["undo of "+latest.word.kind+" of "+strings.TrimRight(latest.word.source, "-0123456789")]++
}

func listed(words []word) string {
	var lines []string
	for _, w := range words {
		lines = append(lines, fmt.Sprintf("%s %s of %s, of %s until %s, risk %d %v", w.kind, w.id, w.source, w.at.Format(time.RFC3339Nano), w.until.Format(time.RFC3339Nano), w.risk, w.actions))
	}
	return strings.Join(lines, "\n")
}

func (s *story) serialOf(id string) (n int) {
	fmt.Sscanf(id, "w-%d", &n)
	return n
}

// clear waits until nothing ends that nobody could say of whether it has.
func (s *story) clear() {
	const margin = 300 * time.Millisecond
	for at := s.twin.near(time.Now(), margin); !at.IsZero(); at = s.twin.near(time.Now(), margin) {
		time.Sleep(time.Until(at.Add(margin + time.Millisecond)))
	}
}

func (s *story) acknowledged(asOf string) {
	for _, r := range s.c.replicas {
		s.tokens[r] = append(s.tokens[r], asOf)
	}
}

// upToDate has a replica come to all that was acknowledged anywhere, and written.
func (s *story) upToDate(r *replica) {
	s.t.Helper()
	until(s.t, r.name+" has read what was written to the inputs", func() bool {
		st, err := r.status(false)
		for partition, end := range s.written {
			if err != nil || st.Feed.Positions[partition] < end {
				return false
			}
		}
		return true
	})
	for _, token := range s.tokens[r] {
		if a := r.decide("g-1", "g-1", token); a.err != nil || a.status != http.StatusOK || a.code == "stale" {
			s.t.Fatalf("%s, asked for at least what was acknowledged: %s %s %v", r.name, a, a.body, a.err)
		}
	}
	s.tokens[r] = nil
}

// judge asks a replica about everything, once it is up to date.
func (s *story) judge(r *replica) {
	s.t.Helper()
	s.upToDate(r)
	s.clear()
	for _, ref := range []string{"agent:g-1", "agent:g-2", "agent:g-3", "session:g-1", "session:gone-1"} {
		if len(s.twin.words[ref]) == 0 {
			continue
		}
		a := r.get("/v1/entities/" + ref)
		var got struct {
			Effective standing `json:"effective"`
		}
		if a.err != nil || a.status != http.StatusOK {
			s.t.Fatalf("%s: %s: %s %s %v", r.name, ref, a, a.body, a.err)
		}
		must(s.t, json.Unmarshal([]byte(a.body), &got))
		if want := s.twin.standing(ref, time.Now()); got.Effective.String() != want.String() {
			s.t.Fatalf("%s: of %s it holds\n%s, the twin\n%s\n%s\n%s", r.name, ref, got.Effective, want, a.body, listed(s.twin.words[ref]))
		}
		s.tally["entities compared"]++
	}
	for _, agent := range []string{"g-1", "g-2", "g-3"} {
		session := s.oneOf("g-1", "gone-1", "gone-2", "other", "other")
		want := s.twin.payment(agent, session, time.Now())
		a := r.decide(agent, session, "")
		if a.String() != want {
			s.t.Fatalf("%s says of %s in %s: %s, the twin: %s\n%s", r.name, agent, session, a, want, a.body)
		}
		s.tally["decisions: "+want]++
	}
}

// wake has a suspended replica go on. Its view is as old as it is until it has read.
func (s *story) wake() {
	if s.asleep == nil {
		return
	}
	s.asleep.resume()
	s.asleep = nil
	s.c.completeSince(time.Now())
}

func (s *story) step() {
	switch s.random.IntN(20) {
	default:
		ref, w := s.draft("client:local", "quarantine", "release", "risk", "risk", "risk", "taint", "require_approval", "narrow", "revoke")
		s.push(sent{ref: ref, word: w, text: textOf(ref, w)})
	case 6, 7, 8:
		ref, w := s.draft("topic:"+s.c.risk, "quarantine", "release", "risk", "risk", "revoke")
		s.write(sent{ref, w, textOf(ref, w), s.c.risk})
	case 9, 10:
		ref, w := s.draft("topic:"+s.c.scores, "risk")
		s.write(sent{ref, w, textOf(ref, w), s.c.scores})
	case 11, 12, 13, 14, 5:
		s.undo()
	case 15, 16:
		if len(s.pushed) > 0 {
			s.again(s.pushed[s.random.IntN(len(s.pushed))])
		}
	case 17:
		if len(s.raw) > 0 {
			s.again(s.raw[s.random.IntN(len(s.raw))])
		}
	case 18:
		if s.asleep != nil {
			s.tally["a replica wakes"]++
			s.wake()
			break
		}
		s.tally["a replica is suspended"]++
		s.asleep = s.c.replicas[1]
		s.asleep.suspend()
	case 19:
		if s.random.IntN(2) == 0 {
			return
		}
		s.tally["a replica is killed"]++
		s.c.replicas[2].kill()
		s.c.replicas[2].start()
	}
}

// again sends something again. A word that would be dated back once more would count as
// newer than when it was first: docs/signals.md says so, and the twin, too.
func (s *story) again(x sent) {
	if x.word.until.Before(time.Now().Add(time.Second)) {
		return
	}
	s.tally["sent again"]++
	if s.undone[x.word.id] {
		s.tally["sent again once taken back"]++
	}
	if x.topic == "" {
		s.push(x)
	} else {
		s.write(x)
	}
}

// TestARandomHistoryOverThreeReplicasIsWhatItsTwinSays. VIGIL_E2E_SEED repeats one,
// VIGIL_E2E_STEPS makes it longer.
func TestARandomHistoryOverThreeReplicasIsWhatItsTwinSays(t *testing.T) {
	seed := fromEnv(t, "VIGIL_E2E_SEED", 1+rand.IntN(1<<30))
	t.Logf("VIGIL_E2E_SEED=%d", seed)
	c := newCluster(t, 4)
	s := &story{
		t: t, c: c, random: rand.New(rand.NewPCG(uint64(seed), 1)), twin: newPlain(), writer: outsider(t),
		tokens: map[*replica][]string{}, written: map[string]int64{}, undone: map[string]bool{}, tally: map[string]int{},
	}
	for _, agent := range []string{"g-1", "g-2", "g-3"} {
		a := c.replicas[0].push(registration(agent)...)
		if a.status != http.StatusOK {
			t.Fatalf("registering: %s %s", a, a.body)
		}
		s.acknowledged(a.asOf)
	}
	begun := time.Now()
	for range fromEnv(t, "VIGIL_E2E_STEPS", 200) {
		s.step()
		s.judge(s.some())
	}
	s.wake()
	for _, r := range c.replicas {
		s.judge(r)
	}
	t.Logf("%s: %v", time.Since(begun).Round(time.Millisecond), s.tally)
	c.sameDigest()
	c.replicas[2].kill()
	c.replicas[2].wipe()
	c.replicas[2].start()
	s.judge(c.replicas[2])
	c.sameDigest() // with one that has begun from nothing
	for _, what := range []string{"undo of risk of client:local", "sent again", "dated far ahead", "late", "the same to two replicas at once"} {
		if s.tally[what] == 0 {
			t.Errorf("a history without one %q", what)
		}
	}
}
