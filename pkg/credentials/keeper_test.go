package credentials_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/pkg/apikey"
	"github.com/sluice-gateway/sluice/pkg/credentials"
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/revocation"
	"github.com/sluice-gateway/sluice/pkg/store"
)

// patience is far longer than anything here takes.
const patience = 30 * time.Second

// tester is what testing.T and rapid.T have in common.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// run starts a Keeper on a store; stop ends it.
func run(t tester, records store.Records, c credentials.Config) (k *credentials.Keeper, stop func()) {
	t.Helper()
	c.Records, c.Log = records, slog.New(slog.DiscardHandler)
	k = credentials.New(c)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	waiting, end := context.WithTimeout(ctx, patience)
	defer end()
	if err := k.Await(waiting); err != nil {
		t.Fatal(err)
	}
	return k, func() { cancel(); <-done }
}

// eventually waits until something holds that a Keeper follows.
func eventually(t tester, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// agent is what one agent has of the keys: some parts may be older than others.
type agent map[int]apikey.Table

func (a agent) deliver(t tester, k *credentials.Keeper, part int) {
	t.Helper()
	body, err := feature.Unwrap(k.Parts(model.TableKeys)[part])
	if err != nil {
		t.Fatal(err)
	}
	if a[part], err = apikey.Unpack(body); err != nil {
		t.Fatal(err)
	}
}

// knows tells whether a text is taken; decided is false when the part has not come.
func (a agent) knows(t tester, text string, now time.Time) (id string, decided bool) {
	t.Helper()
	hash, err := apikey.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	table := a[hash.Shard()]
	if e := table[hash]; e != nil && !e.Ended(now) {
		return e.ID, true
	}
	return "", table != nil
}

// secret is one text in the plain model of the keys.
type secret struct {
	id    string
	until time.Time // zero for never
}

// TestKeeper_AgentsTakeExactlyTheKeysThatHold: whatever is done to keys and in whatever order parts come, an agent takes
// what held when the part came that the key is in, and everything that holds once all parts have come.
func TestKeeper_AgentsTakeExactlyTheKeysThatHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		ctx := context.Background()
		k, stop := run(t, store.NewMemory(store.Options{}), credentials.Config{Now: func() time.Time { return now }, Every: time.Hour})
		defer stop()
		texts := map[string]secret{}
		disabled, gone := map[string]bool{}, map[string]bool{}
		var ids []string
		a := agent{}
		holds := func(text string) string {
			s := texts[text]
			if gone[s.id] || disabled[s.id] || !s.until.IsZero() && !now.Before(s.until) {
				return ""
			}
			return s.id
		}
		settle := func() {
			eventually(t, "the parts are those of the store", func() bool {
				full := agent{}
				for text := range texts {
					hash, _ := apikey.Parse(text)
					full.deliver(t, k, hash.Shard())
				}
				return !slices.ContainsFunc(slices.Collect(maps.Keys(texts)), func(text string) bool {
					id, decided := full.knows(t, text, now)
					return !decided || id != holds(text)
				})
			})
		}
		one := func() string { return rapid.SampledFrom(ids).Draw(t, "key") }
		live := func(id string) bool { return id != "" && !gone[id] }
		t.Repeat(map[string]func(*rapid.T){
			"create": func(t *rapid.T) {
				asked := apikey.Key{Owner: "acme"}
				ends := rapid.SampledFrom([]time.Duration{0, time.Minute}).Draw(t, "expires")
				s := secret{}
				if ends > 0 {
					s.until = now.Add(ends)
					asked.Expires = &s.until
				}
				made, text, err := k.CreateKey(ctx, asked)
				if err != nil {
					t.Fatal(err)
				}
				s.id = made.ID
				ids, texts[text] = append(ids, made.ID), s
			},
			"rotate": func(t *rapid.T) {
				if len(ids) == 0 {
					t.Skip("no keys")
				}
				id := one()
				grace := rapid.SampledFrom([]time.Duration{0, 30 * time.Second}).Draw(t, "grace")
				before, _ := k.Key(ctx, id)
				made, text, err := k.RotateKey(ctx, id, grace)
				if (err == nil) != live(id) {
					t.Fatalf("%v", err)
				}
				if err != nil {
					return
				}
				for other, s := range texts { // all but the newest end now, the newest after the grace
					hash, _ := apikey.Parse(other)
					switch {
					case s.id != id:
					case hash == before.Secrets[0].Hash:
						if end := now.Add(grace); s.until.IsZero() || end.Before(s.until) {
							s.until = end
						}
						texts[other] = s
					default:
						s.until = now
						texts[other] = s
					}
				}
				s := secret{id: id}
				if made.Expires != nil {
					s.until = *made.Expires
				}
				texts[text] = s
			},
			"disable or enable": func(t *rapid.T) {
				if len(ids) == 0 {
					t.Skip("no keys")
				}
				id, off := one(), rapid.Bool().Draw(t, "off")
				if _, err := k.SetDisabled(ctx, id, off); (err == nil) != live(id) {
					t.Fatalf("%v", err)
				}
				disabled[id] = off
			},
			"delete": func(t *rapid.T) {
				if len(ids) == 0 {
					t.Skip("no keys")
				}
				id := one()
				if _, err := k.DeleteKey(ctx, id); (err == nil) != live(id) {
					t.Fatalf("%v", err)
				}
				gone[id] = true
			},
			"time goes by": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 40).Draw(t, "seconds")) * time.Second)
			},
			"some parts come": func(t *rapid.T) {
				settle()
				for text := range texts {
					hash, _ := apikey.Parse(text)
					if !rapid.Bool().Draw(t, "come") {
						continue
					}
					a.deliver(t, k, hash.Shard())
					if id, decided := a.knows(t, text, now); !decided || id != holds(text) {
						t.Fatalf("the part has come, and a key of %q is taken for %q", texts[text].id, id)
					}
				}
			},
			"": func(t *rapid.T) {
				for text, s := range texts {
					if id, _ := a.knows(t, text, now); id != "" && id != s.id {
						t.Fatalf("a key of %s is taken for %s", s.id, id)
					}
				}
			},
		})
		settle()
	})
}

