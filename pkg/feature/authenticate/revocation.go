package authenticate

import (
	"net/http"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/revocation"
)

// revocationData is what the names of the parts of the revocations start with.
const revocationData = "authenticate/revoked"

// revoked refuses what one method has found to be good when it is revoked. While that is not known, nothing is decided.
func (s *Spec) revoked(r *feature.Request, found *feature.Identity) feature.Decision {
	if s.Revoked == "" {
		return feature.Decision{}
	}
	c := revocation.Credential{Issuer: found.Issuer, Issued: seconds(found.Claims["iat"])}
	id, _ := found.Claims["jti"].(string)
	for _, about := range []struct {
		kind  revocation.Kind
		value string
	}{{revocation.Subject, found.User}, {revocation.Token, id}, {revocation.Key, found.Key}} {
		if about.value == "" {
			continue
		}
		table, ok := r.Data(feature.PartName(s.Revoked, revocation.Shard(about.kind, about.value))).(*revocation.Table)
		switch {
		case !ok:
			return feature.Unavailable("no_revocations", "What has been revoked is not known here yet.")
		case table.Revoked(about.kind, about.value, c, r.Now):
			return feature.Decision{
				Status: http.StatusUnauthorized, Reason: "revoked", Detail: "The credentials have been revoked.",
				Challenge: `Bearer realm="sluice", error="invalid_token", error_description="The credentials have been revoked."`,
			}
		}
	}
	return feature.Decision{}
}

// seconds is a claim that is a time, 0 when it is none.
func seconds(claim any) int64 {
	at, err := (jwt.MapClaims{"iat": claim}).GetIssuedAt()
	if err != nil || at == nil {
		return 0
	}
	return at.Unix()
}

func (s *Spec) revocationData() []model.Data {
	if s.Revoked == "" {
		return nil
	}
	return []model.Data{{Name: s.Revoked, Table: model.TableRevocations}}
}
