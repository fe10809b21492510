package signals

import (
	"fmt"
	"unicode/utf8"

	"vigil/spell"
)

// suggest says which of known was probably meant by name, or nothing.
func suggest[S ~string](name string, known []S) string {
	names := make([]string, len(known))
	for i, k := range known {
		names[i] = string(k)
	}
	if near := spell.Nearest(name, names); near != "" {
		return fmt.Sprintf(": did you mean %q?", near)
	}
	return ""
}

// clip shortens what others wrote for use in a message.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
