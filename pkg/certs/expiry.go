package certs

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const day = 24 * time.Hour

// Advice says what is to be done about the time of a certificate, "" for nothing: it is told of 30 days, 7 days and 1 day
// before the end, of a short-lived one in its last third.
func Advice(c *x509.Certificate, now time.Time) string {
	left := c.NotAfter.Sub(now)
	at := c.NotAfter.UTC().Format(time.DateTime)
	switch {
	case left <= 0:
		return "expired on " + at + ": renew it"
	case now.Before(c.NotBefore):
		return "is not valid before " + c.NotBefore.UTC().Format(time.DateTime) + ": compare the clocks"
	case left > c.NotAfter.Sub(c.NotBefore)/3:
		return ""
	}
	for _, limit := range []struct {
		days int
		text string
	}{{1, "a day"}, {7, "7 days"}, {30, "30 days"}} {
		if left <= time.Duration(limit.days)*day {
			return fmt.Sprintf("expires on %s, in less than %s: renew it", at, limit.text)
		}
	}
	return ""
}

// warn logs each advice once. Its owner has the lock.
func (c *Credentials) warn(o *form, now time.Time) {
	var text string
	list := o.authorities
	if o.pair != nil {
		list = append([]*x509.Certificate{o.pair.Leaf}, list...)
	}
	for _, certificate := range list {
		if advice := Advice(certificate, now); advice != "" {
			text += fmt.Sprintf("%s (serial %s) %s; ", certificate.Subject, SerialOf(certificate), advice)
		}
	}
	if since := o.stale(now); !since.IsZero() {
		text += "a newer revocation list is due since " + since.UTC().Format(time.DateTime) + "; "
	}
	if text != "" && text != c.warned {
		c.log.Warn("certificates want attention", "advice", text[:len(text)-2])
	}
	c.warned = text
}

// Run looks at the files until ctx ends, also when nobody calls.
func (c *Credentials) Run(ctx context.Context) error {
	tick := time.NewTicker(10 * lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.now()
		case <-ctx.Done():
			return nil
		}
	}
}

var (
	expiry = prometheus.NewDesc("sluice_door_certificate_expiry_seconds",
		"How long until a door's own certificate, or the first of the authorities it trusts, expires; below 0 when it has.", []string{"door", "of"}, nil)
	unusable = prometheus.NewDesc("sluice_door_certificate_problem",
		"1 when a door's certificate files cannot be used as they are now, and what was good last is.", []string{"door"}, nil)
)

// Collector shows how the credentials of all doors stand.
func Collector(doors ...*Credentials) prometheus.Collector { return collector(doors) }

type collector []*Credentials

// Describe implements prometheus.Collector.
func (c collector) Describe(out chan<- *prometheus.Desc) { out <- expiry; out <- unusable }

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	for _, door := range c {
		own, authority := door.now().ends()
		for of, at := range map[string]time.Time{"own": own, "authority": authority} {
			if !at.IsZero() {
				out <- prometheus.MustNewConstMetric(expiry, prometheus.GaugeValue, time.Until(at).Seconds(), door.door, of)
			}
		}
		value := 0.0
		if door.Problem() != nil {
			value = 1
		}
		out <- prometheus.MustNewConstMetric(unusable, prometheus.GaugeValue, value, door.door)
	}
}

// Problem is why the files cannot be used as they are now, nil when they can.
func (c *Credentials) Problem() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.problem
}
