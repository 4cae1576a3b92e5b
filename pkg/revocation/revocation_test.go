package revocation_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/pkg/revocation"
)

func TestMeant_WhatWasIssuedBeforeIsAndWhatDoesNotSay(t *testing.T) {
	at := time.Date(2026, 1, 1, 12, 0, 0, 500e6, time.UTC)
	until := at.Add(time.Hour)
	alice := revocation.Revocation{Kind: revocation.Subject, Value: "alice", At: at, Until: &until}
	all := alice
	all.All = true
	ofIssuer := alice
	ofIssuer.Issuer = "https://idp.example"
	token := revocation.Revocation{Kind: revocation.Token, Value: "x", At: at}
	for _, c := range []struct {
		name string
		of   revocation.Revocation
		what revocation.Credential
		now  time.Time
		want bool
	}{
		{"issued before", alice, revocation.Credential{Issued: at.Unix() - 60}, at, true},
		{"issued in the same second", alice, revocation.Credential{Issued: at.Unix()}, at, true},
		{"issued later", alice, revocation.Credential{Issued: at.Unix() + 1}, at, false},
		{"issued later, but all are meant", all, revocation.Credential{Issued: at.Unix() + 1}, at, true},
		{"issued nobody knows when", alice, revocation.Credential{}, at, true},
		{"of that issuer", ofIssuer, revocation.Credential{Issuer: "https://idp.example"}, at, true},
		{"of another issuer", ofIssuer, revocation.Credential{Issuer: "https://other.example"}, at, false},
		{"nearly over", alice, revocation.Credential{}, until.Add(-time.Second), true},
		{"over", alice, revocation.Credential{}, until, false},
		{"a token, whenever it was issued", token, revocation.Credential{Issued: at.Unix() + 99}, at.AddDate(50, 0, 0), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			body, err := revocation.Pack([]revocation.Entry{c.of.Entry()})
			if err != nil {
				t.Fatal(err)
			}
			table, err := revocation.Unpack(body)
			if err != nil {
				t.Fatal(err)
			}
			if got := table.Revoked(c.of.Kind, c.of.Value, c.what, c.now); got != c.want {
				t.Errorf("%t", got)
			}
			if table.Revoked(c.of.Kind, c.of.Value+"x", c.what, c.now) || table.Revoked(revocation.Key, c.of.Value, c.what, c.now) {
				t.Error("something else is revoked, too")
			}
		})
	}
}

func TestCheck_SaysWhatIsWrong(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name string
		r    revocation.Revocation
		want string
	}{
		{"nothing", revocation.Revocation{}, "cannot be revoked"},
		{"nobody", revocation.Revocation{Kind: revocation.Subject}, "which subject"},
		{"too long", revocation.Revocation{Kind: revocation.Subject, Value: strings.Repeat("a", 513)}, "longer than"},
		{"a key's issuer", revocation.Revocation{Kind: revocation.Key, Value: "a", Issuer: "b"}, "has no issuer"},
		{"all of a token", revocation.Revocation{Kind: revocation.Token, Value: "a", All: true}, "only of a subject"},
		{"over before it begins", revocation.Revocation{Kind: revocation.Token, Value: "a", At: now, Until: &now}, "end before"},
		{"fine", revocation.Revocation{Kind: revocation.Token, Value: "a", At: now}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.r.Check()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte(`[]`))
	f.Add([]byte(`[{"kind":"subject","value":"a","all":true}]`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(_ *testing.T, body []byte) {
		if table, err := revocation.Unpack(body); err == nil {
			table.Revoked(revocation.Subject, "a", revocation.Credential{}, time.Now())
		}
	})
}
