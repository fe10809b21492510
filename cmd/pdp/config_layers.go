package main

import (
	"slices"
	"strings"

	"vigil/spell"
)

// environment is the process's environment. This package alone reads it, and reads it
// through here, so that a test can give another one.
type environment []string

func (e environment) lookup(name string) (string, bool) {
	// The last one counts, as it does for os/exec.
	for _, pair := range slices.Backward(e) {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value, true
		}
	}
	return "", false
}

func (e environment) get(name string) string {
	value, _ := e.lookup(name)
	return value
}

// The variables of Vigil that are no settings: they are for the command line's client.
var clientVariables = []string{
	"VIGIL_CONFIG", "VIGIL_DECISION_URL", "VIGIL_CONTROL_URL", "VIGIL_TOKEN_FILE", "VIGIL_CA_FILE", "VIGIL_CERT_FILE", "VIGIL_KEY_FILE", "VIGIL_ACTOR",
	"VIGIL_WAIT_TOKEN_FILE",
}

// readEnvironment lays the environment over the file. A variable that nearly has the
// name of a setting stops the start; others with the prefix do not, for orchestrators
// make some of their own (a Kubernetes service "vigil" makes VIGIL_PORT).
func (c *config) readEnvironment(env environment) problems {
	var all problems
	known := slices.Clone(clientVariables)
	for i := range settings {
		s := &settings[i]
		known = append(known, s.variable())
		value, ok := env.lookup(s.variable())
		if !ok {
			continue
		}
		c.at[s.path] = s.variable()
		if err := s.set(c, value); err != nil {
			all.add(s.variable(), "%s", err)
		}
	}
	bare := make([]string, len(known))
	for i := range known {
		bare[i] = strings.TrimPrefix(known[i], "VIGIL_")
	}
	for _, pair := range env {
		name, _, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "VIGIL_") || slices.Contains(known, name) {
			continue
		}
		// Other variables of that prefix may be somebody else's; only a near miss is an error.
		if near := spell.Nearest(strings.TrimPrefix(name, "VIGIL_"), bare); near != "" {
			all.add(name, "no such variable; did you mean VIGIL_%s?", near)
		}
	}
	return all
}

// readFlags lays the flags over everything. They are keyed by the setting's path.
func (c *config) readFlags(flags map[string]string) problems {
	var all problems
	for i := range settings {
		s := &settings[i]
		value, ok := flags[s.path]
		if !ok {
			continue
		}
		c.at[s.path] = "--" + s.flag()
		if err := s.set(c, value); err != nil {
			all.add("--"+s.flag(), "%s", err)
		}
	}
	return all
}
