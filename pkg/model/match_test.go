package model

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func drawPath(t *rapid.T) Path {
	p := Path{Tail: rapid.Bool().Draw(t, "tail")}
	for i := range rapid.IntRange(0, 3).Draw(t, "segments") {
		if rapid.Bool().Draw(t, "param") {
			p.Segments = append(p.Segments, Segment{Param: fmt.Sprint("p", i)})
			continue
		}
		p.Segments = append(p.Segments, Segment{Literal: rapid.SampledFrom([]string{"a", "b", "a.b"}).Draw(t, "literal")})
	}
	if len(p.Segments) == 0 && !p.Tail {
		p.Segments = []Segment{{}}
	}
	return p
}

func drawRequest(t *rapid.T) string {
	parts := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "a.b", "aXb", ""}), 1, 4).Draw(t, "parts")
	return "/" + strings.Join(parts, "/")
}

func TestPath_MatchesWhatItsExpressionMatches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, path := drawPath(t), drawRequest(t)
		re := regexp.MustCompile("^(?:" + p.Expression() + ")$")
		if got, want := p.Matches(path), re.MatchString(path); got != want {
			t.Fatalf("%s on %s: %v, its expression %v", p, path, got, want)
		}
	})
}

func TestPath_EveryMatchStartsWithItsLiteral(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, path := drawPath(t), drawRequest(t)
		if p.Matches(path) && !strings.HasPrefix(path, p.Literal()) {
			t.Fatalf("%s takes %s, but its literal start is %s", p, path, p.Literal())
		}
	})
}

func TestPath_CoversOnlyWhatItMatches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		wide, narrow, path := drawPath(t), drawPath(t), drawRequest(t)
		if wide.Covers(narrow) && narrow.Matches(path) && !wide.Matches(path) {
			t.Fatalf("%s covers %s, but does not take %s", wide, narrow, path)
		}
	})
}

func TestPath_NarrowerComesFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		wide, narrow := drawPath(t), drawPath(t)
		if wide.Covers(narrow) && !narrow.Covers(wide) && wide.Order() < narrow.Order() {
			t.Fatalf("%s is tried before %s and takes all of its requests", wide, narrow)
		}
	})
}

func TestPath_Order(t *testing.T) {
	// Each is tried before the next, where both could take a request.
	for _, list := range [][]Path{
		{path("/orders/new"), path("/orders/{id}"), path("/orders/*"), path("/*"), {Regex: "/orders/.*"}},
		{path("/a/*"), path("/{x}/b")},
		{path("/a"), path("/a/*")},
		{path("/{x}/b"), path("/{x}/*"), path("/*")},
		{{Regex: "/longer/.*"}, {Regex: "/l.*"}},
	} {
		for i := 1; i < len(list); i++ {
			if list[i-1].Order() >= list[i].Order() {
				t.Errorf("%s does not come before %s", list[i-1], list[i])
			}
		}
	}
}

// path reads the short form.
func path(s string) Path {
	rest, tail := strings.CutSuffix(s, "/*")
	p := Path{Tail: tail}
	if rest == "" {
		return p
	}
	for _, part := range strings.Split(rest[1:], "/") {
		if strings.HasPrefix(part, "{") {
			p.Segments = append(p.Segments, Segment{Param: strings.Trim(part, "{}")})
			continue
		}
		p.Segments = append(p.Segments, Segment{Literal: part})
	}
	return p
}

func TestMatch_Takes(t *testing.T) {
	m := Match{
		Path: path("/a/{id}"), Methods: []string{"GET"},
		Headers: []Condition{{Name: "x-tenant", Op: Exact, Value: "acme"}, {Name: "x-debug", Op: Absent}},
		Query:   []Condition{{Name: "v", Op: Regex, Value: "[0-9]+"}},
	}
	good := Request{Method: "GET", Path: "/a/7", Headers: http.Header{"X-Tenant": {"acme"}}, Query: url.Values{"v": {"12"}}}
	if !m.Takes(good) {
		t.Error("does not take a request that meets all conditions")
	}
	for name, spoil := range map[string]func(*Request){
		"method": func(r *Request) { r.Method = "POST" },
		"path":   func(r *Request) { r.Path = "/a" },
		"header": func(r *Request) { r.Headers = http.Header{"X-Tenant": {"other"}} },
		"absent": func(r *Request) { r.Headers = http.Header{"X-Tenant": {"acme"}, "X-Debug": {"1"}} },
		"query":  func(r *Request) { r.Query = url.Values{"v": {"12a"}} },
	} {
		bad := good
		spoil(&bad)
		if m.Takes(bad) {
			t.Errorf("takes a request with another %s", name)
		}
	}
}

func TestMatch_DisjointMeansNoRequestMeetsBoth(t *testing.T) {
	conditions := rapid.Custom(func(t *rapid.T) Condition {
		return Condition{
			Name:  rapid.SampledFrom([]string{"x", "y"}).Draw(t, "name"),
			Op:    Op(rapid.IntRange(0, 4).Draw(t, "op")),
			Value: rapid.SampledFrom([]string{"1", "12", "2"}).Draw(t, "value"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		a := Match{Path: Path{Tail: true}, Headers: rapid.SliceOfN(conditions, 0, 2).Draw(t, "a")}
		b := Match{Path: Path{Tail: true}, Headers: rapid.SliceOfN(conditions, 0, 2).Draw(t, "b")}
		r := Request{Path: "/", Headers: http.Header{}}
		for _, name := range []string{"X", "Y"} {
			if v := rapid.SampledFrom([]string{"", "1", "12", "2", "3"}).Draw(t, name); v != "" {
				r.Headers.Set(name, v)
			}
		}
		if a.Disjoint(b) && a.Takes(r) && b.Takes(r) {
			t.Fatalf("%v and %v count as disjoint, but both take %v", a.Headers, b.Headers, r.Headers)
		}
	})
}

func TestGateway_FindHost(t *testing.T) {
	g := &Gateway{Hosts: []*VirtualHost{{Domain: "*"}, {Domain: "*.example.com"}, {Domain: "*.api.example.com"}, {Domain: "example.com"}}}
	for host, want := range map[string]string{
		"example.com": "example.com", "a.example.com": "*.example.com", "a.b.example.com": "*.example.com",
		"x.api.example.com": "*.api.example.com", "other.org": "*", "": "*", ".example.com": "*",
	} {
		if got := g.FindHost(host); got == nil || got.Domain != want {
			t.Errorf("%s: %v, want %s", host, got, want)
		}
	}
	if none := (&Gateway{}).FindHost("a"); none != nil {
		t.Errorf("found %v", none)
	}
}

func TestNames(t *testing.T) {
	long := strings.Repeat("a", 200)
	for got, want := range map[string]string{
		ListenerName("edge", "http"):                "edge/http",
		RouteTableName("edge"):                      "edge",
		RouteName("orders-api", "place-order"):      "orders-api/place-order",
		ClusterName("orders"):                       "orders",
		EndpointsName("orders", "0123456789abcdef"): "orders@0123456789ab",
		ClusterName(long):                           strings.Repeat("a", 111) + "-c2a908d9",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
