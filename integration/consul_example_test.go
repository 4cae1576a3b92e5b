package integration

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	agents "github.com/sluice-gateway/sluice/integration/consul"
	"github.com/sluice-gateway/sluice/integration/gateway"
	"github.com/sluice-gateway/sluice/pkg/catalog"
)

// TestConsul_TheExampleServesWhatItRegisters runs the policies and the registrations of make run-consul.
func TestConsul_TheExampleServesWhatItRegisters(t *testing.T) {
	const folder = "../examples/food-delivery-consul"
	a := agents.Start(t, agents.Options{})
	text, err := os.ReadFile(filepath.Join(folder, "registrations.json"))
	if err != nil {
		t.Fatal(err)
	}
	var registered struct {
		Services []api.AgentServiceRegistration `json:"services"`
	}
	if err := json.Unmarshal(text, &registered); err != nil {
		t.Fatal(err)
	}
	names := map[string][]string{}
	for _, r := range registered.Services {
		local := instanceOf(r.Name, r.ID, gateway.Echo(t, r.ID))
		local.Weights = r.Weights
		a.Register(local)
		names[r.Name] = append(names[r.Name], r.ID)
	}
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no policies: %v", err)
	}
	var policies []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(text), "# yaml-language-server: $schema=../../docs/reference/sluice.schema.json\n") {
			t.Errorf("%s does not start with the modeline that editors read", file)
		}
		policies = append(policies, strings.ReplaceAll(string(text), "port: 8080", "port: $PORT"))
	}
	s := startConsulSite(t, a, strings.Join(policies, "\n---\n"))
	for path, service := range map[string]string{
		"/api/v1/products": "catalog", "/api/v1/products/tiramisu": "catalog", "/api/v1/orders/1": "orders", "/api/v1/inventory/tiramisu": "inventory",
	} {
		s.reach(path, names[service]...)
	}
	s.answers("/api/v1/deliveries/1", http.StatusNotFound)
	r := instanceOf("delivery", "delivery-1", gateway.Echo(t, "delivery-1"))
	r.Meta = map[string]string{catalog.MetaTemplate: "api", catalog.MetaPath: "/api/v1/deliveries"}
	a.Register(r)
	s.reach("/api/v1/deliveries/1", "delivery-1")
}
