package certs_test

import (
	"crypto/x509"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode"

	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/pkg/certs"
)

func naming(t testing.TB, uris ...string) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{}
	for _, text := range uris {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		c.URIs = append(c.URIs, u)
	}
	return c
}

func TestNodeOf(t *testing.T) {
	edge1 := certs.Node{Gateway: "edge", Node: "edge-1"}
	tests := []struct {
		name string
		uris []string
		want certs.Node // none: ErrNoIdentity
	}{
		{"a node", []string{"spiffe://sluice/gateway/edge/node/edge-1"}, edge1},
		{"any node", []string{"spiffe://sluice/gateway/edge"}, certs.Node{Gateway: "edge"}},
		{"a slash in a name", []string{"spiffe://sluice/gateway/edge/node/a%2Fb"}, certs.Node{Gateway: "edge", Node: "a/b"}},
		{"a name of another domain beside ours", []string{"spiffe://example.org/x", "spiffe://sluice/gateway/edge/node/edge-1"}, edge1},
		{"none", nil, certs.Node{}},
		{"of another domain", []string{"spiffe://example.org/gateway/edge/node/edge-1"}, certs.Node{}},
		{"no spiffe", []string{"https://sluice/gateway/edge/node/edge-1"}, certs.Node{}},
		{"two of ours", []string{"spiffe://sluice/gateway/edge/node/edge-1", "spiffe://sluice/gateway/shop/node/edge-1"}, certs.Node{}},
		{"the same twice", []string{"spiffe://sluice/gateway/edge", "spiffe://sluice/gateway/edge"}, certs.Node{}},
		{"a role", []string{"spiffe://sluice/role/read/name/alice"}, certs.Node{}},
		{"an empty node", []string{"spiffe://sluice/gateway/edge/node/"}, certs.Node{}},
		{"an empty gateway", []string{"spiffe://sluice/gateway//node/edge-1"}, certs.Node{}},
		{"a slash at the end", []string{"spiffe://sluice/gateway/edge/"}, certs.Node{}},
		{"more behind it", []string{"spiffe://sluice/gateway/edge/node/edge-1/x"}, certs.Node{}},
		{"another word", []string{"spiffe://sluice/gateway/edge/host/edge-1"}, certs.Node{}},
		{"words in capitals", []string{"spiffe://sluice/Gateway/edge"}, certs.Node{}},
		{"domain in capitals", []string{"spiffe://SLUICE/gateway/edge"}, certs.Node{}},
		{"encoded without need", []string{"spiffe://sluice/gateway/%65dge/node/edge-1"}, certs.Node{}},
		{"encoded in small letters", []string{"spiffe://sluice/gateway/edge/node/a%2fb"}, certs.Node{}},
		{"not encoded", []string{"spiffe://sluice/gateway/edge/node/*"}, certs.Node{}},
		{"a port", []string{"spiffe://sluice:1/gateway/edge"}, certs.Node{}},
		{"a user", []string{"spiffe://a@sluice/gateway/edge"}, certs.Node{}},
		{"a query", []string{"spiffe://sluice/gateway/edge?x"}, certs.Node{}},
		{"a fragment", []string{"spiffe://sluice/gateway/edge#x"}, certs.Node{}},
		{"a control character", []string{"spiffe://sluice/gateway/edge/node/a%00"}, certs.Node{}},
		{"no UTF-8", []string{"spiffe://sluice/gateway/edge/node/%FF"}, certs.Node{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := certs.NodeOf(naming(t, tt.uris...))
			if got != tt.want || errors.Is(err, certs.ErrNoIdentity) != (tt.want == certs.Node{}) {
				t.Errorf("got %+v %v, want %+v", got, err, tt.want)
			}
		})
	}
}

func TestNode_Covers(t *testing.T) {
	one, wide := certs.Node{Gateway: "edge", Node: "e1"}, certs.Node{Gateway: "edge"}
	tests := []struct {
		name        string
		by          certs.Node
		gateway, id string
		want        bool
	}{
		{"itself", one, "edge", "e1", true},
		{"its agent", one, "edge", "agent-e1", true},
		{"another node", one, "edge", "e2", false},
		{"another's agent", one, "edge", "agent-e2", false},
		{"another gateway", one, "shop", "e1", false},
		{"another case", one, "Edge", "e1", false},
		{"no gateway", one, "", "e1", false},
		{"no node", one, "edge", "", false},
		{"any", wide, "edge", "e2", true},
		{"any, without an id", wide, "edge", "", false},
		{"any, by an endless id", wide, "edge", strings.Repeat("a", 10000), false},
		{"any, by an id with a line end", wide, "edge", "a\nb", false},
		{"any, of another gateway", wide, "shop", "e2", false},
		{"nobody", certs.Node{}, "", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.by.Covers(tt.gateway, tt.id); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestClientOf(t *testing.T) {
	got, err := certs.ClientOf(naming(t, "spiffe://sluice/role/apply/name/alice%20b"))
	if want := (certs.Client{Role: certs.RoleApply, Name: "alice b"}); got != want || err != nil {
		t.Errorf("got %+v %v", got, err)
	}
	for _, uri := range []string{"spiffe://sluice/role/root/name/alice", "spiffe://sluice/role/read", "spiffe://sluice/gateway/read/node/alice", "spiffe://sluice/role/READ/name/alice"} {
		if got, err := certs.ClientOf(naming(t, uri)); !errors.Is(err, certs.ErrNoIdentity) || got != (certs.Client{}) {
			t.Errorf("%s: got %+v %v", uri, got, err)
		}
	}
}

// TestIssue_ReadsBackWhatWasAsked holds, for any names, that a certificate says what was asked for or is not made.
func TestIssue_ReadsBackWhatWasAsked(t *testing.T) {
	a, _, err := certs.NewAuthority("test", 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	text := rapid.OneOf(rapid.StringMatching(`[a-z0-9.-]{1,20}`), rapid.StringOf(rapid.SampledFrom([]rune("a/%*. ?#&+:@é\x00~"))))
	rapid.Check(t, func(t *rapid.T) {
		want := certs.Node{Gateway: text.Draw(t, "gateway"), Node: text.Draw(t, "node")}
		pair, err := a.Issue(certs.Request{Node: &want, Lifetime: time.Hour})
		if err != nil {
			if want.Gateway != "" && !containsControl(want.Gateway+want.Node) {
				t.Fatalf("%+v: %v", want, err)
			}
			return
		}
		if got, err := certs.NodeOf(pair.Certificate); got != want || err != nil {
			t.Fatalf("asked for %+v, got %+v %v", want, got, err)
		}
	})
}

func containsControl(text string) bool {
	for _, r := range text {
		if unicode.IsControl(r) {
			return true
		}
	}
	return false
}

func FuzzNodeOf(f *testing.F) {
	for _, uri := range []string{"spiffe://sluice/gateway/edge/node/a%2Fb", "spiffe://sluice/gateway/edge", "spiffe://sluice/role/read/name/alice", "spiffe://sluice//../gateway/edge"} {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := url.Parse(text)
		if err != nil {
			return
		}
		c := &x509.Certificate{URIs: []*url.URL{u}}
		if n, err := certs.NodeOf(c); err == nil && n.URI() != u.String() {
			t.Errorf("%q is taken for %+v, which is spelled %q", text, n, n.URI())
		}
		if who, err := certs.ClientOf(c); err == nil && who.URI() != u.String() {
			t.Errorf("%q is taken for %+v, which is spelled %q", text, who, who.URI())
		}
	})
}
