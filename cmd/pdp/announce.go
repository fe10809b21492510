package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-json-experiment/json"

	"vigil/authz"
	"vigil/posture"
)

// announce says what listens where and what to try next, once everything answers.
func (n *node) announce(addressFile string) error {
	decision := portURL(n.ports.decision.Addr(), n.ports.decisionTLS != nil)
	control := portURL(n.ports.control.Addr(), n.ports.controlTLS != nil)
	out := n.app.stdout
	state := n.rules.State()
	fmt.Fprintf(out, "Vigil %s: %d rules %s, %d entities\n", version(), len(state.Bundle.Rules), shortDigest(state.Set.Digest()), total(n.posture.Len()))
	fmt.Fprintf(out, "  decisions  %s\n  control    %s\n", decision, control)
	if len(n.ports.tokenFiles) > 0 {
		fmt.Fprintf(out, "  token      %s\n", n.ports.tokenFiles[0])
	}
	fmt.Fprintf(out, "  data       %s\n", n.cfg.DataDir)
	n.suggest(decision, control)
	if addressFile == "" {
		return nil
	}
	data, err := json.Marshal(map[string]string{"decision": decision, "control": control}, json.Deterministic(true))
	if err != nil {
		return err
	}
	if err := writePrivate(addressFile, string(data)); err != nil {
		return badInput("--address-file: %s: %s", addressFile, plainOSError(err))
	}
	return nil
}

// portURL is the address of a port as commands take it.
func portURL(address net.Addr, secure bool) string {
	where := reachable(address)
	switch {
	case strings.HasPrefix(where, "unix:"):
		return where
	case secure:
		return "https://" + where
	}
	return "http://" + where
}

func total(byKind [authz.NumKinds]int) int {
	sum := 0
	for _, n := range byKind {
		sum += n
	}
	return sum
}

// suggest prints commands to try, with a request that stands beside the rules and an
// agent that is known.
func (n *node) suggest(decision, control string) {
	requests, err := filepath.Glob(filepath.Join(n.cfg.Rules.Dir, "..", "requests", "*.json"))
	if err != nil || len(requests) == 0 || !strings.HasPrefix(decision, "http://") {
		return
	}
	request := requests[0]
	for _, name := range requests {
		if len(name) < len(request) {
			request = name // the plain case has the shortest name
		}
	}
	agent := ""
	n.posture.Walk(func(key authz.Key, _ *posture.Record) bool {
		if key.Kind == authz.KindAgent {
			agent = key.Ref().String()
		}
		return agent == ""
	})
	fmt.Fprintf(n.app.stdout, "Try, in another shell:\n  curl -s %s/access/v1/evaluation -H 'content-type: application/json' -d @%s\n",
		strings.TrimPrefix(decision, "http://"), request)
	program, at := shownProgram(), ""
	if control != "http://"+defaultControl {
		at = " --control-url " + control
	}
	if agent != "" {
		fmt.Fprintf(n.app.stdout, "  %s signal quarantine %s --reason 'beaconing'%s\n", program, agent, at)
	}
	fmt.Fprintf(n.app.stdout, "  %s explain %s%s\n", program, request, at)
	if agent != "" {
		fmt.Fprintf(n.app.stdout, "  %s signal release %s --reason 'false alarm'%s\n", program, agent, at)
	}
}

// shownProgram is how this program can be called from the current folder.
func shownProgram() string {
	program, err := os.Executable()
	if err != nil {
		return "pdp"
	}
	if here, err := os.Getwd(); err == nil {
		if name, err := filepath.Rel(here, program); err == nil && !strings.HasPrefix(name, "..") {
			return name
		}
	}
	return "pdp"
}

// removeRuntimeToken removes the local token from where commands find it: a later engine
// on this port has another.
func (n *node) removeRuntimeToken() {
	for _, name := range n.ports.tokenFiles {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			n.log.Warn("the local token stays", "file", name, "error", err)
		}
	}
}
