package healthcheck

import (
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"github.com/sluice-gateway/sluice/pkg/model"
)

func FuzzStatusRange(f *testing.F) {
	for _, seed := range []string{"200", "2xx", "200-299", "xx", "-", "6xx", "200-", "299-200", "0200"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var r, again StatusRange
		if r.UnmarshalText([]byte(text)) != nil {
			return
		}
		if r.First < 100 || r.Last > 599 || r.First > r.Last {
			t.Fatalf("%q was read as %d to %d", text, r.First, r.Last)
		}
		written, err := r.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		if err := again.UnmarshalText(written); err != nil || again != r {
			t.Fatalf("%q was written as %q, which reads as %v: %v", text, written, again, err)
		}
	})
}

func TestAskingByGRPCNeedsHTTP2(t *testing.T) {
	s := Feature{}.New().(*Spec)
	s.GRPC = &GRPC{}
	err := s.ConfigureCluster(&model.Cluster{Protocol: model.HTTP1}, &clusterv3.Cluster{})
	if err == nil || !strings.Contains(err.Error(), "protocol: grpc") {
		t.Fatalf("got %v, want an error that names protocol: grpc", err)
	}
	if err := s.ConfigureCluster(&model.Cluster{Protocol: model.GRPC}, &clusterv3.Cluster{}); err != nil {
		t.Fatal(err)
	}
}
