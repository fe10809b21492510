package rules

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v3"
)

type schemaNode = map[string]any

func loadSchema(t *testing.T, name string) schemaNode {
	t.Helper()
	for _, f := range Schema() {
		if f.Name == name {
			var root schemaNode
			if err := json.Unmarshal(f.JSON, &root); err != nil {
				t.Fatal(name, err)
			}
			return root
		}
	}
	t.Fatal("no schema", name)
	return nil
}

// schemaFor gives the schema that applies to a file of a bundle.
func schemaFor(t *testing.T, file string) schemaNode {
	switch {
	case file == manifestName:
		return loadSchema(t, "bundle.schema.json")
	case strings.HasSuffix(file, testSuffix):
		return loadSchema(t, "rules_test.schema.json")
	}
	return loadSchema(t, "rules.schema.json")
}

func TestSchemasNameTheKeysAndWordsThatTheParserKnows(t *testing.T) {
	names := func(list any) []string {
		var words []string
		for _, w := range list.([]any) {
			words = append(words, w.(string))
		}
		return words
	}
	at := func(n schemaNode, path ...string) schemaNode {
		for _, step := range path {
			n = n[step].(schemaNode)
		}
		return n
	}
	bundle, rules, tests := loadSchema(t, "bundle.schema.json"), loadSchema(t, "rules.schema.json"), loadSchema(t, "rules_test.schema.json")
	for _, c := range []struct {
		what string
		node schemaNode
		keys []string
	}{
		{"bundle", bundle, manifestKeys},
		{"profile", at(bundle, "$defs", "profile"), profileKeys},
		{"source", at(bundle, "$defs", "source"), sourceKeys},
		{"agentless", at(bundle, "$defs", "agentless"), agentlessKeys},
		{"file", rules, fileKeys},
		{"attribute", at(rules, "$defs", "attribute"), attributeKeys},
		{"action", at(rules, "$defs", "action"), actionKeys},
		{"rule", at(rules, "$defs", "rule"), ruleKeys},
		{"on", at(rules, "$defs", "on"), onKeys},
		{"obligation", at(rules, "$defs", "obligation"), obligationKeys},
		{"test file", tests, testFileKeys},
		{"entity", at(tests, "$defs", "entity"), entityKeys},
		{"request", at(tests, "$defs", "request"), requestKeys},
		{"subject", at(tests, "$defs", "request", "properties", "subject"), partyKeys},
		{"request action", at(tests, "$defs", "request", "properties", "action"), actionPartKeys},
		{"case", at(tests, "$defs", "case"), caseKeys},
		{"expect", at(tests, "$defs", "expect"), expectKeys},
	} {
		got := slices.Sorted(maps.Keys(at(c.node, "properties")))
		want := slices.Sorted(slices.Values(c.keys))
		if !slices.Equal(got, want) {
			t.Errorf("%s: the schema has %q, the parser %q", c.what, got, want)
		}
		if c.node["additionalProperties"] != false {
			t.Errorf("%s: the schema accepts keys that the parser refuses", c.what)
		}
	}
	var codes []string
	for _, c := range decisionCodes {
		codes = append(codes, string(c))
	}
	var kinds []string
	for _, k := range requirable {
		kinds = append(kinds, k.String())
	}
	for _, c := range []struct {
		what  string
		node  schemaNode
		words []string
	}{
		{"on_stale", at(bundle, "$defs", "profile", "properties", "on_stale"), staleNames},
		{"on_silence", at(bundle, "$defs", "profile", "properties", "on_silence"), staleNames},
		{"requires", at(bundle, "$defs", "profile", "properties", "requires", "items"), kinds},
		{"type", at(rules, "$defs", "attribute", "properties", "type"), attributeTypes},
		{"of", at(rules, "$defs", "attribute", "properties", "of"), elementTypes},
		{"impact", at(rules, "$defs", "action", "properties", "impact"), impactNames},
		{"effect", at(rules, "$defs", "rule", "properties", "effect"), effectNames},
		{"mode", at(rules, "$defs", "rule", "properties", "mode"), modeNames},
		{"status", at(tests, "$defs", "entity", "properties", "status"), statusNames},
		{"expected effect", at(tests, "$defs", "expect", "properties", "effect"), effectNames},
		{"code", at(tests, "$defs", "expect", "properties", "code"), codes},
	} {
		if got := names(c.node["enum"]); !slices.Equal(got, c.words) {
			t.Errorf("%s: the schema has %q, the parser %q", c.what, got, c.words)
		}
	}
}

