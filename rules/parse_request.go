package rules

import (
	"time"

	"go.yaml.in/yaml/v3"

	"vigil/authz"
)

// entityKeys are the members of an entity in a test.
var entityKeys = []string{
	"registered", "class", "labels", "scopes", "code", "model", "risk", "status", "tainted",
	"attested", "attested_at", "issued_before", "narrowed", "approval_required", "waived",
}

// registrationKeys are those of entityKeys that a registration states.
var registrationKeys = []string{"class", "labels", "scopes", "code", "model"}

const (
	maxTestEntities = 1000
	maxTestLabels   = 100
	maxTestWords    = 1000 // scopes, actions
	maxTestSilence  = 366 * 24 * time.Hour
	neverName       = "never"
)

// statusNames are what a test can set; "unreadable" comes from signals only.
var statusNames = []string{
	authz.Active.String(), authz.Quarantined.String(), authz.Revoked.String(), authz.Decommissioned.String(),
}

// request reads the request of a test: the form that the AuthZEN API has, as strictly. It
// gives nil where there is something wrong.
func (d *document) request(n *yaml.Node) *authz.Request {
	fields, good := d.fields(n, "the request", requestKeys)
	if !good {
		return nil
	}
	before := d.failures
	d.require(n, fields, "subject", "action", "resource")
	req := &authz.Request{}
	if e, ok := fields["subject"]; ok {
		req.Subject = d.party(e.value, "the subject")
	}
	if e, ok := fields["resource"]; ok {
		req.Resource = d.party(e.value, "the resource")
	}
	if e, ok := fields["action"]; ok {
		if parts, ok := d.fields(e.value, "the action", actionPartKeys); ok {
			d.require(e.value, parts, "name")
			if p, ok := parts["name"]; ok {
				req.Action.Name, _ = d.identity(p.value, "the name")
			}
			req.Action.Properties = d.properties(parts)
		}
	}
	if e, ok := fields["context"]; ok {
		req.Context, _ = d.object(e.value, "the context")
	}
	if d.failures > before {
		return nil
	}
	return req
}

func (d *document) party(n *yaml.Node, what string) (p authz.Party) {
	fields, ok := d.fields(n, what, partyKeys)
	if !ok {
		return p
	}
	d.require(n, fields, "type", "id")
	if e, ok := fields["type"]; ok {
		p.Type, _ = d.identity(e.value, "the type")
	}
	if e, ok := fields["id"]; ok {
		p.ID, _ = d.identity(e.value, "the id")
	}
	p.Properties = d.properties(fields)
	return p
}

// identity reads a string that names something in a request.
func (d *document) identity(n *yaml.Node, what string) (string, bool) {
	return d.str(n, what, authz.MaxID)
}

func (d *document) properties(fields map[string]entry) authz.Object {
	e, ok := fields["properties"]
	if !ok {
		return nil
	}
	o, _ := d.object(e.value, "properties")
	return o
}

// entities reads the posture of a test. It never gives nil.
func (d *document) entities(n *yaml.Node) map[string]TestEntity {
	all := make(map[string]TestEntity)
	if n == nil {
		return all
	}
	list, ok := d.entries(n, "entities")
	if !ok {
		return all
	}
	if len(list) > maxTestEntities {
		d.fail(n, "%d entities, more than %d", len(list), maxTestEntities)
		return all
	}
	for _, e := range list {
		ref, err := authz.ParseRef(e.name)
		if err != nil {
			d.fail(e.key, "%v", err)
			continue
		}
		if entity, ok := d.entity(ref, e); ok {
			all[ref.String()] = entity
		}
	}
	return all
}

