package main

import (
	"context"
	"errors"

	"github.com/sluice-gateway/sluice/pkg/acme"
	"github.com/sluice-gateway/sluice/pkg/compile"
	"github.com/sluice-gateway/sluice/pkg/secrets"
)

// obtain lets certificates come from authorities, where there is a key to store them under.
func (s *site) obtain(c siteConfig, places *secrets.Config) (err error) {
	if places.Obtained = c.obtained; c.obtained != nil || !c.vault.Keyed() {
		return nil
	}
	s.authority, err = acme.New(acme.Config{Records: c.store, Sealer: c.vault, Log: c.log, Answer: func(ctx context.Context, all []acme.Challenge) {
		challenges := make([]compile.Challenge, len(all))
		for i, one := range all {
			challenges[i] = compile.Challenge(one)
		}
		s.controller.Answer(ctx, challenges)
	}})
	places.Obtained = s.authority
	return err
}

// untrusted obtains nothing: sluice dev forgets all when it ends, and authorities give only so many certificates a week.
type untrusted struct{}

// Want implements secrets.Obtained.
func (untrusted) Want([]acme.Order) {}

// Get implements secrets.Obtained.
func (untrusted) Get(context.Context, string) (certificate, key []byte, err error) {
	return nil, nil, errors.New("sluice dev obtains none, sluice serve does")
}

// Changed implements secrets.Obtained.
func (untrusted) Changed() <-chan struct{} { return nil }
