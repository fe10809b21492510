package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/go-json-experiment/json"
)

// The load over HTTP. Hot requests are as many as the bar says.
const (
	httpAgents      = 10_000
	httpConnections = 32
	httpEntries     = 1024
	serverProcessor = 0
	clientProcessor = 1
)

// loaded is a server under load, and what is asked of it.
type loaded struct {
	name   string
	server *child
	order  order
	rates  []float64 // requests per second, by round
	costs  []float64 // processor nanoseconds of the server per request, by round
}

// measureHTTP loads engines and a bare server in turn: one processor for whichever server
// is at work, another for the client. All of them are up all the time; those that are not
// asked do nothing.
func (b *bench) measureHTTP(ctx context.Context) error {
	fleet := newFleet(httpAgents)
	b.say("http: starting servers")
	// One engine for each kind of request: what is new would crowd out what is hot.
	engines := make([]*engineProcess, 3)
	for i, cache := range []string{"on", "off", "on"} {
		data, _, err := b.writeData(fleet)
		if err != nil {
			return err
		}
		if engines[i], err = b.serve(ctx, serverProcessor, data, "--cache", cache); err != nil {
			return err
		}
		defer engines[i].stop()
	}
	cached, off, crowded := engines[0], engines[1], engines[2]
	bare, address, err := b.startBare(cached.address)
	if err != nil {
		return err
	}
	defer bare.stop()
	asker, err := b.startSelf(clientProcessor, "client")
	if err != nil {
		return err
	}
	defer asker.stop()

	each := choose(b, 50*time.Millisecond, 100*time.Millisecond)
	hot := order{Connections: httpConnections, Entries: httpEntries, Agents: httpAgents, For: nanos(each), Awake: runtime.NumCPU() > 1}
	fresh := hot
	fresh.Entries = 0
	all := []*loaded{
		{name: "cached", server: cached.child, order: hot.to(cached.address)},
		{name: "bare", server: bare, order: hot.to(address)},
		{name: "off", server: off.child, order: fresh.to(off.address)},
		{name: "bare, new", server: bare, order: fresh.to(address)},
		{name: "new", server: crowded.child, order: fresh.to(crowded.address)},
	}
	busy, err := b.loadInTurn(ctx, asker, all, choose(b, 41, 151))
	if err != nil {
		return err
	}
	note := fmt.Sprintf("%d connections; beside the bare server the client was at work for %s of the time", httpConnections, percent(busy))
	for _, r := range []struct {
		id, what   string
		work, bare *loaded
	}{
		{"http.cached", "cached decisions over HTTP, 1,024 hot entries", all[0], all[1]},
		{"http.off", "every request new, cache off, 12 rules", all[2], all[3]},
		{"http.new", "every request new, cache on, 12 rules", all[4], all[3]},
	} {
		b.add(ratio(r.id+".throughput", r.what, "a bare fasthttp server", perSecond, r.work.rates, r.bare.rates, note))
		note = ""
		if r.work.costs[0] > 0 {
			b.add(ratio(r.id+".cpu", r.what+": processor time per request", "a bare fasthttp server", nanoseconds, r.work.costs, r.bare.costs, ""))
		}
	}
	return nil
}

func (o order) to(address string) order {
	o.Address = address
	return o
}

// startBare starts a bare server that answers what an engine answers to the first request.
func (b *bench) startBare(engine string) (*child, string, error) {
	body, err := oneAnswer(engine)
	if err != nil {
		return nil, "", err
	}
	file := filepath.Join(b.dir, "answer.json")
	if err := os.WriteFile(file, body, 0o600); err != nil {
		return nil, "", err
	}
	c, err := b.startSelf(serverProcessor, "bare", file)
	if err != nil {
		return nil, "", err
	}
	address, err := c.line()
	return c, address, err
}

// loadInTurn puts each load on for so many rounds, after a first one that only warms up.
// It gives the share of its time that the client was at work, while it loaded the bare
// server.
func (b *bench) loadInTurn(ctx context.Context, asker *child, all []*loaded, rounds int) (float64, error) {
	var busy []float64
	for round := range rounds + 1 {
		if round%10 == 0 {
			b.say("http: round %d of %d", round, rounds)
		}
		for _, l := range all {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			before := processorTime(l.server.cmd.Process.Pid)
			t, err := asker.obey(l.order)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", l.name, err)
			}
			used := processorTime(l.server.cmd.Process.Pid) - before
			if round == 0 {
				continue
			}
			l.rates = append(l.rates, float64(t.Answered)/time.Duration(t.Took).Seconds())
			l.costs = append(l.costs, float64(used)/float64(t.Answered))
			if l.name == "bare" {
				busy = append(busy, float64(t.Worked)/float64(t.Took))
			}
		}
	}
	return median(busy), nil
}

// obey gives a client an order and waits until it is done.
func (c *child) obey(o order) (tally, error) {
	line, err := json.Marshal(o)
	if err != nil {
		return tally{}, err
	}
	if _, err := c.input.Write(append(line, '\n')); err != nil {
		return tally{}, err
	}
	text, err := c.line()
	if err != nil {
		return tally{}, err
	}
	var t tally
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return tally{}, err
	}
	if t.Err != "" {
		return t, errors.New(t.Err)
	}
	if t.Answered == 0 {
		return t, errors.New("nothing was answered")
	}
	return t, nil
}
