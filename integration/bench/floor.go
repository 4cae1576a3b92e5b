package main

import (
	"context"
	"encoding/gob"
	"flag"
	"net"
	"net/http"
	"runtime/debug"

	"google.golang.org/grpc"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/snapshot"
)

// floorRole is the first word of a command line that makes this program the floor: a bare xDS server, told over HTTP to
// get ready (POST /ready, resources in gob) and to publish (POST /publish).
const floorRole = "floor"

func runFloor(args []string) error {
	flags := flag.NewFlagSet(floorRole, flag.ExitOnError)
	xdsAddress := flags.String("xds", "", "where xDS is served")
	control := flags.String("control", "", "where orders are taken")
	if err := flags.Parse(args); err != nil {
		return err
	}
	lis, err := net.Listen("tcp", *xdsAddress)
	if err != nil {
		return err
	}
	f := &floor{bare: newBare()}
	g := grpc.NewServer(grpc.MaxRecvMsgSize(16 << 20))
	f.bare.register(g)
	go func() { _ = g.Serve(lis) }()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /ready", answer(f.ready))
	mux.HandleFunc("POST /publish", answer(f.publish))
	return http.ListenAndServe(*control, mux)
}

// floor takes one order at a time: its client waits for each.
type floor struct {
	bare  *bare
	steps steps
}

func answer(do func(*http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := do(r); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}
}

func (f *floor) ready(r *http.Request) error {
	var resources feature.Resources
	if err := gob.NewDecoder(r.Body).Decode(&resources); err != nil {
		return err
	}
	f.steps = f.bare.ready(snapshot.Build(resources, f.bare.was))
	debug.FreeOSMemory() // getting ready is no part of the floor
	return nil
}

func (f *floor) publish(r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	return f.bare.publish(ctx, f.steps)
}
