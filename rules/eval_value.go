package rules

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"vigil/authz"
)

// maxExact is the largest integer up to which every integer is a JSON number exactly.
const maxExact = 1 << 53

// fill sets sl to v as a declares it. Nothing is coerced: what is not of the declared type
// and within the declared bounds is bad.
func (sl *slot) fill(a *Attribute, v *authz.Value) {
	if v == nil || v.Kind == authz.Absent {
		switch {
		case a.Default != nil:
			v = a.Default
		case a.Required:
			sl.state = slotBad
			return
		default:
			sl.state = slotAbsent
			return
		}
	}
	sl.state, sl.typ, sl.raw = slotBad, a.Type, v
	switch a.Type {
	case TypeString:
		if v.Kind == authz.String && len(v.Str) <= a.maxSize() {
			sl.state, sl.text = slotOK, v.Str
		}
	case TypeBool:
		if v.Kind == authz.Bool {
			sl.state, sl.whole = slotOK, int64(v.Num)
		}
	case TypeInt:
		if isInt(v) && a.inBounds(v.Num) {
			sl.state, sl.whole, sl.num = slotOK, int64(v.Num), v.Num
		}
	case TypeNumber:
		if v.Kind == authz.Number && isFinite(v.Num) && a.inBounds(v.Num) {
			sl.state, sl.num = slotOK, v.Num
		}
	case TypeTimestamp:
		if t, ok := parseTimestamp(v); ok {
			sl.state, sl.boxed = slotOK, types.Timestamp{Time: t}
		}
	case TypeDuration:
		if d, ok := parseDuration(v); ok {
			sl.state, sl.whole = slotOK, int64(d)
		}
	case TypeList:
		if v.Kind == authz.List && len(v.Members) <= a.maxSize() && elementsFit(v.Members, a.Elem) {
			sl.state = slotOK
		}
	case TypeMap:
		if v.Kind == authz.Map && len(v.Members) <= a.maxSize() && elementsFit(v.Members, a.Elem) {
			sl.state = slotOK
		}
	}
}

func isFinite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }

func isInt(v *authz.Value) bool {
	return v.Kind == authz.Number && v.Num == math.Trunc(v.Num) && math.Abs(v.Num) <= maxExact
}

func (a *Attribute) inBounds(n float64) bool {
	return (a.Min == nil || n >= *a.Min) && (a.Max == nil || n <= *a.Max)
}

// elementsFit says whether all members are of type elem, and no longer than the longest
// string that rules take.
func elementsFit(members []authz.Member, elem AttributeType) bool {
	for i := range members {
		if len(members[i].Name) > defaultMaxString || !elementFits(&members[i].Value, elem) {
			return false
		}
	}
	return true
}

func elementFits(v *authz.Value, elem AttributeType) bool {
	switch elem {
	case TypeString:
		return v.Kind == authz.String && len(v.Str) <= defaultMaxString
	case TypeBool:
		return v.Kind == authz.Bool
	case TypeInt:
		return isInt(v)
	case TypeNumber:
		return v.Kind == authz.Number && isFinite(v.Num)
	}
	return false
}

// parseTimestamp reads RFC 3339 within the years that CEL knows. Go's parser takes a little
// more, hence the look at the shape.
func parseTimestamp(v *authz.Value) (time.Time, bool) {
	if v.Kind != authz.String || !isTimestamp(v.Str) {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339, v.Str)
	t = t.UTC()
	return t, err == nil && t.Year() >= 1 && t.Year() <= 9999
}

// isTimestamp says whether s has the shape 2006-01-02T15:04:05[.999999999](Z|±07:00).
func isTimestamp(s string) bool {
	const head = "0000-00-00T00:00:00"
	if len(s) <= len(head) || len(s) > len(head)+len(".000000000+00:00") || !hasShape(s[:len(head)], head) {
		return false
	}
	s = s[len(head):]
	if s[0] == '.' {
		digits := 1
		for digits < len(s) && s[digits] >= '0' && s[digits] <= '9' {
			digits++
		}
		if digits == 1 || digits > 10 {
			return false
		}
		s = s[digits:]
	}
	return s == "Z" || hasShape(s, "+00:00") || hasShape(s, "-00:00")
}

// hasShape compares s with a shape in which 0 stands for any digit.
func hasShape(s, shape string) bool {
	if len(s) != len(shape) {
		return false
	}
	for i := range len(s) {
		if shape[i] == '0' && s[i] >= '0' && s[i] <= '9' {
			continue
		}
		if s[i] != shape[i] || shape[i] == '0' {
			return false
		}
	}
	return true
}

func parseDuration(v *authz.Value) (time.Duration, bool) {
	if v.Kind != authz.String || len(v.Str) > 64 {
		return 0, false
	}
	d, err := time.ParseDuration(v.Str)
	return d, err == nil
}

