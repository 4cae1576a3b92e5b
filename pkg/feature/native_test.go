package feature_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// checker is decided by agents only, able by Envoy too unless it says why not, who also identifies the caller.
type (
	checker struct{}
	able    struct {
		checker
		Why string
	}
	who struct {
		able
		Wish model.Decider
	}
)

func (checker) Validate(policy.At, *policy.Problems) {}
func (checker) Check(context.Context, *feature.Request, *feature.Identity) feature.Decision {
	return feature.Decision{}
}
func (a able) WhyAgent() string               { return a.Why }
func (w who) NativeIdentity() *model.Identity { return &model.Identity{Namespace: "envoy"} }
func (w who) Decide() model.Decider           { return w.Wish }
func (w who) Data() []model.Data              { return []model.Data{{Name: "keys"}} }

func TestDecide_EnvoyOnlyWhereItCanDecideTheWhole(t *testing.T) {
	tests := []struct {
		name  string
		specs []any
		want  model.Decider
		why   string
	}{
		{"nothing", nil, "", ""},
		{"an identity", []any{who{}}, model.Native, ""},
		{"an identity and more", []any{who{}, able{}}, model.Native, ""},
		{"nobody is identified", []any{able{}}, model.Agent, "nobody is authenticated here"},
		{"one cannot", []any{who{}, able{Why: "because"}}, model.Agent, "because"},
		{"two cannot", []any{who{able: able{Why: "a"}}, able{Why: "b"}}, model.Agent, "a; b"},
		{"one does not know how", []any{who{}, checker{}}, model.Agent, "f is decided by agents only"},
		{"the author wants the agent", []any{who{Wish: model.Agent}}, model.Agent, "decide: agent"},
		{"the author wants Envoy", []any{who{Wish: model.Native}, able{}}, model.Native, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &model.Route{}
			for _, s := range tt.specs {
				r.Attachments = append(r.Attachments, model.Attachment{Feature: "f", Spec: s})
			}
			if err := feature.Decide(r); err != nil {
				t.Fatal(err)
			}
			if r.Decider != tt.want || r.WhyAgent != tt.why {
				t.Errorf("%q because %q, want %q because %q", r.Decider, r.WhyAgent, tt.want, tt.why)
			}
			if (r.Runtime != nil) != (tt.want == model.Agent) || (len(r.Native) > 0) != (tt.want == model.Native) || (r.Identity != nil) != (tt.want != "") {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestCheckDecider_SaysWhyEnvoyCannot(t *testing.T) {
	spec := func(s any) []model.Attachment { return []model.Attachment{{Feature: "f", Spec: s}} }
	if err := feature.CheckDecider(spec(who{Wish: model.Native, able: able{Why: "because"}})); err == nil {
		t.Error("no error")
	}
	for _, fine := range []any{who{Wish: model.Native}, who{Wish: model.Agent, able: able{Why: "because"}}, who{able: able{Why: "because"}}} {
		if err := feature.CheckDecider(spec(fine)); err != nil {
			t.Error(err)
		}
	}
}

func TestClaimPaths_ANameFirstThenObjects(t *testing.T) {
	for name, want := range map[string][]model.MetadataPath{
		"sub":   {{"c", "sub"}},
		"a.b":   {{"c", "a.b"}, {"c", "a", "b"}},
		"a.b.c": {{"c", "a.b.c"}, {"c", "a", "b.c"}, {"c", "a", "b", "c"}},
		"a.":    {{"c", "a."}},
	} {
		if diff := cmp.Diff(want, feature.ClaimPaths(model.MetadataPath{"c"}, name)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
