package catalog_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sluice-gateway/sluice/pkg/catalog"
)

func TestView_TellsWhatChanged(t *testing.T) {
	a, b := catalog.Key{Service: "a"}, catalog.Key{Service: "b", Tags: catalog.TagsOf("x", "", "w", "x")}
	one := []catalog.Instance{{ID: "1", Address: "10.0.0.1", Port: 1, Weight: 1, Health: catalog.Passing}}
	var v catalog.View
	for _, step := range []struct {
		name string
		sent []catalog.Service
		want []catalog.Key
	}{
		{"first", []catalog.Service{{Key: b}, {Key: a, Instances: one}}, []catalog.Key{a, b}},
		{"the same, later", []catalog.Service{{Key: a, Instances: one, Answered: time.Unix(1, 0), Stale: true}}, nil},
		{"instances", []catalog.Service{{Key: b, Instances: one}}, []catalog.Key{b}},
		{"opt-in", []catalog.Service{{Key: b, Instances: one, OptIn: &catalog.OptIn{Template: "t"}}}, []catalog.Key{b}},
		{"gone", []catalog.Service{{Key: a, Gone: true}}, []catalog.Key{a}},
		{"gone again", []catalog.Service{{Key: a, Gone: true}}, nil},
	} {
		if d := cmp.Diff(step.want, v.Merge(step.sent)); d != "" {
			t.Errorf("%s: %s", step.name, d)
		}
	}
	if list := v.Services(); len(list) != 1 || list[0].Key != b {
		t.Errorf("services: %v", list)
	}
	if d := cmp.Diff([]string{"w", "x"}, b.Tags.List()); d != "" {
		t.Error(d)
	}
	v.Keep(func(catalog.Key) bool { return false })
	if _, ok := v.Get(b); ok || v.Digest(b) != "" {
		t.Error("kept what was to be forgotten")
	}
}
