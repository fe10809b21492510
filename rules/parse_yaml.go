package rules

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxDepth is how deep YAML may be nested. The deepest legal place, inside the properties of
// a test's request, is far above.
const maxDepth = 32

// document is one YAML file while it is read. Its methods add to errs what they find wrong
// and go on, so that an author sees everything at once; their second result then says that
// there is nothing to use.
type document struct {
	bundle *Bundle
	text   *sourceText
	errs   *errorList
	rule   string // the id of the rule being read, for messages

	failures int // how often fail was called
}

// openDocument reads the YAML of one file. It gives nil where there is nothing to go on
// with.
func (b *Bundle) openDocument(file string, errs *errorList) (*document, *yaml.Node) {
	text := b.text(file)
	d := &document{bundle: b, text: text, errs: errs}
	if found := text.checkText(); len(found) > 0 {
		for _, e := range found {
			errs.add(e)
		}
		return d, nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text.data))
	root, err := decodeNode(decoder)
	switch {
	case errors.Is(err, io.EOF) || (err == nil && len(root.Content) != 1):
		errs.add(Error{Pos: Pos{File: file}, Message: "is empty"})
		return d, nil
	case err != nil:
		d.syntax(err)
		return d, nil
	}
	if next, err := decodeNode(decoder); err == nil {
		d.fail(next, "a second YAML document; a file holds one")
	} else if !errors.Is(err, io.EOF) {
		d.syntax(err)
		return d, nil
	}
	content := root.Content[0]
	if !d.checkNodes(content, 1) {
		return d, nil
	}
	return d, content
}

// decodeNode reads one YAML document. The library panics where it finds itself wrong; that
// is an error in the file here.
func decodeNode(decoder *yaml.Decoder) (node *yaml.Node, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("yaml: the file cannot be read: %v", r)
		}
	}()
	node = new(yaml.Node)
	return node, decoder.Decode(node)
}

// syntaxBudget bounds the bytes that are read again to find the line of a syntax error.
const syntaxBudget = 4 << 20

// brokenLine finds the first line with which the file is no YAML any more: the library names
// the line where what it was reading began. It gives up on large files.
func (t *sourceText) brokenLine() (int, bool) {
	for n, budget := len(t.starts)-1, syntaxBudget; n >= 0; n-- {
		head := t.data[:t.starts[n]] // lines 1 to n
		if budget -= len(head); budget < 0 {
			return 0, false
		}
		if t.isYAML(head) {
			return n + 1, true
		}
	}
	return 0, false
}

func (t *sourceText) isYAML(data []byte) bool {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		if _, err := decodeNode(decoder); err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}

var syntaxLine = regexp.MustCompile(`^line (\d+): `)

// syntax reports an error of the YAML library, which knows at most a line.
func (d *document) syntax(err error) {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if m := syntaxLine.FindStringSubmatch(message); m != nil {
		line, _ = strconv.Atoi(m[1])
		message = message[len(m[0]):]
	}
	line = min(max(line, 1), len(d.text.starts))
	if found, ok := d.text.brokenLine(); ok {
		line = found
	}
	source, _ := d.text.line(line)
	column := len(source) - len(strings.TrimLeft(source, " \t")) + 1
	d.errs.addAt(d.bundle, Pos{d.text.file, line, column}, "", "not valid YAML: %s%s", message, syntaxHints[message])
}

// syntaxHints says what was likely meant, by the message of the YAML library. Most are about
// conditions, which are full of characters that mean something to YAML.
var syntaxHints = map[string]string{
	"mapping values are not allowed in this context":         `; a text with ": " in it stands in quotes, or in a block below "when: |"`,
	"did not find expected key":                              `; keys of one mapping begin in one column, and nothing follows a text in quotes: a condition with quotes of its own stands in a block below "when: |"`,
	"did not find expected '-' indicator":                    "; indent it as the rest of its list, or of the member that it belongs to",
	"did not find expected alphabetic or numeric character":  `; "&" and "*" mean something to YAML: a condition with them stands in a block below "when: |"`,
	"did not find expected ',' or '}'":                       `; is a "{" not closed, or closed by another bracket?`,
	"did not find expected ',' or ']'":                       `; is a "[" not closed, or closed by another bracket?`,
	"found a tab character that violates indentation":        "; indent with spaces",
	"found character that cannot start any token":            "; a text that begins with this character stands in quotes",
	"found unexpected end of stream":                         "; is a quote not closed?",
	"could not find expected ':'":                            `; is this the rest of a text? Indent it deeper than its key, and begin it with "|"`,
	"block sequence entries are not allowed in this context": "; a list begins on a line of its own",
}