// boxedInts are the ints that risks and most counts are, boxed once and for all.
var boxedInts = func() (boxed [128]ref.Val) {
	for i := range boxed {
		boxed[i] = types.Int(i)
	}
	return boxed
}()

// box makes the value for CEL. The slot is OK and is no timestamp, which is boxed from the
// first.
func (sl *slot) box() ref.Val {
	if sl.of != nil {
		if sl.typ == TypeMap {
			return types.NewStringStringMap(types.DefaultTypeAdapter, sl.of.Labels)
		}
		return types.NewStringList(types.DefaultTypeAdapter, sl.of.Scopes)
	}
	switch sl.typ {
	case TypeString:
		return types.String(sl.text)
	case TypeBool:
		return types.Bool(sl.whole != 0)
	case TypeInt:
		if sl.whole >= 0 && sl.whole < int64(len(boxedInts)) {
			return boxedInts[sl.whole]
		}
		return types.Int(sl.whole)
	case TypeNumber:
		return types.Double(sl.num)
	case TypeDuration:
		return types.Duration{Duration: time.Duration(sl.whole)}
	case TypeList:
		elems := make([]ref.Val, len(sl.raw.Members))
		for i := range elems {
			elems[i] = boxElement(&sl.raw.Members[i].Value, sl.attr.Elem)
		}
		return types.NewRefValList(types.DefaultTypeAdapter, elems)
	case TypeMap:
		entries := make(map[ref.Val]ref.Val, len(sl.raw.Members))
		for i := range sl.raw.Members {
			m := &sl.raw.Members[i]
			entries[types.String(m.Name)] = boxElement(&m.Value, sl.attr.Elem)
		}
		return types.NewRefValMap(types.DefaultTypeAdapter, entries)
	}
	return types.NewErr("no value")
}

func boxElement(v *authz.Value, elem AttributeType) ref.Val {
	switch elem {
	case TypeString:
		return types.String(v.Str)
	case TypeBool:
		return types.Bool(v.Num != 0)
	case TypeInt:
		return types.Int(v.Num)
	}
	return types.Double(v.Num)
}

// hasEntry says whether the slot, which is OK and holds a map, has an entry key. An entry
// that is null is none, but no such map is OK.
func (sl *slot) hasEntry(key string) bool {
	if sl.of != nil {
		_, found := sl.of.Labels[key]
		return found
	}
	return authz.Object(sl.raw.Members).Get(key) != nil
}

// explainBad says why v is not what a declares, without its content: it may be a secret.
func explainBad(a *Attribute, v *authz.Value) string {
	if v == nil || v.Kind == authz.Absent {
		return "required and missing"
	}
	number := func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
	mismatch := "want " + article(a.typeName()) + ", got " + article(v.Kind.String())
	switch a.Type {
	case TypeString:
		if v.Kind == authz.String {
			return fmt.Sprintf("%d bytes, more than %d", len(v.Str), a.maxSize())
		}
	case TypeInt, TypeNumber:
		switch {
		case v.Kind != authz.Number:
		case !isFinite(v.Num):
			return "no finite number"
		case a.Type == TypeInt && !isInt(v):
			return number(v.Num) + " is no integer within 2^53"
		case a.Min != nil && v.Num < *a.Min:
			return number(v.Num) + " is less than " + number(*a.Min)
		case a.Max != nil:
			return number(v.Num) + " is more than " + number(*a.Max)
		}
	case TypeTimestamp:
		if v.Kind == authz.String {
			return "want a timestamp as RFC 3339 has it"
		}
	case TypeDuration:
		if v.Kind == authz.String {
			return "want a duration, such as 90s or 1h30m"
		}
	case TypeList, TypeMap:
		if v.Kind == authz.List && a.Type == TypeList || v.Kind == authz.Map && a.Type == TypeMap {
			if len(v.Members) > a.maxSize() {
				return fmt.Sprintf("%d members, more than %d", len(v.Members), a.maxSize())
			}
			for i := range v.Members {
				m := &v.Members[i]
				if len(m.Name) > defaultMaxString {
					return fmt.Sprintf("a key of %d bytes, more than %d", len(m.Name), defaultMaxString)
				}
				if elementFits(&m.Value, a.Elem) {
					continue
				}
				if a.Elem == TypeString && m.Value.Kind == authz.String {
					return fmt.Sprintf("member %d: %d bytes, more than %d", i, len(m.Value.Str), defaultMaxString)
				}
				return fmt.Sprintf("member %d: want %s, got %s", i, article(typeNames[a.Elem]), article(m.Value.Kind.String()))
			}
		}
	}
	return mismatch
}

func article(noun string) string {
	if noun == "absent" {
		return "null"
	}
	if noun[0] == 'i' {
		return "an " + noun
	}
	return "a " + noun
}
