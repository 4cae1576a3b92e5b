package compile_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/pkg/compile"
	"github.com/sluice-gateway/sluice/pkg/feature/all"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

const namingSecrets = `apiVersion: sluice/v1
kind: Certificate
metadata: {name: pair}
spec:
  certificate: {secret: crt}
  key:
    secret: key
---
apiVersion: sluice/v1
kind: Certificate
metadata: {name: secret-of-files}
spec: {ca: {file: /etc/ca.pem}}
---
apiVersion: sluice/v1
kind: Issuer
metadata: {name: a}
spec:
  issuer: https://a.example
  audiences: [x]
  jwks: {secret: jwks}
---
apiVersion: sluice/v1
kind: Issuer
metadata: {name: b}
spec:
  issuer: https://b.example
  introspection: {url: https://b.example/i, client: me, secret: {secret: password}}
---
apiVersion: sluice/v1
kind: Gateway
metadata: {name: edge}
spec:
  listeners: [{name: http, port: 8080}]
---
apiVersion: sluice/v1
kind: Route
metadata: {name: shop}
spec:
  rules:
    - name: one
      match: GET /
      direct: {status: 200, body: x}
      authenticate:
        anyOf:
          - basic: {secret: users}
          - jwt: a
`

// TestStoreSecrets_AreFoundWhereverTheyStand holds one document of each kind that may name a secret of the store.
func TestStoreSecrets_AreFoundWhereverTheyStand(t *testing.T) {
	var p policy.Problems
	objects, _ := policy.Split("a.yaml", namingSecrets, "test", &p)
	config, problems := compile.New(all.Features()).Compile(objects)
	if p.Failed() || problems.Failed() {
		t.Fatal(p.Render(), problems.Render())
	}
	want := []model.StoreSecret{
		{Name: "crt", Kind: "Certificate", Object: "pair", From: "a.yaml:5"},
		{Name: "key", Kind: "Certificate", Object: "pair", From: "a.yaml:7"},
		{Name: "jwks", Kind: "Issuer", Object: "a", From: "a.yaml:20"},
		{Name: "password", Kind: "Issuer", Object: "b", From: "a.yaml:27"},
		{Name: "users", Kind: "Route", Object: "shop", From: "a.yaml:45"},
	}
	if d := cmp.Diff(want, config.StoreSecrets); d != "" {
		t.Error(d)
	}
}
