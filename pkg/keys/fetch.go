package keys

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/fetch"
)

// maxBytes bounds one document.
const maxBytes = 256 << 10

// get fetches one document.
func get(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("accept", "application/json, application/jwk-set+json")
	r.Header.Set("user-agent", "sluice")
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	return fetch.Body(resp, maxBytes)
}

// discover is the URL of an issuer's keys, as its OpenID Connect discovery document says.
func discover(ctx context.Context, client *http.Client, issuer string) (string, error) {
	body, err := get(ctx, client, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return "", fmt.Errorf("discovery: %w", err)
	}
	var doc struct {
		Issuer string `json:"issuer"`
		JWKS   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return "", errors.New("discovery: not JSON")
	}
	if doc.Issuer != issuer || doc.JWKS == "" {
		return "", errors.New("discovery: the document is of another issuer, or names no keys")
	}
	return doc.JWKS, nil
}
