package feature

import (
	"cmp"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/model"
)

// Set is the features of one program, in the order of their stages and names.
type Set struct {
	features []Feature
	byName   map[string]int
}

// NewSet orders features. Two of one name are a mistake in the program: it panics.
func NewSet(features ...Feature) Set {
	sorted := slices.Clone(features)
	slices.SortFunc(sorted, func(a, b Feature) int {
		return cmp.Or(cmp.Compare(a.Info().Stage, b.Info().Stage), strings.Compare(a.Info().Name, b.Info().Name))
	})
	s := Set{features: sorted, byName: make(map[string]int, len(sorted))}
	for i, f := range sorted {
		if _, twice := s.byName[f.Info().Name]; twice {
			panic("feature: two features are named " + f.Info().Name)
		}
		s.byName[f.Info().Name] = i
	}
	return s
}

// All are the features, in order.
func (s Set) All() []Feature { return s.features }

// Get is the feature of a name.
func (s Set) Get(name string) (Feature, bool) {
	i, ok := s.byName[name]
	if !ok {
		return nil, false
	}
	return s.features[i], true
}

// NamesOn are the names of the features whose block may stand at a place, sorted.
func (s Set) NamesOn(on Place) []string {
	var names []string
	for _, f := range s.features {
		if f.Info().On&on != 0 {
			names = append(names, f.Info().Name)
		}
	}
	slices.Sort(names)
	return names
}

// Kinds are the kinds of documents that features own.
func (s Set) Kinds() []Kind {
	var kinds []Kind
	for _, f := range s.features {
		if k, ok := f.(Kinds); ok {
			kinds = append(kinds, k.Kinds()...)
		}
	}
	return kinds
}

// Filters are the filters of every chain, in the published order, the router not among them. Where any feature is
// decided by the agent, the filter that asks it is one of them.
func (s Set) Filters() []Filter {
	var filters []Filter
	asks := s.checked()
	for _, f := range s.features {
		if asks && f.Info().Stage >= StageExtAuthz {
			filters, asks = append(filters, agentFilter()), false
		}
		if h, ok := f.(HTTPFilterer); ok {
			filters = append(filters, h.HTTPFilters()...)
		}
	}
	return filters
}

// SortAttachments puts attachments in the features' order.
func (s Set) SortAttachments(list []model.Attachment) {
	slices.SortStableFunc(list, func(a, b model.Attachment) int {
		return cmp.Compare(s.byName[a.Feature], s.byName[b.Feature])
	})
}
