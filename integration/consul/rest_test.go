package consul_test

import (
	"runtime"
	"runtime/metrics"
	"syscall"
	"testing"
	"time"

	agent "github.com/sluice-gateway/sluice/integration/consul"
)

// BenchmarkRest is what 5,000 services with two instances each take while nothing happens: of a core, in percent, and of
// memory. One operation is ten seconds of it.
func BenchmarkRest(b *testing.B) {
	a := agent.Start(b, agent.Options{TLS: true})
	elsewhere(b, a)
	keys := services(5000)
	for _, k := range keys {
		register(b, a, k.Service, 1)
		register(b, a, k.Service, 2)
	}
	c := config("https://" + a.HTTPS)
	c.CAFile, c.Probe = a.CAFile, time.Second
	start := time.Now()
	w := watch(b, c, keys...)
	w.within(2*time.Minute, "all are known", func() bool { return len(w.view.Services()) == len(keys) })
	complete := time.Since(start)
	sends := w.sends
	var spent, past time.Duration
	for b.Loop() {
		before, began := cpu(b), time.Now()
		for time.Since(began) < 10*time.Second {
			w.take(10*time.Second - time.Since(began))
		}
		spent, past = spent+cpu(b)-before, past+time.Since(began)
	}
	runtime.GC()
	sample := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(sample)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(100*spent.Seconds()/past.Seconds(), "%core")
	b.ReportMetric(float64(sample[0].Value.Uint64()-sample[1].Value.Uint64())/(1<<20), "MiB")
	b.ReportMetric(float64(w.sends-sends), "sends")
	b.ReportMetric(complete.Seconds(), "start-s")
}

// cpu is what this process has spent of it.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