func TestKeeper_RevocationsAddUpEndAndAreUndone(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	k, stop := run(t, store.NewMemory(store.Options{}), credentials.Config{Now: func() time.Time { return now }, Every: time.Millisecond})
	defer stop()
	revoke := func(value string, lasting time.Duration, all bool) *revocation.Revocation {
		t.Helper()
		asked := revocation.Revocation{Kind: revocation.Subject, Value: value, All: all}
		if lasting > 0 {
			until := now.Add(lasting)
			asked.Until = &until
		}
		made, err := k.Revoke(t.Context(), asked)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	list := func() []revocation.Revocation {
		t.Helper()
		out, err := k.Revocations(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	revoke("alice", time.Hour, true)
	second := revoke("alice", time.Minute, false)
	revoke("bob", time.Second, false)
	if got := list(); len(got) != 2 {
		t.Fatalf("%+v", got)
	}
	for _, r := range list() {
		if r.Value == "alice" && (!r.All || r.Until.Sub(now) != time.Hour) {
			t.Errorf("the second revocation has weakened the first: %+v", r)
		}
	}
	if _, err := k.Undo(t.Context(), second.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Undo(t.Context(), second.ID); !errors.Is(err, credentials.ErrUnknown) {
		t.Error(err)
	}
	if got := list(); len(got) != 1 || got[0].Value != "bob" {
		t.Fatalf("%+v", got)
	}
}

func TestKeeper_WhatIsOverIsRemoved(t *testing.T) {
	kept := store.NewMemory(store.Options{})
	k, stop := run(t, kept, credentials.Config{Every: time.Millisecond})
	defer stop()
	until := time.Now().Add(50 * time.Millisecond)
	if _, err := k.Revoke(t.Context(), revocation.Revocation{Kind: revocation.Token, Value: "x", Until: &until}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is removed", func() bool {
		records, err := kept.Records(t.Context(), store.TableRevocations)
		return err == nil && len(records) == 0
	})
}

func TestKeeper_UsesAreKeptOverRestartsAndOnlyOfKeysThatThereAre(t *testing.T) {
	kept := store.NewMemory(store.Options{})
	k, stop := run(t, kept, credentials.Config{Every: time.Hour})
	made, text, err := k.CreateKey(t.Context(), apikey.Key{Owner: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-time.Minute)
	eventually(t, "the use is noted", func() bool {
		k.Used(map[string]time.Time{made.ID: at, "nobody": at})
		s, err := k.Key(t.Context(), made.ID)
		return err == nil && s.LastUsed != nil && s.LastUsed.Unix() == at.Unix()
	})
	k.Used(map[string]time.Time{made.ID: at.Add(-time.Hour)})
	k.Used(map[string]time.Time{made.ID: time.Now().Add(time.Hour)})
	stop() // writes down what was noted
	again, stop := run(t, kept, credentials.Config{})
	defer stop()
	all, err := again.Keys(t.Context(), "")
	if err != nil || len(all) != 1 || all[0].LastUsed == nil || all[0].LastUsed.Before(at.Truncate(time.Second)) || all[0].LastUsed.After(time.Now()) {
		t.Fatalf("%+v %v", all, err)
	}
	tables, err := kept.AllRecords(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, records := range tables {
		for _, r := range records {
			if strings.Contains(string(r.Value), text) || strings.Contains(string(r.Value), "nobody") {
				t.Errorf("%s holds what it should not: %s", name, r.Value)
			}
		}
	}
}

// BenchmarkKeeper is what one change costs among many keys, and what an agent is sent for it.
func BenchmarkKeeper(b *testing.B) {
	kept := store.NewMemory(store.Options{})
	k, stop := run(b, kept, credentials.Config{Every: time.Hour})
	defer stop()
	var id string
	for range 100_000 {
		made, _, err := k.CreateKey(b.Context(), apikey.Key{Owner: "acme", Plan: "gold", Permissions: []string{"place_orders"}})
		if err != nil {
			b.Fatal(err)
		}
		id = made.ID
	}
	b.Run("load", func(b *testing.B) {
		for b.Loop() {
			_, stop := run(b, kept, credentials.Config{Every: time.Hour})
			stop()
		}
	})
	b.Run("change", func(b *testing.B) {
		before := k.Parts(model.TableKeys)
		for i := 0; b.Loop(); i++ {
			if _, err := k.SetDisabled(b.Context(), id, i%2 == 0); err != nil {
				b.Fatal(err)
			}
			var after [][]byte
			eventually(b, "the parts change", func() bool { after = k.Parts(model.TableKeys); return &after[0] != &before[0] })
			sent := 0
			for n := range after {
				if string(after[n]) != string(before[n]) {
					sent += len(after[n])
				}
			}
			before = after
			b.ReportMetric(float64(sent), "sent-bytes")
		}
	})
}
