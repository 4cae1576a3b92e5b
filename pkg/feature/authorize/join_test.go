package authorize_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	httprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/feature/all"
	"github.com/sluice-gateway/sluice/pkg/featuretest"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/translate"
)

// written is a block as policies hold it; JSON is YAML too.
type written map[string]any

func anyBlock(t *rapid.T, label string) written {
	words := func(of ...string) any {
		list := rapid.SliceOfNDistinct(rapid.SampledFrom(of), 1, 2, rapid.ID).Draw(t, label+" words")
		if rapid.Bool().Draw(t, label+" any") {
			return map[string]any{"anyOf": list}
		}
		return list
	}
	out := written{}
	for _, field := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"permissions", "scopes", "roles", "claims", "sources", "methods", "cel"}), 1, 3, rapid.ID).Draw(t, label) {
		switch field {
		case "claims":
			out[field] = map[string]string{"tenant": rapid.SampledFrom([]string{"a", "b"}).Draw(t, label+" claim")}
		case "sources":
			out[field] = []string{rapid.SampledFrom([]string{"10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32", "192.0.2.1"}).Draw(t, label+" source")}
		case "methods":
			out[field] = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"GET", "POST"}), 1, 2, rapid.ID).Draw(t, label+" methods")
		case "cel":
			out[field] = rapid.SampledFrom([]string{"request.params.id == identity.user", "'a' in identity.roles", "identity.claims.tenant == 'a'", "request.method == 'GET'"}).Draw(t, label+" cel")
		default:
			out[field] = words("a", "b", "c")
		}
	}
	if rapid.Bool().Draw(t, label+" shadow") {
		out["mode"] = "shadow"
	}
	return out
}

// places are where a block may stand.
func places() []string {
	return []string{"gateway", "gateway's policy", "route's policy", "route", "rule's policy", "rule"}
}

func policies(blocks map[string]written) string {
	block := func(place string) string {
		if blocks[place] == nil {
			return ""
		}
		text, _ := json.Marshal(blocks[place]) // strings and lists
		return ", authorize: " + string(text)
	}
	var b strings.Builder
	for name, place := range map[string]string{"p1": "gateway's policy", "p2": "route's policy", "p3": "rule's policy"} {
		fmt.Fprintf(&b, "---\napiVersion: sluice/v1\nkind: Policy\nmetadata: {name: %s}\nspec: {timeout: 3s%s}\n", name, block(place))
	}
	return fmt.Sprintf(`apiVersion: sluice/v1
kind: Gateway
metadata: {name: edge}
spec: {listeners: [{name: http, port: 8080}], use: [p1]%s}
---
apiVersion: sluice/v1
kind: Issuer
metadata: {name: idp}
spec: {issuer: "https://idp.test", audiences: [a], jwks: {url: "https://idp.test/jwks.json"}}
---
apiVersion: sluice/v1
kind: Service
metadata: {name: orders}
spec: {endpoints: [127.0.0.1:9001]}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: api}
spec: {authenticate: {jwt: idp}, use: [p2], rules: [{match: "/{id}", use: [p3], to: orders%s}]%s}
%s`, block("gateway"), block("rule"), block("route"), b.String())
}

// caller is one request and who makes it.
type caller struct {
	request feature.Request
	id      feature.Identity
}

func anyCaller(t *rapid.T) caller {
	some := func(label string) []string {
		return rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), rapid.ID).Draw(t, label)
	}
	user := rapid.SampledFrom([]string{"", "u", "v"}).Draw(t, "user")
	return caller{
		feature.Request{
			Method: rapid.SampledFrom([]string{"GET", "POST", "PUT"}).Draw(t, "method"), Path: "/" + rapid.SampledFrom([]string{"u", "v"}).Draw(t, "path"), Now: time.Now(),
			Client: netip.MustParseAddr(rapid.SampledFrom([]string{"10.1.2.3", "10.2.3.4", "192.0.2.1", "2001:db8::1"}).Draw(t, "client")),
		},
		feature.Identity{User: user, Permissions: some("permissions"), Scopes: some("scopes"), Roles: some("roles"), Claims: map[string]any{"tenant": rapid.SampledFrom([]string{"a", "b"}).Draw(t, "tenant")}},
	}
}

