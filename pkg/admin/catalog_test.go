package admin_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/catalog"
	"github.com/sluice-gateway/sluice/pkg/catalog/consul"
	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// unreachable runs a source whose Consul is not there, for one wanted service.
func unreachable(t *testing.T) *consul.Source {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := consul.Default()
	c.Address = lis.Addr().String()
	lis.Close()
	source, err := consul.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	wanted, done := make(chan []catalog.Key, 1), make(chan error, 1)
	go func() { done <- source.Run(ctx, wanted, make(chan []catalog.Service)) }()
	t.Cleanup(func() { cancel(); <-done })
	wanted <- []catalog.Key{{Service: "orders"}}
	for deadline := time.Now().Add(20 * time.Second); source.Summary().Stale == 0 || source.Summary().Error == ""; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the source never was stale")
		}
	}
	return source
}

func TestCatalog_ConsulIsAway(t *testing.T) {
	source := unreachable(t)
	s, ctx := newSite(t, func(c *admin.Config) { c.Catalog, c.ReadOnly = source, "read only" }), context.Background()
	status, err := s.client.Catalog(ctx)
	if err != nil || status.Error == "" || status.Stale != 1 || len(status.Services) != 1 || status.Services[0].Service != "orders" || status.Services[0].Stale == "" {
		t.Errorf("%+v, %v", status, err)
	}
	envoys, err := s.client.Envoys(ctx)
	if err != nil || !strings.Contains(envoys.Note, "see that the agent runs") {
		t.Errorf("%+v, %v", envoys, err)
	}
	for _, path := range []string{"/readyz?verbose", "/"} {
		resp, err := http.Get(s.http.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if !strings.Contains(string(body), "never answered") {
			t.Errorf("%s says nothing of Consul: %s", path, body)
		}
	}
	// An operator may override also where policies cannot be changed.
	if done, err := s.client.Release(ctx, admin.ReleaseRequest{Service: "orders"}); err != nil || done.Released != 0 {
		t.Errorf("%+v, %v", done, err)
	}
	if done, err := s.client.Release(ctx, admin.ReleaseRequest{All: true}); err != nil || done.Released != 0 {
		t.Errorf("%+v, %v", done, err)
	}
}

func TestCatalog_WhatIsRefused(t *testing.T) {
	with, without := newSite(t, func(c *admin.Config) { c.Catalog = unreachable(t) }), newSite(t)
	ctx := context.Background()
	_, noList := without.client.Catalog(ctx)
	_, noRelease := without.client.Release(ctx, admin.ReleaseRequest{All: true})
	_, neither := with.client.Release(ctx, admin.ReleaseRequest{})
	_, both := with.client.Release(ctx, admin.ReleaseRequest{Service: "orders", All: true})
	_, unknown := with.client.Release(ctx, admin.ReleaseRequest{Service: "nobody"})
	with.apply(t, policies)
	_, nobody := with.client.Why(ctx, policy.Ref{Kind: control.KindRegistration, Name: "nobody"})
	for want, err := range map[string]error{
		"start sluice with --consul": noList, "no Consul is asked": noRelease, "name a service, or": neither, "or say all": both,
		"nobody is not watched": unknown, "no service of this name opts in": nobody,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	resp, err := http.Post(with.http.URL+"/v1/catalog/release", "text/plain", strings.NewReader(`{"all":true}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("text/plain: %s", resp.Status)
	}
}
