package admin

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
	"time"

	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

//go:embed page.html
var pageText string

//go:embed style.css
var styleText []byte

// status is what the status page shows.
type status struct {
	Version   string
	Failure   string
	Serving   *control.Build
	Gateways  []gatewayStatus
	Envoys    []xds.EnvoyStatus
	Revisions []store.Revision
	Catalog   *CatalogStatus
	Note      string
	Now       time.Time
}

type gatewayStatus struct {
	Name      string
	Listeners []*model.Listener
	Hosts     []string
	Routes    int
	Services  int
	Digest    string
}

// page is the status page: reading only.
func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	view := status{Version: s.Version, Serving: s.Controller.Serving(), Envoys: s.Envoys(), Now: time.Now()}
	if err := s.Controller.Ready(); err != nil {
		view.Failure = err.Error()
	}
	var err error
	if view.Revisions, err = s.Store.History(r.Context(), 10); err != nil {
		s.refuse(w, r, err)
		return
	}
	if s.Catalog != nil {
		view.Catalog, view.Note = s.catalogStatus(), s.staleNote()
	}
	if view.Serving != nil {
		view.Gateways = gatewayStatuses(view.Serving)
	}
	s.render(w, r, view)
}

func (s *Server) render(w http.ResponseWriter, r *http.Request, view status) {
	t, err := template.New("page").Funcs(template.FuncMap{"time": clock}).Parse(pageText)
	var body bytes.Buffer
	if err == nil {
		err = t.Execute(&body, view)
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	w.Header().Set("content-type", "text/html; charset=utf-8")
	_, _ = w.Write(body.Bytes()) // a client that is gone needs no answer
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }

func gatewayStatuses(b *control.Build) []gatewayStatus {
	var out []gatewayStatus
	for _, g := range b.Config.Gateways {
		one := gatewayStatus{Name: g.Name, Listeners: g.Listeners, Services: len(g.Clusters), Digest: b.Tables[g.Name]}
		for _, h := range g.Hosts {
			one.Hosts = append(one.Hosts, h.Domain)
			for _, r := range h.Routes {
				if len(r.Allow) == 0 {
					one.Routes++
				}
			}
		}
		out = append(out, one)
	}
	return out
}

func (s *Server) style(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("content-type", "text/css; charset=utf-8")
	_, _ = w.Write(styleText) // a client that is gone needs no answer
}
