package xds

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/structpb"
)

func TestOutage_IsToldWhole(t *testing.T) {
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	o := Outage{Since: since, Until: since.Add(time.Hour), Envoys: []string{"e1", "e2"}}
	if diff := cmp.Diff(&o, outageOf(o.Metadata())); diff != "" {
		t.Errorf("-told +heard:\n%s", diff)
	}
}

func TestOutage_WhatAnybodyMaySayIsBounded(t *testing.T) {
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	many := Outage{Since: since, Until: since, Envoys: []string{strings.Repeat("x", 10_000)}}
	for range 1000 {
		many.Envoys = append(many.Envoys, "e")
	}
	if got := outageOf(many.Metadata()); len(got.Envoys) >= mostOutageEnvoys || got.Envoys[0] != "e" {
		t.Errorf("%d, the first is %.10s…", len(got.Envoys), got.Envoys[0])
	}
	for name, text := range map[string]string{
		"nothing": `{}`, "text": `{"sluice.outage": "x"}`, "no times": `{"sluice.outage": {"envoys": ["e1"]}}`,
		"no end": `{"sluice.outage": {"since": "2026-01-02T03:04:05Z"}}`, "numbers": `{"sluice.outage": {"since": 1, "until": 2}}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := &structpb.Struct{}
			if err := s.UnmarshalJSON([]byte(text)); err != nil {
				t.Fatal(err)
			}
			if got := outageOf(s); got != nil {
				t.Errorf("%+v", got)
			}
		})
	}
}
