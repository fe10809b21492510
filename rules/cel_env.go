package rules

import (
	"slices"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/ext"
)

// The limits of one expression. They bound what loading a hostile bundle can cost; a rule
// that a person would read is far below them.
const (
	maxExpressionChars = 4096
	maxExpressionNodes = 500
	maxExpressionDepth = 40
	maxRegexProgram    = 200 // instructions of the compiled pattern
	maxNesting         = 1   // of all, exists and exists_one within each other
)

// baseEnv is the language of rules without the variables of a bundle: a subset of CEL's
// standard library, and of its extensions at pinned versions. Nothing in it builds a
// string, a list or bytes out of its operands, so what an evaluation holds is bounded by
// what the request and posture hold.
var baseEnv = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewCustomEnv(
		cel.StdLib(cel.StdLibSubset(&env.LibrarySubset{
			DisableMacros:    true,
			IncludeFunctions: standardFunctions(),
		})),
		equalityFunctions(),
		cel.OptionalTypes(cel.OptionalTypesVersion(1)),
		ext.Sets(ext.SetsVersion(1)),
		ext.Math(ext.MathVersion(0)),
		ext.Network(ext.NetworkVersion(1)),
		cel.ClearMacros(),
		cel.Macros(
			cel.GlobalMacro(operators.Has, 1, expandHas),
			cel.AllMacro, cel.ExistsMacro, cel.ExistsOneMacro,
			greatestMacro, leastMacro,
		),
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.StrictTimestampParsing(true),
		cel.ParserRecursionLimit(maxExpressionDepth),
		cel.ParserExpressionSizeLimit(maxExpressionChars),
		cel.ExpressionNodeLimit(maxExpressionNodes),
		cel.ParserErrorRecoveryLimit(4),
		cel.RegexProgramSizeLimit(maxRegexProgram),
		cel.ASTValidators(
			cel.ValidateDurationLiterals(),
			cel.ValidateTimestampLiterals(),
			cel.ValidateRegexLiterals(),
			cel.ValidateHomogeneousAggregateLiterals(),
			cel.ValidateComprehensionNestingLimit(maxNesting),
			cel.ValidateRegexProgramSizeLimit(maxRegexProgram),
		),
		cel.EagerlyValidateDeclarations(true),
	)
})

