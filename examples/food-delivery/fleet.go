package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// service is one backend: what it answers, and where its instances listen, counted from the base port.
type service struct {
	name    string
	offsets []int
	handler http.Handler // shared by the instances, as if they had one database
}

// services lists the backends, each with empty data but for the catalog and the stock.
func services() []service {
	return []service{
		{"orders", []int{1, 2}, newOrders().routes()},
		{"inventory", []int{11, 12}, newInventory().routes()},
		{"payment", []int{21}, newPayments().routes()},
		{"delivery", []int{31, 32}, newDeliveries().routes()},
		{"catalog", []int{41, 42, 43}, newCatalog().routes()},
	}
}

// startAll starts every instance of every service, or none: base 0 stands for free ports.
func startAll(ctx context.Context, all []service, base int) ([]*instance, error) {
	var running []*instance
	for _, s := range all {
		for n, offset := range s.offsets {
			i, err := startInstance(ctx, fmt.Sprintf("%s-%d", s.name, n+1), port(base, offset), s.handler)
			if err != nil {
				return nil, errors.Join(err, stopAll(running))
			}
			running = append(running, i)
		}
	}
	return running, nil
}

func port(base, offset int) int {
	if base == 0 {
		return 0
	}
	return base + offset
}

// stopAll ends the instances side by side and waits for all of them.
func stopAll(running []*instance) error {
	done := make(chan error)
	for _, i := range running {
		go func() { done <- i.stop() }()
	}
	var errs []error
	for range running {
		errs = append(errs, <-done)
	}
	return errors.Join(errs...)
}
