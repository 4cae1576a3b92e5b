package admin

import (
	"net/http"
	"time"

	"github.com/sluice-gateway/sluice/pkg/catalog"
	"github.com/sluice-gateway/sluice/pkg/catalog/consul"
)

// Catalog is what the API needs of the source that services come from.
type Catalog interface {
	Status() []consul.ServiceStatus
	Summary() consul.Summary
	Release(service string) (int, error)
}

// CatalogStatus is the catalog as an operator sees it.
type CatalogStatus struct {
	// Address is whom it is asked of.
	Address string `json:"address"`
	// Error is why it cannot be asked, "" if it can; Seen is when it last could.
	Error string    `json:"error,omitempty"`
	Seen  time.Time `json:"seen,omitzero"`
	// Stale and Polled are how many services are; Cure says how to do without polling.
	Stale  int    `json:"stale,omitempty"`
	Polled int    `json:"polled,omitempty"`
	Cure   string `json:"cure,omitempty"`
	// FrozenUntil is when removals count again, and FrozenWhy why they do not.
	FrozenUntil time.Time `json:"frozenUntil,omitzero"`
	FrozenWhy   string    `json:"frozenWhy,omitempty"`
	// OptInsError is why it cannot be found out who opts in.
	OptInsError string           `json:"optInsError,omitempty"`
	Services    []CatalogService `json:"services"`
}

// CatalogService is one service that is watched.
type CatalogService struct {
	// Service is its registered name; Asked is that with what narrows it.
	Service string `json:"service"`
	Asked   string `json:"asked"`
	// Instances are those known; Usable those of them that may take traffic.
	Instances int `json:"instances"`
	Usable    int `json:"usable"`
	// Answered is when it was last known to be right. Stale is why that is not now, "" while it is.
	Answered time.Time `json:"answered,omitzero"`
	Stale    string    `json:"stale,omitempty"`
	// Polled services are asked about now and then, since no connection is left to wait on.
	Polled bool `json:"polled,omitempty"`
	// Held instances are served although they are not registered any more, at the latest until HeldUntil.
	Held      int       `json:"held,omitempty"`
	HeldUntil time.Time `json:"heldUntil,omitzero"`
	HeldWhy   string    `json:"heldWhy,omitempty"`
	// Flapping are instances that change too often, and do not count.
	Flapping []string `json:"flapping,omitempty"`
	// Problems are instances that were left out, and why.
	Problems []string `json:"problems,omitempty"`
	// OptedIn is the RouteTemplate that its registration asks for. EmptyUntil is how long its route stays without
	// instances.
	OptedIn    string    `json:"optedIn,omitempty"`
	EmptyUntil time.Time `json:"emptyUntil,omitzero"`
}

// ReleaseRequest asks to let go of what is held: of one service, or of all.
type ReleaseRequest struct {
	Service string `json:"service,omitempty"`
	All     bool   `json:"all,omitempty"`
}

// ReleaseResult is how many watches had something held.
type ReleaseResult struct {
	Released int `json:"released"`
}

var errNoCatalog = &refusal{http.StatusNotFound, CodeNotFound, "no Consul is asked: start sluice with --consul"}

func (s *Server) catalog(*http.Request) (any, error) {
	if s.Catalog == nil {
		return nil, errNoCatalog
	}
	return s.catalogStatus(), nil
}

func (s *Server) release(_ *http.Request, ask ReleaseRequest) (*ReleaseResult, error) {
	switch {
	case s.Catalog == nil:
		return nil, errNoCatalog
	case (ask.Service == "") != ask.All:
		return nil, &refusal{http.StatusBadRequest, CodeBadRequest, "name a service, or say all"}
	}
	n, err := s.Catalog.Release(ask.Service)
	if err != nil {
		return nil, &refusal{http.StatusNotFound, CodeNotFound, err.Error()}
	}
	s.Log.Warn("what was held was let go by an operator", "service", ask.Service, "watches", n)
	return &ReleaseResult{Released: n}, nil
}

func (s *Server) catalogStatus() *CatalogStatus {
	sum := s.Catalog.Summary()
	out := &CatalogStatus{
		Address: sum.Address, Error: sum.Error, Seen: sum.Seen, Stale: sum.Stale, Polled: sum.Polled, Cure: sum.Cure,
		FrozenUntil: sum.FrozenUntil, FrozenWhy: sum.FrozenWhy, OptInsError: sum.OptInsError, Services: []CatalogService{},
	}
	for _, v := range s.Catalog.Status() {
		out.Services = append(out.Services, catalogService(v))
	}
	return out
}

func catalogService(v consul.ServiceStatus) CatalogService {
	out := CatalogService{
		Service: v.Key.Service, Asked: v.Key.String(), Instances: v.Instances, Usable: v.Usable, Answered: v.Answered, Stale: v.Error,
		Polled: v.Polled, Held: v.Held, HeldUntil: v.HeldUntil, HeldWhy: v.HeldWhy, Flapping: v.Flapping, Problems: v.Problems,
	}
	if v.OptIn != nil {
		out.OptedIn, out.EmptyUntil = v.OptIn.Template, v.EmptyUntil
	}
	return out
}

// watched are the services that are asked for by these keys.
func (s *Server) watched(keys []catalog.Key) []CatalogService {
	if s.Catalog == nil || len(keys) == 0 {
		return nil
	}
	var out []CatalogService
	for _, v := range s.Catalog.Status() {
		for _, k := range keys {
			if v.Key == k {
				out = append(out, catalogService(v))
			}
		}
	}
	return out
}

// staleNote says in a line that the catalog's part of what Envoys have may be old, "" if it is not.
func (s *Server) staleNote() string {
	if s.Catalog == nil {
		return ""
	}
	return staleNote(s.Catalog.Summary())
}