// standardFunctions are what rules keep of CEL's standard library. Left out are unsigned
// integers and bytes, which no attribute has; whatever builds strings or lists; time zones
// other than UTC, whose rules change under a running process; type() and dyn(), which
// would let an expression escape its type check; and conversions from strings to numbers,
// for attributes are typed.
func standardFunctions() []*env.Function {
	keep := func(name string, ids ...string) *env.Function {
		f := env.NewFunction(name)
		for _, id := range ids {
			f.Overloads = append(f.Overloads, &env.Overload{ID: id})
		}
		return f
	}
	return []*env.Function{
		keep(operators.Conditional), keep(operators.LogicalAnd), keep(operators.LogicalOr),
		keep(operators.LogicalNot), keep(operators.NotStrictlyFalse),
		keep(operators.Add, overloads.AddInt64, overloads.AddDouble, overloads.AddTimestampDuration,
			overloads.AddDurationTimestamp, overloads.AddDurationDuration),
		keep(operators.Subtract, overloads.SubtractInt64, overloads.SubtractDouble,
			overloads.SubtractTimestampTimestamp, overloads.SubtractTimestampDuration,
			overloads.SubtractDurationDuration),
		keep(operators.Multiply, overloads.MultiplyInt64, overloads.MultiplyDouble),
		keep(operators.Divide, overloads.DivideInt64, overloads.DivideDouble),
		keep(operators.Modulo, overloads.ModuloInt64),
		keep(operators.Negate, overloads.NegateInt64, overloads.NegateDouble),
		keep(operators.Less, overloads.LessInt64, overloads.LessInt64Double, overloads.LessDouble,
			overloads.LessDoubleInt64, overloads.LessString, overloads.LessTimestamp, overloads.LessDuration),
		keep(operators.LessEquals, overloads.LessEqualsInt64, overloads.LessEqualsInt64Double,
			overloads.LessEqualsDouble, overloads.LessEqualsDoubleInt64, overloads.LessEqualsString,
			overloads.LessEqualsTimestamp, overloads.LessEqualsDuration),
		keep(operators.Greater, overloads.GreaterInt64, overloads.GreaterInt64Double, overloads.GreaterDouble,
			overloads.GreaterDoubleInt64, overloads.GreaterString, overloads.GreaterTimestamp,
			overloads.GreaterDuration),
		keep(operators.GreaterEquals, overloads.GreaterEqualsInt64, overloads.GreaterEqualsInt64Double,
			overloads.GreaterEqualsDouble, overloads.GreaterEqualsDoubleInt64, overloads.GreaterEqualsString,
			overloads.GreaterEqualsTimestamp, overloads.GreaterEqualsDuration),
		keep(operators.Index, overloads.IndexList, overloads.IndexMap),
		keep(overloads.Size, overloads.SizeString, overloads.SizeStringInst, overloads.SizeList,
			overloads.SizeListInst, overloads.SizeMap, overloads.SizeMapInst),
		keep(overloads.Contains), keep(overloads.StartsWith), keep(overloads.EndsWith), keep(overloads.Matches),
		keep(overloads.TypeConvertInt, overloads.IntToInt, overloads.DoubleToInt),
		keep(overloads.TypeConvertDouble, overloads.DoubleToDouble, overloads.IntToDouble),
		keep(overloads.TypeConvertTimestamp, overloads.TimestampToTimestamp, overloads.StringToTimestamp),
		keep(overloads.TypeConvertDuration, overloads.DurationToDuration, overloads.StringToDuration),
		keep(overloads.TimeGetFullYear, overloads.TimestampToYear),
		keep(overloads.TimeGetMonth, overloads.TimestampToMonth),
		keep(overloads.TimeGetDayOfYear, overloads.TimestampToDayOfYear),
		keep(overloads.TimeGetDate, overloads.TimestampToDayOfMonthOneBased),
		keep(overloads.TimeGetDayOfMonth, overloads.TimestampToDayOfMonthZeroBased),
		keep(overloads.TimeGetDayOfWeek, overloads.TimestampToDayOfWeek),
		keep(overloads.TimeGetHours, overloads.TimestampToHours, overloads.DurationToHours),
		keep(overloads.TimeGetMinutes, overloads.TimestampToMinutes, overloads.DurationToMinutes),
		keep(overloads.TimeGetSeconds, overloads.TimestampToSeconds, overloads.DurationToSeconds),
		keep(overloads.TimeGetMilliseconds, overloads.TimestampToMilliseconds, overloads.DurationToMilliseconds),
	}
}

