package authenticate

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	jwtv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
)

const p256 = `"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"`

func TestNativeKeys_EachWithItsAlgorithmsAndNothingElse(t *testing.T) {
	all := func(string) bool { return true }
	tests := []struct {
		name, keys string
		takes      func(string) bool
		want       []string // kid/alg
	}{
		{"a curve has one", `{"kid": "a", ` + p256 + `}`, all, []string{"a/ES256"}},
		{"a shared secret is none", `{"kid": "a", "kty": "oct", "k": "c2VjcmV0"}, {"kid": "b", ` + p256 + `}`, all, []string{"b/ES256"}},
		{"one without a name is left out", `{` + p256 + `}`, all, nil},
		{"a private one is left out", `{"kid": "a", "d": "x", ` + p256 + `}`, all, nil},
		{"for encryption", `{"kid": "a", "use": "enc", ` + p256 + `}`, all, nil},
		{"what the issuer does not use", `{"kid": "a", ` + p256 + `}`, func(a string) bool { return a == "RS256" }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := nativeKeys([]byte(`{"keys": [`+tt.keys+`]}`), tt.takes)
			var set struct{ Keys []map[string]string }
			if text != "" {
				if err := json.Unmarshal([]byte(text), &set); err != nil {
					t.Fatal(err)
				}
			}
			var got []string
			for _, k := range set.Keys {
				got = append(got, k["kid"]+"/"+k["alg"])
				if k["d"] != "" || k["k"] != "" {
					t.Errorf("a secret: %v", k)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDiscoverFilters_WhatHasNoKeysIsNotThere(t *testing.T) {
	with, without := newIssuer().(*Issuer).named("with"), newIssuer().(*Issuer).named("without")
	spec := func(issuers ...NamedIssuer) *Spec { return &Spec{AnyOf: []Way{{JWT: &Tokens{Issuers: issuers}}}} }
	both, one, none := spec(with, without), spec(with), spec(without)
	configs, err := Feature{}.DiscoverFilters([]any{both, one, none, one}, func(name string) []byte {
		if name != with.Data {
			return nil
		}
		return []byte(`{"keys": [{"kid": "a", ` + p256 + `}]}`)
	})
	if err != nil {
		t.Fatal(err)
	}
	c := configs[jwtFilter].(*jwtv3.JwtAuthentication)
	if len(c.Providers) != 1 || len(c.RequirementMap) != 2 || c.RequirementMap[none.requirement()] != nil || c.RequirementMap[both.requirement()] == nil {
		t.Errorf("%v", c)
	}
	if err := c.ValidateAll(); err != nil {
		t.Error(err)
	}
	if configs[tokenFilter] == nil || !strings.HasPrefix(one.requirement(), "with@") {
		t.Errorf("%v, %s", configs[tokenFilter], one.requirement())
	}
	if empty, err := (Feature{}).DiscoverFilters(nil, nil); err != nil || len(empty) != 2 {
		t.Errorf("%v %v", empty, err)
	}
}
