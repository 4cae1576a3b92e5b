package feature

import "fmt"

// Stage is a position in the published filter order. Requests pass the stages downwards, answers upwards.
type Stage int

// The stages. Refusals come in one order: what breaks HTTP or a limit of the listener, then the flood guard (429),
// then 401, 403, 429, and only then what is wrong with the content: a stranger learns nothing about the body.
const (
	StageStrip Stage = iota
	StageCORS
	StageCompressor
	StageFloodGuard
	StageBodySize
	StageOAuth
	StageJWT
	StageExtAuthz
	StageRBAC
	StageLocalLimit
	StageRateLimit
	StageExtProc
	StageHeaders
	StageCacheKey
	StageCache
	StageRouter
	// StageRoute is for features without a filter, which change the route's own action.
	StageRoute
	// StageRaw comes last: raw Envoy fields have the last word.
	StageRaw
)

// String is the stage's published name.
func (s Stage) String() string {
	names := [...]string{"strip", "cors", "compressor", "flood guard", "body size", "oauth2", "jwt_authn", "ext_authz", "rbac",
		"local limit", "ratelimit", "ext_proc", "header_mutation", "cache key", "cache", "router", "route", "raw"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("stage %d", int(s))
}
