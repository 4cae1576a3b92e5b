// Package all is the list of features: adding one is a folder and a line here.
package all

import (
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/feature/circuitbreaker"
	"github.com/sluice-gateway/sluice/pkg/feature/cors"
	"github.com/sluice-gateway/sluice/pkg/feature/direct"
	"github.com/sluice-gateway/sluice/pkg/feature/envoy"
	"github.com/sluice-gateway/sluice/pkg/feature/headers"
	"github.com/sluice-gateway/sluice/pkg/feature/healthcheck"
	"github.com/sluice-gateway/sluice/pkg/feature/loadbalancing"
	"github.com/sluice-gateway/sluice/pkg/feature/mirror"
	"github.com/sluice-gateway/sluice/pkg/feature/redirect"
	"github.com/sluice-gateway/sluice/pkg/feature/retry"
	"github.com/sluice-gateway/sluice/pkg/feature/rewrite"
	"github.com/sluice-gateway/sluice/pkg/feature/timeout"
	"github.com/sluice-gateway/sluice/pkg/feature/upgrade"
)

// Features are all features of the program.
func Features() feature.Set {
	return feature.NewSet(
		circuitbreaker.Feature{},
		cors.Feature{},
		direct.Feature{},
		envoy.Feature{},
		headers.Feature{},
		healthcheck.Feature{},
		loadbalancing.Feature{},
		mirror.Feature{},
		redirect.Feature{},
		retry.Feature{},
		rewrite.Feature{},
		timeout.Feature{},
		upgrade.Feature{},
	)
}
