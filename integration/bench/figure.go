package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
	"time"
)

// figure is one line of the output. Value and Floor are medians of the rounds; Spread is from the first to the ninth
// decile of the measured rounds.
type figure struct {
	Name   string     `json:"name"`
	Unit   string     `json:"unit"`
	Value  float64    `json:"value"`
	Floor  float64    `json:"floor"`
	Ratio  float64    `json:"ratio"`
	Spread [2]float64 `json:"spread"`
	Rounds int        `json:"rounds"`
	// FloorIs says what the floor is.
	FloorIs string `json:"floorIs"`
	// Target is the most, or of a ratio the least, that is aimed at; 0 when nothing is.
	Target float64 `json:"target,omitempty"`
	Missed bool    `json:"missed,omitempty"`
}

// series is the rounds of one figure.
type series []float64

func (s series) quantile(q float64) float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[int(math.Round(q*float64(len(sorted)-1)))]
}

func (s series) median() float64 { return s.quantile(0.5) }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// output writes figures as they come, and remembers them.
type output struct {
	to  io.Writer
	all []figure
}

const bareServer = "bare go-control-plane server, ready-made resources"

// compare makes a figure of measured and floor rounds.
func compare(name, unit string, value, floor series) figure {
	return figure{
		Name: name, Unit: unit, Value: round(value.median()), Floor: round(floor.median()), Ratio: round(value.median() / floor.median()),
		Spread: [2]float64{round(value.quantile(0.1)), round(value.quantile(0.9))}, Rounds: len(value), FloorIs: bareServer,
	}
}

// atMost sets a target that the value must not exceed.
func (f figure) atMost(target float64) figure {
	f.Target, f.Missed = round(target), f.Value > target
	return f
}

// ratioAtLeast sets a target for the ratio to the floor.
func (f figure) ratioAtLeast(target float64) figure {
	f.Target, f.Missed = target, f.Ratio < target
	return f
}

// over says what another floor than the bare server is.
func (f figure) over(floor string) figure {
	f.FloorIs = floor
	return f
}

func (o *output) add(f figure) error {
	o.all = append(o.all, f)
	return json.NewEncoder(o.to).Encode(f)
}

// summary is the figures for people.
func (o *output) summary(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "figure\tvalue\tspread\tfloor\tratio\ttarget\t")
	for _, f := range o.all {
		target := ""
		switch {
		case f.Missed:
			target = fmt.Sprintf("%g MISSED", f.Target)
		case f.Target != 0:
			target = fmt.Sprintf("%g ok", f.Target)
		}
		fmt.Fprintf(w, "%s\t%g %s\t%g–%g\t%g\t%.2f\t%s\t\n", f.Name, f.Value, f.Unit, f.Spread[0], f.Spread[1], f.Floor, f.Ratio, target)
	}
	return w.Flush()
}

// round keeps four figures.
func round(x float64) float64 {
	if x == 0 || math.IsNaN(x) || math.IsInf(x, 0) {
		return 0
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(x))))
	return math.Round(x*scale) / scale
}
