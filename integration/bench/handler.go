package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/pkg/apikey"
	"github.com/sluice-gateway/sluice/pkg/compile"
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/feature/all"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/revocation"
)

const (
	handlerRounds = 7
	handlerChecks = 2000 // a round
	// What one check may take, in microseconds.
	mostRemembered = 5
	mostFresh      = 60
)

// handler is what one check takes inside the agent, by credential.
func handler(ctx context.Context, b *bench) error {
	keySet, token, err := identityProvider()
	if err != nil {
		return err
	}
	routes, err := decided(keySet)
	if err != nil {
		return err
	}
	for _, keys := range []int{1000, 100_000} {
		data, texts, err := callers(keySet, keys)
		if err != nil {
			return err
		}
		if err := b.handled(ctx, "an API key, one of "+strconv.Itoa(keys), mostRemembered, routes["keys"], data, func(i int, r *feature.Request) {
			r.Headers["x-api-key"] = texts[i*7919%len(texts)]
		}); err != nil {
			return err
		}
	}
	data, _, err := callers(keySet, 1)
	if err != nil {
		return err
	}
	bearer := func(_ int, r *feature.Request) { r.Headers["authorization"] = "Bearer " + token }
	if err := b.handled(ctx, "a token that is remembered", mostRemembered, routes["tokens"], data, bearer); err != nil {
		return err
	}
	issuer := "authenticate/issuer/idp"
	fresh := func(i int, r *feature.Request) {
		bearer(i, r)
		if data[issuer], err = all.Features().ParseData(issuer, []byte(keySet)); err != nil { // and nothing is remembered
			panic(err)
		}
	}
	return b.handled(ctx, "a new token, RS256", mostFresh, routes["tokens"], data, fresh)
}

// decided are the checks of two routes, by the name of their rule.
func decided(keySet string) (map[string][]feature.Check, error) {
	set := []policy.Object{
		gatewayOn(8080), service("echo", "127.0.0.1:9", ""),
		object("Issuer", "idp", fmt.Sprintf("  issuer: https://idp.bench\n  audiences: [bench]\n  jwks: {inline: %q}\n", keySet)),
		rule("tokens", "/tokens", "echo", "  authenticate: {jwt: idp}\n  authorize: {permissions: [place_orders]}\n"),
		rule("keys", "/keys", "echo", "  authenticate: {apiKey: x-api-key}\n  authorize: {permissions: [place_orders]}\n"),
	}
	config, problems := compile.New(all.Features()).Compile(set)
	if problems.Failed() {
		return nil, fmt.Errorf("%s", problems.Render())
	}
	out := map[string][]feature.Check{}
	for _, v := range config.Gateways[0].Hosts {
		for _, r := range v.Routes {
			if r.Runtime == nil {
				continue
			}
			checks, err := all.Features().Checks(r.Runtime.Body)
			if err != nil {
				return nil, err
			}
			out[r.Route] = checks
		}
	}
	return out, nil
}

// callers is what an agent holds beside policies: the issuer's keys, and so many API keys, whose texts it gives too.
func callers(keySet string, keys int) (data map[string]any, texts []string, err error) {
	shards := make([][]apikey.Entry, apikey.Shards)
	for i := range keys {
		text, hash := apikey.Generate()
		texts = append(texts, text)
		shards[hash.Shard()] = append(shards[hash.Shard()], apikey.Entry{
			Hash: hash, ID: "k" + strconv.Itoa(i), Owner: "acme", Permissions: []string{"place_orders"},
		})
	}
	data = map[string]any{}
	take := func(name string, body []byte, failed error) {
		if err == nil {
			err = failed
		}
		if err == nil {
			data[name], err = all.Features().ParseData(name, body)
		}
	}
	for i, entries := range shards {
		body, failed := apikey.Pack(entries)
		take(feature.PartName("authenticate/key", i), body, failed)
	}
	for i := range revocation.Shards {
		body, failed := revocation.Pack(nil)
		take(feature.PartName("authenticate/revoked", i), body, failed)
	}
	take("authenticate/issuer/idp", []byte(keySet), nil)
	return data, texts, err
}

// handled measures one kind of credential. Only the checks are timed, not what prepares them.
func (b *bench) handled(ctx context.Context, name string, most float64, checks []feature.Check, data map[string]any, prepare func(i int, r *feature.Request)) error {
	r := &feature.Request{
		Method: http.MethodGet, Host: "bench", Path: "/", Headers: map[string]string{}, Data: func(name string) any { return data[name] },
	}
	var took, floor series
	for range b.rounds(handlerRounds) {
		var spent, least time.Duration
		for i := range handlerChecks {
			prepare(i, r)
			id := &feature.Identity{}
			r.Now = time.Now()
			for _, c := range checks {
				if d := c.Check(ctx, r, id); !d.Allowed() {
					return fmt.Errorf("%s: refused: %s", name, d.Reason)
				}
			}
			done := time.Now()
			spent += done.Sub(r.Now)
			sha256.Sum256([]byte(r.Headers["authorization"] + r.Headers["x-api-key"]))
			least += time.Since(done)
		}
		took = append(took, float64(spent.Nanoseconds())/handlerChecks/1000)
		floor = append(floor, float64(least.Nanoseconds())/handlerChecks/1000)
	}
	return b.out.add(compare("a check of "+name, "µs", took, floor).atMost(most).over("one SHA-256 of the credential"))
}
