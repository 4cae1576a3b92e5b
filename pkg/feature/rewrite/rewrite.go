// Package rewrite changes a request's path and host before it goes to the service.
package rewrite

import (
	"cmp"
	"regexp"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Feature is the block `rewrite`.
type Feature struct{}

// Info implements feature.Feature.
func (Feature) Info() feature.Info {
	return feature.Info{Name: "rewrite", Stage: feature.StageRoute, On: feature.Rule,
		Summary: "Changes the path and host that the service sees."}
}

// New implements feature.Feature.
func (Feature) New() feature.Spec { return &Spec{} }

// Spec is the block.
type Spec struct {
	Path     feature.PathTemplate `json:"path,omitempty" jsonschema_description:"The new path; {name} is the match's parameter, a last /* the rest of the path. The query stays."`
	Prefix   string               `json:"prefix,omitempty" jsonschema_description:"What takes the place of the part of a /* match before its /*."`
	Regex    *Regex               `json:"regex,omitempty" jsonschema_description:"Changes every part of the path, without the query, that an expression finds."`
	Host     string               `json:"host,omitempty" jsonschema_description:"The Host header that the service sees."`
	HostFrom string               `json:"hostFrom,omitempty" jsonschema:"enum=service" jsonschema_description:"service: the name that the service's dns field looks up."`
}

// Regex changes a path by an expression.
type Regex struct {
	Pattern      string `json:"pattern" jsonschema:"required" jsonschema_description:"An RE2 expression, looked for anywhere in the path."`
	Substitution string `json:"substitution" jsonschema:"required" jsonschema_description:"What takes its place; \\1 to \\9 are the expression's groups."`
}

// maxPattern is how long an expression may be.
const maxPattern = 1024

// Validate implements feature.Spec.
func (s *Spec) Validate(at policy.At, p *policy.Problems) {
	s.checkChoice(at, p)
	if s.Path != "" {
		if err := s.Path.Check(); err != nil {
			p.Errorf(at.Field("path"), policy.CodeValue, "%v", err)
		}
	}
	if s.Prefix != "" {
		if err := s.prefix().Check(); err != nil {
			p.Errorf(at.Field("prefix"), policy.CodeValue, "%v", err)
		}
		if strings.ContainsAny(s.Prefix, "{*") {
			p.Suggestf(at.Field("prefix"), policy.CodeValue, "use path: "+string(s.prefix()), "a prefix is written without {name} and /*")
		}
	}
	if s.Regex != nil {
		s.Regex.check(at.Field("regex"), p)
	}
	if s.Host != "" {
		s.checkHost(at.Field("host"), p)
	}
}

func (s *Spec) checkChoice(at policy.At, p *policy.Problems) {
	paths := 0
	for _, set := range []bool{s.Path != "", s.Prefix != "", s.Regex != nil} {
		if set {
			paths++
		}
	}
	switch {
	case paths > 1:
		p.Errorf(at, policy.CodeConflict, "%s: only one of path, prefix and regex may be set", at.Path)
	case s.Host != "" && s.HostFrom != "":
		p.Errorf(at, policy.CodeConflict, "%s: only one of host and hostFrom may be set", at.Path)
	case paths == 0 && s.Host == "" && s.HostFrom == "":
		p.Suggestf(at, policy.CodeRequired, "add one of path, prefix, regex, host, hostFrom", "%s changes nothing", at.Path)
	}
}

func (s *Spec) checkHost(at policy.At, p *policy.Problems) {
	host, _, err := policy.SplitHostPort(s.Host)
	if err != nil {
		host = s.Host
	}
	err = policy.CheckHost(host)
	switch {
	case err != nil:
		p.Errorf(at, policy.CodeValue, "%v", err)
	case strings.Contains(host, "*"):
		p.Suggestf(at, policy.CodeValue, "write one name, such as internal.example", "%q: a request has one host", s.Host)
	}
}

// prefix is the template that the prefix stands for.
func (s *Spec) prefix() feature.PathTemplate {
	return feature.PathTemplate(strings.TrimSuffix(s.Prefix, "/") + "/*")
}

// template is the new path, "" when another way or none is taken.
func (s *Spec) template() feature.PathTemplate {
	if s.Prefix != "" {
		return s.prefix()
	}
	return s.Path
}

var group = regexp.MustCompile(`\\(.?)`)

func (r *Regex) check(at policy.At, p *policy.Problems) {
	re, err := regexp.Compile(r.Pattern)
	switch {
	case r.Pattern == "" || len(r.Pattern) > maxPattern:
		p.Errorf(at.Field("pattern"), policy.CodeValue, "an expression has 1 to %d characters", maxPattern)
		return
	case err != nil:
		p.Errorf(at.Field("pattern"), policy.CodeValue, "%s is not an RE2 expression: %v", at.Field("pattern").Path, err)
		return
	}
	here := at.Field("substitution")
	if strings.ContainsFunc(r.Substitution, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '#' || c == '?' }) {
		p.Errorf(here, policy.CodeValue, "%q: a path holds no spaces, ?, # or control characters; percent-encode what is not ASCII", r.Substitution)
	}
	for _, g := range group.FindAllStringSubmatch(r.Substitution, -1) {
		n := strings.Index("0123456789", cmp.Or(g[1], "x"))
		switch {
		case g[1] != `\` && n < 0:
			p.Suggestf(here, policy.CodeValue, `write \\ for a backslash`, `%q: \ is followed by the number of a group`, r.Substitution)
		case n > re.NumSubexp():
			p.Errorf(here, policy.CodeValue, "%q: the expression has %d groups, so there is no \\%d", r.Substitution, re.NumSubexp(), n)
		}
	}
}

// CheckMatch implements feature.MatchChecker.
func (s *Spec) CheckMatch(m model.Match, at policy.At, p *policy.Problems) {
	if s.template() == "" || s.template().Check() != nil {
		return
	}
	if err := s.template().CheckAgainst(m.Path); err != nil {
		field := "path"
		if s.Prefix != "" {
			field = "prefix"
		}
		p.Errorf(at.Field(field), policy.CodeConflict, "%s: %v", at.Field(field).Path, err)
	}
}
