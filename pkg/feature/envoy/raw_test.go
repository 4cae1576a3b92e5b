package envoy

import (
	"encoding/json"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-gateway/sluice/pkg/policy"
)

// block reads a block as policies hold it; nil when it is refused.
func block(t *testing.T, text string) *Spec {
	t.Helper()
	p := &policy.Problems{}
	o := policy.Object{Ref: policy.Ref{Kind: "Service", Name: "a"}, Text: "apiVersion: sluice/v1\nkind: Service\nmetadata: {name: a}\nspec:\n  envoy: " + text, Line: 1}
	d := policy.Parse(o, p)
	if d == nil || d.Spec().Field("envoy").Node == nil {
		return nil
	}
	s := &Spec{}
	s.UnmarshalNode(d.Spec().Field("envoy"), p)
	if p.Failed() {
		return nil
	}
	return s
}

func TestMerge_TakesNothingApart(t *testing.T) {
	s := block(t, `{lb_subset_config: {fallback_policy: ANY_ENDPOINT}, respect_dns_ttl: false, connect_timeout: 250ms}`)
	if err := s.checkAs(clusterTarget()); err == nil {
		t.Fatal("Envoy's durations are in seconds: 250ms must be refused")
	}
	s = block(t, `{respect_dns_ttl: false, connect_timeout: 0.25s}`)
	out := &clusterv3.Cluster{Name: "a", RespectDnsTtl: true, ConnectTimeout: durationpb.New(2e9)}
	if err := s.ConfigureCluster(nil, out); err != nil {
		t.Fatal(err)
	}
	if out.RespectDnsTtl || out.ConnectTimeout.AsDuration() != 250e6 || out.Name != "a" {
		t.Errorf("%v", out)
	}
}

func FuzzRaw(f *testing.F) {
	for _, s := range []string{`{connect_timeout: 1s}`, `{a: [1, 0x10, 1e3, true, ~, "1", .inf, 1_000]}`, `{name: ""}`, `{"@type": x}`, `{lb_subset_config: {}}`, `[]`, `{connectTimeout: null, connect_timeout: 2s}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := block(t, text)
		if s == nil {
			return
		}
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		again := &Spec{}
		if err := json.Unmarshal(b, again); err != nil {
			t.Fatal(err)
		}
		if second, _ := json.Marshal(again); string(second) != string(b) {
			t.Errorf("%q: %s, then %s", text, b, second)
		}
		if s.checkAs(clusterTarget()) == nil {
			out := &clusterv3.Cluster{Name: "a"}
			if err := s.ConfigureCluster(nil, out); err != nil || out.Name != "a" {
				t.Errorf("%q: %v, %v", text, err, out)
			}
		}
	})
}
