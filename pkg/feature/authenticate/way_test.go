package authenticate

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/pkg/feature"
)

func TestCheck_OneOfTheWaysMustSucceed(t *testing.T) {
	set, token := signed(t)
	issuer := newIssuer().(*Issuer)
	issuer.Issuer, issuer.Audiences = "i", []string{"a"}
	other := *issuer
	other.Issuer = "other"
	tokens := &Tokens{Issuers: []NamedIssuer{issuer.named("i")}}
	bearer, cookie := Way{JWT: tokens}, Way{JWT: tokens, From: From{Cookie: "session"}}
	foreign := Way{JWT: &Tokens{Issuers: []NamedIssuer{other.named("other")}}}
	unknown := Way{JWT: &Tokens{Issuers: []NamedIssuer{issuer.named("unknown")}}}
	for _, c := range []struct {
		name          string
		ways          []Way
		authorization string
		status        int
		reason        string
	}{
		{"the only one", []Way{bearer}, token, 0, ""},
		{"the first", []Way{bearer, cookie}, token, 0, ""},
		{"the second", []Way{cookie, bearer}, token, 0, ""},
		{"after a wrong one", []Way{foreign, bearer}, token, 0, ""},
		{"after one that cannot be decided", []Way{unknown, bearer}, token, 0, ""},
		{"none is there", []Way{cookie, bearer}, "", 401, "missing"},
		{"one is there and wrong", []Way{cookie, bearer}, "x.y.z", 401, "malformed"},
		{"one is wrong, one cannot be decided", []Way{foreign, unknown}, token, 503, "no_keys"},
		{"no ways", nil, token, 503, "no_method"},
		{"an empty way", []Way{{}}, token, 503, "no_method"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &feature.Request{Headers: map[string]string{}, Now: time.Now(), Data: func(name string) any {
				if strings.HasSuffix(name, "unknown") {
					return nil
				}
				return set
			}}
			if c.authorization != "" {
				r.Headers["authorization"] = "Bearer " + c.authorization
			}
			id := &feature.Identity{}
			d := (&Spec{AnyOf: c.ways}).Check(t.Context(), r, id)
			if d.Status != c.status || d.Reason != c.reason {
				t.Errorf("%d %q, want %d %q", d.Status, d.Reason, c.status, c.reason)
			}
			if (id.User == "alice") != d.Allowed() {
				t.Errorf("allowed %t, but the caller is %q", d.Allowed(), id.User)
			}
		})
	}
}

func TestComplete_TheFirstMethodsWordHolds(t *testing.T) {
	id := &feature.Identity{}
	complete(id, feature.Identity{User: "alice", Permissions: []string{}, Issuer: "i"})
	complete(id, feature.Identity{User: "mallory", Plan: "gold", Permissions: []string{"all"}, Roles: []string{"cook"}})
	want := &feature.Identity{User: "alice", Plan: "gold", Issuer: "i", Permissions: []string{}, Roles: []string{"cook"}}
	if diff := cmp.Diff(want, id); diff != "" {
		t.Error(diff)
	}
}

func TestSpec_AgentsReadWhatTheControlPlaneWrites(t *testing.T) {
	s := &Spec{AnyOf: []Way{{JWT: &Tokens{Names: []string{"idp"}, Issuers: []NamedIssuer{newIssuer().(*Issuer).named("idp")}}, From: From{Cookie: "a"}}}, settings: settings{Overridable: true, Decider: "agent"}}
	body, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	back := &Spec{}
	if err := json.Unmarshal(body, back); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(back)
	if err != nil || string(again) != string(body) {
		t.Errorf("%s\n%s\n%v", body, again, err)
	}
}
