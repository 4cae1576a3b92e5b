package shield_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sluice-gateway/sluice/pkg/catalog"
	"github.com/sluice-gateway/sluice/pkg/catalog/shield"
)

var (
	start   = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	orders  = catalog.Key{Service: "orders"}
	errGone = errors.New("connection refused")
)

// instance n of a service; each has an address of its own.
func instance(service string, n int) catalog.Instance {
	return catalog.Instance{ID: fmt.Sprintf("%s-%02d", service, n), Address: "10.0.0." + fmt.Sprint(n), Port: uint32(1000 + len(service)*100 + n), Weight: 1, Health: catalog.Passing}
}

func instances(service string, from, to int) []catalog.Instance {
	var list []catalog.Instance
	for n := from; n <= to; n++ {
		list = append(list, instance(service, n))
	}
	return list
}

func critical(list ...catalog.Instance) []catalog.Instance {
	list = slices.Clone(list)
	for n := range list {
		list[n].Health = catalog.Critical
	}
	return list
}

func ids(list []catalog.Instance) []string {
	var out []string
	for _, i := range list {
		if i.Usable() {
			out = append(out, i.ID)
		}
	}
	return out
}

// step is an answer about orders, and what is then served usably; after is the time since the one before.
type step struct {
	after  time.Duration
	answer shield.Answer
	want   []catalog.Instance
}

func TestShield_OneService(t *testing.T) {
	all := instances("orders", 1, 6)
	ok := func(list []catalog.Instance) shield.Answer { return shield.Answer{Instances: list} }
	failed := shield.Answer{Err: errGone}
	for _, test := range []struct {
		name  string
		steps []step
	}{
		{"a single deregistration counts at once", []step{{0, ok(all), all}, {time.Second, ok(all[1:]), all[1:]}}},
		{"and that of the last instance, too", []step{{0, ok(all[:1]), all[:1]}, {time.Second, ok(nil), nil}}},
		{"an empty answer is held, then believed", []step{{0, ok(all), all}, {time.Second, ok(nil), all}, {29 * time.Second, ok(nil), all}, {time.Second, ok(nil), nil}}},
		{"an emptied service may come back in between", []step{{0, ok(all), all}, {time.Second, ok(nil), all}, {time.Second, ok(all), all}, {time.Minute, ok(all[1:]), all[1:]}}},
		{"a mass loss is held, the rest lives", []step{{0, ok(all), all}, {time.Second, ok(all[:2]), all}, {time.Second, ok(all[:1]), slices.Concat(all[:1], all[2:])}, {30 * time.Second, ok(all[:1]), all[:1]}}},
		{"half is no mass loss", []step{{0, ok(all), all}, {time.Second, ok(all[:3]), all[:3]}}},
		{"a mass failure of checks is one", []step{{0, ok(all), all}, {time.Second, ok(critical(all...)), all}, {30 * time.Second, ok(critical(all...)), nil}}},
		{"instances replaced by others are no loss", []step{{0, ok(all), all}, {time.Second, ok(instances("orders", 11, 16)), instances("orders", 11, 16)}}},
		{"failures change nothing, however long", []step{{0, ok(all), all}, {time.Second, failed, all}, {time.Hour, failed, all}}},
		{"the last instance is held after a failure", []step{{0, ok(all[:1]), all[:1]}, {time.Second, failed, all[:1]}, {time.Second, ok(nil), all[:1]}, {30 * time.Second, ok(nil), nil}}},
		{"and when the registry lost its state", []step{{0, ok(all[:1]), all[:1]}, {time.Second, shield.Answer{Suspect: true}, all[:1]}}},
		{"a hold does not end while nobody can be asked", []step{{0, ok(all), all}, {time.Second, ok(nil), all}, {time.Second, failed, all}, {time.Hour, failed, all}, {time.Second, ok(nil), all}, {30 * time.Second, ok(nil), nil}}},
		{"an address with a new owner is not held", []step{{0, ok(all), all}, {time.Second, ok([]catalog.Instance{{ID: "new", Address: all[3].Address, Port: all[3].Port, Weight: 1, Health: catalog.Passing}}),
			slices.Concat([]catalog.Instance{{ID: "new", Weight: 1}}, all[:3], all[4:])}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, now := shield.New(shield.Default()), start
			for n, step := range test.steps {
				now = now.Add(step.after)
				s.Tick(now)
				s.Observe(orders, step.answer, now)
				got, _ := s.Serve(orders)
				if d := cmp.Diff(ids(step.want), ids(got)); d != "" {
					t.Errorf("step %d: %s", n, d)
				}
			}
		})
	}
}

