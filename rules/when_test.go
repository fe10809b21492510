package rules

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestAnErrorInAnExpressionPointsAtItsPlace writes an expression in every style of YAML and
// asks for the place of a word in it.
func TestAnErrorInAnExpressionPointsAtItsPlace(t *testing.T) {
	for _, c := range []struct {
		name string
		rule string // the text after "when:"; the word to find is HERE
		line int    // of HERE within the value, from 1
		col  int
	}{
		{"plain", ` a == b && HERE`, 1, 11},
		{"plain over lines", " a == b &&\n      HERE < 3", 1, 11},
		{"single quotes", ` 'a == ''b'' && HERE'`, 1, 13},
		{"double quotes", ` "a == \"b\" && HERE"`, 1, 13},
		{"double quotes over lines", " \"a && \\\n      HERE\"", 1, 6},
		{"literal", " |\n      a == b &&\n      HERE", 2, 1},
		{"literal with a comment in its header", " | # why\n      a &&\n        HERE", 2, 3},
		{"literal after blank lines", " |\n\n\n      a && HERE", 3, 6},
		{"literal with an indentation of its own", " |2\n        a && HERE", 1, 8},
		{"folded", " >\n      a &&\n      b &&\n      HERE", 1, 11},
		{"behind characters of several bytes", " '\"é\" == x && HERE'", 1, 13},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := mustParse(t, bundleOf(map[string]string{
				"a.yaml": "vigil: 1\nrules:\n  - id: r\n    effect: deny\n    when:" + c.rule + "\n",
			}))
			r := b.Rules[0]
			if at := wordAt(r.When, c.line, c.col); !strings.HasPrefix(at, "HERE") {
				t.Fatalf("the test is wrong: %q", at)
			}
			e := b.whenError(r, c.line, c.col, "here")
			source, mark, _ := strings.Cut(e.Caret, "\n")
			at := []rune(source)
			if n := len(mark) - 1; n < 0 || n > len(at) || !strings.HasPrefix(string(at[n:]), "HERE") {
				t.Errorf("%s\n%s", e.Pos, e.Caret)
			}
		})
	}
}

func wordAt(text string, line, col int) string {
	offset, _ := textOffset(text, line, col)
	return text[offset:]
}

// TestEveryPlaceInAnExpressionMapsToTheSameCharacter tries all places of random expressions
// in the styles that keep their characters.
func TestEveryPlaceInAnExpressionMapsToTheSameCharacter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.StringMatching(`[a-zé"'<=&|()]{1,6}`), 1, 12).Draw(t, "words")
		words[0] = "x" + words[0] // a plain scalar begins with a letter
		var value string
		switch rapid.SampledFrom([]string{"plain", "literal", "folded", "single"}).Draw(t, "style") {
		case "plain":
			value = strings.Join(words, "\n      ")
		case "literal":
			value = "|\n      " + strings.Join(words, "\n      ")
		case "folded":
			value = ">\n      " + strings.Join(words, "\n      ")
		case "single":
			value = "'" + strings.ReplaceAll(strings.Join(words, "\n      "), "'", "''") + "'"
		}
		b, errs := Parse(bundleOf(map[string]string{"a.yaml": "vigil: 1\nrules:\n  - id: r\n    effect: deny\n    when: " + value + "\n"}))
		if errs != nil {
			t.Fatal(errs)
		}
		r := b.Rules[0]
		line, column := 1, 1
		for _, c := range r.When {
			if c == '\n' {
				line, column = line+1, 1
				continue
			}
			if c != ' ' {
				pos := b.whenPos(r, line, column)
				offset, ok := b.text("a.yaml").offset(pos)
				if !ok || !strings.HasPrefix(string(b.Sources["a.yaml"][offset:]), string(c)) {
					t.Fatalf("%q: %d:%d (%q) maps to %s", r.When, line, column, c, pos)
				}
			}
			column++
		}
	})
}

func TestAPlaceOutsideOfAnExpressionIsNoPanic(t *testing.T) {
	for _, style := range []string{"a", "'a'", "\"\\u0061\"", "|\n      a", ">\n      a"} {
		b := mustParse(t, bundleOf(map[string]string{"a.yaml": "vigil: 1\nrules:\n  - id: r\n    effect: deny\n    when: " + style + "\n"}))
		for _, line := range []int{-1, 0, 1, 2, 99} {
			for _, column := range []int{-1, 0, 1, 2, 99} {
				if e := b.whenError(b.Rules[0], line, column, "x"); e.Pos.File != "a.yaml" || e.Pos.Line < 3 {
					t.Errorf("%s %d:%d: %s", style, line, column, e.Pos)
				}
			}
		}
	}
	// A rule that no file was read for.
	if e := new(Bundle).whenError(&Rule{ID: "r", When: "a"}, 1, 1, "x"); e.String() != "r: x" {
		t.Errorf("got %q", e.String())
	}
}

func TestCaretsOfLongAndHostileLines(t *testing.T) {
	long := strings.Repeat("é", 5000)
	text := newSourceText("a", []byte(long+"X"+long+"\nesc \x1b[31m tab\tY\n"))
	got := text.caret(Pos{"a", 1, len(long) + 1})
	lines := strings.Split(got, "\n")
	if len(lines) != 2 || len([]rune(lines[0])) > caretWidth+4 || []rune(lines[0])[len([]rune(lines[1]))-1] != 'X' {
		t.Errorf("got\n%s", got)
	}
	if got := text.caret(Pos{"a", 2, 15}); strings.ContainsAny(got, "\x1b\t") || !strings.HasSuffix(got, "^") {
		t.Errorf("got %q", got)
	}
	for _, pos := range []Pos{{"a", 0, 1}, {"a", 9, 1}, {"a", 1, 0}, {"a", -1, -1}} {
		if got := text.caret(pos); got != "" {
			t.Errorf("%v: %q", pos, got)
		}
	}
	if text.caret(Pos{"a", 2, 9999}) == "" {
		t.Error("a column behind the line has no caret")
	}
}
