package rules

import (
	"bytes"
	"slices"
	"strings"
)

// sourceText is a file with the offsets at which its lines begin, so that a file with an
// error on every line is reported in linear time. It is immutable.
type sourceText struct {
	file   string
	data   []byte
	starts []int
}

func newSourceText(file string, data []byte) *sourceText {
	starts := make([]int, 1, 1+bytes.Count(data, []byte("\n")))
	for i, c := range data {
		if c == '\n' {
			starts = append(starts, i+1)
		}
	}
	return &sourceText{file: file, data: data, starts: starts}
}

// text gives the source of file; an empty one where the bundle does not hold it.
func (b *Bundle) text(file string) *sourceText {
	if t := b.texts[file]; t != nil {
		return t
	}
	return newSourceText(file, b.Sources[file])
}

// line gives line n, counted from 1, without its end.
func (t *sourceText) line(n int) (string, bool) {
	if n < 1 || n > len(t.starts) {
		return "", false
	}
	end := len(t.data)
	if n < len(t.starts) {
		end = t.starts[n] - 1
	}
	return strings.TrimSuffix(string(t.data[t.starts[n-1]:end]), "\r"), true
}

// offset gives the byte offset of pos.
func (t *sourceText) offset(pos Pos) (int, bool) {
	if pos.Line < 1 || pos.Line > len(t.starts) || pos.Column < 1 {
		return 0, false
	}
	offset := t.starts[pos.Line-1] + pos.Column - 1
	return offset, offset < len(t.data)
}

// pos is the inverse of offset.
func (t *sourceText) pos(offset int) Pos {
	i, exact := slices.BinarySearch(t.starts, offset)
	if !exact {
		i--
	}
	return Pos{File: t.file, Line: i + 1, Column: offset - t.starts[i] + 1}
}

// errorAt makes an Error with the caret lines of pos, where the bundle holds its source.
func (b *Bundle) errorAt(pos Pos, rule, message string) Error {
	return Error{Pos: pos, Rule: rule, Message: message, Caret: b.text(pos.File).caret(pos)}
}

// caretWidth is how many characters of a source line are shown.
const caretWidth = 110

// caret gives the source line of pos and a line with a caret below its column, or "" where
// there is no such line. A long line is cut around the caret; control characters are shown
// as spaces, so that a file cannot write to a terminal.
func (t *sourceText) caret(pos Pos) string {
	line, ok := t.line(pos.Line)
	if !ok || pos.Column <= 0 || strings.TrimSpace(line) == "" {
		return ""
	}
	// Cut to bytes first: a line may be as long as a file.
	column := min(pos.Column-1, len(line))
	head, tail := "", ""
	if from := column - 4*caretWidth; from > 0 {
		line, column, head = line[from:], column-from, "…"
	}
	if to := column + 4*caretWidth; to < len(line) {
		line, tail = line[:to], "…"
	}
	at := len([]rune(line[:column]))
	shown := []rune(line)
	for i, r := range shown {
		if isHidden(r) {
			shown[i] = ' '
		}
	}
	if from := at - caretWidth/2; len(shown) > caretWidth && from > 0 {
		shown, at, head = shown[from:], caretWidth/2, "…"
	}
	if len(shown) > caretWidth {
		shown, tail = shown[:caretWidth], "…"
	}
	text := strings.TrimRight(head+string(shown)+tail, " ")
	return "  " + text + "\n  " + strings.Repeat(" ", at+len([]rune(head))) + "^"
}

// isHidden reports whether r does not show as a character of its own: control characters,
// and those that change the direction of the text around them, with which a file can look
// as if it said something else (CVE-2021-42574).
func isHidden(r rune) bool {
	switch {
	case r < ' ', r >= 0x7f && r < 0xa0:
		return true
	case r == 0x061c, r == 0x200e, r == 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
		return true
	}
	return r == 0x2028 || r == 0x2029 || r == 0xfeff || r == 0xfffd
}
