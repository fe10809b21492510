package rules

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"vigil/authz"
)

var (
	testFileKeys   = []string{"vigil", "now", "entities", "silence", "request", "cases"}
	caseKeys       = []string{"name", "set", "expect"}
	expectKeys     = []string{"effect", "code", "rules"}
	requestKeys    = []string{"subject", "action", "resource", "context"}
	partyKeys      = []string{"type", "id", "properties"}
	actionPartKeys = []string{"name", "properties"}
)

const (
	maxCases     = 10_000 // of one test file
	maxCaseName  = 128
	maxPathDepth = 24
	// maxTestNodes bounds the YAML nodes that all cases of a bundle are made from, each
	// counting those of its file again: a case repeats what its file states.
	maxTestNodes = 2_000_000
)

// parseTests reads every test file that is there. The rules must have been read before, so
// that tests can be held to their ids.
func (b *Bundle) parseTests(errs *errorList) {
	files, nodes := 0, 0
	ruleIDs := keys(b.ruleByID)
	for _, file := range keys(b.Sources) {
		if !strings.HasSuffix(file, testSuffix) {
			continue
		}
		if files++; files > MaxFiles {
			errs.add(Error{Pos: Pos{File: file}, Message: fmt.Sprintf("more than %d test files", MaxFiles)})
			return
		}
		if len(file) > maxFileName || strings.ContainsFunc(file, notFileName) {
			errs.add(Error{Pos: Pos{File: shownName(file)}, Message: "want a name of letters, digits, '.', '_' and '-'"})
			continue
		}
		d, root := b.openDocument(file, errs)
		if root == nil {
			continue
		}
		if t := b.parseTestFile(d, root, &nodes, ruleIDs); t != nil {
			b.Tests = append(b.Tests, t)
		}
	}
}

// testBase is what the cases of a file start from, as YAML: "set" changes it before it is
// read, so that messages name the line that was wrong.
type testBase struct {
	now      *yaml.Node
	entities *yaml.Node
	silence  *yaml.Node
	request  *yaml.Node
}

func (b *Bundle) parseTestFile(d *document, root *yaml.Node, nodes *int, ruleIDs []string) *TestFile {
	if !d.version(root) {
		return nil
	}
	fields, ok := d.fields(root, "a test file", testFileKeys)
	if !ok {
		return nil
	}
	d.require(root, fields, "vigil", "now", "request", "cases")
	var base testBase
	base.now = fields["now"].value
	base.entities = fields["entities"].value
	base.silence = fields["silence"].value
	base.request = fields["request"].value
	if base.now == nil || base.request == nil || fields["cases"].value == nil {
		return nil
	}
	t := &TestFile{File: d.text.file}
	list := fields["cases"].value
	items, ok := d.list(list, "cases", maxCases)
	if !ok {
		return t
	}
	if len(items) == 0 {
		d.fail(list, "no cases: a test file that tests nothing")
	}
	*nodes += len(items) * (countNodes(base.now) + countNodes(base.entities) + countNodes(base.silence) + countNodes(base.request))
	if *nodes > maxTestNodes {
		d.fail(list, "the cases of the bundle's tests are too many and too large: more than %d values in all", maxTestNodes)
		return t
	}
	shared := d.readBase(base)
	names := make(map[string]Pos, len(items))
	for _, item := range items {
		if c := b.parseCase(d, item, base, shared, names, ruleIDs); c != nil {
			t.Cases = append(t.Cases, *c)
		}
	}
	return t
}

func countNodes(n *yaml.Node) int {
	if n == nil {
		return 0
	}
	count := 1
	for _, c := range n.Content {
		count += countNodes(c)
	}
	return count
}

// readBase reads what the file states for all its cases. Cases that change nothing of a
// part share it: nobody changes what a TestCase refers to.
func (d *document) readBase(base testBase) TestCase {
	var c TestCase
	c.Now, _ = d.instant(base.now, "now")
	c.Entities = d.entities(base.entities)
	c.Silence = d.silence(base.silence)
	c.Request = d.request(base.request)
	return c
}

