package authorize

import (
	"math"
	"slices"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/ext"
)

// Limits of one expression.
const (
	maxExpression = 2048 // characters
	maxNodes      = 500
	maxDepth      = 50
	maxRegex      = 1000 // instructions of a compiled pattern
	// maxCost is what an expression may cost, in CEL's units: a comparison is about one, ten characters looked at are one.
	maxCost = 20_000
	// maxMemory is what an expression may hold at once, in CEL's units.
	maxMemory = 1 << 20
	// checkEvery is after how many steps of a loop the request's deadline is looked at.
	checkEvery = 100
)

// variables are what expressions see, each with its type and how large it is taken to be before it is seen.
func variables() map[string]variable {
	word, text := sized(256), sized(1024)
	words := variable{t: cel.ListType(cel.StringType), size: 100, item: 64}
	return map[string]variable{
		"identity.user": word, "identity.plan": word, "identity.issuer": word,
		"identity.permissions": words, "identity.scopes": words, "identity.roles": words,
		"identity.claims": {t: cel.MapType(cel.StringType, cel.DynType), size: 50, item: 256},
		"request.method":  word, "request.host": word, "request.path": text,
		"request.query":   {t: cel.MapType(cel.StringType, cel.ListType(cel.StringType)), size: 50, item: 256},
		"request.headers": {t: cel.MapType(cel.StringType, cel.StringType), size: 50, item: 1024},
		"request.params":  {t: cel.MapType(cel.StringType, cel.StringType), size: 9, item: 256},
		"request.time":    {t: cel.TimestampType}, "request.clientAddress": {t: ext.IPType},
	}
}

type variable struct {
	t *cel.Type
	// size is how many characters or items there may be, item how many characters or items in each.
	size, item uint64
}

func sized(n uint64) variable { return variable{t: cel.StringType, size: n} }

// environment is made once: it is the same for all expressions, and safe for concurrent use.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	options := []cel.EnvOption{
		cel.ClearMacros(),
		cel.Macros(cel.HasMacro, cel.AllMacro, cel.ExistsMacro, cel.ExistsOneMacro),
		cel.CrossTypeNumericComparisons(true), cel.DefaultUTCTimeZone(true),
		cel.ParserExpressionSizeLimit(maxExpression), cel.ExpressionNodeLimit(maxNodes), cel.ExpressionNestingDepthLimit(maxDepth),
		cel.ParserRecursionLimit(maxDepth), cel.RegexProgramSizeLimit(maxRegex),
		cel.ASTValidators(
			cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateRegexLiterals(),
			cel.ValidateRegexProgramSizeLimit(maxRegex), cel.ValidateComprehensionNestingLimit(1),
		),
		ext.Network(),
	}
	for name, v := range variables() {
		options = append(options, cel.Variable(name, v.t))
	}
	return cel.NewEnv(options...)
})

// sizes says how large variables are taken to be where an expression's cost is estimated.
type sizes map[string]variable

// EstimateSize implements cost.Estimator.
func (s sizes) EstimateSize(n cost.AstNode) *cost.SizeEstimate {
	path := n.Path()
	if len(path) == 0 {
		return nil
	}
	v, ok := s[path[0]]
	switch {
	case !ok:
		return nil
	case len(path) == 1:
		return &cost.SizeEstimate{Max: v.size}
	case slices.Contains(path[1:], "@keys"):
		return &cost.SizeEstimate{Max: 64}
	}
	return &cost.SizeEstimate{Max: v.item}
}

// EstimateCallCost implements cost.Estimator.
func (sizes) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}

// estimate is what an expression costs at most, as far as that can be said.
func estimate(env *cel.Env, a *cel.Ast) uint64 {
	e, err := env.EstimateCost(a, sizes(variables()))
	if err != nil {
		return math.MaxUint64
	}
	return e.Max
}
