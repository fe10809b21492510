package control

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"
)

// RenderExplanation writes x for people: what was decided about whom, gate by gate, rule
// by rule, and what it would have been without the gate that stopped it. Control
// characters from the request are shown as escapes, so that nothing in it can write over
// the terminal.
func RenderExplanation(w io.Writer, x *ExplainResponse) error {
	var b strings.Builder
	if x.Recorded != nil {
		fmt.Fprintf(&b, "%s, %s, last %s, %s\n", x.Recorded.ID, timesText(x.Recorded.Count),
			x.Recorded.Last, x.Recorded.Client)
	}
	fmt.Fprintf(&b, "%s   %s %s   %s   %s\n", verdictText(&x.Decision), plain(x.Action), plain(x.Resource),
		plain(whoText(x)), plain(whichText(&x.Decision.Context)))

	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.StripEscape)
	for _, g := range x.Gates {
		verdict := "ok"
		if !g.OK {
			verdict = "STOP"
		}
		what := g.Detail
		if !strings.Contains(what, g.Entity) {
			what = g.Entity + "  " + what
		}
		line := []string{"gate  " + g.Gate, verdict, what}
		fmt.Fprintln(table, strings.TrimRight(strings.Join(cells(line), "\t"), "\t"))
	}
	_ = table.Flush() // writes to b
	for _, r := range x.Rules {
		fmt.Fprintln(table, strings.Join(cells(ruleLine(r)), "\t"))
	}
	_ = table.Flush()
	for _, e := range x.Decision.Context.Errors {
		fmt.Fprintf(&b, "could not evaluate %s: %s\n", plain(e.Rule), plain(e.Message))
	}
	for _, o := range x.Decision.Context.Obligations {
		fmt.Fprintf(&b, "obligation  %s %s\n", plain(o.Type), plain(o.ID))
	}
	for _, name := range x.Decision.Context.Waived {
		fmt.Fprintf(&b, "exception  %s\n", plain(name))
	}
	if x.Without != nil {
		fmt.Fprintf(&b, "Without the gate: %s%s.\n", verdictText(x.Without), byRules(x.Without))
	}
	if x.Note != "" {
		fmt.Fprintf(&b, "%s\n", plain(x.Note))
	}
	if x.Now != nil {
		fmt.Fprintf(&b, "Now: %s%s.\n", verdictText(x.Now), byRules(x.Now))
	}
	_, err := io.WriteString(w, trimLines(b.String()))
	return err
}

// verdictText is "ALLOW" or "DENY quarantined".
func verdictText(d *DecisionBody) string {
	text := strings.ToUpper(d.Context.Effect)
	if !d.Decision {
		text += " " + d.Context.Code
	}
	return plain(text)
}

func byRules(d *DecisionBody) string {
	if len(d.Context.Rules) == 0 {
		return ""
	}
	return " by " + plain(strings.Join(d.Context.Rules, ", "))
}

func whoText(x *ExplainResponse) string {
	switch {
	case x.Agent == "" && x.User == "":
		return "nobody"
	case x.User == "":
		return x.Agent
	case x.Agent == "":
		return x.User
	}
	return x.Agent + " for " + x.User
}

// whichText is the start of the rule set's digest and the position.
func whichText(c *DecisionContext) string {
	digest := strings.TrimPrefix(c.Bundle, "sha256:")
	text := digest[:min(8, len(digest))]
	if c.AsOf != "" {
		text += " @ " + c.AsOf
	}
	return text
}

func ruleLine(r RuleStep) []string {
	effect, result := r.Effect, r.Result
	if r.Mode == "observe" {
		effect += " (observe)"
	}
	if result == "true" || result == "error" {
		result = strings.ToUpper(result)
	}
	detail := strings.Join(r.Detail, ", ")
	if r.Error != "" {
		detail = r.Error
	}
	return []string{"rule  " + r.Rule, effect, result, fmt.Sprintf("%s:%d", r.File, r.Line), detail}
}

func timesText(n uint64) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// cells makes texts fit for a table.
func cells(texts []string) []string {
	for i, t := range texts {
		texts[i] = plain(t)
	}
	return texts
}

// plain shows what does not print as an escape.
func plain(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "\\u{%x}", r)
		}
	}
	return b.String()
}

// trimLines takes the blanks from the ends of lines.
func trimLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " \t")
	}
	return strings.Join(lines, "\n")
}
