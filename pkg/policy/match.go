package policy

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"
)

// Match is the long form of a rule's match. Everything that is set must hold. Exactly one of Path, Prefix, Template
// and Regex may be set; none means any path.
type Match struct {
	Methods  []string              `json:"methods,omitempty" jsonschema_description:"HTTP methods; any when left out."`
	Path     string                `json:"path,omitempty" jsonschema_description:"This very path, or in the short forms /static/* and /users/{id}."`
	Prefix   string                `json:"prefix,omitempty" jsonschema_description:"This path and all below it, by whole segments."`
	Template string                `json:"template,omitempty" jsonschema_description:"A path with {name} for one whole segment; it may end in /*."`
	Regex    string                `json:"regex,omitempty" jsonschema_description:"An RE2 expression for the whole path, without the query."`
	Headers  map[string]ValueMatch `json:"headers,omitempty" jsonschema_description:"Request headers that must be so."`
	Query    map[string]ValueMatch `json:"query,omitempty" jsonschema_description:"Query parameters that must be so."`
}

// ValueMatch is a condition on a header or query parameter: a value stands for exact.
type ValueMatch struct {
	Exact   *string `json:"exact,omitempty" jsonschema_description:"The whole value."`
	Prefix  string  `json:"prefix,omitempty" jsonschema_description:"How the value starts."`
	Regex   string  `json:"regex,omitempty" jsonschema_description:"An RE2 expression for the whole value."`
	Present *bool   `json:"present,omitempty" jsonschema_description:"true: there, whatever its value; false: not there."`
}

// UnmarshalNode reads a single value or the long form.
func (m *ValueMatch) UnmarshalNode(at At, p *Problems) {
	if at.Node.Kind == Scalar {
		m.Exact = &at.Node.Value
		return
	}
	type plain ValueMatch
	Decode(at, (*plain)(m), p)
	set := 0
	for _, is := range []bool{m.Exact != nil, m.Prefix != "", m.Regex != "", m.Present != nil} {
		if is {
			set++
		}
	}
	if set != 1 {
		p.Errorf(at, CodeValue, "%s needs exactly one of exact, prefix, regex, present", at.Path)
	}
	checkRegex(at.Field("regex"), m.Regex, p)
}

// JSONSchema describes both forms.
func (ValueMatch) JSONSchema() *jsonschema.Schema {
	type plain ValueMatch
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "string"}, {Type: "number"}, {Type: "boolean"}, inlineSchema(plain{})}}
}

// Matches is a rule's match: one, or a list of which any may hold.
type Matches []Match

// UnmarshalNode reads the short form, the long form, or a list of both.
func (m *Matches) UnmarshalNode(at At, p *Problems) {
	if at.Node.Kind != List {
		*m = Matches{decodeMatch(at, p)}
		return
	}
	for i := range at.Node.Items {
		*m = append(*m, decodeMatch(at.Index(i), p))
	}
	if len(*m) == 0 {
		p.Errorf(at, CodeRequired, "%s is empty", at.Path)
	}
}

// JSONSchema describes all forms.
func (Matches) JSONSchema() *jsonschema.Schema {
	one := &jsonschema.Schema{OneOf: []*jsonschema.Schema{
		{Type: "string", Pattern: `^([A-Z,]+ +)?/`, Examples: []any{"POST /api/v1/orders", "/static/*", "GET /users/{id}"}}, inlineSchema(Match{}),
	}}
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{one, {Type: "array", Items: one}}}
}

func decodeMatch(at At, p *Problems) Match {
	var m Match
	switch at.Node.Kind {
	case Scalar:
		short, err := ParseMatch(at.Node.Value)
		if err != nil {
			p.Suggestf(at, CodeValue, "write for example POST /api/v1/orders, /static/* or GET /users/{id}", "%s: %v", at.Path, err)
		}
		return short
	default:
		Decode(at, &m, p)
		m.check(at, p)
		return m
	}
}