func (b *Bundle) parseCase(d *document, n *yaml.Node, base testBase, shared TestCase, names map[string]Pos, ruleIDs []string) *TestCase {
	fields, ok := d.fields(n, "a case", caseKeys)
	if !ok {
		return nil
	}
	d.require(n, fields, "name", "expect")
	c := shared
	c.Pos = d.pos(n)
	if e, ok := fields["name"]; ok {
		c.Name, ok = d.str(e.value, "the name", maxCaseName)
		if first, twice := names[c.Name]; ok && twice {
			d.fail(e.value, "two cases with the name %s; the first is at %s", quoted(c.Name), first)
		} else if ok {
			names[c.Name] = d.pos(e.value)
		}
	}
	if e, ok := fields["set"]; ok {
		d.applySet(&c, base, e.value)
	}
	e, ok := fields["expect"]
	if !ok {
		return nil
	}
	if c.Expect, ok = b.expectation(d, e.value, ruleIDs); !ok || c.Request == nil {
		return nil
	}
	return &c
}

// applySet makes the case's own form of what its file states.
func (d *document) applySet(c *TestCase, base testBase, n *yaml.Node) {
	list, ok := d.entries(n, "set")
	if !ok {
		return
	}
	changed := base
	for _, e := range list {
		head, path, _ := strings.Cut(e.name, ".")
		var err error
		switch head {
		case "now":
			if path != "" {
				err = fmt.Errorf("now has no members")
				break
			}
			changed.now = e.value
		case "request":
			changed.request, err = withPath(changed.request, splitPath(path), e.value)
		case "silence":
			var steps []string
			if path != "" {
				steps = []string{path} // the name of a source may hold dots
			}
			changed.silence, err = withPath(changed.silence, steps, e.value)
		case "entities":
			var steps []string
			if steps, err = entityPath(changed.entities, path); err == nil {
				changed.entities, err = withPath(changed.entities, steps, e.value)
			}
		default:
			hint := d.errs.hint(head, []string{"request", "entities", "silence", "now"})
			if hint == "" {
				hint = ": paths begin with request, entities, silence or now"
			}
			err = fmt.Errorf("unknown %s%s", quoted(head), hint)
		}
		if err != nil {
			d.fail(e.key, "set: %s: %v", clipped(e.name), err)
		}
	}
	if changed.now != base.now {
		c.Now, _ = d.instant(changed.now, "now")
	}
	if changed.entities != base.entities {
		c.Entities = d.entities(changed.entities)
	}
	if changed.silence != base.silence {
		c.Silence = d.silence(changed.silence)
	}
	if changed.request != base.request {
		c.Request = nil
		if changed.request == nil {
			d.fail(n, "set: nothing is left of the request")
			return
		}
		c.Request = d.request(changed.request)
	}
}

func splitPath(path string) []string {
	if path == "" {
		return nil
	}
	return strings.Split(path, ".")
}

// entityPath splits "KIND:ID.member.more", where the id may hold dots: it ends where the
// longest entity that the file names ends, else before the first member.
func entityPath(entities *yaml.Node, path string) ([]string, error) {
	if path == "" {
		return nil, nil
	}
	longest := ""
	if entities != nil && entities.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(entities.Content); i += 2 {
			name := entities.Content[i].Value
			if len(name) > len(longest) && (path == name || strings.HasPrefix(path, name+".")) {
				longest = name
			}
		}
	}
	if longest == "" {
		longest = path
		for i := 0; i < len(path); i++ {
			if path[i] == '.' {
				member, _, _ := strings.Cut(path[i+1:], ".")
				if slices.Contains(entityKeys, member) {
					longest = path[:i]
					break
				}
			}
		}
	}
	rest := strings.TrimPrefix(path[len(longest):], ".")
	return append([]string{longest}, splitPath(rest)...), nil
}