// checkNodes refuses everywhere what no part of a bundle may use: aliases and merge keys,
// with which a small file can mean a huge one, tags, and deep nesting. It reports whether
// the tree can be walked on.
func (d *document) checkNodes(n *yaml.Node, depth int) bool {
	switch {
	case depth > maxDepth:
		d.fail(n, "nested deeper than %d", maxDepth)
		return false
	case n.Kind == yaml.AliasNode:
		d.fail(n, "an alias (*%s); write the value out", n.Value)
		return true
	case n.Anchor != "":
		d.fail(n, "an anchor (&%s); write the value out where it is used", n.Anchor)
	case n.Style&yaml.TaggedStyle != 0:
		if strings.HasPrefix(n.Tag, "!!") {
			d.fail(n, "a YAML tag (%s); leave it out", n.Tag)
		} else {
			d.fail(n, "a YAML tag (%s); a text that begins with \"!\" stands in quotes", n.Tag)
		}
	case n.Tag == "!!merge":
		d.fail(n, "a merge key (<<); write the members out")
	}
	ok := true
	for _, c := range n.Content {
		ok = d.checkNodes(c, depth+1) && ok
	}
	return ok
}

// pos is where n begins. The library counts columns in characters, Pos in bytes.
func (d *document) pos(n *yaml.Node) Pos {
	if n == nil || n.Line < 1 {
		return Pos{File: d.text.file}
	}
	line, there := d.text.line(n.Line)
	if !there { // nothing, behind a last line such as "---": it begins where that ends
		last := len(d.text.starts)
		line, _ = d.text.line(last)
		return Pos{File: d.text.file, Line: last, Column: len(line) + 1}
	}
	_, column := textOffset(line, 1, n.Column)
	return Pos{File: d.text.file, Line: n.Line, Column: column + 1}
}

func (d *document) fail(n *yaml.Node, format string, args ...any) {
	d.failures++
	d.errs.addAt(d.bundle, d.pos(n), d.rule, format, args...)
}

// entry is one member of a mapping.
type entry struct {
	name  string
	key   *yaml.Node
	value *yaml.Node
}

// entries gives the members of a mapping in the order of the file, with their names
// distinct. what says what the mapping is: "an action".
func (d *document) entries(n *yaml.Node, what string) ([]entry, bool) {
	if n.Kind != yaml.MappingNode {
		d.wrongKind(n, what+" as a mapping")
		return nil, false
	}
	list := make([]entry, 0, len(n.Content)/2)
	lines := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Kind == yaml.AliasNode || key.Tag == "!!merge":
			continue // reported already
		case key.Kind != yaml.ScalarNode || key.Tag == "!!null" || key.Value == "":
			d.fail(key, "a key must be a word")
			continue
		}
		if line, twice := lines[key.Value]; twice {
			d.fail(key, "duplicate key %s; the first is on line %d", quoted(key.Value), line)
			continue
		}
		lines[key.Value] = key.Line
		list = append(list, entry{key.Value, key, value})
	}
	return list, true
}

// fields gives the members of a mapping whose keys are fixed, by name. Unknown keys are
// errors.
func (d *document) fields(n *yaml.Node, what string, known []string) (map[string]entry, bool) {
	list, ok := d.entries(n, what)
	if !ok {
		return nil, false
	}
	fields := make(map[string]entry, len(list))
	for _, e := range list {
		if !contains(known, e.name) {
			d.fail(e.key, "unknown key %s%s", quoted(e.name), d.errs.hint(e.name, known))
			continue
		}
		fields[e.name] = e
	}
	return fields, true
}

