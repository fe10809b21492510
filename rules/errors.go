package rules

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxErrors is how many errors are reported before the rest is counted only: a file that
// is wrong everywhere must not fill a log.
const maxErrors = 200

// Error is one thing wrong with a bundle.
type Error struct {
	Pos     Pos
	Rule    string // the rule's id, where it is in one
	Message string // lower case, with a suggestion where there is one
	Caret   string // the source line and a line with a caret below it; "" where there is none

	more int // how many others a last one stands for
}

// Errors is everything wrong with a bundle, in file order: bundle.yaml, then the files by
// name, then by line and column. It has no duplicates and at most 201 members, the last of
// which then says how many more there are.
type Errors []Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].String()
	}
	return strings.Join(lines, "\n")
}

// String gives "file:line:column: rule: message", then the caret lines. What is not known
// of the position is left out.
func (e Error) String() string {
	var b strings.Builder
	if p := e.Pos.String(); p != "" {
		b.WriteString(p)
		b.WriteString(": ")
	}
	if e.Rule != "" {
		b.WriteString(e.Rule)
		b.WriteString(": ")
	}
	b.WriteString(e.Message)
	if e.Caret != "" {
		b.WriteByte('\n')
		b.WriteString(e.Caret)
	}
	return b.String()
}

// String gives "file:line:column", without what is not known.
func (p Pos) String() string {
	switch {
	case p.File == "":
		return ""
	case p.Line <= 0:
		return p.File
	case p.Column <= 0:
		return p.File + ":" + strconv.Itoa(p.Line)
	}
	return p.File + ":" + strconv.Itoa(p.Line) + ":" + strconv.Itoa(p.Column)
}

func (p Pos) compare(q Pos) int {
	return cmp.Or(
		cmp.Compare(fileRank(p.File), fileRank(q.File)),
		cmp.Compare(p.File, q.File),
		cmp.Compare(p.Line, q.Line),
		cmp.Compare(p.Column, q.Column),
	)
}

func fileRank(file string) int {
	switch file {
	case manifestName:
		return 0
	case "":
		return 2
	}
	return 1
}

// errorList gathers errors while a bundle is read. It keeps no more than it may need, for a
// hostile bundle can be wrong in a million places.
type errorList struct {
	kept    []Error
	seen    map[errorKey]struct{} // of kept
	dropped int
}

type errorKey struct {
	pos           Pos
	rule, message string
}

// maxKept is how many errors are kept; those that are shown are the first of them by place.
const maxKept = 10 * maxErrors

func (l *errorList) add(e Error) {
	key := errorKey{e.Pos, e.Rule, e.Message}
	if _, twice := l.seen[key]; twice {
		return
	}
	if len(l.kept) >= maxKept {
		l.dropped++
		return
	}
	if l.seen == nil {
		l.seen = make(map[errorKey]struct{})
	}
	l.seen[key] = struct{}{}
	l.kept = append(l.kept, e)
}

// addAt adds an error with the caret lines of pos.
func (l *errorList) addAt(b *Bundle, pos Pos, rule, format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	if len(l.kept) >= maxKept {
		l.dropped++
		return
	}
	l.add(b.errorAt(pos, rule, message))
}

// hint is didYouMean until there are more errors than are shown: looking for what was meant
// costs in proportion to what is known.
func (l *errorList) hint(name string, known []string) string {
	if len(l.kept) > maxErrors {
		return ""
	}
	return didYouMean(name, known)
}

func (l *errorList) finish() Errors { return finish(l.kept, l.dropped) }

// finishErrors puts errs into the form that Errors promises. It gives nil for no errors.
func finishErrors(errs []Error) Errors { return finish(errs, 0) }

func finish(errs []Error, dropped int) Errors {
	if len(errs) == 0 {
		return nil
	}
	sorted := slices.DeleteFunc(slices.Clone(errs), func(e Error) bool {
		dropped += e.more
		return e.more > 0
	})
	slices.SortStableFunc(sorted, func(a, b Error) int {
		return cmp.Or(a.Pos.compare(b.Pos), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Message, b.Message))
	})
	sorted = slices.CompactFunc(sorted, func(a, b Error) bool {
		return a.Pos == b.Pos && a.Rule == b.Rule && a.Message == b.Message
	})
	if more := len(sorted) - maxErrors + dropped; more > 0 {
		sorted = append(sorted[:maxErrors:maxErrors], Error{Message: fmt.Sprintf("and %d more errors", more), more: more})
	}
	return sorted
}
