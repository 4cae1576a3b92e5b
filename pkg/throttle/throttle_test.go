package throttle_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/pkg/throttle"
)

func TestAnAddressIsBoundedByItself(t *testing.T) {
	now := time.Unix(1700000000, 0)
	th := throttle.New(1, 3)
	allowed := func(from string, at time.Time) (n int) {
		for i := range 10 {
			if th.Allow(strings.ReplaceAll(from, "#", strconv.Itoa(i)), at) {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		name, from string
		at         time.Time
		want       int
	}{
		{"from any port", "10.0.0.1:#", now, 3},
		{"another", "10.0.0.2:#", now, 3},
		{"the first one as IPv6", "[::ffff:10.0.0.1]:#", now, 0},
		{"a network of IPv6", "[2001:db8::#]:1", now, 3},
		{"no address", "somebody", now, 3},
		{"the first one later", "10.0.0.1:#", now.Add(2 * time.Second), 2},
	} {
		if got := allowed(c.from, c.at); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestManyAddressesAreBoundedTogether(t *testing.T) {
	now := time.Unix(1700000000, 0)
	th, n := throttle.New(1, 3), 0
	for i := range 5000 {
		if th.Allow(fmt.Sprintf("[2001:db8:%x::1]:5", i), now) {
			n++
		}
	}
	if n != 1024+3 {
		t.Errorf("%d, want one for each that is told apart and 3 for the others", n)
	}
	if !th.Allow("10.0.0.1:5", now.Add(time.Minute)) {
		t.Error("those at rest are not forgotten")
	}
}
