package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/sluice-gateway/sluice/pkg/compile"
	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/feature/all"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

const (
	authRounds = 7
	authRate   = 1000 // requests per second
	// What a check may add, in milliseconds.
	mostAddedMedian = 0.5
	mostAddedP99    = 3
	leastChecks     = 10_000 // per second of one core
	askers          = 32
)

// The paths are answered by the same service, and asked with the same token.
const (
	pathOpen   = "/open/x"
	pathAgent  = "/agent/x"
	pathNative = "/native/x"
)

// auth is what deciding on a token adds to a request, by the agent and by Envoy itself, and how many checks an agent does.
func auth(ctx context.Context, b *bench) error {
	keySet, token, err := identityProvider()
	if err != nil {
		return err
	}
	agent, err := freeAddress()
	if err != nil {
		return err
	}
	s, _, err := b.startSluice(ctx, b.newStore(), false, "--agent", "--listen-agent", agent)
	if err != nil {
		return err
	}
	l, err := b.newLane(s)
	if err != nil {
		s.stop()
		return err
	}
	defer l.close()
	l.envoy.Bootstrap.Agent = agent
	set := protectedSite(l.port, b.backend.Addr().String(), keySet)
	if err := l.begin(ctx, control.Request{Set: set}, pathOpen); err != nil {
		return err
	}
	if err := b.added(ctx, l, token); err != nil {
		return err
	}
	return b.checks(ctx, s, agent, set, token)
}

// identityProvider is a key set and a token that one of its keys has signed.
func identityProvider() (keySet, token string, err error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", "", err
	}
	body, err := json.Marshal(map[string]any{"keys": []map[string]string{{
		"kty": "RSA", "kid": "one", "alg": "RS256", "e": "AQAB", "n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()),
	}}})
	if err != nil {
		return "", "", err
	}
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": "https://idp.bench", "aud": "bench", "sub": "alice", "permissions": []string{"place_orders"}, "exp": time.Now().Add(time.Hour).Unix(),
	})
	t.Header["kid"] = "one"
	token, err = t.SignedString(key)
	return string(body), token, err
}

// protectedSite asks for a token and a permission on two of three rules.
func protectedSite(port int, backend, keySet string) []policy.Object {
	protected := func(name, settings string) policy.Object {
		return rule(name, "/"+name, "echo", "  authenticate: {jwt: idp, "+settings+"}\n  authorize: {permissions: [place_orders]}\n")
	}
	return []policy.Object{
		gatewayOn(port), service("echo", backend, ""),
		object("Issuer", "idp", fmt.Sprintf("  issuer: https://idp.bench\n  audiences: [bench]\n  jwks: {inline: %q}\n", keySet)),
		rule("open", "/open", "echo", ""), protected("agent", "decide: agent"), protected("native", "revocation: false, decide: native"),
	}
}

// added compares the latencies of the three paths, round by round.
func (b *bench) added(ctx context.Context, l *lane, token string) error {
	paths := []string{pathOpen, pathAgent, pathNative}
	medians, p99s := map[string]series{}, map[string]series{}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: authRate}}
	defer client.CloseIdleConnections()
	for _, path := range paths { // connections, and tokens that are remembered
		if err := await(ctx, func() error { return ask(ctx, client, l.url+path, token) }); err != nil {
			return err
		}
		if _, err := openLoop(ctx, client, l.url+path, token, time.Second); err != nil {
			return err
		}
	}
	for range b.rounds(authRounds) {
		for _, path := range paths {
			took, err := openLoop(ctx, client, l.url+path, token, 2*time.Second)
			if err != nil {
				return err
			}
			medians[path] = append(medians[path], took.median())
			p99s[path] = append(p99s[path], took.quantile(0.99))
		}
	}
	for path, name := range map[string]string{pathAgent: "the agent (a token that it knows)", pathNative: "Envoy by itself"} {
		for _, f := range []figure{
			compare("added by "+name+", median", "ms", minus(medians[path], medians[pathOpen]), medians[pathOpen]).atMost(mostAddedMedian),
			compare("added by "+name+", 99th percentile", "ms", minus(p99s[path], p99s[pathOpen]), p99s[pathOpen]).atMost(mostAddedP99),
		} {
			if err := b.out.add(f.over(fmt.Sprintf("a request that nobody decides on, at %d a second", authRate))); err != nil {
				return err
			}
		}
	}
	return nil
}

