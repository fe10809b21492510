package rules

import (
	"cmp"
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"vigil/authz"
)

// constantList is a list of the bundle as rules see it: a CEL list whose membership test is
// one look-up, however long it is and however many rules name it. It is immutable.
type constantList struct {
	traits.Lister // the elements in the order of the bundle
	typ           *cel.Type
	strings       map[string]struct{}
	numbers       map[float64]struct{}
	size          int
	longest       int // bytes of the longest string
}

func newConstantList(l *NamedList) *constantList {
	list := &constantList{typ: cel.ListType(cel.StringType), size: len(l.Values)}
	elems := make([]ref.Val, 0, len(l.Values))
	numbers := slices.ContainsFunc(l.Values, func(v authz.Value) bool { return v.Kind == authz.Number })
	if numbers {
		list.typ = cel.ListType(cel.DoubleType)
		list.numbers = make(map[float64]struct{}, len(l.Values))
	} else {
		list.strings = make(map[string]struct{}, len(l.Values))
	}
	for _, v := range l.Values {
		switch {
		case numbers && v.Kind == authz.Number:
			list.numbers[v.Num] = struct{}{}
			elems = append(elems, types.Double(v.Num))
		case !numbers && v.Kind == authz.String:
			list.strings[v.Str] = struct{}{}
			list.longest = max(list.longest, len(v.Str))
			elems = append(elems, types.String(v.Str))
		}
	}
	list.Lister = types.NewRefValList(types.DefaultTypeAdapter, elems)
	return list
}

// Contains implements CEL's in. Ints are compared with numbers by value: an int of a
// request is within ±2^53, where both agree exactly.
func (l *constantList) Contains(v ref.Val) ref.Val {
	switch v := v.(type) {
	case types.String:
		_, found := l.strings[string(v)]
		return types.Bool(found)
	case types.Double:
		_, found := l.numbers[float64(v)]
		return types.Bool(found)
	case types.Int:
		if f := float64(v); types.Int(f) == v {
			_, found := l.numbers[f]
			return types.Bool(found)
		}
		return types.False
	}
	return l.Lister.Contains(v)
}

// sortedValues gives the distinct values in one fixed order, for the digest.
func sortedValues(values []authz.Value) []authz.Value {
	sorted := slices.Clone(values)
	slices.SortFunc(sorted, func(a, b authz.Value) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Num, b.Num), cmp.Compare(a.Str, b.Str))
	})
	return slices.CompactFunc(sorted, func(a, b authz.Value) bool {
		return a.Kind == b.Kind && a.Num == b.Num && a.Str == b.Str
	})
}