// TestSchemasAcceptEveryAcceptedBundle holds the schemas to every bundle in this package and
// in the examples.
func TestSchemasAcceptEveryAcceptedBundle(t *testing.T) {
	var files []string
	for _, pattern := range []string{"testdata/good/*/*.yaml", "../examples/*/rules/*.yaml"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		t.Fatal("no bundles")
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		root := schemaFor(t, filepath.Base(file))
		if err := validate(root, root, plainYAML(t, data), ""); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestSchemasRefuseWhatEditorsCanSee runs the catalogue of wrong bundles through the schemas:
// what is wrong in the form of a file, an editor shows.
func TestSchemasRefuseWhatEditorsCanSee(t *testing.T) {
	for _, name := range []string{
		"keys", "missing", "types", "enums", "names", "attributes", "obligations", "profiles", "sources", "agentless",
		"version", "fileversion", "seal_changed", "tests_empty", "tests_nocases", "tests_cases", "tests_request",
	} {
		archive, err := txtar.ParseFile("testdata/bad/" + name + ".txtar")
		if err != nil {
			t.Fatal(err)
		}
		refused := false
		for _, f := range archive.Files {
			if f.Name == wantName {
				continue
			}
			root := schemaFor(t, f.Name)
			if validate(root, root, plainYAML(t, f.Data), "") != nil {
				refused = true
			}
		}
		if !refused {
			t.Errorf("%s: the schemas accept every file", name)
		}
	}
}

// plainYAML gives a file as the values of JSON; times are strings. Of duplicate keys the last
// wins, for a schema cannot see them.
func plainYAML(t *testing.T, data []byte) any {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	var plain func(n *yaml.Node) any
	plain = func(n *yaml.Node) any {
		switch {
		case n.Kind == yaml.DocumentNode:
			return plain(n.Content[0])
		case n.Kind == yaml.MappingNode:
			m := map[string]any{}
			for i := 0; i+1 < len(n.Content); i += 2 {
				m[n.Content[i].Value] = plain(n.Content[i+1])
			}
			return m
		case n.Kind == yaml.SequenceNode:
			list := []any{}
			for _, c := range n.Content {
				list = append(list, plain(c))
			}
			return list
		case isString(n):
			return n.Value
		case n.Tag == "!!int", n.Tag == "!!float":
			var f float64
			_ = n.Decode(&f)
			return f
		}
		var v any
		if err := n.Decode(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	return plain(&doc)
}

// validate is the part of JSON Schema that the schemas use. An unknown keyword is an error,
// so that none is ignored.
func validate(root schemaNode, schema any, v any, path string) error {
	if allowed, ok := schema.(bool); ok {
		if !allowed {
			return fmt.Errorf("%s: not allowed", path)
		}
		return nil
	}
	s := schema.(schemaNode)
	var errs []error
	fail := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...)))
	}
	number := func(key string) float64 { return s[key].(float64) }
	object, isObject := v.(map[string]any)
	list, isList := v.([]any)
	text, isText := v.(string)
	num, isNum := v.(float64)
	for key, arg := range s {
		switch key {
		case "$schema", "$id", "$defs", "title", "description", "additionalProperties", "then", "else":
		case "$ref":
			target := root
			for step := range strings.SplitSeq(strings.TrimPrefix(arg.(string), "#/"), "/") {
				target = target[step].(schemaNode)
			}
			errs = append(errs, validate(root, target, v, path))
		case "type":
			types, many := arg.([]any)
			if !many {
				types = []any{arg}
			}
			if !slices.ContainsFunc(types, func(t any) bool { return hasType(v, t.(string)) }) {
				fail("want %v, got %T", arg, v)
			}
		case "const":
			if !reflect.DeepEqual(v, arg) {
				fail("want %v", arg)
			}
		case "enum":
			if !slices.ContainsFunc(arg.([]any), func(e any) bool { return reflect.DeepEqual(e, v) }) {
				fail("%v is not one of %v", v, arg)
			}
		case "properties":
			for name, sub := range arg.(schemaNode) {
				if member, ok := object[name]; ok {
					errs = append(errs, validate(root, sub, member, path+"/"+name))
				}
			}
		case "required":
			for _, name := range arg.([]any) {
				if _, ok := object[name.(string)]; isObject && !ok {
					fail("%v is missing", name)
				}
			}
		case "dependentRequired":
			for name, others := range arg.(schemaNode) {
				if _, ok := object[name]; ok {
					for _, other := range others.([]any) {
						if _, ok := object[other.(string)]; !ok {
							fail("%s without %v", name, other)
						}
					}
				}
			}
		case "propertyNames":
			for name := range object {
				errs = append(errs, validate(root, arg, name, path+"/"+name))
			}
		case "items":
			for i, item := range list {
				errs = append(errs, validate(root, arg, item, fmt.Sprintf("%s/%d", path, i)))
			}
		case "uniqueItems":
			for i := range list {
				for j := range i {
					if reflect.DeepEqual(list[i], list[j]) {
						fail("%v is there twice", list[i])
					}
				}
			}
		case "pattern":
			if isText && !regexp.MustCompile(arg.(string)).MatchString(text) {
				fail("%q does not match %v", text, arg)
			}
		case "minLength":
			if isText && float64(utf8.RuneCountInString(text)) < number(key) {
				fail("too short")
			}
		case "maxLength":
			if isText && float64(utf8.RuneCountInString(text)) > number(key) {
				fail("too long")
			}
		case "minItems":
			if isList && float64(len(list)) < number(key) {
				fail("too few")
			}
		case "maxItems":
			if isList && float64(len(list)) > number(key) {
				fail("too many")
			}
		case "minProperties":
			if isObject && float64(len(object)) < number(key) {
				fail("too few")
			}
		case "maxProperties":
			if isObject && float64(len(object)) > number(key) {
				fail("too many")
			}
		case "minimum":
			if isNum && num < number(key) {
				fail("too small")
			}
		case "maximum":
			if isNum && num > number(key) {
				fail("too large")
			}
		case "if":
			branch := "then"
			if validate(root, arg, v, path) != nil {
				branch = "else"
			}
			if sub, ok := s[branch]; ok {
				errs = append(errs, validate(root, sub, v, path))
			}
		default:
			fail("the schema uses the unknown keyword %s", key)
		}
	}
	if rest, ok := s["additionalProperties"]; ok {
		known, _ := s["properties"].(schemaNode)
		for name, member := range object {
			if _, ok := known[name]; !ok {
				errs = append(errs, validate(root, rest, member, path+"/"+name))
			}
		}
	}
	return errors.Join(errs...)
}

func hasType(v any, name string) bool {
	switch v := v.(type) {
	case nil:
		return name == "null"
	case bool:
		return name == "boolean"
	case float64:
		return name == "number" || name == "integer" && v == math.Trunc(v)
	case string:
		return name == "string"
	case []any:
		return name == "array"
	case map[string]any:
		return name == "object"
	}
	return false
}
