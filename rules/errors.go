package rules

import "strings"

// Error is one thing wrong with a bundle.
type Error struct {
	Pos     Pos
	Rule    string // the rule's id, where it is in one
	Message string // lower case, with a suggestion where there is one
	Caret   string // the source line and a line with a caret below it; "" where there is none
}

// Errors is everything wrong with a bundle, in file order.
type Errors []Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].String()
	}
	return strings.Join(lines, "\n")
}

// String gives "file:line:column: rule: message", then the caret lines.
func (e Error) String() string { panic("unwritten") }
