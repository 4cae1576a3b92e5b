package admin

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/pkg/access"
)

// needed is what each part of the API is to need. Whoever adds one says so here, too.
var needed = map[string]access.Role{
	"livez": access.Open, "readyz": access.Open,
	"openapi": access.Read, "metrics": access.Read, "page": access.Read, "style": access.Read,
	"plan": access.Read, "explain": access.Read, "export": access.Read, "objects": access.Read, "history": access.Read,
	"envoys": access.Read, "why": access.Read, "catalog": access.Read,
	"apply": access.Apply, "rollback": access.Apply, "import": access.Apply, "release": access.Apply,
	"keys": access.Secrets, "key": access.Secrets, "createKey": access.Secrets, "rotateKey": access.Secrets,
	"disableKey": access.Secrets, "enableKey": access.Secrets, "deleteKey": access.Secrets,
	"revocations": access.Secrets, "revoke": access.Secrets, "undoRevocation": access.Secrets,
	"secrets": access.Read, "setSecret": access.Secrets, "deleteSecret": access.Secrets, "rotateSecrets": access.Secrets,
}

func TestEachRouteNeedsWhatItShould(t *testing.T) {
	got := map[string]access.Role{}
	for _, r := range New(Config{Metrics: prometheus.NewRegistry()}).routes() {
		if _, twice := got[r.name]; twice {
			t.Errorf("the name %s is there twice", r.name)
		}
		got[r.name] = r.needs
	}
	if d := cmp.Diff(needed, got); d != "" {
		t.Error(d)
	}
}

func TestAChangeNeedsMoreThanReading(t *testing.T) {
	for _, o := range operations() {
		if o.changes && o.needs != access.Apply || !slices.Contains([]access.Role{access.Read, access.Apply, access.Secrets}, o.needs) {
			t.Errorf("%s needs %q", o.id, o.needs)
		}
	}
}

// TestWhatNeedsNoRoleIsNobodys takes an operation's role away.
func TestWhatNeedsNoRoleIsNobodys(t *testing.T) {
	s := New(Config{Metrics: prometheus.NewRegistry()})
	s.needs["GET /v1/envoys"] = ""
	r := httptest.NewRequest("GET", "/v1/envoys", nil)
	r.Host = "localhost"
	if _, err := s.enter(trusted(r), "GET /v1/envoys"); problemOf(err).Status != http.StatusForbidden {
		t.Errorf("got %v", err)
	}
}
