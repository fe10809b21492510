package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// yamlReader walks the nodes of the configuration file. It reads nodes and not structs,
// so that every problem has a line and a column and one problem does not hide the next.
type yamlReader struct {
	file     string
	config   *config
	problems problems
}

// readYAML reads the configuration file's data into c. whole is false where it is no YAML
// of settings at all.
func (c *config) readYAML(file string, data []byte) (all problems, whole bool) {
	r := &yamlReader{file: file, config: c}
	root := r.document(data)
	if root == nil {
		return r.problems, false
	}
	if version := member(root, "vigil"); version == nil {
		r.bad(root, "the file must begin with \"vigil: 1\", the version of its format")
	} else if version.Value != "1" {
		r.bad(version, "this is version %q of the format; this program reads version 1", version.Value)
	}
	r.section(root, "")
	return r.problems, true
}

// document gives the one mapping that the file must hold, or nil.
func (r *yamlReader) document(data []byte) *yaml.Node {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		r.problems.add(r.file, "the file is empty")
		return nil
	case err != nil:
		r.syntax(err)
		return nil
	}
	var second yaml.Node
	switch err := dec.Decode(&second); {
	case err == nil:
		r.bad(&second, "a second YAML document; the file must hold one")
	case !errors.Is(err, io.EOF):
		r.syntax(err)
		return nil
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		r.problems.add(r.file+":1:1", "want a mapping of settings")
		return nil
	}
	return doc.Content[0]
}

var yamlLine = regexp.MustCompile(`^yaml: line (\d+): `)

func (r *yamlReader) syntax(err error) {
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		r.problems.add(r.file+":"+m[1], "not valid YAML: %s", strings.TrimPrefix(err.Error(), m[0]))
		return
	}
	r.problems.add(r.file, "not valid YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
}

func (r *yamlReader) place(n *yaml.Node) string {
	return fmt.Sprintf("%s:%d:%d", r.file, n.Line, n.Column)
}

func (r *yamlReader) bad(n *yaml.Node, format string, args ...any) {
	r.problems.add(r.place(n), format, args...)
}

// section reads a mapping whose settings stand at path in the table of settings.
func (r *yamlReader) section(n *yaml.Node, path string) {
	for key, value := range r.pairs(n, path) {
		full := key.Value
		if path != "" {
			full = path + "." + full
		}
		r.config.at[full] = r.place(value)
		switch s := settingAt(full); {
		case full == "log.kafka.sasl.password":
			// The value is not looked at, so that no message can repeat it.
			r.bad(key, "a password must not stand in the configuration; put it into a file of its own and name that as password_file")
		case full == "vigil":
		case full == "clients":
			r.clients(value)
		case full == "issuers":
			r.issuers(value)
		case full == "principal":
			r.principal(value)
		case full == inputsPath:
			r.inputs(value)
		case s != nil:
			r.setting(value, s)
		case isSection(full):
			r.section(value, full)
		default:
			r.bad(key, "unknown key %q%s", key.Value, didYouMean(key.Value, keysOf(path)))
		}
	}
}

func (r *yamlReader) setting(n *yaml.Node, s *setting) {
	var value string
	if s.list {
		items, ok := r.words(n)
		if !ok {
			return
		}
		value = strings.Join(items, ",")
	} else {
		v, ok := r.scalar(n)
		if !ok {
			return
		}
		value = v
	}
	if s.file {
		value = relativeTo(r.file, value)
	}
	if err := s.set(r.config, value); err != nil {
		r.bad(n, "%s: %s", s.path, err)
	}
}

// pairs yields the members of a mapping and complains of whatever else n is and of
// keys that come twice.
func (r *yamlReader) pairs(n *yaml.Node, path string) func(yield func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		if n.Kind != yaml.MappingNode {
			r.bad(n, "%s: want a mapping of settings", path)
			return
		}
		seen := map[string]int{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
				r.bad(key, "want a plain key")
				continue
			}
			if line, twice := seen[key.Value]; twice {
				r.bad(key, "%q again; it was set in line %d", key.Value, line)
				continue
			}
			seen[key.Value] = key.Line
			if !yield(key, value) {
				return
			}
		}
	}
}

// scalar gives the text of a plain value. Aliases are refused: what stands in a
// security configuration should stand where it counts.
func (r *yamlReader) scalar(n *yaml.Node) (string, bool) {
	switch {
	case n.Kind == yaml.AliasNode:
		r.bad(n, "aliases are not read here; repeat the value")
	case n.Kind != yaml.ScalarNode:
		r.bad(n, "want a single value")
	case n.Tag == "!!null":
		r.bad(n, "the value is missing")
	default:
		return n.Value, true
	}
	return "", false
}

// words gives the texts of a list of plain values.
func (r *yamlReader) words(n *yaml.Node) ([]string, bool) {
	if n.Kind != yaml.SequenceNode {
		r.bad(n, "want a list, such as [a, b]")
		return nil, false
	}
	list, good := []string{}, true
	for _, item := range n.Content {
		text, ok := r.scalar(item)
		good = good && ok
		list = append(list, text)
	}
	return list, good
}

func member(n *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

func isSection(path string) bool {
	return slices.ContainsFunc(settings, func(s setting) bool { return strings.HasPrefix(s.path, path+".") })
}

// keysOf lists the keys that may stand in the section at path.
func keysOf(path string) []string {
	var keys []string
	if path == "" {
		keys = []string{"vigil", "clients", "issuers", "principal"}
	} else {
		if path+".inputs" == inputsPath {
			keys = []string{"inputs"}
		}
		path += "."
	}
	for _, s := range settings {
		if rest, ok := strings.CutPrefix(s.path, path); ok {
			name, _, _ := strings.Cut(rest, ".")
			if !slices.Contains(keys, name) {
				keys = append(keys, name)
			}
		}
	}
	return keys
}
