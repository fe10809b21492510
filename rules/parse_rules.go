package rules

import (
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v3"

	"vigil/authz"
)

var (
	ruleKeys = []string{
		"id", "effect", "mode", "on", "when", "granularity", "obligations", "reason_user", "reason_admin",
	}
	onKeys         = []string{"actions", "resources", "subjects", "classes"}
	obligationKeys = []string{"id", "type", "properties"}
)

const (
	maxWhen        = 16 << 10 // bytes of an expression
	maxOn          = 1000     // names in one list under "on"
	maxObligations = 16       // of one rule
	maxProperties  = 4 << 10  // bytes of one obligation's properties, as JSON
	maxReasonUser  = 256
	maxReasonAdmin = 1024
	maxGranularity = 24 * time.Hour
	maxAction      = 128
	maxResource    = 128 + 1 + authz.MaxID
)

var (
	effectNames = []string{"deny", "require", "allow"} // by authz.Effect
	modeNames   = []string{"enforce", "observe"}
)

func (b *Bundle) parseRules(d *document, n *yaml.Node) {
	items, ok := d.list(n, "rules", MaxRules)
	if !ok {
		return
	}
	if len(b.Rules)+len(items) > MaxRules {
		d.fail(n, "the bundle has more than %d rules", MaxRules)
		return
	}
	if b.ruleByID == nil {
		b.ruleByID = make(map[string]*Rule)
	}
	for _, item := range items {
		if r := b.parseRule(d, item); r != nil {
			b.Rules = append(b.Rules, r)
		}
		d.rule = ""
	}
}

func (b *Bundle) parseRule(d *document, n *yaml.Node) *Rule {
	// The id first, for every message about the rule.
	d.rule = ruleID(n)
	fields, ok := d.fields(n, "a rule", ruleKeys)
	if !ok {
		return nil
	}
	d.require(n, fields, "id", "effect", "when")
	r := &Rule{Pos: d.pos(n)}
	if e, ok := fields["id"]; ok {
		if id, ok := d.word(e.value, "the id", namePattern, nameHint); ok {
			if first := b.ruleByID[id]; first != nil {
				d.again(e.value, "the rule", id, first.Pos)
			} else {
				b.ruleByID[id] = r
			}
			r.ID = id
		}
	}
	effectKnown := false
	if e, ok := fields["effect"]; ok {
		var i int
		i, effectKnown = d.choice(e.value, "effect", effectNames)
		r.Effect = authz.Effect(i)
	}
	if e, ok := fields["mode"]; ok {
		i, _ := d.choice(e.value, "mode", modeNames)
		r.Observe = i == 1
	}
	if e, ok := fields["on"]; ok {
		d.on(r, e.value)
	}
	if e, ok := fields["when"]; ok {
		d.when(r, e.value)
	}
	if e, ok := fields["granularity"]; ok {
		r.Granularity, _ = d.duration(e.value, "granularity", time.Second, maxGranularity)
		if r.Granularity%time.Second != 0 {
			d.fail(e.value, "granularity: %s is not a number of whole seconds", r.Granularity)
		}
	}
	d.obligations(r, n, fields, effectKnown)
	if e, ok := fields["reason_user"]; ok {
		r.ReasonUser, _ = d.str(e.value, "reason_user", maxReasonUser)
	}
	if e, ok := fields["reason_admin"]; ok {
		r.ReasonAdmin, _ = d.str(e.value, "reason_admin", maxReasonAdmin)
	}
	return r
}

// ruleID looks for the id of a rule that has not been checked yet.
func ruleID(n *yaml.Node) string {
	for i := 0; i+1 < len(n.Content) && n.Kind == yaml.MappingNode; i += 2 {
		if v := n.Content[i+1]; n.Content[i].Value == "id" && v.Kind == yaml.ScalarNode && namePattern.MatchString(v.Value) {
			return v.Value
		}
	}
	return ""
}

// on reads what a rule is about. Whether the names are declared is checked when all files
// are read.
func (d *document) on(r *Rule, n *yaml.Node) {
	fields, ok := d.fields(n, "on", onKeys)
	if !ok {
		return
	}
	names := func(key, what string, most int) (list []string, places []Pos) {
		e, ok := fields[key]
		if !ok {
			return nil, nil
		}
		if e.value.Kind == yaml.SequenceNode && len(e.value.Content) == 0 {
			d.fail(e.value, "%s: the list is empty; leave it out to mean any", key)
		}
		list = d.words(e.value, key, maxOn, func(n *yaml.Node) (string, bool) {
			name, ok := d.str(n, what, most)
			if ok {
				places = append(places, d.pos(n))
			}
			return name, ok
		})
		if len(places) != len(list) {
			return nil, nil // one was listed twice, which is an error already
		}
		return list, places
	}
	r.Actions, r.places.actions = names("actions", "an action", maxAction)
	r.Resources, r.places.resources = names("resources", "a resource", maxResource)
	r.Subjects, r.places.subjects = names("subjects", "a subject type", maxAction)
	r.Classes, r.places.classes = names("classes", "a class", maxAction)
}

// rulePlaces says where the names under "on" stand; each list goes with that of the Rule.
type rulePlaces struct {
	actions, resources, subjects, classes []Pos
}

