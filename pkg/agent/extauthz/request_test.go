package extauthz_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-gateway/sluice/pkg/agent"
	"github.com/sluice-gateway/sluice/pkg/agent/extauthz"
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/feature/all"
	"github.com/sluice-gateway/sluice/pkg/featuretest"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/revocation"
)

const guarded = `
apiVersion: sluice/v1
kind: Gateway
metadata: {name: edge}
spec: {listeners: [{name: http, port: 8080}]}
---
apiVersion: sluice/v1
kind: Issuer
metadata: {name: idp}
spec: {issuer: "https://idp.test", audiences: [food-api], jwks: {url: "https://idp.test/jwks.json"}}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: api}
spec:
  match: /users/{id}/*
  authenticate: {jwt: idp}
  authorize: {permissions: [place_orders], cel: "request.params.id == identity.user || request.query.id == [identity.user]"}
  direct: {body: hi}
`

// guard is a server that holds one policy and its issuer's keys, and a token that it takes.
func guard(t testing.TB) (s *extauthz.Server, digest, token string) {
	t.Helper()
	c := featuretest.Translate(t, all.Features(), map[string]string{"edge.yaml": guarded})
	if c.Problems.Failed() {
		t.Fatal(c.Problems.Render())
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{"keys": []map[string]string{
		{"kty": "RSA", "kid": "a", "e": "AQAB", "n": base64.RawURLEncoding.EncodeToString(key.N.Bytes())},
	}})
	if err != nil {
		t.Fatal(err)
	}
	r := c.Config.Gateways[0].Hosts[0].Routes[0].Runtime
	h := agent.NewHolder(all.Features())
	resources := []agent.Resource{{Type: feature.PolicyType, Name: r.Digest, Body: r.Body}}
	for _, d := range r.Data {
		if d.Table == model.TableRevocations {
			for i := range revocation.Shards {
				resources = append(resources, agent.Resource{Type: feature.DataType, Name: feature.PartName(d.Name, i), Body: []byte("[]")})
			}
			continue
		}
		resources = append(resources, agent.Resource{Type: feature.DataType, Name: d.Name, Body: body})
	}
	if err := h.Change("edge", resources, nil); err != nil {
		t.Fatal(err)
	}
	signed := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": "https://idp.test", "aud": "food-api", "sub": "alice", "permissions": []string{"place_orders"}, "exp": time.Now().Add(time.Hour).Unix(),
	})
	signed.Header["kid"] = "a"
	if token, err = signed.SignedString(key); err != nil {
		t.Fatal(err)
	}
	return extauthz.New(h, slog.New(slog.DiscardHandler), 0), r.Digest, token
}

func question(path, authorization string) *authv3.CheckRequest {
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
		Method: "GET", Path: path, Host: "a", Headers: map[string]string{"authorization": authorization, ":path": path},
	}}}}
}

// FuzzRequest: whatever a question to the agent holds, it is answered, and nobody passes who has no token that was signed
// for them. The bytes are a CheckRequest as on the wire.
func FuzzRequest(f *testing.F) {
	s, digest, token := guard(f)
	ask := func(t testing.TB, in *authv3.CheckRequest) *authv3.CheckResponse {
		if in.Attributes == nil {
			in.Attributes = &authv3.AttributeContext{}
		}
		in.Attributes.ContextExtensions = map[string]string{feature.PolicyExtension: digest}
		resp, err := s.Check(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	for path, want := range map[string]bool{"/users/alice/orders": true, "/users/bob/orders": false, "/users/bob/orders?id=alice": true, "/users/%zz": false} {
		if passed := ask(f, question(path, "Bearer "+token)).GetDeniedResponse() == nil; passed != want {
			f.Errorf("%s with a good token: %t", path, passed)
		}
	}
	for _, q := range []*authv3.CheckRequest{
		{}, question("/users/alice/orders", ""), question("/users/alice/orders", "Bearer "+token[:len(token)-9]), question("\x00?id=alice&id=alice", "Bearer a.b.c"),
		question("/users/alice?id=alice", "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9."),
	} {
		b, err := proto.Marshal(q)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		in := &authv3.CheckRequest{}
		if proto.Unmarshal(b, in) != nil {
			return
		}
		resp := ask(t, in)
		if resp.GetStatus().GetCode() == 0 || resp.GetDeniedResponse() == nil {
			t.Errorf("%v passed", in)
		}
		if code := resp.GetDeniedResponse().GetStatus().GetCode(); code != 401 && code != 403 && code != 503 {
			t.Errorf("%v: %d", in, code)
		}
		if !json.Valid([]byte(resp.GetDeniedResponse().GetBody())) {
			t.Errorf("%v: %q", in, resp.GetDeniedResponse().GetBody())
		}
	})
}
