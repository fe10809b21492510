package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"pgregory.net/rapid"

	"vigil/authz"
	"vigil/posture"
	"vigil/signals"
)

// push sends p to replica i, and demands of another what that acknowledged.
func (h *histories) push(i int, p *pushed) {
	if receipt, ok := h.send(i, p); ok {
		h.demand(receipt.AsOf)
	}
}

// send is push without a demand. It reports whether p was acknowledged.
func (h *histories) send(i int, p *pushed) (receipt signals.Receipt, acknowledged bool) {
	n := h.nodes[i]
	h.tally.pushes++
	receipt, err := n.intake.Push(context.Background(), p.sender, []byte(p.body))
	h.t.Logf("replica %d, %v, now %v: %s: %v", i, p.sender.Source, n.now(), p.body, err)
	h.n = n.running
	var bad *signals.DecodeError
	switch {
	case err == nil && !h.tooEarly(p, nil):
		h.owe(i, receipt.AsOf)
		return receipt, true
	case h.tooEarly(p, err):
	case errors.As(err, &bad) && slices.ContainsFunc(p.statements, func(s *statement) bool { return s.dated }):
		// What it overrules is not here, or not any more.
	case errors.Is(err, signals.ErrUnknownOutcome) && n.behind.Load() != 0:
		h.count("a push to a replica that lags: unknown")
	default:
		h.t.Fatalf("replica %d: %s: %v", i, p.body, err)
	}
	return receipt, false
}

// owe notes that a replica has come to a position, and stays there.
func (h *histories) owe(i int, asOf string) {
	_, at, err := signals.ParseAsOf(asOf)
	if err != nil {
		h.t.Fatal(err)
	}
	for partition, offset := range at {
		h.owed[i][partition] = max(h.owed[i][partition], offset)
	}
}

