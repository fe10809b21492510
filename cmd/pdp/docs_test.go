package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// These tests hold what the documents say of settings, variables and commands against the
// program.

func document(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

var (
	codeSpan  = regexp.MustCompile("`([^`]+)`")
	codeBlock = regexp.MustCompile("(?s)```.*?```")
)

// codeSpans gives what stands between backticks within the text.
func codeSpans(text string) []string {
	var all []string
	for _, m := range codeSpan.FindAllStringSubmatch(codeBlock.ReplaceAllString(text, ""), -1) {
		all = append(all, m[1])
	}
	return all
}

// TestEverySettingIsInOperationsWithItsDefault: the table of settings and the example of a
// log on Kafka have every setting, the table has none that is not one, and making a
// setting what the table calls its default changes nothing.
func TestEverySettingIsInOperationsWithItsDefault(t *testing.T) {
	text := document(t, "docs/operations.md")
	_, table, _ := strings.Cut(text, "| setting | default | meaning |")
	table, _, _ = strings.Cut(table, "\n\n")
	documented := map[string]bool{}
	env := environment{"HOME=/nowhere"}
	for row := range strings.Lines(table) {
		cells := strings.Split(row, "|")
		if len(cells) < 4 || strings.HasPrefix(cells[1], "---") {
			continue
		}
		var paths []string
		for _, name := range codeSpans(cells[1]) {
			if rest, ok := strings.CutPrefix(name, "."); ok && len(paths) > 0 {
				last := paths[len(paths)-1]
				name = last[:strings.LastIndex(last, ".")+1] + rest
			}
			paths = append(paths, name)
		}
		defaults := codeSpans(cells[2])
		for i, path := range paths {
			documented[path] = true
			s := settingAt(path)
			if s == nil {
				if path != "clients" && path != "issuers" && !strings.HasSuffix(path, ".*") {
					t.Errorf("%s is in the table and no setting", path)
				}
				continue
			}
			if len(defaults) != len(paths) || path == "data_dir" {
				continue
			}
			c, untouched := defaultConfig(env), defaultConfig(env)
			if err := s.set(c, defaults[i]); err != nil || !reflect.DeepEqual(c, untouched) {
				t.Errorf("%s: %q is not its default (%v)", path, defaults[i], err)
			}
		}
	}
	_, example, _ := strings.Cut(text, "```yaml\nlog:\n")
	example, _, _ = strings.Cut(example, "```")
	var parsed map[string]any
	if err := yaml.Unmarshal([]byte("log:\n"+example), &parsed); err != nil {
		t.Fatal(err)
	}
	var walk func(prefix string, values map[string]any)
	walk = func(prefix string, values map[string]any) {
		for name, value := range values {
			documented[prefix+name] = true
			if inner, ok := value.(map[string]any); ok {
				walk(prefix+name+".", inner)
			}
		}
	}
	walk("", parsed)
	for _, span := range codeSpans(text) {
		if strings.HasPrefix(span, "log.") {
			documented[span] = true
		}
	}
	for i := range settings {
		if !documented[settings[i].path] {
			t.Errorf("docs/operations.md does not name the setting %s", settings[i].path)
		}
	}
}

// TestEveryKeyOfTheConfigurationIsDocumented: what a client, an input, an issuer and a
// claim can be told.
func TestEveryKeyOfTheConfigurationIsDocumented(t *testing.T) {
	key := regexp.MustCompile(`(?m)^\t+case "(\w+)":$`)
	for source, in := range map[string]string{
		"config_clients.go": "docs/operations.md", "config_kafka.go": "docs/operations.md",
		"config_issuers.go": "docs/ssf.md", "config_streams.go": "docs/ssf.md", "config_principal.go": "docs/api.md",
	} {
		text := document(t, in)
		found := key.FindAllStringSubmatch(document(t, "cmd/pdp/"+source), -1)
		for _, m := range found {
			if !regexp.MustCompile(`\b` + m[1] + "(:|`)").MatchString(text) {
				t.Errorf("%s does not name the key %s of %s", in, m[1], source)
			}
		}
	}
}

// TestEveryVariableOfACommandIsKnown: a variable that a command reads is none that a start
// takes for a slip of another, and docs/operations.md names it.
func TestEveryVariableOfACommandIsKnown(t *testing.T) {
	text := document(t, "docs/operations.md")
	var variables []string
	err := kong.Visit(commandLine(t).Model, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			variables = append(variables, flag.Envs...)
		}
		return next(nil)
	})
	if err != nil || len(variables) == 0 {
		t.Fatal(variables, err)
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(variables))) {
		c := defaultConfig(nil)
		if all := c.readEnvironment(environment{name + "=/some/value"}); len(all) > 0 {
			t.Errorf("%s stops a start: %v", name, all)
		}
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("docs/operations.md does not name %s", name)
		}
	}
}

func commandLine(t *testing.T) *kong.Kong {
	t.Helper()
	var tree commands
	parser, err := kong.New(&tree, kong.Name("pdp"), kong.Writers(io.Discard, io.Discard), kong.Exit(func(int) {}),
		kong.Vars{"decision": "http://" + defaultDecision, "control": "http://" + defaultControl})
	if err != nil {
		t.Fatal(err)
	}
	return parser
}

// TestEveryCommandInTheDocumentsIsOne: the commands, flags and choices that a document
// names are there. What an example leaves out does not matter.
func TestEveryCommandInTheDocumentsIsOne(t *testing.T) {
	names, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	examples, err := filepath.Glob("../../examples/*/*.md")
	if err != nil {
		t.Fatal(err)
	}
	names = append(names, examples...)
	seen := 0
	for _, name := range append(names, "../../README.md") {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(data), "\\\n", " ")
		lines := codeSpans(text)
		for line := range strings.Lines(text) {
			lines = append(lines, strings.TrimSpace(line))
		}
		for _, line := range lines {
			args, ok := commandIn(line)
			if !ok {
				continue
			}
			seen++
			_, err := commandLine(t).Parse(args)
			var parse *kong.ParseError
			if err != nil && (!errors.As(err, &parse) || !leftOut.MatchString(err.Error())) {
				t.Errorf("%s: %s\n\t%v", name, line, err)
			}
		}
	}
	if seen < 50 {
		t.Errorf("only %d commands were found", seen)
	}
}

// leftOut are the errors of a command that is not whole.
var leftOut = regexp.MustCompile(`^(expected |missing flags: |--\S+: expected .* but got "EOL"|--\S+: missing value)`)

// commandIn gives the arguments of pdp in a line of a shell.
func commandIn(line string) ([]string, bool) {
	_, after, ok := strings.Cut(" "+strings.ReplaceAll(line, "bin/pdp", "pdp"), " pdp ")
	if before, _, _ := strings.Cut(" "+line, "pdp "); !ok || strings.Trim(before, " bin/") != "" {
		return nil, false
	}
	var args []string
	for _, m := range shellWord.FindAllStringSubmatch(after, -1) {
		word := strings.Trim(m[0], "[]")
		if word[0] == '#' || strings.ContainsAny(word[:1], "|<>&;") {
			break
		}
		if strings.Contains(word, "…") || word == "VERB" {
			break
		}
		args = append(args, strings.ReplaceAll(strings.Trim(word, `'"`), "$", "x"))
	}
	return args, len(args) > 0
}

var shellWord = regexp.MustCompile(`'[^']*'|"[^"]*"|\S+`)
