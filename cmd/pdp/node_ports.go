package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"time"

	"vigil/authz"
	"vigil/posture"
	"vigil/server/control"
	"vigil/server/credential"
	"vigil/server/decision"
	"vigil/server/recent"
	"vigil/signals"
)

// ports are the two listeners and how they are secured.
type ports struct {
	decision, control       net.Listener
	decisionTLS, controlTLS *tls.Config // nil for none
	// How many connections each takes.
	decisionMost, controlMost int
	tokenFiles                []string // of the local token
}

// linesQueue bounds the decision log lines that wait to be written.
const linesQueue = 4096

// openPorts listens on both ports, so that a port that is taken is found at once. They
// answer health from servePorts on, and everything else when the node is ready.
func (n *node) openPorts() (err error) {
	defer func() {
		if err != nil {
			n.closePorts()
		}
	}()
	var warnings []string
	n.ports.decisionMost, n.ports.controlMost, warnings = n.cfg.connectionLimits(descriptors())
	for _, w := range warnings {
		n.log.Warn(w)
	}
	n.ports.decision, n.ports.decisionTLS, err = n.listen("decision", &n.cfg.Decision)
	if err != nil {
		return err
	}
	n.ports.control, n.ports.controlTLS, err = n.listen("control", &n.cfg.Control)
	if err != nil {
		return err
	}
	if err := n.openClients(); err != nil {
		return err
	}
	mode, err := recent.ParseMode(n.cfg.Logging.Decisions)
	if err != nil {
		return &failure{code: exitInput, err: err}
	}
	n.lines = recent.NewLog(n.log, mode, linesQueue)
	if n.decision, err = decision.New(n.decisionConfig()); err != nil {
		return &failure{code: exitInput, err: err}
	}
	if n.control, err = control.New(n.controlConfig()); err != nil {
		return &failure{code: exitInput, err: err}
	}
	return nil
}

func (n *node) listen(name string, p *portConfig) (net.Listener, *tls.Config, error) {
	secure, err := n.cfg.portTLS(name)
	if err != nil {
		return nil, nil, &failure{code: exitInput, err: fmt.Errorf("%s: %w", n.cfg.where(name+".tls.cert"), err)}
	}
	l, err := decision.Listen(p.Listen)
	if err != nil {
		return nil, nil, &failure{code: exitInput, err: fmt.Errorf("%s: %w", n.cfg.where(name+".listen"), err),
			hint: fmt.Sprintf("Is another engine running? Choose another address with --%s-listen or VIGIL_%s_LISTEN.", name, strings.ToUpper(name))}
	}
	return l, secure, nil
}

// portTLS reads the certificates of a port; nil where it has none.
func (c *config) portTLS(name string) (*tls.Config, error) {
	p := &c.Decision
	if name == "control" {
		p = &c.Control
	}
	if p.TLS.Cert == "" {
		return nil, nil
	}
	return decision.TLSConfig(p.TLS.Cert, p.TLS.Key, p.TLS.ClientCA)
}

// record gives the record in force of an entity. It is called after decisions only, and
// so after the posture was there.
func (n *node) record(key authz.Key) *posture.Record { return n.posture.Get(key) }

func (n *node) decisionConfig() decision.Config {
	unavailable := decision.UnavailableError
	if n.cfg.Unavailable == "deny" {
		unavailable = decision.UnavailableDeny
	}
	return decision.Config{
		Engine: n.engine, Mapping: &n.cfg.Principal, Credentials: n.clients,
		Ready: n.ready,
		Strict: func() error {
			if all := n.degraded(); len(all) > 0 {
				return errors.New(strings.Join(all, "; "))
			}
			return nil
		},
		AtLeast: n.feed, Now: n.now, Recent: n.ring, Log: n.lines, Logger: n.log,
		Unavailable: unavailable, Hosts: n.cfg.Decision.Hosts, PublicURL: n.cfg.PublicURL,
		Drain: n.cfg.Drain,
		Limits: decision.Limits{
			Body: int(n.cfg.MaxBody), Connections: n.ports.decisionMost, PerAddress: n.cfg.MaxPerAddress,
		},
	}
}

func (n *node) controlConfig() control.Config {
	return control.Config{
		Clients: n.clients, Now: n.now, Clock: n.clockStatus, Ready: n.readiness,
		Principal: n.cfg.Principal.Principal, Decisions: n.decisionCounts,
		Build: control.Build{Version: version(), Revision: revision(), GoVersion: runtime.Version()},
		Log:   n.log, TLS: n.ports.controlTLS, Hosts: n.cfg.Control.Hosts, Pprof: n.cfg.Pprof,
		Limits: control.Limits{Connections: n.ports.controlMost},
	}
}

func (n *node) readiness() control.Readiness {
	r := control.Readiness{Ready: true, Degraded: n.degraded()}
	err := n.ready()
	if err == nil && n.draining.Load() {
		err = errDraining
	}
	if err != nil {
		r.Ready, r.Reasons = false, []string{err.Error()}
	}
	return r
}

func (n *node) clockStatus() control.ClockStatus {
	s := control.ClockStatus{Ahead: time.Duration(n.now() - authz.InstantOf(time.Now())).Seconds()}
	if err := n.clock.Err(); err != nil {
		s.Error = err.Error()
	}
	return s
}

