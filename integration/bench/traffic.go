package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/sluice-gateway/sluice/pkg/control"
)

const (
	trafficRounds = 5
	fewRules      = 10
	manyRules     = 10_000
	// Of the requests per second at few rules, that much stays at many.
	leastRatio = 0.9
)

// traffic is how many requests one worker of Envoy answers itself, with few and with many rules.
func traffic(ctx context.Context, b *bench) error {
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		return fmt.Errorf("%w: make bench fetches it", err)
	}
	few, err := b.directLane(ctx, fewRules)
	if err != nil {
		return err
	}
	defer few.close()
	many, err := b.directLane(ctx, manyRules)
	if err != nil {
		return err
	}
	defer many.close()
	return errors.Join(
		b.compareTraffic(ctx, wrk, "the last rule", few, many, lastRule),
		b.compareTraffic(ctx, wrk, "random rules", few, many, randomRule),
	)
}

// directLane is a Sluice with so many rules that Envoy answers itself.
func (b *bench) directLane(ctx context.Context, rules int) (*lane, error) {
	l, err := b.sluiceLane(ctx, false)
	if err != nil {
		return nil, err
	}
	set := control.Request{}
	set.Set = append(set.Set, gatewayOn(l.port))
	for i := range rules {
		set.Set = append(set.Set, direct(ruleName(i), rulePath(i)))
	}
	if err := l.begin(ctx, set, rulePath(rules-1)+"/1"); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// lastRule and randomRule are what wrk asks for. The randomness is the same each time, and there are as many different
// paths with few rules as with many: it is the rules that are compared, not how well wrk and Envoy remember strings.
func lastRule(rules int) string {
	return fmt.Sprintf("wrk.path = %q\n", rulePath(rules-1)+"/1")
}

func randomRule(rules int) string {
	return fmt.Sprintf(`request = function()
  local i = math.random(0, %d)
  local rule = i %% %d
  return wrk.format(nil, "/team" .. rule %% 20 .. "/svc" .. rule .. "/api/" .. i)
end
`, manyRules-1, rules)
}

func (b *bench) compareTraffic(ctx context.Context, wrk, what string, few, many *lane, script func(rules int) string) error {
	rates := map[*lane]series{}
	for range b.rounds(trafficRounds) {
		for l, rules := range map[*lane]int{few: fewRules, many: manyRules} {
			rate, err := b.load(ctx, wrk, l.url, script(rules))
			if err != nil {
				return err
			}
			rates[l] = append(rates[l], rate)
		}
	}
	f := compare(fmt.Sprintf("requests per second, %d rules, asking for %s", manyRules, what), "1/s", rates[many], rates[few])
	return b.out.add(f.ratioAtLeast(leastRatio).over(fmt.Sprintf("the same with %d rules", fewRules)))
}

// load runs wrk and gives its rate. An answer other than 200 is an error: it would be no measurement.
func (b *bench) load(ctx context.Context, wrk, url, script string) (float64, error) {
	file := filepath.Join(b.dir, "wrk.lua")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		return 0, err
	}
	duration := "3s"
	if b.quick {
		duration = "1s"
	}
	out, err := exec.CommandContext(ctx, wrk, "-t1", "-c16", "-d"+duration, "-s", file, url).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("wrk: %w: %s", err, out)
	}
	if regexp.MustCompile(`Non-2xx|Socket errors`).Match(out) {
		return 0, fmt.Errorf("wrk: not all requests were answered with 200:\n%s", out)
	}
	m := regexp.MustCompile(`Requests/sec:\s+([\d.]+)`).FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("wrk: no rate in its output:\n%s", out)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}
