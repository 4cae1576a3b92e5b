package feature

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/sluice-gateway/sluice/pkg/model"
)

// PathTemplate is a path that others become: /v2/{id}, where {id} stands for the match's parameter of that name. It
// may end in /*: what the match's own /* stands for goes along.
type PathTemplate string

// maxGroups is up to which group RE2 can name in a substitution: \9.
const maxGroups = 9

var templateParam = regexp.MustCompile(`^\{([A-Za-z_][A-Za-z0-9_]*)\}$`)

// Check tells what is wrong with the template by itself.
func (t PathTemplate) Check() error {
	if !strings.HasPrefix(string(t), "/") {
		return fmt.Errorf("%q is not a path: it must start with /", string(t))
	}
	if i := strings.IndexFunc(string(t), func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`?#\"<>^|`+"`", r) }); i >= 0 {
		return fmt.Errorf("%q: a path holds no %q", string(t), string(t)[i:i+1])
	}
	if _, err := url.PathUnescape(string(t)); err != nil {
		return fmt.Errorf("%q: %% must be followed by two hexadecimal digits", string(t))
	}
	segments, tail := t.split()
	for i, s := range segments {
		switch {
		case s == "" && (tail || i < len(segments)-1):
			return fmt.Errorf("%q: // stands for an empty segment, which services read in different ways", string(t))
		case s == "." || s == "..":
			return fmt.Errorf("%q: write the path without /./ and /../", string(t))
		case strings.Contains(s, "*"):
			return fmt.Errorf("%q: * may stand only at the end, as /*", string(t))
		case strings.ContainsAny(s, "{}") && !templateParam.MatchString(s):
			return fmt.Errorf("%q: {name} must be a whole segment, its name letters, digits and _", string(t))
		}
	}
	return nil
}

// CheckAgainst tells what the template asks for that a match's path does not have.
func (t PathTemplate) CheckAgainst(p model.Path) error {
	segments, tail := t.split()
	if tail && !p.Tail {
		return fmt.Errorf("the match %s does not end in /*, so there is no rest of the path to keep", p)
	}
	if len(p.Params()) >= maxGroups {
		return fmt.Errorf("the match %s has %d parameters; a path can be rewritten by at most %d", p, len(p.Params()), maxGroups-1)
	}
	for _, s := range segments {
		if name := templateParam.FindStringSubmatch(s); name != nil && !slices.Contains(p.Params(), name[1]) {
			return fmt.Errorf("the match %s has no parameter {%s}", p, name[1])
		}
	}
	return nil
}

// split gives the segments, and whether the template ends in /*.
func (t PathTemplate) split() (segments []string, tail bool) {
	rest, tail := strings.CutSuffix(string(t), "/*")
	if rest == "" {
		return nil, tail
	}
	return strings.Split(rest[1:], "/"), tail
}

// Prefix is what Envoy puts in place of the literal part of a /* match, when that is all there is to do; "" when it
// takes Expression.
func (t PathTemplate) Prefix(p model.Path) string {
	segments, tail := t.split()
	if !tail || p.HasParams() || p.Regex != "" || len(segments) == 0 || slices.ContainsFunc(segments, templateParam.MatchString) {
		return ""
	}
	if len(p.Segments) == 0 {
		return t.literal() + "/" // the match is "/", and its slash is replaced too
	}
	return t.literal()
}

func (t PathTemplate) literal() string {
	segments, _ := t.split()
	return escapePath("/" + strings.Join(segments, "/"))
}

// Expression is the whole path's expression, and what takes its place. Parameters go in as they stand in the
// request, still percent-encoded.
func (t PathTemplate) Expression(p model.Path) *matcherv3.RegexMatchAndSubstitute {
	segments, tail := t.split()
	out := &matcherv3.RegexMatchAndSubstitute{Pattern: &matcherv3.RegexMatcher{Regex: wholePath(p, len(segments) == 0)}}
	var b strings.Builder
	for _, s := range segments {
		b.WriteByte('/')
		if name := templateParam.FindStringSubmatch(s); name != nil {
			b.WriteString(`\` + strconv.Itoa(slices.Index(p.Params(), name[1])+1))
			continue
		}
		b.WriteString(escapePath(s))
	}
	if len(segments) == 0 {
		b.WriteByte('/')
	}
	if tail {
		b.WriteString(`\` + strconv.Itoa(len(p.Params())+1))
	}
	out.Substitution = b.String()
	return out
}

// wholePath is an anchored expression for a path: each parameter one group, then the rest of a /* match. Before a
// rest that goes below / itself, its slash is left out.
func wholePath(p model.Path, root bool) string {
	if !p.Tail {
		return "^(?:" + p.Expression() + ")$"
	}
	exact := p
	exact.Tail = false
	if root {
		return "^" + exact.Expression() + "/?(.*)$"
	}
	return "^" + exact.Expression() + "(/.*)?$"
}

// escapePath percent-encodes what may not stand in a request's path.
func escapePath(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if s[i] >= 0x7f {
			fmt.Fprintf(&b, "%%%02X", s[i])
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
