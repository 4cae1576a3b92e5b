// Package redirect answers requests with the address that takes their place.
package redirect

import (
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Feature is the block `redirect`.
type Feature struct{}

// Info implements feature.Feature.
func (Feature) Info() feature.Info {
	return feature.Info{Name: "redirect", Stage: feature.StageRoute, On: feature.Rule,
		Summary: "Answers the request at the gateway with another address to go to."}
}

// New implements feature.Feature.
func (Feature) New() feature.Spec { return &Spec{Status: 302} }

// Spec is the block. What it does not name stays as it was in the request.
type Spec struct {
	Scheme     string               `json:"scheme,omitempty" jsonschema:"enum=http,enum=https" jsonschema_description:"The new address's scheme."`
	Host       string               `json:"host,omitempty" jsonschema_description:"The new address's host name."`
	Port       uint32               `json:"port,omitempty" jsonschema:"minimum=1,maximum=65535" jsonschema_description:"The new address's port; the scheme's own when left out."`
	Path       feature.PathTemplate `json:"path,omitempty" jsonschema_description:"The new address's path; {name} is the match's parameter, a last /* the rest of the path."`
	Prefix     string               `json:"prefix,omitempty" jsonschema_description:"What takes the place of the part of a /* match before its /*."`
	Status     uint32               `json:"status,omitempty" jsonschema:"enum=301,enum=302,enum=303,enum=307,enum=308" jsonschema_description:"The answer's status; 302 when left out. 307 and 308 keep the method."`
	StripQuery bool                 `json:"stripQuery,omitempty" jsonschema_description:"Leaves the query out of the new address."`
}

// Validate implements feature.Spec.
func (s *Spec) Validate(at policy.At, p *policy.Problems) {
	switch {
	case s.Path != "" && s.Prefix != "":
		p.Errorf(at, policy.CodeConflict, "%s: only one of path and prefix may be set", at.Path)
	case s.Scheme == "" && s.Host == "" && s.Port == 0 && s.Path == "" && s.Prefix == "" && !s.StripQuery:
		p.Suggestf(at, policy.CodeRequired, "add one of scheme, host, port, path, prefix", "%s leads back to the same address", at.Path)
	}
	if !slices.Contains([]uint32{301, 302, 303, 307, 308}, s.Status) {
		p.Errorf(at.Field("status"), policy.CodeValue, "%s is %d, which is not one of 301, 302, 303, 307, 308", at.Field("status").Path, s.Status)
	}
	if s.Path != "" {
		if err := s.Path.Check(); err != nil {
			p.Errorf(at.Field("path"), policy.CodeValue, "%v", err)
		}
	}
	if s.Prefix != "" {
		if err := s.template().Check(); err != nil {
			p.Errorf(at.Field("prefix"), policy.CodeValue, "%v", err)
		}
		if strings.ContainsAny(s.Prefix, "{*") {
			p.Suggestf(at.Field("prefix"), policy.CodeValue, "use path: "+string(s.template()), "a prefix is written without {name} and /*")
		}
	}
	s.checkHost(at.Field("host"), p)
}

func (s *Spec) checkHost(at policy.At, p *policy.Problems) {
	if s.Host == "" {
		return
	}
	if err := policy.CheckHost(s.Host); err != nil {
		p.Errorf(at, policy.CodeValue, "%v", err)
	} else if strings.Contains(s.Host, "*") {
		p.Suggestf(at, policy.CodeValue, "write one name, such as www.food.example", "%q: an address has one host", s.Host)
	}
}

// template is the new path, "" when it stays.
func (s *Spec) template() feature.PathTemplate {
	if s.Prefix != "" {
		return feature.PathTemplate(strings.TrimSuffix(s.Prefix, "/") + "/*")
	}
	return s.Path
}

// CheckMatch implements feature.MatchChecker.
func (s *Spec) CheckMatch(m model.Match, at policy.At, p *policy.Problems) {
	t := s.template()
	if t == "" || t.Check() != nil {
		return
	}
	field := "path"
	if s.Prefix != "" {
		field = "prefix"
	}
	if err := t.CheckAgainst(m.Path); err != nil {
		p.Errorf(at.Field(field), policy.CodeConflict, "%s: %v", at.Field(field).Path, err)
	}
}

// Answers implements feature.Answerer.
func (s *Spec) Answers() bool { return true }