// withPath gives n with the value at path replaced, or removed where value is null. It
// copies what is on the way, and missing mappings are made.
func withPath(n *yaml.Node, path []string, value *yaml.Node) (*yaml.Node, error) {
	remove := value.Kind == yaml.ScalarNode && value.Tag == "!!null"
	switch {
	case len(path) == 0 && remove:
		return nil, nil
	case len(path) == 0:
		return value, nil
	case len(path) > maxPathDepth:
		return n, fmt.Errorf("the path has more than %d steps", maxPathDepth)
	case path[0] == "":
		return n, fmt.Errorf("an empty step")
	}
	if n == nil {
		if remove {
			return nil, nil
		}
		n = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: value.Line, Column: value.Column}
	}
	copied := *n
	copied.Content = slices.Clone(n.Content)
	switch n.Kind {
	case yaml.MappingNode:
		at := -1
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == path[0] {
				at = i
			}
		}
		var child *yaml.Node
		if at >= 0 {
			child = n.Content[at+1]
		}
		changed, err := withPath(child, path[1:], value)
		switch {
		case err != nil:
			return n, err
		case changed == nil && at >= 0:
			copied.Content = slices.Delete(copied.Content, at, at+2)
		case changed == nil:
		case at >= 0:
			copied.Content[at+1] = changed
		default:
			key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: path[0], Line: value.Line, Column: value.Column}
			copied.Content = append(copied.Content, key, changed)
		}
		return &copied, nil
	case yaml.SequenceNode:
		i, err := strconv.Atoi(path[0])
		if err != nil || i < 0 || i >= len(n.Content) {
			return n, fmt.Errorf("%s is not the place of one of the %d items, counted from 0", quoted(path[0]), len(n.Content))
		}
		changed, err := withPath(n.Content[i], path[1:], value)
		switch {
		case err != nil:
			return n, err
		case changed == nil:
			copied.Content = slices.Delete(copied.Content, i, i+1)
		default:
			copied.Content[i] = changed
		}
		return &copied, nil
	}
	return n, fmt.Errorf("%s has no members: it is %s", quoted(path[0]), kindOf(n))
}

func (b *Bundle) expectation(d *document, n *yaml.Node, ruleIDs []string) (x Expectation, ok bool) {
	fields, ok := d.fields(n, "expect", expectKeys)
	if !ok {
		return x, false
	}
	d.require(n, fields, "effect")
	e, ok := fields["effect"]
	if !ok {
		return x, false
	}
	i, good := d.choice(e.value, "effect", effectNames)
	x.Effect = authz.Effect(i)
	if e, ok := fields["code"]; ok {
		codes := make([]string, len(decisionCodes))
		for i, c := range decisionCodes {
			codes[i] = string(c)
		}
		s, isStr := d.str(e.value, "code", 1024)
		if isStr && !slices.Contains(codes, s) {
			d.fail(e.value, "unknown code %s%s", quoted(s), d.errs.hint(s, codes))
			isStr = false
		}
		x.Code = authz.Code(s)
		good = good && isStr
	}
	if e, ok := fields["rules"]; ok {
		x.Rules = d.words(e.value, "rules", maxOn, func(n *yaml.Node) (string, bool) {
			id, ok := d.str(n, "a rule", 1024)
			if ok && b.ruleByID[id] == nil {
				d.fail(n, "unknown rule %s%s", quoted(id), d.errs.hint(id, ruleIDs))
				return "", false
			}
			return id, ok
		})
		slices.Sort(x.Rules)
	}
	return x, good
}

// decisionCodes are the codes that a decision can have.
var decisionCodes = []authz.Code{
	authz.Allowed, authz.NoAllowRule, authz.DeniedByRule, authz.Obliged, authz.ApprovalRequired,
	authz.CouldNotEvaluate, authz.StaleView, authz.SourceSilent, authz.NoAgent, authz.AmbiguousAgent, authz.TenantMismatch,
	authz.CredentialExpired, authz.UnreadableSignal, authz.EntityRevoked, authz.EntityDecommission,
	authz.EntityQuarantined, authz.IssuedBefore, authz.Unregistered, authz.UnknownClass, authz.MissingMember,
	authz.UnknownAction, authz.ScopeNotHeld, authz.AttestationFailed, authz.AttestationMissing, authz.AttestationStale,
}