// decisionCounts gives what the decision port counted in the words of the metrics.
func (n *node) decisionCounts() control.DecisionCounts {
	stats := n.decision.Stats()
	out := control.DecisionCounts{
		Decisions:  map[control.DecisionLabel]uint64{},
		RuleErrors: stats.RuleErrors,
		Observed:   map[control.ObservationLabel]uint64{},
		LogDropped: n.lines.Dropped(),
		Responses:  stats.Responses, Unavailable: stats.Unavailable, Overloaded: stats.Overloaded, Panics: stats.Panics,
		Connections: stats.Connections, InFlight: stats.InFlight, Waiting: stats.Waiting,
		Duration: control.Histogram{Sum: stats.Duration.Seconds(), Buckets: map[float64]uint64{}},
	}
	for effect := range stats.Decisions {
		for class, count := range stats.Decisions[effect] {
			// An alert is about the stale ones: their first burst is an increase only if there was a 0 before.
			if count > 0 || authz.Class(class) == authz.ClassStale && authz.Effect(effect) != authz.Allow {
				out.Decisions[control.DecisionLabel{Effect: authz.Effect(effect), Class: authz.Class(class)}] = count
			}
		}
	}
	for o, count := range stats.Observed {
		out.Observed[control.ObservationLabel{Rule: o.Rule, Effect: o.Effect}] = count
	}
	for i, count := range stats.Durations {
		out.Duration.Count += count
		if i < len(decision.DurationBuckets) {
			out.Duration.Buckets[decision.DurationBuckets[i].Seconds()] = out.Duration.Count
		}
	}
	return out
}

// journalCounts is how the log does, in the words of the metrics.
func (n *node) journalCounts() control.JournalCounts {
	stats := n.journal.Stats()
	return control.JournalCounts{
		Segments: stats.Segments, Bytes: stats.Bytes, Failures: stats.Failures,
		LastSync: stats.LastSync, LongestSync: stats.LongestSync, Pending: stats.PendingRecords,
	}
}

// kafkaCounts is how the log on Kafka does, in the words of the metrics.
func (n *node) kafkaCounts() control.KafkaCounts {
	stats := n.kafka.Stats()
	counts := control.KafkaCounts{
		Partitions: len(stats.Partitions), Lag: map[string]int64{}, ProduceErrors: uint64(stats.ProduceErrors),
	}
	for _, p := range stats.Partitions {
		counts.Lag[p.Name] = p.Lag
		counts.Reconnects += uint64(p.Reconnects)
		counts.FetchErrors += uint64(p.FetchErrors)
	}
	return counts
}

// servePorts answers on both ports until they are shut down. A port that ends by itself
// ends the node.
func (n *node) servePorts() {
	serve := func(name string, f func() error) {
		n.start(func() {
			if err := f(); err != nil {
				n.fail(fmt.Errorf("the %s port: %w", name, err))
			}
		})
	}
	serve("decision", func() error {
		if n.ports.decisionTLS != nil {
			return n.decision.ServeTLS(n.ports.decision, n.ports.decisionTLS)
		}
		return n.decision.Serve(n.ports.decision)
	})
	serve("control", func() error { return n.control.Serve(decision.Patient(n.ports.control, n.log)) })
}

// closePorts closes what openPorts opened and stop has not shut down.
func (n *node) closePorts() {
	if n.decision != nil {
		_ = n.decision.Close()
	}
	if n.control != nil {
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		_ = n.control.Shutdown(gone)
	}
	for _, l := range []net.Listener{n.ports.decision, n.ports.control} {
		if l != nil {
			l.Close() // closed twice, mostly, which harms nothing
		}
	}
	if n.lines != nil {
		n.lines.Close()
	}
	n.removeRuntimeToken()
}

// everything is an authority without limits.
func everything() signals.Authority {
	return signals.Authority{
		Types: []string{"*"}, Kinds: []string{"*", authz.KindEverything.String(), authz.KindSource.String()},
		Tenants: []string{authz.DefaultTenant}, Overrule: true,
	}
}

// localSender is who holds the local token, as a source of signals.
func localSender() signals.Sender {
	return signals.Sender{Source: signals.Source{Kind: "client", Name: "local"}, Authority: everything()}
}

// openClients makes the register of clients: the configured ones, or else one for the
// user who runs this; and one without a credential for decisions over loopback, where
// that is wanted.
func (n *node) openClients() error {
	all := append([]credential.Client(nil), n.cfg.Clients...)
	tenants := []string{authz.DefaultTenant}
	// Without clients this is somebody's own machine: subjects that the rules let act
	// without an agent may.
	var agentless []string
	if len(all) == 0 {
		agentless = n.rules.State().Bundle.Agentless.Types
		token, files, err := leaveLocalToken(n.app.env, n.cfg.DataDir, n.ports.control.Addr())
		if err != nil {
			return &failure{code: exitInput, err: fmt.Errorf("the local token: %w", err)}
		}
		n.ports.tokenFiles = files
		all = append(all, credential.Client{
			Name: "local", Scopes: credential.Decide | credential.Signal | credential.Read | credential.Admin,
			Caller: authz.Caller{Name: "local", Tenants: tenants, Agentless: agentless, Full: true},
			Sender: localSender(), TokenHashes: [][32]byte{credential.HashToken(token)},
		})
	}
	if n.cfg.Anonymous == "loopback" {
		all = append(all, credential.Client{
			Name: "anonymous", Scopes: credential.Decide, Anonymous: true,
			Caller: authz.Caller{Name: "anonymous", Tenants: tenants, Agentless: agentless},
		})
	}
	var err error
	n.clients, err = credential.New(all)
	if err != nil {
		return &failure{code: exitInput, err: fmt.Errorf("%s: %w", n.cfg.where("clients"), err)}
	}
	return nil
}