// demand has another replica come to a position, or lag and not decide.
func (h *histories) demand(asOf string) {
	i := rapid.IntRange(0, len(h.nodes)-1).Draw(h.t, "demanded of")
	if !h.up[i] {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := h.nodes[i].feed.WaitFor(ctx, asOf)
	switch {
	case err == nil:
		h.count("at least")
		h.owe(i, asOf)
	case h.nodes[i].behind.Load() == 0:
		h.t.Fatalf("replica %d does not come to %s: %v", i, asOf, err)
	default:
		h.count("at least, in vain")
	}
}

// signal pushes something new to a replica, and now and then the same to another.
func (h *histories) signal(i int) {
	h.at(i)
	sender := rapid.SampledFrom([]signals.Sender{soar, soar, siem, boss}).Draw(h.t, "sender")
	if rapid.IntRange(0, 7).Draw(h.t, "a heartbeat") == 5 {
		h.count("a heartbeat")
		h.push(i, h.heartbeat(sender))
		return
	}
	var all []*statement
	if rapid.IntRange(0, 3).Draw(h.t, "words that overlap") == 2 {
		all = h.overlapping(sender)
	} else {
		all = []*statement{h.statement(sender)}
	}
	p := h.bundle(sender, all...)
	h.push(i, p)
	h.keep(p)
	if j := h.someUp(); rapid.IntRange(0, 4).Draw(h.t, "to another, too") == 3 {
		h.count("the same to another replica")
		h.push(j, p)
	}
}

func (h *histories) keep(p *pushed) {
	h.sent = append(h.sent, p)
	if len(h.sent) > 20 {
		h.sent = h.sent[1:]
	}
}

// write has somebody write a signal to the input, or nonsense, perhaps twice.
func (h *histories) write(i int) {
	h.at(i)
	l := h.draft(rapid.SampledFrom([]posture.Facet{posture.Risk, posture.Risk, posture.Hold, posture.Hold, posture.Taint, posture.Revoke, posture.Narrow}).Draw(h.t, "facet"),
		authz.DefaultTenant, []authz.Ref{{Kind: rapid.SampledFrom([]authz.Kind{authz.KindAgent, authz.KindAgent, authz.KindTool, authz.KindSession}).Draw(h.t, "kind"), ID: "1"}}, h.when())
	if l.fact.Facet == posture.Revoke {
		l.keys[0] = authz.Ref{Kind: authz.KindSession, ID: "2"}.In(authz.DefaultTenant)
	}
	h.value(l, signals.Sender{Source: riskTopic.Source})
	l.fact.Source = riskTopic.Source.String()
	record := l.encode(signals.Sender{})
	switch rapid.IntRange(0, 11).Draw(h.t, "record") {
	case 9:
		record = "this is no signal"
	case 10, 11:
		if len(h.raw) > 0 {
			h.count("an old record again")
			record = rapid.SampledFrom(h.raw).Draw(h.t, "again")
		}
	}
	h.raw = append(h.raw, record)
	for range rapid.SampledFrom([]int{1, 1, 2}).Draw(h.t, "times") {
		partition := int32(rapid.IntRange(firstOfInput, partitionsOfAll-1).Draw(h.t, "partition"))
		h.t.Logf("partition %d: %s", partition, record)
		h.log.produce(partition, record)
		h.tally.steps["a record of the input"]++
	}
}

// ahead has a source whose clock is far ahead hold an agent, and let it go again once its
// clock has been put right: its first word counts as of no more than 5 s ahead.
func (h *histories) ahead(i int) {
	about := []authz.Ref{{Kind: authz.KindAgent, ID: rapid.SampledFrom([]string{"1", "2"}).Draw(h.t, "id")}}
	outside := rapid.Bool().Draw(h.t, "by the input")
	say := func(held bool, ahead time.Duration) {
		h.at(i)
		s := h.draft(posture.Hold, authz.DefaultTenant, about, h.now().Add(ahead))
		s.fact.Held, s.permissive = held, !held
		if !outside {
			p := h.bundle(siem, s)
			h.push(i, p)
			h.keep(p)
			return
		}
		h.log.produce(int32(rapid.IntRange(firstOfInput, partitionsOfAll-1).Draw(h.t, "partition")), s.encode(signals.Sender{}))
	}
	say(true, time.Duration(rapid.SampledFrom([]int{6, 60, 86_400}).Draw(h.t, "seconds ahead"))*time.Second)
	h.look()
	time.Sleep(10 * time.Second)
	say(false, 0)
}

// resend pushes what was pushed before, anywhere.
func (h *histories) resend(i int) {
	if len(h.sent) == 0 {
		h.signal(i)
		return
	}
	h.push(i, rapid.SampledFrom(h.sent).Draw(h.t, "again"))
}

func (h *histories) someUp() int {
	var all []int
	for i, up := range h.up {
		if up {
			all = append(all, i)
		}
	}
	return rapid.SampledFrom(all).Draw(h.t, "replica")
}

// boot starts a replica, to which all gets through meanwhile: it is ready when it has all.
func (h *histories) boot(i int) {
	h.nodes[i].behind.Store(0)
	if err := h.nodes[i].boot(); err != nil {
		h.t.Fatalf("replica %d does not start: %v", i, err)
	}
	h.up[i] = true
	applied := h.nodes[i].feed.Progress().Applied
	for p, part := range h.log.parts {
		if applied[p] != part.end() {
			h.t.Fatalf("replica %d is ready with %v, and partition %d ends at %d", i, applied, p, part.end())
		}
	}
}

func (h *histories) step() {
	i := h.someUp()
	switch step := rapid.IntRange(0, 25).Draw(h.t, "step"); step {
	default:
		h.count("signals")
		h.signal(i)
	case 4, 5, 6, 7:
		h.count("writes to the input")
		h.write(i)
	case 8, 9, 10, 11, 12:
		h.count("undo")
		h.undo(i)
	case 13, 14, 15:
		h.count("resend")
		h.resend(i)
	case 16, 17:
		which := uint64(rapid.IntRange(0, 1<<partitionsOfAll-1).Draw(h.t, "partitions that do not get through"))
		h.count("a replica lags")
		h.nodes[i].behind.Store(which)
	case 18, 19:
		h.count("all gets through to a replica")
		h.nodes[i].behind.Store(0)
	case 20:
		h.count("time passes")
		time.Sleep(time.Duration(rapid.SampledFrom([]int{100, 1000, 7000, 31_000, 90_000}).Draw(h.t, "milliseconds")) * time.Millisecond)
	case 21:
		h.count("snapshot")
		h.nodes[i].store.snapshot()
	case 22:
		h.count("prune")
		h.nodes[i].posture.Prune(h.nodes[i].now())
	case 25:
		h.count("a clock far ahead")
		h.ahead(i)
	case 23, 24:
		if down := slices.Index(h.up, false); down >= 0 {
			h.count("start")
			h.boot(down)
		} else if h.up[i] = false; step == 23 {
			h.count("stop")
			h.nodes[i].stop()
		} else {
			h.count("kill")
			h.nodes[i].kill()
		}
	}
}
