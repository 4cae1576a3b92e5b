// Package all is the list of features: adding one is a folder and a line here.
package all

import (
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/feature/accesslog"
	"github.com/sluice-gateway/sluice/pkg/feature/authenticate"
	"github.com/sluice-gateway/sluice/pkg/feature/authorize"
	"github.com/sluice-gateway/sluice/pkg/feature/circuitbreaker"
	"github.com/sluice-gateway/sluice/pkg/feature/clientaddress"
	"github.com/sluice-gateway/sluice/pkg/feature/compression"
	"github.com/sluice-gateway/sluice/pkg/feature/cors"
	"github.com/sluice-gateway/sluice/pkg/feature/direct"
	"github.com/sluice-gateway/sluice/pkg/feature/envoy"
	"github.com/sluice-gateway/sluice/pkg/feature/errors"
	"github.com/sluice-gateway/sluice/pkg/feature/headers"
	"github.com/sluice-gateway/sluice/pkg/feature/healthcheck"
	"github.com/sluice-gateway/sluice/pkg/feature/limits"
	"github.com/sluice-gateway/sluice/pkg/feature/loadbalancing"
	"github.com/sluice-gateway/sluice/pkg/feature/login"
	"github.com/sluice-gateway/sluice/pkg/feature/loopguard"
	"github.com/sluice-gateway/sluice/pkg/feature/maxbody"
	"github.com/sluice-gateway/sluice/pkg/feature/mirror"
	"github.com/sluice-gateway/sluice/pkg/feature/redirect"
	"github.com/sluice-gateway/sluice/pkg/feature/requestid"
	"github.com/sluice-gateway/sluice/pkg/feature/retry"
	"github.com/sluice-gateway/sluice/pkg/feature/rewrite"
	"github.com/sluice-gateway/sluice/pkg/feature/sanitize"
	"github.com/sluice-gateway/sluice/pkg/feature/timeout"
	"github.com/sluice-gateway/sluice/pkg/feature/tls"
	"github.com/sluice-gateway/sluice/pkg/feature/upgrade"
)

// Features are all features of the program.
func Features() feature.Set {
	return feature.NewSet(
		accesslog.Feature{},
		authenticate.Feature{},
		authorize.Feature{},
		circuitbreaker.Feature{},
		clientaddress.Feature{},
		compression.Feature{},
		cors.Feature{},
		direct.Feature{},
		envoy.Feature{},
		errors.Feature{},
		headers.Feature{},
		healthcheck.Feature{},
		limits.Feature{},
		loadbalancing.Feature{},
		login.Feature{},
		loopguard.Feature{},
		maxbody.Feature{},
		mirror.Feature{},
		redirect.Feature{},
		requestid.Feature{},
		retry.Feature{},
		rewrite.Feature{},
		sanitize.Feature{},
		timeout.Feature{},
		tls.Feature{},
		upgrade.Feature{},
	)
}