// route is what policies become.
type route struct {
	checks []feature.Check
	rbac   *rbacv3.RBAC
}

func compiled(t *testing.T, blocks map[string]written) route {
	t.Helper()
	c := featuretest.Translate(t, all.Features(), map[string]string{"edge.yaml": policies(blocks)})
	if c.Problems.Failed() {
		t.Fatal(c.Problems.Render())
	}
	var r *model.Route
	for _, one := range c.Config.Gateways[0].Hosts[0].Routes {
		if one.Route == "api" {
			r = one
		}
	}
	checks, err := all.Features().Checks(r.Runtime.Body)
	if err != nil {
		t.Fatal(err)
	}
	some, err := translate.New(all.Features()).Routes(r)
	if err != nil {
		t.Fatal(err)
	}
	out := route{checks: slices.DeleteFunc(checks, func(c feature.Check) bool { return c.Feature != "authorize" })}
	if packed := some[0].GetTypedPerFilterConfig()["authorize"]; packed != nil {
		perRoute := &httprbacv3.RBACPerRoute{}
		if err := packed.UnmarshalTo(perRoute); err != nil {
			t.Fatal(err)
		}
		out.rbac = perRoute.GetRbac().GetRules()
	}
	return out
}

func (r route) allows(t *testing.T, c caller) bool {
	for _, check := range r.checks {
		if !check.Check(t.Context(), &c.request, &c.id).Allowed() {
			return false
		}
	}
	for _, p := range r.rbac.GetPolicies() { // all of them refuse
		if slices.ContainsFunc(p.GetPermissions(), c.isRequest) && slices.ContainsFunc(p.GetPrincipals(), c.isCaller) {
			return false
		}
	}
	return true
}

func (c caller) isRequest(p *rbacv3.Permission) bool {
	switch {
	case p.GetNotRule() != nil:
		return !c.isRequest(p.GetNotRule())
	case p.GetOrRules() != nil:
		return slices.ContainsFunc(p.GetOrRules().GetRules(), c.isRequest)
	case p.GetHeader() != nil:
		return p.GetHeader().GetStringMatch().GetExact() == c.request.Method
	}
	return p.GetAny()
}

func (c caller) isCaller(p *rbacv3.Principal) bool {
	switch {
	case p.GetNotId() != nil:
		return !c.isCaller(p.GetNotId())
	case p.GetOrIds() != nil:
		return slices.ContainsFunc(p.GetOrIds().GetIds(), c.isCaller)
	case p.GetRemoteIp() != nil:
		prefix := netip.MustParsePrefix(fmt.Sprintf("%s/%d", p.GetRemoteIp().GetAddressPrefix(), p.GetRemoteIp().GetPrefixLen().GetValue()))
		return prefix.Contains(c.request.Client)
	}
	return p.GetAny()
}

// One more block, wherever it stands, lets nothing more pass: what passes is what passed before and meets it. One that
// is only tried out changes nothing.
func TestJoin_OneMoreBlockNeverLetsMorePass(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		before, after := map[string]written{}, map[string]written{}
		for _, place := range places() {
			if rapid.Bool().Draw(r, place) {
				before[place] = anyBlock(r, place)
				after[place] = before[place]
			}
		}
		added := rapid.SampledFrom(places()).Draw(r, "added at")
		delete(before, added)
		after[added] = anyBlock(r, "added")
		one, two, alone := withFallback(t, before), withFallback(t, after), withFallback(t, map[string]written{added: after[added]})
		for range 20 {
			c := anyCaller(r)
			passes, want := two.allows(t, c), one.allows(t, c) && alone.allows(t, c)
			if passes != want {
				r.Fatalf("%+v passes: %t, want %t, with %v", c, passes, want, after)
			}
			if after[added]["mode"] == "shadow" && passes != one.allows(t, c) {
				r.Fatalf("%+v: what is only tried out changes it, with %v", c, after)
			}
		}
	})
}

// withFallback is a route without checks where nothing is asked for.
func withFallback(t *testing.T, blocks map[string]written) route {
	if len(blocks) == 0 {
		return route{}
	}
	return compiled(t, blocks)
}
