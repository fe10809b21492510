package rules

import "testing"

// TestWordsThatMayBeAnythingAreTaken: no gate holds the types of subjects and resources
// against declarations, nor the class of anything but an agent, so rules about others are
// right, and such a request meets them.
func TestWordsThatMayBeAnythingAreTaken(t *testing.T) {
	_, set, errs := Load(bundleOf(map[string]string{"a.yaml": `vigil: 1
attributes: {resource.doc: {}}
actions: {read: {}}
rules:
  - {id: types, effect: deny, when: 'resource.type == "secret" || subject.type in ["service", ""] || resource.type != ""'}
  - {id: classes, effect: deny, when: 'has(session) && session.class == "ci" || has(tool) && tool.class in ["dangerous"]'}
  - {id: agents, effect: deny, when: 'agent.class == "" || agent.status != "active" || has(tool) && tool.status == "revoked"'}
`}))
	if set == nil {
		t.Error(errs)
	}
}
