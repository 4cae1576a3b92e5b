// Command food-delivery runs the backends of the food-delivery example: small HTTP services with
// their data in memory, several instances of each on fixed ports of the loopback interface.
//
//	go run ./examples/food-delivery              # orders on 9001 and 9002, inventory on 9011, ...
//	go run ./examples/food-delivery -base 9500   # orders on 9501 and 9502, ...
//	go run ./examples/food-delivery -base 0      # free ports, as printed
//	go run ./examples/food-delivery -certificates certs   # makes certificates in a folder, and runs nothing
//
// Every answer names its instance in the header x-instance. An instance can be made sick, to see
// what a gateway makes of it: POST /debug/fail?for=10s, /debug/slow?by=2s, /debug/stop on its port.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "food-delivery:", err)
		os.Exit(1)
	}
}

// run starts all instances, says where they listen and then "ready", and ends them when ctx does.
func run(ctx context.Context, args []string, out, errOut io.Writer) error {
	base, certificates, err := parseFlags(args, errOut)
	if err != nil {
		return err
	}
	if certificates != "" {
		return writeCertificates(certificates)
	}
	running, err := startAll(ctx, append(services(), identityProvider()), base)
	if err != nil {
		return err
	}
	for _, i := range running {
		fmt.Fprintf(out, "%-12s http://%s\n", i.name, i.address)
	}
	fmt.Fprintln(out, "ready")
	<-ctx.Done()
	return stopAll(running)
}

func parseFlags(args []string, errOut io.Writer) (base int, certificates string, err error) {
	flags := flag.NewFlagSet("food-delivery", flag.ContinueOnError)
	flags.SetOutput(errOut)
	flags.IntVar(&base, "base", 9000, "port that the instances' ports are counted from; 0 takes free ports")
	flags.StringVar(&certificates, "certificates", "", "run nothing: make certificates in this folder, for the gateway and for the payment provider")
	if err := flags.Parse(args); err != nil {
		return 0, "", err
	}
	if flags.NArg() > 0 {
		return 0, "", fmt.Errorf("unexpected argument %q: only -base and -certificates are known", flags.Arg(0))
	}
	if base < 0 || base > 65000 {
		return 0, "", fmt.Errorf("-base %d: use 0, or a port up to 65000", base)
	}
	return base, certificates, nil
}
