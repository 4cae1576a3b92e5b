package integration

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/integration/gateway"
	"github.com/sluice-gateway/sluice/pkg/model"
)

// TestIndex_AgreesWithTheLinearMatcher asks the real Envoy, which has the compiled index, and the linear matcher, which
// walks the list, about random tables and requests.
func TestIndex_AgreesWithTheLinearMatcher(t *testing.T) {
	seed := randomSeed(t)
	r := rand.New(rand.NewPCG(seed, 0))
	g := gateway.Start(t, map[string]string{"policy.yaml": randomTable(r, 10)})
	client := &http.Client{}
	for round := range Amount(100) {
		if err := g.Apply(map[string]string{"policy.yaml": randomTable(r, 50+r.IntN(400))}); err != nil {
			t.Fatal(err)
		}
		table := g.Controller.Serving().Config.Gateways[0]
		for range 300 {
			request := randomRequest(r)
			want := answerOf(table.Find(request))
			if got := ask(t, client, g.URL, request); got != want {
				t.Fatalf("seed %d, round %d: %s %s%s?%s %v: envoy %s, the list %s", seed, round,
					request.Method, request.Host, request.Path, request.Query.Encode(), request.Headers, got, want)
			}
		}
	}
}

// randomSeed is printed, and may be given by SLUICE_SEED to see a failure again.
func randomSeed(t *testing.T) uint64 {
	seed := rand.Uint64()
	if given, err := strconv.ParseUint(os.Getenv("SLUICE_SEED"), 10, 64); err == nil {
		seed = given
	}
	t.Logf("SLUICE_SEED=%d", seed)
	return seed
}

var (
	hosts    = []string{"", "api.test", "*.test", "www.test"}
	segments = []string{"a", "b", "ab", "abc", "orders", "v1", "v2", "x.y", "caf\u00e9"}
)

// randomTable is a Gateway's rules; each answers with its own name. Matches that would be ambiguous are left out.
func randomTable(r *rand.Rand, rules int) string {
	var b strings.Builder
	seen := map[string]bool{}
	for i := range rules {
		host, match := hosts[r.IntN(len(hosts))], randomMatch(r)
		if !distinct(seen, host, match) {
			continue
		}
		scope := ""
		if host != "" {
			scope = "hosts: ['" + host + "'], "
		}
		fmt.Fprintf(&b, "---\napiVersion: sluice/v1\nkind: Route\nmetadata: {name: r%d}\nspec: {%smatch: {%s}, direct: {body: r%d/r%d}}\n", i, scope, match, i, i)
	}
	return b.String()
}

// distinct remembers a match, and tells whether it differs from all before in its path, in how many conditions it has,
// or, where a method is the only one, in that.
func distinct(seen map[string]bool, host, match string) bool {
	path, rest, _ := strings.Cut(match, ", ")
	for i := range 9 {
		path = strings.ReplaceAll(path, "{p"+strconv.Itoa(i)+"}", "{}")
	}
	key := fmt.Sprint(host, path, strings.Count(rest, ",")+min(len(rest), 1))
	methodOnly := strings.HasPrefix(rest, "methods") && !strings.Contains(rest, ",")
	if seen[key+rest] || seen[key+" other"] || seen[key+" method"] && !methodOnly {
		return false
	}
	seen[key+rest], seen[key+" method"], seen[key+" other"] = true, methodOnly, !methodOnly
	return true
}

func randomMatch(r *rand.Rand) string {
	var match string
	switch r.IntN(12) {
	case 0: // no other path takes all of these, so none is unreachable
		match = fmt.Sprintf("regex: '/re%d/.*'", r.IntN(5))
	default:
		match = "path: '" + randomPath(r) + "'"
	}
	if r.IntN(3) == 0 {
		match += ", methods: [" + []string{"GET", "POST", "PUT"}[r.IntN(3)] + "]"
	}
	if r.IntN(5) == 0 {
		match += ", headers: {x-tenant: '" + []string{"acme", "other"}[r.IntN(2)] + "'}"
	}
	if r.IntN(8) == 0 {
		match += ", query: {v: {present: true}}"
	}
	return match
}

func randomPath(r *rand.Rand) string {
	var b strings.Builder
	for i := range 1 + r.IntN(4) {
		switch {
		case r.IntN(4) == 0:
			fmt.Fprintf(&b, "/{p%d}", i)
		default:
			b.WriteString("/" + segments[r.IntN(len(segments))])
		}
	}
	if r.IntN(3) == 0 {
		b.WriteString("/*")
	}
	return b.String()
}

func randomRequest(r *rand.Rand) model.Request {
	var path strings.Builder
	if r.IntN(12) == 0 {
		fmt.Fprintf(&path, "/re%d", r.IntN(5))
	}
	for range 1 + r.IntN(5) {
		path.WriteString("/" + url.PathEscape(segments[r.IntN(len(segments))]))
	}
	if r.IntN(10) == 0 {
		path.WriteString("/")
	}
	out := model.Request{
		Host:    []string{"api.test", "www.test", "other.test", "a.b.test", "elsewhere"}[r.IntN(5)],
		Method:  []string{"GET", "POST", "PUT", "DELETE"}[r.IntN(4)],
		Path:    path.String(),
		Query:   url.Values{},
		Headers: http.Header{},
	}
	if r.IntN(3) == 0 {
		out.Headers.Set("x-tenant", []string{"acme", "other", "third"}[r.IntN(3)])
	}
	if r.IntN(3) == 0 {
		out.Query.Set("v", "1")
	}
	return out
}

// answerOf is what a route's answer looks like from outside.
func answerOf(r *model.Route) string {
	switch {
	case r == nil:
		return "404"
	case len(r.Allow) > 0:
		return "405 " + strings.Join(r.Allow, ", ")
	}
	return "200 " + r.Name
}

func ask(t *testing.T, client *http.Client, base string, r model.Request) string {
	t.Helper()
	request, err := http.NewRequest(r.Method, base+r.Path+"?"+r.Query.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host, request.Header = r.Host, r.Headers
	resp, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body [512]byte
	n, _ := resp.Body.Read(body[:])
	switch resp.StatusCode {
	case http.StatusOK:
		return "200 " + string(body[:n])
	case http.StatusMethodNotAllowed:
		return "405 " + resp.Header.Get("allow")
	}
	return strconv.Itoa(resp.StatusCode)
}
