// Package all is the list of features: adding one is a folder and a line here.
package all

import (
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/feature/circuitbreaker"
	"github.com/sluice-gateway/sluice/pkg/feature/direct"
	"github.com/sluice-gateway/sluice/pkg/feature/healthcheck"
	"github.com/sluice-gateway/sluice/pkg/feature/loadbalancing"
	"github.com/sluice-gateway/sluice/pkg/feature/retry"
	"github.com/sluice-gateway/sluice/pkg/feature/timeout"
)

// Features are all features of the program.
func Features() feature.Set {
	return feature.NewSet(
		circuitbreaker.Feature{},
		direct.Feature{},
		healthcheck.Feature{},
		loadbalancing.Feature{},
		retry.Feature{},
		timeout.Feature{},
	)
}
