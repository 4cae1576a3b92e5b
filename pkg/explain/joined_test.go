package explain_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/pkg/explain"
	"github.com/sluice-gateway/sluice/pkg/model"
)

// both is a block that another has joined.
type both struct{ Far, Near string }

func (b both) Parts() []model.Attachment {
	return []model.Attachment{{Feature: "authorize", Spec: b.Far, From: "edge.yaml:5"}, {Feature: "authorize", Spec: b.Near, From: "api.yaml:9"}}
}

func TestExplain_ShowsEachBlockThatHasJoined(t *testing.T) {
	c := anyPath()
	c.Gateways[0].Hosts[0].Routes[0].Attachments = []model.Attachment{{Feature: "authorize", Spec: both{"a", "b"}, From: "api.yaml:9", Level: "rule", Via: "strict"}}
	got, err := explain.Explain(c, explain.Request{Method: "GET", URL: "/x"})
	if err != nil {
		t.Fatal(err)
	}
	want := []explain.Block{
		{Feature: "authorize", Level: explain.LevelJoined, From: "edge.yaml:5", Config: []byte(`"a"`)},
		{Feature: "authorize", Level: "rule", From: "api.yaml:9", Via: "strict", Config: []byte(`"b"`)},
	}
	if diff := cmp.Diff(want, got.Blocks); diff != "" {
		t.Error(diff)
	}
}
