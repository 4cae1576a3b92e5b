package admin

import (
	"fmt"
	"net/http"

	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

func (s *Server) objects(r *http.Request) (any, error) {
	revision, objects, err := s.revision(r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	out := &Objects{Revision: revision.Number, Objects: []policy.Object{}}
	for _, o := range objects {
		if is(q.Get("kind"), o.Kind) && is(q.Get("name"), o.Name) && is(q.Get("source"), o.Source) {
			out.Objects = append(out.Objects, o)
		}
	}
	if q.Get("name") != "" && len(out.Objects) == 0 {
		return nil, fmt.Errorf("%w: %s/%s", control.ErrUnknownObject, q.Get("kind"), q.Get("name"))
	}
	return out, nil
}

// revision is the one that is asked for, else the head.
func (s *Server) revision(r *http.Request) (store.Revision, []policy.Object, error) {
	n, err := number(r, "revision", 0)
	switch {
	case err != nil:
		return store.Revision{}, nil, err
	case n > 0:
		return s.Store.At(r.Context(), n)
	}
	return s.Store.Head(r.Context())
}

func is(want, have string) bool { return want == "" || want == have }

func (s *Server) history(r *http.Request) (any, error) {
	limit, err := number(r, "limit", 50)
	if err != nil {
		return nil, err
	}
	revisions, err := s.Store.History(r.Context(), int(limit))
	if err != nil {
		return nil, err
	}
	return &History{Serving: s.serving(), Revisions: append([]store.Revision{}, revisions...)}, nil
}

// serving is the revision that is published, 0 when there is none.
func (s *Server) serving() uint64 {
	if b := s.Controller.Serving(); b != nil {
		return b.Revision.Number
	}
	return 0
}

func (s *Server) envoys(*http.Request) (any, error) {
	return &Envoys{Serving: s.serving(), Envoys: append([]xds.EnvoyStatus{}, s.Envoys()...), Note: s.staleNote()}, nil
}

func (s *Server) why(r *http.Request) (any, error) {
	j, err := s.Controller.Why(r.Context(), policy.Ref{Kind: r.PathValue("kind"), Name: r.PathValue("name")})
	if err != nil {
		return nil, err
	}
	// Lists are lists, also empty ones.
	j.Compiled = append([]string{}, j.Compiled...)
	j.Envoys = append([]control.JourneyAtEnvoy{}, j.Envoys...)
	return &Why{*j, s.watched(j.Asks)}, nil
}
