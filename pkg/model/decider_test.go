package model_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/pkg/model"
)

func TestConfig_DecidersAndWhatIsRevoked(t *testing.T) {
	hears := &model.Runtime{Data: []model.Data{{Table: model.TableKeys}, {Table: model.TableRevocations}}}
	routes := []*model.Route{
		{Name: "api/open", Route: "api"},
		{Name: "api/orders", Route: "api", Decider: model.Agent, Runtime: hears},
		{Name: "api/menu", Route: "api", Decider: model.Native},
		{Name: "api/menu#2", Route: "api", Decider: model.Native},
		{Name: "api/cookie", Route: "api", Decider: model.Agent, Runtime: &model.Runtime{}},
		{Name: model.OwnPrefix + "405"},
	}
	c := &model.Config{Gateways: []*model.Gateway{{Hosts: []*model.VirtualHost{{Routes: routes}}}}}
	want := map[string]model.Decider{"api/open": "", "api/orders": model.Agent, "api/menu": model.Native, "api/cookie": model.Agent}
	if diff := cmp.Diff(want, c.Deciders()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"api/cookie", "api/menu"}, c.Unrevoked()); diff != "" {
		t.Error(diff)
	}
}
