package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"vigil/authz"
	"vigil/rules"
)

type rulesCmd struct {
	Check  rulesCheckCmd  `cmd:"" help:"Load rules as serve would, and say everything that is wrong with them."`
	Test   rulesTestCmd   `cmd:"" help:"Run the tests that stand beside the rules. Exit 1 when one fails."`
	Schema rulesSchemaCmd `cmd:"" help:"Print or write the JSON Schemas of the files, for editors."`
	Seal   rulesSealCmd   `cmd:"" help:"Write the SHA-256 of the files into bundle.yaml."`
}

type rulesCheckCmd struct {
	Dir         []string `arg:"" help:"Folders with a bundle.yaml."`
	RequireSeal bool     `help:"Refuse rules that are not sealed."`
	format
}

// bundleReport is what check says of one folder, for a machine.
type bundleReport struct {
	Dir    string        `json:"dir"`
	OK     bool          `json:"ok"`
	Digest string        `json:"digest,omitzero"`
	Rules  int           `json:"rules"`
	Errors []bundleError `json:"errors,omitzero"`
}

type bundleError struct {
	File    string `json:"file,omitzero"`
	Line    int    `json:"line,omitzero"`
	Column  int    `json:"column,omitzero"`
	Rule    string `json:"rule,omitzero"`
	Message string `json:"message"`
}

func (c *rulesCheckCmd) Run(a *app) error {
	var reports []bundleReport
	good := true
	for _, dir := range c.Dir {
		bundle, set, errs := rules.LoadDirWith(dir, rules.LoadOptions{RequireSeal: c.RequireSeal})
		r := bundleReport{Dir: dir, OK: len(errs) == 0}
		if r.OK {
			r.Digest, r.Rules = set.Digest(), len(bundle.Rules)
		}
		good = good && r.OK
		for _, e := range errs {
			r.Errors = append(r.Errors, bundleError{e.Pos.File, e.Pos.Line, e.Pos.Column, e.Rule, e.Message})
		}
		reports = append(reports, r)
		switch {
		case c.json():
		case r.OK:
			fmt.Fprintf(a.stdout, "ok: %s: %d rules, %s\n", dir, r.Rules, r.Digest)
		default:
			fmt.Fprintln(a.stderr, inDir(dir, errs).Error())
		}
	}
	if c.json() {
		if err := a.printJSON(reports); err != nil {
			return err
		}
	}
	if !good {
		return silent(exitInput)
	}
	return nil
}

// inDir makes the files of errors paths that an editor or a terminal can open. What is wrong
// with no file is wrong with the folder, if it is not the number of those that are not shown.
func inDir(dir string, errs rules.Errors) rules.Errors {
	all := make(rules.Errors, len(errs))
	for i, e := range errs {
		if e.Pos.File != "" || len(errs) == 1 {
			e.Pos.File = filepath.Join(dir, e.Pos.File)
		}
		all[i] = e
	}
	return all
}

type rulesSchemaCmd struct {
	File string `arg:"" optional:"" help:"Print only this one. Without it, their names."`
	Out  string `help:"Write all of them into this folder." placeholder:"DIR"`
}

func (c *rulesSchemaCmd) Run(a *app) error {
	var names []string
	for _, schema := range rules.Schema() {
		names = append(names, schema.Name)
		switch {
		case c.Out != "":
			name := filepath.Join(c.Out, schema.Name)
			if err := os.WriteFile(name, schema.JSON, 0o644); err != nil {
				return badInput("%s: %s", name, notMade(name, err))
			}
		case c.File == schema.Name:
			_, err := a.stdout.Write(schema.JSON)
			return err
		}
	}
	if c.File != "" {
		return badInput("there is no schema %q: want one of %s", c.File, strings.Join(names, ", "))
	}
	if c.Out == "" {
		fmt.Fprintln(a.stdout, strings.Join(names, "\n"))
	}
	return nil
}

type rulesSealCmd struct {
	Dir string `arg:"" help:"Folder with a bundle.yaml."`
}

func (c *rulesSealCmd) Run(a *app) error {
	if err := rules.WriteSeal(c.Dir); err != nil {
		return badInput("%s", err)
	}
	_, set, errs := rules.LoadDirWith(c.Dir, rules.LoadOptions{RequireSeal: true})
	if len(errs) > 0 {
		fmt.Fprintln(a.stderr, inDir(c.Dir, errs).Error())
		return silent(exitInput)
	}
	fmt.Fprintf(a.stdout, "sealed: %s: %s\n", c.Dir, set.Digest())
	return nil
}

type rulesTestCmd struct {
	Dir             []string `arg:"" help:"Folders with a bundle.yaml."`
	Match           string   `name:"run" help:"Only cases whose file/name matches this regular expression." placeholder:"REGEXP"`
	Format          string   `help:"table, junit or json; the last two take one folder." enum:"table,junit,json" default:"table"`
	RequireCoverage string   `help:"Fail unless some case exercises every such rule: deny (and require), or all." enum:"none,deny,all" default:"none"`
	configFile
}

func (c *rulesTestCmd) Run(a *app) error {
	if len(c.Dir) > 1 && c.Format != "table" {
		return badInput("--format %s takes one folder at a time", c.Format)
	}
	runner, err := newRuleTestRunner(a.env, c.Match, c.Config)
	if err != nil {
		return err
	}
	code := exitOK
	for _, dir := range c.Dir {
		report, errs := runner.run(dir)
		if len(errs) > 0 {
			fmt.Fprintln(a.stderr, inDir(dir, errs).Error())
			code = exitInput
			continue
		}
		if len(c.Dir) > 1 {
			fmt.Fprintf(a.stdout, "%s:\n", dir)
		}
		write := map[string]func(io.Writer) error{"table": report.WriteTable, "junit": report.WriteJUnit, "json": report.WriteJSON}
		if err := write[c.Format](a.stdout); err != nil {
			return err
		}
		uncovered := uncoveredRules(report, c.RequireCoverage)
		if len(uncovered) > 0 {
			fmt.Fprintf(a.stderr, "pdp: %s: no case exercises %s, and --require-coverage %s asks for it\n", dir, strings.Join(uncovered, ", "), c.RequireCoverage)
		}
		if len(report.Results) == 0 {
			fmt.Fprintf(a.stderr, "pdp: %s: no test ran; tests stand beside the rules in files named *_test.yaml, and --run chooses among them\n", dir)
		}
		if code == exitOK && (!report.OK() || len(uncovered) > 0) {
			code = exitDeny
		}
	}
	if code != exitOK {
		return silent(code)
	}
	return nil
}

// uncoveredRules are the rules that no case exercised, among those that must be: the
// ones that restrict, or all.
func uncoveredRules(r *rules.Report, coverage string) []string {
	var ids []string
	switch coverage {
	case "all":
		ids = r.Uncovered(authz.Allow)
		fallthrough
	case "deny":
		ids = append(ids, r.Uncovered(authz.Deny)...)
		ids = append(ids, r.Uncovered(authz.Require)...)
	}
	slices.Sort(ids)
	return ids
}
