package extauthz_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/pkg/agent"
	"github.com/sluice-gateway/sluice/pkg/agent/extauthz"
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// trap is a feature whose check does what its block says: pass, refuse, panic or hang.
type trap struct{ hang chan struct{} }

func (trap) Info() feature.Info  { return feature.Info{Name: "trap", Stage: feature.StageExtAuthz} }
func (f trap) New() feature.Spec { return &spec{trap: f} }

type spec struct {
	Do   string `json:"do"`
	trap trap
}

func (*spec) Validate(policy.At, *policy.Problems) {}
func (s *spec) Check(_ context.Context, _ *feature.Request, id *feature.Identity) feature.Decision {
	switch s.Do {
	case "pass":
		id.User = "alice, \n é"
		return feature.Decision{}
	case "hang":
		s.trap.hang <- struct{}{}
		<-s.trap.hang
	case "panic":
		panic("on purpose")
	}
	return feature.Decision{Status: 403, Reason: "permission", Detail: "no"}
}

func serve(t testing.TB, f trap, most int) (s *extauthz.Server, ask func(do string) *authv3.CheckResponse) {
	h := agent.NewHolder(feature.NewSet(f))
	digests := map[string]string{"nothing": "", "unknown": "0"}
	for _, do := range []string{"pass", "refuse", "panic", "hang"} {
		body, _ := json.Marshal([]map[string]any{{"feature": "trap", "spec": map[string]string{"do": do}}})
		digests[do] = feature.PolicyDigest(body)
		if err := h.Change("edge", []agent.Resource{{Type: feature.PolicyType, Name: digests[do], Body: body}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	s = extauthz.New(h, slog.New(slog.DiscardHandler), most)
	return s, func(do string) *authv3.CheckResponse {
		resp, err := s.Check(t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
			ContextExtensions: map[string]string{feature.PolicyExtension: digests[do]},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
}

func TestCheck_RefusesWhatItCannotDecide(t *testing.T) {
	s, ask := serve(t, trap{}, 0)
	for do, want := range map[string]int{"pass": 0, "refuse": 403, "panic": 503, "nothing": 503, "unknown": 503} {
		resp := ask(do)
		if got := int(resp.GetDeniedResponse().GetStatus().GetCode()); got != want || (resp.GetStatus().GetCode() == 0) != (want == 0) {
			t.Errorf("%s: %d, want %d", do, got, want)
		}
		if want != 0 && !json.Valid([]byte(resp.GetDeniedResponse().GetBody())) {
			t.Errorf("%s: %s", do, resp.GetDeniedResponse().GetBody())
		}
	}
	ok := ask("pass").GetOkResponse()
	if len(ok.GetHeaders()) != 1 || ok.GetHeaders()[0].GetHeader().GetValue() != "alice,  é" || len(ok.GetHeadersToRemove()) != 5 {
		t.Errorf("%v", ok)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(s.Metrics())
	families, err := registry.Gather()
	if err != nil || len(families) != 1 || !strings.Contains(families[0].String(), "unknown_policy") {
		t.Errorf("%v %v", families, err)
	}
}

func TestCheck_ShedsLoadWithoutWaiting(t *testing.T) {
	f := trap{hang: make(chan struct{})}
	_, ask := serve(t, f, 1)
	first := make(chan *authv3.CheckResponse, 1)
	go func() { first <- ask("hang") }()
	<-f.hang
	if code := ask("pass").GetDeniedResponse().GetStatus().GetCode(); code != 503 {
		t.Errorf("the second at once: %d", code)
	}
	f.hang <- struct{}{}
	<-first
	if resp := ask("pass"); resp.GetDeniedResponse() != nil {
		t.Errorf("afterwards: %v", resp)
	}
}

// FuzzCheck: whatever Envoy asks, what names no policy that is held does not pass.
func FuzzCheck(f *testing.F) {
	s, _ := serve(f, trap{}, 0)
	f.Add("policy", "", "GET", "/", "authorization", "Bearer x")
	f.Fuzz(func(t *testing.T, key, digest, method, path, name, value string) {
		if len(digest) == 64 {
			t.Skip()
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		resp, err := s.Check(ctx, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
			ContextExtensions: map[string]string{key: digest},
			Request:           &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{Method: method, Path: path, Headers: map[string]string{name: value}}},
		}})
		if err == nil && resp.GetDeniedResponse() == nil {
			t.Error("it passed")
		}
	})
}
