package authorize

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
)

// fault is what is wrong with an expression, at a character, lines and columns counting from 1; and the way out.
type fault struct {
	line, column    int
	message, wayOut string
}

// faults puts the compiler's words into ours.
func faults(text string, issues *cel.Issues) []fault {
	var out []fault
	for _, e := range issues.Errors() {
		f := fault{line: max(e.Location.Line(), 1), column: e.Location.Column() + 1}
		f.message, f.wayOut = explainFault(text, e.Message)
		out = append(out, f)
	}
	return out
}

func explainFault(text, message string) (plain, wayOut string) {
	plain, _, _ = strings.Cut(strings.TrimPrefix(message, "Syntax error: "), " expecting ")
	plain = strings.Replace(plain, "mismatched input '<EOF>'", "the expression ends where more is expected", 1)
	undeclared := regexp.MustCompile(`^undeclared reference to '([^']+)'(?: \(did you mean '([^']+)'\?\))?$`).FindStringSubmatch(plain)
	switch {
	case undeclared == nil && strings.Contains(plain, "list(string), string") && strings.Contains(text, "request.query"):
		return plain, "a parameter may be sent more than once, so what it holds is a list: request.query['a'] == ['b']"
	case undeclared == nil:
		return plain, ""
	case undeclared[1] == "request" || undeclared[1] == "identity":
		return undeclared[1] + " is no value by itself", "name one of its fields, which are always there; has() asks for what a field such as request.headers or identity.claims holds"
	case undeclared[2] != "":
		return "there is no " + undeclared[1] + " here", "did you mean " + undeclared[2] + "?"
	}
	return "there is no " + undeclared[1] + " here", "there are " + strings.Join(slices.Sorted(maps.Keys(variables())), ", ") +
		"; the operators and functions of CEL; has, all, exists and exists_one"
}
