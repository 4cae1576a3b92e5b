package shield_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sluice-gateway/sluice/pkg/catalog"
	"github.com/sluice-gateway/sluice/pkg/catalog/shield"
	"pgregory.net/rapid"
)

// drawAnswer is any answer about a service of up to six instances.
func drawAnswer(t *rapid.T, service string) shield.Answer {
	if rapid.IntRange(0, 6).Draw(t, "fails") == 0 {
		return shield.Answer{Err: errGone}
	}
	a := shield.Answer{Suspect: rapid.IntRange(0, 9).Draw(t, "suspect") == 0}
	for n := range 6 {
		i := instance(service, n)
		switch rapid.IntRange(0, 4).Draw(t, "state") {
		case 0:
			continue
		case 1:
			i.Health = catalog.Critical
		case 2:
			i.Health = catalog.Warning
		}
		a.Instances = append(a.Instances, i)
	}
	return a
}

func keysOf(n int) []catalog.Key {
	var keys []catalog.Key
	for i := range n {
		keys = append(keys, catalog.Key{Service: fmt.Sprintf("svc%d", i)})
	}
	return keys
}

// play lets a random story happen to a shield, and calls check after each step.
func play(t *rapid.T, s *shield.Shield, keys []catalog.Key, check func(key catalog.Key, a shield.Answer, before []catalog.Instance, now time.Time)) (map[catalog.Key]shield.Answer, time.Time) {
	now, last := start, map[catalog.Key]shield.Answer{}
	for range rapid.IntRange(1, 60).Draw(t, "steps") {
		now = now.Add(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "ms")) * time.Millisecond)
		s.Tick(now)
		key := rapid.SampledFrom(keys).Draw(t, "key")
		a := drawAnswer(t, key.Service)
		before, _ := s.Serve(key)
		s.Observe(key, a, now)
		if a.Err == nil {
			last[key] = a
		}
		check(key, a, before, now)
	}
	return last, now
}

func TestShield_Properties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, keys := shield.New(shield.Default()), keysOf(4)
		last, now := play(t, s, keys, func(key catalog.Key, a shield.Answer, before []catalog.Instance, now time.Time) {
			got, _ := s.Serve(key)
			if a.Err != nil {
				if d := cmp.Diff(before, got); d != "" {
					t.Fatalf("a failure changed something: %s", d)
				}
				return
			}
			pinned := s.State(key).Flapping
			for _, i := range a.Instances {
				n := slices.IndexFunc(got, func(g catalog.Instance) bool { return g.ID == i.ID })
				if i.Usable() && n < 0 && !slices.Contains(pinned, i.ID) {
					t.Fatalf("%s is registered, usable and not served", i.ID)
				}
			}
			if !slices.IsSortedFunc(got, func(a, b catalog.Instance) int { return cmpID(a, b) }) {
				t.Fatalf("not sorted: %v", ids(got))
			}
			if len(a.Instances) == 0 && len(ids(before)) > 1 && len(ids(got)) == 0 && len(s.State(key).Flapping) == 0 && s.State(key).Held > 0 {
				t.Fatal("an empty answer emptied the service")
			}
			if next := s.Next(); !next.IsZero() && next.Before(now) {
				t.Fatalf("next %s lies before now", next)
			}
		})
		// In the end, when Consul answers and time passes, what is served is what was answered last.
		for key, a := range last {
			s.Observe(key, shield.Answer{Instances: a.Instances}, now)
		}
		for range 1000 {
			if s.Next().IsZero() {
				break
			}
			s.Tick(s.Next())
		}
		for key, a := range last {
			got, _ := s.Serve(key)
			if d := cmp.Diff(a.Instances, got); d != "" {
				t.Fatalf("%s did not converge: %s", key, d)
			}
		}
		if !s.Next().IsZero() {
			t.Fatalf("never at rest: %s", s.Next())
		}
	})
}

func cmpID(a, b catalog.Instance) int {
	if a.ID < b.ID {
		return -1
	}
	return 1
}

func TestShield_ASingleDeregistrationIsNeverHeld(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, list, now := shield.New(shield.Default()), instances("orders", 1, rapid.IntRange(1, 40).Draw(t, "instances")), start
		s.Observe(orders, shield.Answer{Instances: list}, now)
		for len(list) > 0 {
			now = now.Add(time.Duration(rapid.IntRange(0, 2000).Draw(t, "ms")) * time.Millisecond)
			n := rapid.IntRange(0, len(list)-1).Draw(t, "which")
			list = slices.Delete(slices.Clone(list), n, n+1)
			s.Observe(orders, shield.Answer{Instances: list}, now)
			if got, _ := s.Serve(orders); !slices.Equal(ids(got), ids(list)) {
				t.Fatalf("served %v, want %v", ids(got), ids(list))
			}
		}
	})
}

func TestShield_SameStorySameResult(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var story []func(s *shield.Shield)
		now := start
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 5000).Draw(t, "ms")) * time.Millisecond)
			key, at := rapid.SampledFrom(keysOf(5)).Draw(t, "key"), now
			a := drawAnswer(t, key.Service)
			story = append(story, func(s *shield.Shield) { s.Tick(at); s.Observe(key, a, at) })
		}
		tell := func() (string, []shield.Report) {
			s := shield.New(shield.Default())
			for _, f := range story {
				f(s)
			}
			var text string
			for _, key := range keysOf(5) {
				got, _ := s.Serve(key)
				text += fmt.Sprintln(key, got, s.State(key))
			}
			return text + s.Next().String(), s.Reports()
		}
		text, reports := tell()
		again, moreReports := tell()
		if d := cmp.Diff(text, again); d != "" {
			t.Fatal(d)
		}
		if d := cmp.Diff(reports, moreReports); d != "" {
			t.Fatal(d)
		}
	})
}