func TestShield_HoldsEndByTicksAlone(t *testing.T) {
	s := shield.New(shield.Default())
	s.Observe(orders, shield.Answer{Instances: instances("orders", 1, 4)}, start)
	s.Observe(orders, shield.Answer{}, start.Add(time.Second))
	if want := start.Add(31 * time.Second); !s.Next().Equal(want) {
		t.Fatalf("next is %s, want %s", s.Next(), want)
	}
	if state := s.State(orders); state.Held != 4 || state.Why == "" {
		t.Errorf("state: %+v", state)
	}
	if touched := s.Tick(s.Next()); !slices.Equal(touched, []catalog.Key{orders}) {
		t.Errorf("touched: %v", touched)
	}
	if got, _ := s.Serve(orders); len(got) != 0 {
		t.Errorf("still served: %v", ids(got))
	}
}

func TestShield_RestoredServiceSurvivesAnEmptyAnswer(t *testing.T) {
	s, one := shield.New(shield.Default()), instances("orders", 1, 1)
	s.Restore(orders, one, start)
	s.Observe(orders, shield.Answer{}, start.Add(time.Second))
	if got, _ := s.Serve(orders); !slices.Equal(ids(got), ids(one)) {
		t.Errorf("served: %v", ids(got))
	}
}

func TestShield_PinsWhatFlaps(t *testing.T) {
	s, now := shield.New(shield.Default()), start
	both := instances("orders", 1, 2)
	s.Observe(orders, shield.Answer{Instances: both}, now)
	changes, served := 0, fmt.Sprint(ids(both))
	for n := range 600 { // ten a second, for a minute
		now = now.Add(100 * time.Millisecond)
		s.Tick(now)
		s.Observe(orders, shield.Answer{Instances: both[:1+n%2]}, now)
		got, _ := s.Serve(orders)
		if is := fmt.Sprint(ids(got)); is != served {
			changes, served = changes+1, is
		}
	}
	if changes > 6 {
		t.Errorf("%d changes reached the outside", changes)
	}
	if got := s.State(orders).Flapping; !slices.Equal(got, ids(both[1:])) {
		t.Errorf("flapping: %v", got)
	}
	s.Observe(orders, shield.Answer{Instances: both}, now)
	now = now.Add(30 * time.Second)
	s.Tick(now)
	if got, _ := s.Serve(orders); !slices.Equal(ids(got), ids(both)) {
		t.Errorf("once steady: %v", ids(got))
	}
	for range 3 {
		now = now.Add(time.Minute)
		s.Tick(now)
	}
	if !s.Next().IsZero() {
		t.Errorf("something is remembered for ever: %s", s.Next())
	}
}

func TestShield_TheOnlyInstanceIsNotPinnedOut(t *testing.T) {
	s, now, one := shield.New(shield.Default()), start, instances("orders", 1, 1)
	for n := range 20 {
		now = now.Add(100 * time.Millisecond)
		s.Observe(orders, shield.Answer{Instances: one[:(n+1)%2]}, now)
	}
	if got, _ := s.Serve(orders); !slices.Equal(ids(got), ids(one)) {
		t.Errorf("served: %v", ids(got))
	}
}