// equalityFunctions declares ==, != and in. CEL's own take two operands of one type, so a
// number could not be compared with 5000; these take an int with a number too, and leave
// out the types that no rule needs. CEL's evaluation of == and != is built in and compares
// numbers by value whatever their types.
func equalityFunctions() cel.EnvOption {
	a := cel.TypeParamType("A")
	key := cel.TypeParamType("K")
	pairs := []struct {
		id          string
		left, right *cel.Type
	}{
		{"", cel.StringType, cel.StringType}, // "equals" and "not_equals": CEL's ids, for its cost model
		{"_bool", cel.BoolType, cel.BoolType},
		{"_int", cel.IntType, cel.IntType},
		{"_number", cel.DoubleType, cel.DoubleType},
		{"_int_number", cel.IntType, cel.DoubleType},
		{"_number_int", cel.DoubleType, cel.IntType},
		{"_timestamp", cel.TimestampType, cel.TimestampType},
		{"_duration", cel.DurationType, cel.DurationType},
		{"_list", cel.ListType(a), cel.ListType(a)},
		{"_map", cel.MapType(key, a), cel.MapType(key, a)},
		{"_optional", cel.OptionalType(a), cel.OptionalType(a)},
		{"_ip", ext.IPType, ext.IPType},
		{"_cidr", ext.CIDRType, ext.CIDRType},
	}
	members := []struct {
		id         string
		elem, list *cel.Type
	}{
		{overloads.InList, cel.StringType, cel.StringType}, // CEL's id: literal lists become hash sets
		{"in_list_bool", cel.BoolType, cel.BoolType},
		{"in_list_int", cel.IntType, cel.IntType},
		{"in_list_number", cel.DoubleType, cel.DoubleType},
		{"in_list_int_number", cel.IntType, cel.DoubleType},
		{"in_list_number_int", cel.DoubleType, cel.IntType},
	}
	var equals, notEquals []cel.FunctionOpt
	for _, p := range pairs {
		args := []*cel.Type{p.left, p.right}
		equals = append(equals, cel.Overload(overloads.Equals+p.id, args, cel.BoolType))
		notEquals = append(notEquals, cel.Overload(overloads.NotEquals+p.id, args, cel.BoolType))
	}
	in := []cel.FunctionOpt{
		cel.Overload(overloads.InMap, []*cel.Type{key, cel.MapType(key, a)}, cel.BoolType),
		cel.SingletonBinaryBinding(contained),
	}
	for _, m := range members {
		in = append(in, cel.Overload(m.id, []*cel.Type{m.elem, cel.ListType(m.list)}, cel.BoolType))
	}
	equals = append(equals, cel.SingletonBinaryBinding(types.Equal))
	notEquals = append(notEquals, cel.SingletonBinaryBinding(func(a, b ref.Val) ref.Val {
		return types.Bool(types.Equal(a, b) != types.True)
	}))
	return func(e *cel.Env) (*cel.Env, error) {
		for _, f := range []cel.EnvOption{
			cel.Function(operators.Equals, equals...),
			cel.Function(operators.NotEquals, notEquals...),
			cel.Function(operators.In, in...),
		} {
			var err error
			if e, err = f(e); err != nil {
				return nil, err
			}
		}
		return e, nil
	}
}

func contained(elem, in ref.Val) ref.Val {
	if c, ok := in.(traits.Container); ok {
		return c.Contains(elem)
	}
	return types.ValOrErr(in, "no such overload")
}

// functionNames are the names that a rule can call, as people write them, sorted.
var functionNames = sync.OnceValue(func() []string {
	names := []string{"has", "all", "exists", "exists_one", "math.greatest", "math.least"}
	if e, err := baseEnv(); err == nil {
		for name := range e.Functions() {
			if isWritten(name) && unavailable[name] == "" {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
})

// isWritten says whether name is called by its name, rather than by an operator.
func isWritten(name string) bool {
	for _, c := range name {
		switch {
		case c == '_' && len(name) > 1, c == '.', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		default:
			return false
		}
	}
	return name[0] != '_'
}

// unavailable says why a function of CEL is none of the rules'. Those that an extension
// brings in all the same are refused by these names.
var unavailable = map[string]string{
	"string":          "rules do not build strings",
	"format":          "rules do not build strings",
	"join":            "rules do not build strings",
	"replace":         "rules do not build strings",
	"split":           "rules do not build strings",
	"substring":       "rules do not build strings; there are startsWith, endsWith, contains and matches",
	"charAt":          "rules do not build strings; there are startsWith, endsWith, contains and matches",
	"lowerAscii":      "rules do not build strings; write (?i) in a pattern for matches",
	"upperAscii":      "rules do not build strings; write (?i) in a pattern for matches",
	"trim":            "rules do not build strings",
	"bytes":           "rules do not build bytes",
	"map":             "rules do not build lists; there are all, exists and exists_one",
	"filter":          "rules do not build lists; there are all, exists and exists_one",
	"optMap":          "use orValue",
	"optFlatMap":      "use orValue",
	"type":            "attributes are typed where they are declared",
	"dyn":             "attributes are typed where they are declared",
	"uint":            "there are int and number only",
	"bool":            "attributes are typed where they are declared",
	"optional.unwrap": "rules do not build lists",
	"unwrapOpt":       "rules do not build lists",
}
