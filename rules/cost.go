package rules

import (
	"math"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"

	"vigil/authz"
)

// MaxRuleCost is the most that one evaluation of one rule may cost, in CEL's cost units: a
// unit is about one simple operation, some tens of nanoseconds. The worst case is computed
// when the bundle loads, from the declared sizes of what the rule reads; no rule is ever
// stopped by time.
const MaxRuleCost = 10_000

// The sizes of values that state none. What a request brings beyond them is "could not
// evaluate", so that a computed cost is a bound and not a guess.
const (
	defaultMaxString = 1024 // bytes, also of the elements, keys and values of lists and maps
	defaultMaxList   = 64   // elements, or entries of a map
)

// The most that a rule sees of an entity's registration.
const (
	maxLabels = 256
	maxScopes = 256
)

// sizes tells CEL's estimator how large what a rule reads can be.
type sizes struct{ scope *scope }

// EstimateSize implements cost.Estimator.
func (s sizes) EstimateSize(node cost.AstNode) *cost.SizeEstimate {
	path := node.Path()
	if len(path) == 0 {
		return nil
	}
	v := s.scope.vars[path[0]]
	name := path[0]
	rest := path[1:]
	if v == nil && len(path) > 1 {
		name = path[0] + "." + path[1]
		v, rest = s.scope.vars[name], path[2:]
	}
	if v == nil {
		return nil
	}
	if len(rest) > 1 {
		return nil
	}
	size := func(n int) *cost.SizeEstimate {
		e := cost.RangedSizeEstimate(0, uint64(n))
		return &e
	}
	inside := len(rest) == 1
	switch {
	case v.list != nil && inside:
		if v.typ.Parameters()[0].IsExactType(cel.StringType) {
			return size(v.list.longest)
		}
		return size(1)
	case v.list != nil:
		return size(v.list.size)
	case v.decls != nil:
		return size(attributeSize(v.decls, inside))
	case v.presence != "":
		switch strings.TrimPrefix(name, v.presence+".") {
		case "labels":
			if inside {
				return size(defaultMaxString)
			}
			return size(maxLabels)
		case "scopes":
			if inside {
				return size(defaultMaxString)
			}
			return size(maxScopes)
		case "status":
			return size(len("decommissioned"))
		case "class":
			return size(defaultMaxString)
		}
	}
	if v.typ.IsExactType(cel.StringType) {
		return size(max(authz.MaxID, defaultMaxString)) // an id, a type, a name
	}
	return size(1)
}

// attributeSize is the largest that any declaration allows.
func attributeSize(decls []*Attribute, inside bool) int {
	largest := 1
	for _, a := range decls {
		switch {
		case inside && a.Elem == TypeString, a.Type == TypeList && inside:
			largest = max(largest, defaultMaxString)
		case inside:
		case a.Type == TypeString, a.Type == TypeList, a.Type == TypeMap:
			largest = max(largest, a.maxSize())
		}
	}
	return largest
}

// maxSize is the bytes of a string, or the elements of a list or map, that a may have.
func (a *Attribute) maxSize() int {
	if a.Max != nil {
		return int(min(max(*a.Max, 0), math.MaxInt32))
	}
	if a.Type == TypeString {
		return defaultMaxString
	}
	return defaultMaxList
}

// EstimateCallCost implements cost.Estimator for the functions that CEL's model does not
// know: the equalities and memberships of equalityFunctions, and look-ups in constant
// lists, which are hashed.
func (s sizes) EstimateCallCost(_, overload string, target *cost.AstNode, args []cost.AstNode) *cost.CallEstimate {
	call := func(units uint64) *cost.CallEstimate {
		return cost.NewCallEstimate(cost.RangedCostEstimate(1, max(units, 1)), nil)
	}
	size := func(i int) uint64 { return cost.EstimateSize(s, args[i]).Max }
	switch {
	case strings.HasPrefix(overload, "in_list") && len(args) == 2:
		if path := args[1].Path(); len(path) == 1 && s.scope.vars[path[0]] != nil && s.scope.vars[path[0]].list != nil {
			return call(1 + traversal(size(0)))
		}
		each := uint64(1)
		if overload == "in_list" {
			each = max(traversal(size(0)), 1)
		}
		return call(cost.SafeMultiply(size(1), each))
	case overload == "equals_list", overload == "not_equals_list", overload == "equals_map", overload == "not_equals_map":
		return call(cost.SafeMultiply(min(size(0), size(1)), traversal(defaultMaxString)))
	}
	return nil
}

// traversal is what walking a string of n bytes costs.
func traversal(n uint64) uint64 { return cost.SafeMultiplyByFactor(n, cost.StringTraversalCostFactor) }

// worstCost bounds what one evaluation can cost; math.MaxUint64 where nothing bounds it.
func worstCost(s *scope, checked *cel.Ast) (uint64, error) {
	estimate, err := s.env.EstimateCost(checked, sizes{scope: s})
	if err != nil {
		return 0, err
	}
	return estimate.Max, nil
}

var _ cost.Estimator = sizes{}
