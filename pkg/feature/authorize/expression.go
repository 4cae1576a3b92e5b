package authorize

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/interpreter"
	"github.com/invopop/jsonschema"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Expression is a condition in the Common Expression Language, checked and compiled once, where it is read. It is safe
// for concurrent use.
type Expression struct {
	text    string
	program cel.Program
	// identity tells whether it asks about the caller, params which parameters of the path it asks for.
	identity bool
	params   []string
}

// Expressions are conditions that must all be true.
type Expressions []Expression

// MarshalJSON is the text.
func (e Expression) MarshalJSON() ([]byte, error) { return json.Marshal(e.text) }

// UnmarshalJSON reads and compiles the text.
func (e *Expression) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	var faults []fault
	*e, faults = compile(text)
	if len(faults) > 0 {
		return fmt.Errorf("cel: %d:%d: %s", faults[0].line, faults[0].column, faults[0].message)
	}
	return nil
}

// UnmarshalNode reads one expression or a list.
func (e *Expressions) UnmarshalNode(at policy.At, p *policy.Problems) {
	var texts []string
	if at.Node.Kind == policy.Scalar {
		texts = []string{at.Node.Value}
	} else {
		policy.Decode(at, &texts, p)
	}
	if len(texts) == 0 {
		p.Suggestf(at, policy.CodeValue, "write a condition, or leave the field out", "%s is empty", at.Path)
	}
	for i, text := range texts {
		here := at
		if at.Node.Kind == policy.List {
			here = at.Index(i)
		}
		one, faults := compile(text)
		for _, f := range faults {
			p.Suggestf(here.Inside(f.line, f.column), policy.CodeValue, f.wayOut, "%s: %s", here.Path, f.message)
		}
		*e = append(*e, one)
	}
}

// JSONSchema describes both forms.
func (Expressions) JSONSchema() *jsonschema.Schema {
	word := &jsonschema.Schema{Type: "string"}
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{word, {Type: "array", Items: word}}}
}

// compile checks an expression and makes it ready.
func compile(text string) (Expression, []fault) {
	out := Expression{text: text}
	env, err := environment()
	if err != nil {
		return out, []fault{{1, 1, err.Error(), ""}}
	}
	checked, issues := env.Compile(text)
	if issues.Err() != nil {
		return out, faults(text, issues)
	}
	if t := checked.OutputType(); !t.IsExactType(cel.BoolType) {
		return out, []fault{{1, 1, fmt.Sprintf("the expression is %s; true or false is wanted", typeName(t)), "compare it with a value"}}
	}
	if most := estimate(env, checked); most > maxCost {
		return out, []fault{{1, 1, fmt.Sprintf("the expression may cost %d; at most %d is allowed", most, maxCost), "make it simpler, or part it in several"}}
	}
	out.identity, out.params = asks(checked.NativeRep())
	out.program, err = env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost), cel.MemoryLimit(maxMemory), cel.InterruptCheckFrequency(checkEvery))
	if err != nil {
		return out, []fault{{1, 1, err.Error(), ""}}
	}
	return out, nil
}

func typeName(t *cel.Type) string {
	if t.Kind() == types.DynKind {
		return "of a type that is not known"
	}
	return "a " + t.String()
}

// asks tells whether an expression asks about the caller, and for which parameters of the path.
func asks(a *ast.AST) (identity bool, params []string) {
	refers := a.ReferenceMap()
	for _, r := range refers {
		identity = identity || strings.HasPrefix(r.Name, "identity.")
	}
	isParams := func(e ast.Expr) bool { return refers[e.ID()] != nil && refers[e.ID()].Name == paramsVariable }
	ast.PostOrderVisit(a.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch {
		case e.Kind() == ast.SelectKind && isParams(e.AsSelect().Operand()):
			params = append(params, e.AsSelect().FieldName())
		case e.Kind() == ast.CallKind && e.AsCall().FunctionName() == operators.Index && isParams(e.AsCall().Args()[0]) && e.AsCall().Args()[1].Kind() == ast.LiteralKind:
			params = append(params, fmt.Sprint(e.AsCall().Args()[1].AsLiteral().Value()))
		case isParams(e):
			params = append(params, "")
		}
	}))
	slices.Sort(params)
	return identity, slices.Compact(params)
}

// check is the decision of one expression.
func (e Expression) check(ctx context.Context, in *input) feature.Decision {
	value, _, err := e.program.ContextEval(ctx, in)
	var cancelled interpreter.EvalCancelledError
	switch {
	case errors.As(err, &cancelled):
		return feature.Unavailable(reasonCELLimit, "Whether this request is allowed could not be decided.")
	case err != nil:
		return forbidden(reasonCELError, "The request lacks something that a condition here asks about.", "")
	case value != types.True:
		return forbidden(reasonCEL, "The request does not meet a condition that holds here.", "")
	}
	return feature.Decision{}
}

var (
	_ policy.Unmarshaler = (*Expressions)(nil)
	_ json.Marshaler     = Expression{}
	_ json.Unmarshaler   = (*Expression)(nil)
)
