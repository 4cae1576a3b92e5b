package compile

import (
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// tracker follows names and remembers what each named, if anything: what a compiled form depends on.
type tracker struct {
	site     *site
	reads    map[policy.Ref]*document
	clusters map[string]*document // cluster → its Service
}

func (s *site) track() *tracker {
	return &tracker{site: s, reads: map[policy.Ref]*document{}, clusters: map[string]*document{}}
}

var _ feature.Lookup = (*tracker)(nil)

func (t *tracker) get(kind, name string) *document {
	ref := policy.Ref{Kind: kind, Name: name}
	d := t.site.documents[ref]
	t.reads[ref] = d
	return d
}

// Cluster implements feature.Lookup.
func (t *tracker) Cluster(service string) (string, bool) {
	d := t.get(KindService, service)
	if d == nil || d.service == nil {
		return "", false
	}
	name := model.ClusterName(service)
	t.clusters[name] = d
	return name, true
}

// Hint implements feature.Lookup.
func (t *tracker) Hint(kind, name string) string { return hint(name, t.site.names(kind), kind) }

// Document implements feature.Lookup.
func (t *tracker) Document(kind, name string) (feature.Spec, bool) {
	d := t.get(kind, name)
	if d == nil || d.owned == nil {
		return nil, false
	}
	return d.owned, true
}

// expand is the blocks of the Policies used, in order, then own: a Policy's blocks hold as if written where it is
// listed.
func (t *tracker) expand(use []string, at policy.At, own []block, p *policy.Problems) []block {
	if len(use) == 0 {
		return own
	}
	e := expander{tracker: t, problems: p}
	for i, name := range use {
		e.policy(name, at.Index(i), nil)
	}
	return append(e.blocks, own...)
}

type expander struct {
	*tracker
	problems *policy.Problems
	blocks   []block
}

func (e *expander) policy(name string, at policy.At, path []string) {
	for _, on := range path {
		if on == name {
			e.problems.Errorf(at, policy.CodeCycle, "Policy %q uses itself: %s", name, strings.Join(append(path, name), " → "))
			return
		}
	}
	d := e.get(KindPolicy, name)
	if d == nil || d.bundle == nil {
		e.problems.Suggestf(at, policy.CodeReference, hint(name, e.site.names(KindPolicy), "Policy"), "there is no Policy %q", name)
		return
	}
	if len(path) > 32 {
		e.problems.Errorf(at, policy.CodeTooMany, "Policies use one another more than 32 deep")
		return
	}
	for i, used := range d.bundle.Use {
		e.policy(used, d.Spec().Field("use").Index(i), append(path, name))
	}
	e.blocks = append(e.blocks, through(d.blocks, name)...)
}

// names are the names of one kind's objects.
func (s *site) names(kind string) []string {
	var names []string
	for ref := range s.documents {
		if ref.Kind == kind {
			names = append(names, ref.Name)
		}
	}
	return names
}

func hint(name string, known []string, kind string) string {
	if near := policy.Nearest(name, known); near != "" {
		return "did you mean " + near + "?"
	}
	return "define it: kind: " + kind + ", metadata: {name: " + name + "}"
}

func join(words []string) string { return strings.Join(words, ", ") }

func ruleNumber(i int) string { return "rule-" + strconv.Itoa(i+1) }