// mass is a catalog of services with one instance each.
func mass(s *shield.Shield, services int, now time.Time) []catalog.Key {
	var keys []catalog.Key
	for n := range services {
		key := catalog.Key{Service: fmt.Sprintf("s%03d", n)}
		keys = append(keys, key)
		s.Observe(key, shield.Answer{Instances: instances(key.Service, n, n)}, now)
	}
	return keys
}

func live(s *shield.Shield, keys []catalog.Key) int {
	n := 0
	for _, key := range keys {
		if got, _ := s.Serve(key); len(ids(got)) > 0 {
			n++
		}
	}
	return n
}

func TestShield_FreezesWhenTheCatalogShrinks(t *testing.T) {
	config := shield.Default()
	s, now := shield.New(config), start
	keys := mass(s, 100, now)
	now = now.Add(time.Hour)
	for _, key := range keys[:80] {
		now = now.Add(10 * time.Millisecond)
		s.Observe(key, shield.Answer{}, now)
	}
	if n := live(s, keys); n != 100 {
		t.Fatalf("%d services live, want all: what went before the freeze comes back", n)
	}
	until, why := s.Frozen()
	if until.IsZero() || why == "" {
		t.Fatal("not reported as frozen")
	}
	if len(s.Touched()) < 30 {
		t.Error("those that came back are not named")
	}

	t.Run("one service released", func(t *testing.T) {
		if released := s.Release(keys[0].Service, now); len(released) != 1 {
			t.Errorf("released: %v", released)
		}
		if n := live(s, keys); n != 99 {
			t.Errorf("%d services live", n)
		}
	})
	t.Run("what registers comes in", func(t *testing.T) {
		s.Observe(keys[1], shield.Answer{Instances: instances(keys[1].Service, 50, 50)}, now)
		if got, _ := s.Serve(keys[1]); len(got) != 2 {
			t.Errorf("served: %v", ids(got))
		}
	})
	t.Run("ends by time", func(t *testing.T) {
		s.Tick(until)
		if n := live(s, keys); n != 21 {
			t.Errorf("%d services live, want 21", n)
		}
		if still, _ := s.Frozen(); !still.IsZero() || !s.Next().IsZero() {
			t.Errorf("still frozen until %s, next %s", still, s.Next())
		}
	})
}

func TestShield_FreezeEndsWhenAllIsBackOrReleased(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(s *shield.Shield, keys []catalog.Key, now time.Time)
		live int
	}{
		{"back", func(s *shield.Shield, keys []catalog.Key, now time.Time) { mass(s, len(keys), now) }, 50},
		{"released", func(s *shield.Shield, _ []catalog.Key, now time.Time) { s.Release("", now) }, 10},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, now := shield.New(shield.Default()), start
			keys := mass(s, 50, now)
			for _, key := range keys[:40] {
				s.Observe(key, shield.Answer{}, now.Add(time.Second))
			}
			test.end(s, keys, now.Add(2*time.Second))
			if until, _ := s.Frozen(); !until.IsZero() {
				t.Errorf("frozen until %s", until)
			}
			if n := live(s, keys); n != test.live {
				t.Errorf("%d services live, want %d", n, test.live)
			}
			var kinds []shield.ReportKind
			for _, r := range s.Reports() {
				if r.Key == (catalog.Key{}) {
					kinds = append(kinds, r.Kind)
				}
			}
			if d := cmp.Diff([]shield.ReportKind{shield.Frozen, shield.Thawed}, kinds); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestShield_ForgettingServicesIsNoLoss(t *testing.T) {
	s := shield.New(shield.Default())
	keys := mass(s, 100, start)
	for _, key := range keys[:90] {
		s.Forget(key, start.Add(time.Second))
	}
	s.Observe(keys[95], shield.Answer{}, start.Add(2*time.Second))
	if until, _ := s.Frozen(); !until.IsZero() {
		t.Error("frozen")
	}
}
