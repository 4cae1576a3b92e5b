package certs_test

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/pkg/certs"
)

func TestAuthority_Refuses(t *testing.T) {
	a, pair, err := certs.NewAuthority("test", 10*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	node := &certs.Node{Gateway: "edge", Node: "e1"}
	tests := []struct {
		name string
		r    certs.Request
		want string
	}{
		{"longer than itself", certs.Request{Node: node, Lifetime: 11 * 24 * time.Hour}, "at most 9 days"},
		{"no time", certs.Request{Node: node}, "a day or more"},
		{"nobody", certs.Request{Lifetime: time.Hour}, "for hosts, for a node, or for a client"},
		{"two at once", certs.Request{Node: node, Hosts: []string{"a"}, Lifetime: time.Hour}, "for hosts, for a node, or for a client"},
		{"a host with its port", certs.Request{Hosts: []string{"a:1"}, Lifetime: time.Hour}, "without scheme and port"},
		{"a wildcard", certs.Request{Hosts: []string{"*.a"}, Lifetime: time.Hour}, "neither a host's name"},
		{"no gateway", certs.Request{Node: &certs.Node{Node: "e1"}, Lifetime: time.Hour}, "empty"},
		{"no name", certs.Request{Client: &certs.Client{Role: certs.RoleRead}, Lifetime: time.Hour}, "empty"},
		{"no such role", certs.Request{Client: &certs.Client{Role: "root", Name: "a"}, Lifetime: time.Hour}, "there is no role"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := a.Issue(tt.r); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	leaf, err := a.Issue(certs.Request{Node: node, Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for name, files := range map[string][2][]byte{
		"no authority": {leaf.CertificatePEM, leaf.KeyPEM}, "another's key": {pair.CertificatePEM, leaf.KeyPEM},
		"no key": {pair.CertificatePEM, nil}, "no certificate": {nil, pair.KeyPEM},
	} {
		if _, err := certs.ParseAuthority(files[0], files[1]); err == nil {
			t.Errorf("%s: is taken", name)
		}
	}
	if _, err := certs.ParseAuthority(pair.CertificatePEM, pair.KeyPEM); err != nil {
		t.Error(err)
	}
}

func TestAdvice(t *testing.T) {
	day := 24 * time.Hour
	now := time.Now()
	tests := []struct {
		name           string
		lifetime, left time.Duration
		want           string
	}{
		{"a year, long before", 365 * day, 31 * day, ""},
		{"a year, a month before", 365 * day, 29 * day, "less than 30 days"},
		{"a year, a week before", 365 * day, 6 * day, "less than 7 days"},
		{"a year, a day before", 365 * day, 23 * time.Hour, "less than a day"},
		{"over", 365 * day, -time.Hour, "expired on"},
		{"a week, its first day", 7 * day, 6 * day, ""},
		{"a week, its last days", 7 * day, 2 * day, "less than 7 days"},
		{"not yet", 7 * day, 8 * day, "not valid before"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &x509.Certificate{NotBefore: now.Add(tt.left - tt.lifetime), NotAfter: now.Add(tt.left)}
			if got := certs.Advice(c, now); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("got %q", got)
			}
		})
	}
}