// when reads the expression and remembers how it is written, so that a place within it can
// be found in the file.
func (d *document) when(r *Rule, n *yaml.Node) {
	switch {
	case n.Style&yaml.TaggedStyle != 0:
		return // reported already
	case n.Kind != yaml.ScalarNode || n.Tag == "!!null":
		d.wrongKind(n, `when as a CEL expression ("true" where the rule always applies)`)
		return
	case strings.TrimSpace(n.Value) == "":
		d.fail(n, `when is empty; write "true" where the rule always applies`)
		return
	case len(n.Value) > maxWhen:
		d.fail(n, "when has %d bytes, more than %d", len(n.Value), maxWhen)
		return
	}
	// A plain true is a boolean to YAML and an expression here.
	r.When = n.Value
	r.WhenPos = d.pos(n)
	switch {
	case n.Style&yaml.LiteralStyle != 0:
		r.whenStyle = styleLiteral
		r.WhenBlock = true
		r.WhenPos = d.blockPos(n)
	case n.Style&yaml.FoldedStyle != 0:
		r.whenStyle = styleFolded
		r.WhenPos = d.blockPos(n)
	case n.Style&yaml.SingleQuotedStyle != 0:
		r.whenStyle = styleSingle
		r.WhenPos.Column++
	case n.Style&yaml.DoubleQuotedStyle != 0:
		r.whenStyle = styleDouble
		r.WhenPos.Column++
	}
}

// blockPos finds where the text of a block scalar begins: on the line after its header, as
// far in as its first line with text is.
func (d *document) blockPos(n *yaml.Node) Pos {
	pos := d.pos(n)
	pos.Line++
	pos.Column = 1
	for i, line := range strings.Split(n.Value, "\n") {
		own := len(line) - len(strings.TrimLeft(line, " "))
		source, ok := d.text.line(pos.Line + i)
		if ok && own < len(line) {
			pos.Column = len(source) - len(strings.TrimLeft(source, " ")) - own + 1
			break
		}
	}
	return pos
}

func (d *document) obligations(r *Rule, n *yaml.Node, fields map[string]entry, effectKnown bool) {
	e, ok := fields["obligations"]
	switch {
	case ok && effectKnown && r.Effect != authz.Require:
		d.fail(e.key, "obligations stand on rules with effect: require only")
		return
	case !ok && effectKnown && r.Effect == authz.Require:
		d.fail(n, "the key %q is missing: a require rule says what is required", "obligations")
	}
	if !ok {
		return
	}
	items, ok := d.list(e.value, "obligations", maxObligations)
	if ok && len(items) == 0 {
		d.fail(e.value, "obligations: the list is empty; a require rule says what is required")
	}
	ids := make(map[string]bool, len(items))
	for i, item := range items {
		o, ok := d.obligation(item)
		if !ok {
			continue
		}
		if o.ID == "" {
			// The rule's id, so that callers can tell the obligations of several rules apart.
			o.ID = r.ID
			if i > 0 {
				o.ID = fmt.Sprintf("%s.%d", r.ID, i+1)
			}
		}
		if ids[o.ID] {
			d.fail(item, "two obligations with the id %s", quoted(o.ID))
		}
		ids[o.ID] = true
		r.Obligations = append(r.Obligations, o)
	}
}

func (d *document) obligation(n *yaml.Node) (o authz.Obligation, ok bool) {
	fields, ok := d.fields(n, "an obligation", obligationKeys)
	if !ok {
		return o, false
	}
	d.require(n, fields, "type")
	e, ok := fields["type"]
	if !ok {
		return o, false
	}
	if o.Type, ok = d.word(e.value, "the type", typePattern, typeHint); !ok {
		return o, false
	}
	if e, given := fields["id"]; given {
		o.ID, ok = d.word(e.value, "the id", namePattern, nameHint)
	}
	if e, given := fields["properties"]; given {
		object, good := d.object(e.value, "properties")
		if !good {
			return o, false
		}
		text, err := appendJSON(nil, &authz.Value{Kind: authz.Map, Members: object})
		switch {
		case err != nil:
			d.fail(e.value, "properties: %v", err)
			return o, false
		case len(text) > maxProperties:
			d.fail(e.value, "properties have %d bytes as JSON, more than %d", len(text), maxProperties)
			return o, false
		}
		o.Properties = text
	}
	return o, ok
}

// appendJSON appends v as JSON in its canonical form (RFC 8785), so that two ways to write
// the same obligation are the same bytes.
func appendJSON(dst []byte, v *authz.Value) ([]byte, error) {
	text, err := appendPlainJSON(nil, v)
	if err != nil {
		return dst, err
	}
	canonical := jsontext.Value(text)
	if err := canonical.Canonicalize(); err != nil {
		return dst, err
	}
	return append(dst, canonical...), nil
}

func appendPlainJSON(dst []byte, v *authz.Value) (_ []byte, err error) {
	switch v.Kind {
	case authz.Bool:
		return append(dst, jsontext.Bool(v.Num != 0).String()...), nil
	case authz.Number:
		return append(dst, jsontext.Float(v.Num).String()...), nil
	case authz.String:
		return jsontext.AppendQuote(dst, v.Str)
	case authz.List, authz.Map:
		brackets := "[]"
		if v.Kind == authz.Map {
			brackets = "{}"
		}
		dst = append(dst, brackets[0])
		for i := range v.Members {
			if i > 0 {
				dst = append(dst, ',')
			}
			if v.Kind == authz.Map {
				if dst, err = jsontext.AppendQuote(dst, v.Members[i].Name); err != nil {
					return dst, err
				}
				dst = append(dst, ':')
			}
			if dst, err = appendPlainJSON(dst, &v.Members[i].Value); err != nil {
				return dst, err
			}
		}
		return append(dst, brackets[1]), nil
	}
	return append(dst, "null"...), nil
}