// ParseMatch reads the short form: an optional list of methods, then a path, which may hold {name} segments and end
// in /*.
func ParseMatch(s string) (Match, error) {
	methods, path, found := strings.Cut(strings.TrimSpace(s), " ")
	if !found {
		methods, path = "", methods
	}
	m := Match{Path: strings.TrimSpace(path)}
	if m.Path == "" {
		return Match{}, errors.New("a match has a path")
	}
	if methods != "" {
		m.Methods = strings.Split(methods, ",")
	}
	if err := cmp.Or(checkMethods(m.Methods), checkPath(m.Path)); err != nil {
		return Match{}, err
	}
	return m, nil
}

func (m *Match) check(at At, p *Problems) {
	set := 0
	for _, s := range []string{m.Path, m.Prefix, m.Template, m.Regex} {
		if s != "" {
			set++
		}
	}
	if set > 1 {
		p.Errorf(at, CodeConflict, "%s: only one of path, prefix, template and regex may be set", at.Path)
	}
	for field, err := range map[string]error{
		"methods": checkMethods(m.Methods), "path": checkPath(m.Path), "prefix": checkPath(m.Prefix), "template": checkPath(m.Template),
	} {
		if err != nil && at.Node.Get(field) != nil {
			p.Errorf(at.Field(field), CodeValue, "%s: %v", at.Field(field).Path, err)
		}
	}
	if strings.ContainsAny(m.Prefix, "{}*") {
		p.Suggestf(at.Field("prefix"), CodeValue, "use template:", "%s takes no {name} and no *", at.Field("prefix").Path)
	}
	checkRegex(at.Field("regex"), m.Regex, p)
	for name := range m.Headers {
		if err := CheckHeaderName(name); err != nil {
			p.Errorf(at.Field("headers").Field(name), CodeValue, "%v", err)
		}
	}
}

var methodForm = regexp.MustCompile(`^[A-Z][A-Z-]*$`)

func checkMethods(methods []string) error {
	for _, m := range methods {
		if !methodForm.MatchString(m) {
			return fmt.Errorf("%q is not an HTTP method in capital letters", shorten(m))
		}
	}
	return nil
}

var paramForm = regexp.MustCompile(`^\{[A-Za-z_][A-Za-z0-9_]*\}$`)

// checkPath holds a path pattern against what may be matched at all: Envoy compares normalised paths.
func checkPath(path string) error {
	if path == "" {
		return nil
	}
	if path[0] != '/' {
		return fmt.Errorf("%q is not a path: it must start with /", shorten(path))
	}
	if i := strings.IndexAny(path, "?# \t\\"); i >= 0 {
		return fmt.Errorf("%q: a path holds no %q; match the query under query:", shorten(path), path[i:i+1])
	}
	segments := strings.Split(path[1:], "/")
	var names []string
	for i, s := range segments {
		switch {
		case s == "*" && i == len(segments)-1:
		case strings.Contains(s, "*"):
			return fmt.Errorf("%q: * may stand only at the end, as /*", shorten(path))
		case s == "." || s == ".." || s == "" && i < len(segments)-1:
			return fmt.Errorf("%q: requests are matched after //, /./ and /../ are resolved, so this can never match", shorten(path))
		case strings.ContainsAny(s, "{}") && !paramForm.MatchString(s):
			return fmt.Errorf("%q: {name} must be a whole segment, its name letters, digits and _", shorten(path))
		case strings.ContainsAny(s, "{}") && slices.Contains(names, s):
			return fmt.Errorf("%q: %s stands twice", shorten(path), s)
		case strings.ContainsAny(s, "{}"):
			names = append(names, s)
		}
	}
	return nil
}

func checkRegex(at At, expr string, p *Problems) {
	if expr == "" {
		return
	}
	if len(expr) > 1024 {
		p.Errorf(at, CodeValue, "%s is longer than 1024 characters", at.Path)
		return
	}
	if _, err := regexp.Compile(expr); err != nil {
		p.Errorf(at, CodeValue, "%s is not an RE2 expression: %v", at.Path, err)
	}
}

var headerForm = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}$")

// CheckHeaderName tells what is wrong with a header's name, nil when nothing is. Pseudo-headers are refused.
func CheckHeaderName(name string) error {
	if !headerForm.MatchString(name) {
		return fmt.Errorf("%q is not a header name", shorten(name))
	}
	return nil
}
