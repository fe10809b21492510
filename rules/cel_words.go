package rules

import (
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"

	"vigil/authz"
)

// Some texts that rules read can only ever be one of a few words: who asks for another action
// is denied before any rule is looked at, and an agent is registered with a class that has a
// profile. A condition that compares them with another word is false (or true) for every
// request, which would disable a deny rule without a word, as a misspelt name under `on`
// would. Types of resources and subjects, and classes of what is no agent, may be any word.

// vocabulary is the words that a variable can be.
type vocabulary struct {
	what  string // "class"
	words []string
	hint  string // where a word is declared, or which there are
}

// vocabularies gives those of the variables that have one, by name.
func vocabularies(b *Bundle) map[string]vocabulary {
	all := map[string]vocabulary{
		"action.name": {"action", keys(b.Actions), "declare it under actions"},
		// An agent that is not registered has the class "".
		"agent.class": {"class", append(keys(b.Profiles), ""), "declare it under profiles in bundle.yaml"},
	}
	statuses := vocabulary{what: "status"}
	for s := authz.Active; s <= authz.Unreadable; s++ {
		statuses.words = append(statuses.words, s.String())
	}
	statuses.hint = "there are " + strings.Join(statuses.words, ", ")
	for _, kind := range entityKinds {
		all[kind.String()+".status"] = statuses
	}
	return all
}

// words reports the literals that e, a call, compares with a variable that can never be them.
func (c *nameCheck) words(e ast.Expr) {
	args := e.AsCall().Args()
	switch e.AsCall().FunctionName() {
	case operators.Equals, operators.NotEquals:
		c.wordsOf(args[0], args[1])
		c.wordsOf(args[1], args[0])
	case operators.In:
		if args[1].Kind() == ast.ListKind {
			c.wordsOf(args[0], args[1].AsList().Elements()...)
		}
	}
}

func (c *nameCheck) wordsOf(variable ast.Expr, literals ...ast.Expr) {
	path := pathOf(variable)
	if len(path) != 2 || slices.Contains(c.locals, path[0]) {
		return
	}
	v, ok := c.sb.words[path[0]+"."+path[1]]
	if !ok {
		return
	}
	for _, literal := range literals {
		word, isText := textLiteral(literal)
		if !isText || slices.Contains(v.words, word) {
			continue
		}
		hint := didYouMean(word, v.words)
		if hint == "" {
			hint = ": " + v.hint
		}
		c.errorf(literal.ID(), "unknown %s %s%s", v.what, quoted(word), hint)
	}
}