// require reports the keys that are missing.
func (d *document) require(n *yaml.Node, fields map[string]entry, keys ...string) {
	for _, key := range keys {
		if _, ok := fields[key]; !ok {
			d.fail(n, "the key %q is missing", key)
		}
	}
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// wrongKind reports that n is not what was wanted.
func (d *document) wrongKind(n *yaml.Node, want string) {
	if n.Kind != yaml.AliasNode { // reported already
		d.fail(n, "want %s, got %s", want, kindOf(n))
	}
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		switch n.Tag {
		case "!!null":
			return "nothing"
		case "!!bool":
			return "the boolean " + clipped(n.Value)
		case "!!int", "!!float":
			return "the number " + clipped(n.Value)
		case "!!timestamp":
			return "the time " + clipped(n.Value)
		}
		return "the string " + quoted(n.Value)
	}
	return "something else"
}

// quoted gives s in double quotes, cut to a length fit for a message.
func quoted(s string) string {
	return strconv.Quote(clipped(s))
}

func clipped(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// isString reports whether n is a string, or a time, which JSON writes as one.
func isString(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && (n.Tag == "!!str" || n.Tag == "!!timestamp")
}

// str reads a string of 1 to most bytes that shows on one line.
func (d *document) str(n *yaml.Node, what string, most int) (string, bool) {
	switch {
	case !isString(n):
		want := "a string"
		if n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
			want += " (in quotes)"
		}
		d.wrongKind(n, fmt.Sprintf("%s as %s", what, want))
		return "", false
	case n.Value == "":
		d.fail(n, "%s is empty", what)
		return "", false
	case len(n.Value) > most:
		d.fail(n, "%s has %d bytes, more than %d", what, len(n.Value), most)
		return "", false
	case strings.ContainsFunc(n.Value, isHidden):
		d.fail(n, "%s holds a line break or another character that does not show", what)
		return "", false
	}
	return n.Value, true
}

// word reads a string and checks it with a pattern; hint says what the pattern asks for.
func (d *document) word(n *yaml.Node, what string, pattern *regexp.Regexp, hint string) (string, bool) {
	s, ok := d.str(n, what, 1024)
	if ok && !pattern.MatchString(s) {
		d.fail(n, "%s %s: want %s", what, quoted(s), hint)
		return "", false
	}
	return s, ok
}

// choice reads one of a few words and gives its place among them.
func (d *document) choice(n *yaml.Node, what string, words []string) (int, bool) {
	if !isString(n) {
		d.wrongKind(n, what+" as one of "+strings.Join(words, ", "))
		return 0, false
	}
	for i, w := range words {
		if n.Value == w {
			return i, true
		}
	}
	hint := d.errs.hint(n.Value, words)
	if hint == "" {
		hint = ": want " + strings.Join(words, ", ")
	}
	d.fail(n, "unknown %s %s%s", what, quoted(n.Value), hint)
	return 0, false
}

// boolean reads true or false. What YAML 1.1 takes for a boolean besides is refused.
func (d *document) boolean(n *yaml.Node, what string) (value, ok bool) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!bool" && (n.Value == "true" || n.Value == "false") {
		return n.Value == "true", true
	}
	d.wrongKind(n, what+" as true or false")
	return false, false
}

// list gives the items of a list of at most most items.
func (d *document) list(n *yaml.Node, what string, most int) ([]*yaml.Node, bool) {
	if n.Kind != yaml.SequenceNode {
		d.wrongKind(n, what+" as a list")
		return nil, false
	}
	if len(n.Content) > most {
		d.fail(n, "%s: %d items, more than %d", what, len(n.Content), most)
		return nil, false
	}
	return n.Content, true
}

// words reads a list of distinct strings, each checked by check.
func (d *document) words(n *yaml.Node, what string, most int, check func(*yaml.Node) (string, bool)) []string {
	items, ok := d.list(n, what, most)
	if !ok {
		return nil
	}
	words := make([]string, 0, len(items))
	seen := make(map[string]bool, len(items))
	for _, item := range items {
		w, ok := check(item)
		switch {
		case !ok:
		case seen[w]:
			d.fail(item, "%s is listed twice", quoted(w))
		default:
			seen[w] = true
			words = append(words, w)
		}
	}
	return words
}