func (d *document) entity(ref authz.Ref, named entry) (t TestEntity, ok bool) {
	fields, ok := d.fields(named.value, "the entity "+quoted(named.name), entityKeys)
	if !ok {
		return t, false
	}
	good := true
	read := func(key string, into func(*yaml.Node) bool) {
		if e, ok := fields[key]; ok {
			good = into(e.value) && good
		}
	}
	text := func(key string, into *string) {
		read(key, func(n *yaml.Node) (ok bool) { *into, ok = d.str(n, key, authz.MaxID); return ok })
	}
	words := func(key string, into *[]string) {
		read(key, func(n *yaml.Node) bool {
			before := d.failures
			*into = d.words(n, key, maxTestWords, func(n *yaml.Node) (string, bool) { return d.str(n, "an item", authz.MaxID) })
			return d.failures == before
		})
	}
	flag := func(key string, into *bool) {
		read(key, func(n *yaml.Node) (ok bool) { *into, ok = d.boolean(n, key); return ok })
	}
	instant := func(key string, into *authz.Instant) {
		read(key, func(n *yaml.Node) (ok bool) { *into, ok = d.instant(n, key); return ok })
	}

	flag("registered", &t.Registered)
	text("class", &t.Class)
	read("labels", func(n *yaml.Node) bool { return d.labels(n, &t) })
	words("scopes", &t.Scopes)
	text("code", &t.Code)
	text("model", &t.Model)
	read("risk", func(n *yaml.Node) bool {
		risk, ok := d.integer(n, "risk", 0, 100)
		t.Risk = int(risk)
		return ok
	})
	read("status", func(n *yaml.Node) bool {
		i, ok := d.choice(n, "status", statusNames)
		t.Status = statusNames[i]
		return ok
	})
	flag("tainted", &t.Tainted)
	read("attested", func(n *yaml.Node) bool {
		passed, ok := d.boolean(n, "attested")
		t.Attested = &passed
		return ok
	})
	instant("attested_at", &t.AttestedAt)
	instant("issued_before", &t.IssuedBefore)
	words("narrowed", &t.Narrowed)
	words("approval_required", &t.ApprovalRequired)
	flag("waived", &t.Waived)

	for _, key := range entityKeys {
		e, stated := fields[key]
		switch {
		case !stated || (ref.Kind == authz.KindSource) == (key == "waived"):
		case key == "waived":
			d.fail(e.key, "waived is said of a source: source:client:NAME")
			good = false
		default:
			d.fail(e.key, "of a source nothing is said but waived; how long it has been silent stands under silence")
			good = false
		}
	}
	if e, ok := fields["attested_at"]; ok && good && t.Attested == nil {
		d.fail(e.key, "attested_at without attested")
		good = false
	}
	if _, stated := fields["registered"]; !stated {
		for _, key := range registrationKeys {
			if e, ok := fields[key]; ok {
				d.fail(e.key, "%s comes from a registration; say registered: true", key)
				good = false
				break
			}
		}
	}
	return t, good
}

// silence reads how long the required sources have been silent.
func (d *document) silence(n *yaml.Node) map[string]time.Duration {
	if n == nil {
		return nil
	}
	list, ok := d.entries(n, "silence")
	if !ok {
		return nil
	}
	all := make(map[string]time.Duration, len(list))
	for _, e := range list {
		if d.bundle.Required[e.name] == nil {
			d.fail(e.key, "unknown source %s%s", quoted(e.name), d.errs.hint(e.name, keys(d.bundle.Required)))
			continue
		}
		if isString(e.value) && e.value.Value == neverName {
			all[e.name] = NeverHeard
		} else if silent, ok := d.duration(e.value, "silence", 0, maxTestSilence); ok {
			all[e.name] = silent
		}
	}
	return all
}

func (d *document) labels(n *yaml.Node, t *TestEntity) bool {
	list, good := d.entries(n, "labels")
	if len(list) > maxTestLabels {
		d.fail(n, "%d labels, more than %d", len(list), maxTestLabels)
		return false
	}
	t.Labels = make(map[string]string, len(list))
	for _, e := range list {
		value, ok := d.labelValue(e.value)
		good = good && ok
		t.Labels[e.name] = value
	}
	return good
}

// labelValue reads a label, which unlike other strings may be empty.
func (d *document) labelValue(n *yaml.Node) (string, bool) {
	if isString(n) && n.Value == "" {
		return "", true
	}
	return d.str(n, "a label", authz.MaxID)
}
