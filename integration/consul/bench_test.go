package consul_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	agent "github.com/sluice-gateway/sluice/integration/consul"
)

// BenchmarkRegistration takes the time from a registration's answer to its being sent on, and that to the return of a
// bare blocking query beside it.
func BenchmarkRegistration(b *testing.B) {
	for _, services := range []int{50, 1000} {
		b.Run(fmt.Sprintf("services=%d", services), func(b *testing.B) { registrations(b, services) })
	}
}

func registrations(b *testing.B, n int) {
	a := agent.Start(b, agent.Options{TLS: true})
	elsewhere(b, a)
	keys := append(services(n-1), orders)
	for _, k := range keys {
		register(b, a, k.Service, 0)
	}
	c := config("https://" + a.HTTPS)
	c.CAFile = a.CAFile
	w := watch(b, c, keys...)
	w.within(time.Minute, "all are known", func() bool { return len(w.view.Services()) == n })
	var ours, bare []time.Duration
	for i := 1; b.Loop(); i++ {
		returned := bareQuery(b, a)
		register(b, a, "orders", i)
		start := time.Now()
		w.until("it is there", func() bool { return len(w.usable(orders)) == i+1 })
		ours = append(ours, time.Since(start))
		bare = append(bare, (<-returned).Sub(start))
		time.Sleep(time.Second) // one a second, so that no limit of ours is in the way
	}
	b.ReportMetric(0, "ns/op")
	for name, list := range map[string][]time.Duration{"source": ours, "bare": bare} {
		slices.Sort(list)
		b.ReportMetric(float64(list[len(list)/2].Microseconds())/1000, name+"-p50-ms")
		b.ReportMetric(float64(list[len(list)*99/100].Microseconds())/1000, name+"-p99-ms")
	}
}

// bareQuery waits for a change of the service by the plainest means; it is under way on return.
func bareQuery(b *testing.B, a *agent.Agent) <-chan time.Time {
	_, meta, err := a.Client.Health().Service("orders", "", false, nil)
	if err != nil {
		b.Fatal(err)
	}
	returned := make(chan time.Time, 1)
	go func() {
		_, _, _ = a.Client.Health().Service("orders", "", false, &api.QueryOptions{WaitIndex: meta.LastIndex, WaitTime: time.Minute, AllowStale: true})
		returned <- time.Now()
	}()
	return returned
}
