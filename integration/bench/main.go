// Command bench measures Sluice on the real parts and prints one JSON line a figure, always with the floor of the same
// run beside it: a bare go-control-plane server that pushes ready-made resources, the very same bytes, to the same kind
// of Envoy. Measured and floor rounds alternate, so that what else the machine does hits both.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"syscall"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == floorRole {
		exit(runFloor(os.Args[2:]))
	}
	// Children are to die with this program, which Linux binds to the thread that started them.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	only := flags.String("only", "", "run only the scenarios whose name matches this expression")
	quick := flags.Bool("quick", false, "fewer rounds: a look, not a measurement")
	list := flags.Bool("list", false, "list the scenarios")
	if err := flags.Parse(args); err != nil {
		return err
	}
	chosen, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if *list {
		for _, s := range scenarios() {
			fmt.Println(s.name)
		}
		return nil
	}
	b, err := newBench(ctx, *quick)
	if err != nil {
		return err
	}
	defer b.close()
	for _, s := range scenarios() {
		if !chosen.MatchString(s.name) {
			continue
		}
		fmt.Fprintln(os.Stderr, "==", s.name)
		if err := s.run(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return b.out.summary(os.Stderr)
}

// scenario is what one set-up is measured for.
type scenario struct {
	name string
	run  func(context.Context, *bench) error
}

func scenarios() []scenario {
	var all []scenario
	for _, rules := range []int{10, 1000, 5000} {
		for _, own := range []bool{false, true} {
			s := site{rules: rules, own: own}
			all = append(all, scenario{"live/" + s.String(), func(ctx context.Context, b *bench) error { return live(ctx, b, s) }})
		}
	}
	for _, rules := range []int{1000, 5000} {
		s := site{rules: rules, own: true}
		all = append(all, scenario{fmt.Sprintf("cost/%d", rules), func(ctx context.Context, b *bench) error { return cost(ctx, b, s) }})
	}
	all = append(all, scenario{"traffic", traffic}, scenario{"handler", handler}, scenario{"auth", auth}, scenario{"fleet", fleet})
	return append(all, consulScenarios()...)
}
