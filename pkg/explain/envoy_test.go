package explain_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluice-gateway/sluice/envoy"
	"github.com/sluice-gateway/sluice/pkg/explain"
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/featuretest"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/translate"
)

// startEcho runs the real Envoy with a listener as translate makes it, but with one route that tells the path it saw.
func startEcho(t *testing.T) (address string) {
	t.Helper()
	binary := featuretest.Envoy(t)
	dir := t.TempDir()
	admin := filepath.Join(dir, "admin.sock")
	b := &bootstrapv3.Bootstrap{
		Admin:           &bootstrapv3.Admin{Address: &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: admin}}}},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{Listeners: []*listenerv3.Listener{echoListener(t)}},
	}
	text, err := protojson.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "bootstrap.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	cmd := exec.Command(binary, "--config-path", file, "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning")
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return listenerAddress(t, envoy.AdminClient("unix:"+admin), func() string { return log.String() })
}

func echoListener(t *testing.T) *listenerv3.Listener {
	t.Helper()
	g := &model.Gateway{Name: "edge", Listeners: []*model.Listener{{Name: "edge/http", Gateway: "edge", Address: "127.0.0.1", Port: 8080}}}
	resources, err := translate.New(feature.NewSet()).Translate(g)
	if err != nil {
		t.Fatal(err)
	}
	l, hcm := &listenerv3.Listener{}, &hcmv3.HttpConnectionManager{}
	if err := proto.Unmarshal(resources[resource.ListenerType]["edge/http"], l); err != nil {
		t.Fatal(err)
	}
	l.GetAddress().GetSocketAddress().PortSpecifier = &corev3.SocketAddress_PortValue{PortValue: 0}
	config := l.GetFilterChains()[0].GetFilters()[0]
	if err := config.GetTypedConfig().UnmarshalTo(hcm); err != nil {
		t.Fatal(err)
	}
	hcm.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: echoRoutes()}
	packed, err := anypb.New(hcm)
	if err != nil {
		t.Fatal(err)
	}
	config.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: packed}
	return l
}

// echoRoutes answer 200 with the path, and 202 when the query holds a=x y as Envoy's matchers see it.
func echoRoutes() *routev3.RouteConfiguration {
	answer := func(status uint32, query ...*routev3.QueryParameterMatcher) *routev3.Route {
		return &routev3.Route{
			Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}, QueryParameters: query},
			Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: status}},
		}
	}
	text := &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: "A"}}
	decoded := answer(202, &routev3.QueryParameterMatcher{Name: "a", QueryParameterMatchSpecifier: &routev3.QueryParameterMatcher_StringMatch{StringMatch: text}})
	return &routev3.RouteConfiguration{Name: "echo", VirtualHosts: []*routev3.VirtualHost{{
		Name: "any", Domains: []string{"*"}, Routes: []*routev3.Route{decoded, answer(200)},
		ResponseHeadersToAdd: []*corev3.HeaderValueOption{
			{Header: &corev3.HeaderValue{Key: "x-path", Value: "%REQ(:PATH)%"}}, {Header: &corev3.HeaderValue{Key: "x-host", Value: "%REQ(:AUTHORITY)%"}},
		},
	}}}
}

func listenerAddress(t *testing.T, admin *http.Client, log func() string) string {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		if a := askListener(ctx, admin); a != "" {
			return a
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("envoy does not listen:\n%s", log())
		}
	}
}

func askListener(ctx context.Context, admin *http.Client) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://envoy/listeners?format=json", nil)
	if err != nil {
		return ""
	}
	resp, err := admin.Do(req)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	var list struct {
		Listeners []struct {
			Address struct {
				Socket struct {
					Address string `json:"address"`
					Port    int    `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if json.NewDecoder(resp.Body).Decode(&list) != nil || len(list.Listeners) == 0 || list.Listeners[0].Address.Socket.Port == 0 {
		return ""
	}
	a := list.Listeners[0].Address.Socket
	return net.JoinHostPort(a.Address, fmt.Sprint(a.Port))
}

// ask sends a request line as it is.
func ask(t *testing.T, address, target, host string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", target, host)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%s: %v", target, err)
	}
	resp.Body.Close()
	return resp
}

func anyPath() *model.Config {
	return &model.Config{Gateways: []*model.Gateway{{Name: "edge", Hosts: []*model.VirtualHost{{Domain: "*", Routes: []*model.Route{{
		Name: "all/all", Match: model.Match{Path: model.Path{Regex: "(?s).*"}},
	}}}}}}}
}

func TestNormalisesAsEnvoyDoes(t *testing.T) {
	address := startEcho(t)
	for _, target := range []string{
		"/", "/a/b", "//a//b/", "/a/./b", "/a/../b", "/a/b/..", "/a/b/.", "/../a", "/a/..//b", "/a//../b", "/%2e%2e/a", "/a/%2E/b",
		"/%61%7e%2d", "/%7Bid%7D", "/{id}", "/a|b^c`d", "/a\"b<c>", "/a\\b\\..\\c", "/%c3%A4", "/a%0Ab", "/a%7f%01", "/%5c%2e%2e%2f", "/a/%2e%2e%2fb", "/a%2f%2fb/", "/a%2Fb", "/a%5cb", "/x%2f..%2fy", "/%zz/%4", "/a%00b",
		"/a;b=c", "/a:b@c", "/a+b%20c", "/%25%32%46", "/...", "/.a/..b", "/a?x=//y/../z%2F", "/?a=A", "/?a=%41", "/?b=1&a=A&a=B", "/a?", "/[x]", "/!$&'()*,=",
	} {
		t.Run(target, func(t *testing.T) { compare(t, address, target) })
	}
}

func compare(t *testing.T, address, target string) {
	resp := ask(t, address, target, "Api.Example.:81")
	followed := false
	if resp.StatusCode == http.StatusTemporaryRedirect {
		followed = true
		resp = ask(t, address, resp.Header.Get("location"), "Api.Example.:81")
	}
	got, err := explain.Explain(anyPath(), explain.Request{Method: "GET", URL: "http://Api.Example.:81" + target})
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode >= 400 {
		if got.Status == 0 {
			t.Errorf("Envoy answers %d, explain finds %q", resp.StatusCode, got.Path)
		}
		return
	}
	seen, _, _ := strings.Cut(resp.Header.Get("x-path"), "?")
	if got.Path != seen || (len(got.Notes) > 0) != followed {
		t.Errorf("Envoy sees %q (redirected: %t), explain %q with notes %q", seen, followed, got.Path, got.Notes)
	}
	if host := resp.Header.Get("x-host"); !strings.EqualFold(got.Host, host) {
		t.Errorf("Envoy sees host %q, explain %q", host, got.Host)
	}
	config := anyPath()
	config.Gateways[0].Hosts[0].Routes[0].Match.Query = []model.Condition{{Name: "a", Value: "A"}}
	with, err := explain.Explain(config, explain.Request{Method: "GET", URL: "http://h" + target})
	if err != nil {
		t.Fatal(err)
	}
	matched := resp.StatusCode == http.StatusAccepted
	if matched != (with.Status == 0) {
		t.Errorf("Envoy matches a=A: %t, explain: %t", matched, with.Status == 0)
	}
}
