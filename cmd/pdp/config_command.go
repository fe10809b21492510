package main

import (
	"fmt"
	"slices"
	"strings"

	"vigil/rules"
)

type configCmd struct {
	Check configCheckCmd `cmd:"" help:"Read the configuration as serve would, and say everything that is wrong with it."`
}

type configCheckCmd struct {
	configFile
	settingFlags
	NoRules bool `help:"Do not look into the folder of the rules."`
}

func (c *configCheckCmd) Run(a *app) error {
	cfg, err := loadConfig(c.Config, a.env, c.byPath())
	if err != nil {
		return &failure{code: exitInput, err: err}
	}
	for _, w := range cfg.warnings() {
		fmt.Fprintln(a.stderr, "warning:", w)
	}
	var all problems
	for _, name := range []string{"decision", "control"} {
		if _, err := cfg.portTLS(name); err != nil {
			all.add(cfg.where(name+".tls.cert"), "%s", err)
		}
	}
	if len(all) > 0 {
		return &failure{code: exitInput, err: all}
	}
	if cfg.Log.Kind == "kafka" {
		if _, err := cfg.kafka(nil, nil); err != nil {
			return &failure{code: exitInput, err: err}
		}
	}
	if !c.NoRules {
		bundle, _, errs := rules.LoadDir(cfg.Rules.Dir)
		if len(errs) > 0 {
			fmt.Fprintln(a.stderr, errs.Error())
			return silent(exitInput)
		}
		if all := cfg.checkAgainst(bundle); len(all) > 0 {
			return &failure{code: exitInput, err: all}
		}
		for _, w := range cfg.unheard(bundle) {
			fmt.Fprintln(a.stderr, "warning:", w)
		}
	}
	fmt.Fprintf(a.stdout, "ok: decisions on %s, control on %s, %d clients, data in %s\n",
		cfg.Decision.Listen, cfg.Control.Listen, len(cfg.Clients), cfg.DataDir)
	if cfg.Log.Kind == "kafka" {
		fmt.Fprintln(a.stdout, "signals:", cfg.Log.Kafka.shown())
		if from := cfg.Log.Bootstrap.From; len(from) > 0 {
			fmt.Fprintln(a.stdout, "where the log no longer has its beginning, a snapshot from:", strings.Join(from, ", "))
		}
	}
	return nil
}

// checkAgainst finds what the configuration names and the rules do not declare.
func (c *config) checkAgainst(bundle *rules.Bundle) problems {
	var all problems
	declared := []string{}
	for name := range bundle.Profiles {
		declared = append(declared, name)
	}
	slices.Sort(declared)
	for _, class := range c.classes {
		if bundle.Profiles[class.name] == nil {
			all.add(class.where, "the rules declare no class %q%s", class.name, didYouMean(class.name, declared))
		}
	}
	return all
}
