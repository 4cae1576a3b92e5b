// Command food-delivery runs the backends of the food-delivery example: small HTTP services with
// their data in memory, several instances of each on fixed ports of the loopback interface.
//
//	go run ./examples/food-delivery              # orders on 9001 and 9002, inventory on 9011, ...
//	go run ./examples/food-delivery -base 9500   # orders on 9501 and 9502, ...
//	go run ./examples/food-delivery -base 0      # free ports, as printed
//	go run ./examples/food-delivery -certificates certs   # makes certificates in a folder, and runs nothing
//	go run ./examples/food-delivery -token alice          # prints a token of the example that runs
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
	o, err := parseFlags(args, errOut)
	switch {
	case err != nil:
		return err
	case o.certificates != "":
		return writeCertificates(o.certificates)
	case o.token != "":
		return printToken(ctx, fmt.Sprintf("127.0.0.1:%d", port(o.base, idpPort)), o.token, out)
	}
	running, err := startAll(ctx, append(services(), identityProvider()), o.base)
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

// options are what the command line says.
type options struct {
	base         int
	certificates string // a folder, to make certificates in; "" runs the instances
	token        string // a user, to get a token for
}

func parseFlags(args []string, errOut io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("food-delivery", flag.ContinueOnError)
	flags.SetOutput(errOut)
	flags.IntVar(&o.base, "base", 9000, "port that the instances' ports are counted from; 0 takes free ports")
	flags.StringVar(&o.certificates, "certificates", "", "run nothing: make certificates in this folder, for the gateway and for the payment provider")
	flags.StringVar(&o.token, "token", "", "run nothing: print a token for this user, alice or bob, of the identity provider that runs")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q: only -base, -certificates and -token are known", flags.Arg(0))
	}
	if o.base < 0 || o.base > 65000 {
		return o, fmt.Errorf("-base %d: use 0, or a port up to 65000", o.base)
	}
	return o, nil
}