// minus takes away what the floor took in the same round.
func minus(s, floor series) series {
	var out series
	for i := range s {
		out = append(out, s[i]-floor[i])
	}
	return out
}

// openLoop asks at a fixed rate, whatever the answers take, and measures from when each question was due.
func openLoop(ctx context.Context, client *http.Client, url, token string, lasts time.Duration) (series, error) {
	n := int(lasts.Seconds() * authRate)
	took := make(series, n)
	var failed atomic.Pointer[error]
	var wait sync.WaitGroup
	began := time.Now()
	for i := range n {
		due := began.Add(time.Duration(i) * time.Second / authRate)
		time.Sleep(time.Until(due))
		wait.Go(func() {
			if err := ask(ctx, client, url, token); err != nil {
				failed.Store(&err)
			}
			took[i] = milliseconds(time.Since(due))
		})
	}
	wait.Wait()
	if err := failed.Load(); err != nil {
		return nil, *err
	}
	return took, nil
}

// await tries until there is no error.
func await(ctx context.Context, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pollEvery):
		}
	}
}

func ask(ctx context.Context, client *http.Client, url, token string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	r.Header.Set("authorization", "Bearer "+token)
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return nil
}

// checks is how many requests the agent decides on over gRPC in a second of one core.
func (b *bench) checks(ctx context.Context, s *sluice, address string, set []policy.Object, token string) error {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	check, err := checkRequest(set, token)
	if err != nil {
		return err
	}
	decide, health := authv3.NewAuthorizationClient(conn), healthv1.NewHealthClient(conn)
	var rates, floor series
	for range b.rounds(authRounds) {
		rate, err := perCore(s.process, func() error {
			resp, err := decide.Check(ctx, check)
			if err == nil && resp.GetOkResponse() == nil {
				err = fmt.Errorf("the agent refuses: %v", resp)
			}
			return err
		})
		if err != nil {
			return err
		}
		rates = append(rates, rate)
		if rate, err = perCore(s.process, func() error { _, err := health.Check(ctx, &healthv1.HealthCheckRequest{}); return err }); err != nil {
			return err
		}
		floor = append(floor, rate)
	}
	f := compare("checks of the agent, in a second of one core", "1/s", rates, floor)
	f.Target, f.Missed = leastChecks, f.Value < leastChecks
	return b.out.add(f.over("gRPC health checks of the same process"))
}

// checkRequest is what Envoy asks on the route that the agent decides on.
func checkRequest(set []policy.Object, token string) (*authv3.CheckRequest, error) {
	config, problems := compile.New(all.Features()).Compile(set)
	if problems.Failed() {
		return nil, fmt.Errorf("%s", problems.Render())
	}
	for _, v := range config.Gateways[0].Hosts {
		for _, r := range v.Routes {
			if r.Runtime != nil {
				return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
					ContextExtensions: map[string]string{feature.PolicyExtension: r.Runtime.Digest},
					Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
						Method: http.MethodGet, Host: "bench", Path: pathAgent, Headers: map[string]string{"authorization": "Bearer " + token},
					}},
				}}, nil
			}
		}
	}
	return nil, fmt.Errorf("no route asks the agent")
}

// perCore is how often the process answers for a second of processor time, asked by several at once.
func perCore(p *process, ask func() error) (float64, error) {
	before, err := p.cpu()
	if err != nil {
		return 0, err
	}
	var asked atomic.Int64
	var failed atomic.Pointer[error]
	var wait sync.WaitGroup
	until := time.Now().Add(2 * time.Second)
	for range askers {
		wait.Go(func() {
			for time.Now().Before(until) {
				if err := ask(); err != nil {
					failed.Store(&err)
					return
				}
				asked.Add(1)
			}
		})
	}
	wait.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	after, err := p.cpu()
	return float64(asked.Load()) / (after - before).Seconds(), err
}
