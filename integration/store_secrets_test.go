package integration

import (
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/integration/ca"
	"github.com/sluice-gateway/sluice/integration/gateway"
)

// oneSecret is a certificate and its key, as one secret holds them.
func oneSecret(p ca.Pair) []byte { return slices.Concat(p.CertificatePEM, p.KeyPEM) }

// TestStoreSecrets_RotationUnderLoad rotates a certificate that is in the store, while clients ask: no request fails, no
// connection closes, and a value that is no certificate changes nothing.
func TestStoreSecrets_RotationUnderLoad(t *testing.T) {
	t.Parallel()
	const clients, rotations = 6, 5
	e := &tlsEdge{t: t, port: gateway.FreePort(t), ca: ca.New(t, "public")}
	sign := func() ca.Pair { return e.ca.Sign([]string{"api.example", "127.0.0.1"}) }
	log := &gateway.Buffer{}
	e.text = strings.NewReplacer("$SECURE", strconv.Itoa(e.port), "$BACKEND", gateway.Echo(t, "one")).Replace(`
apiVersion: sluice/v1
kind: Certificate
metadata: {name: api-cert}
spec: {certificate: {secret: api}, key: {secret: api}}
---
apiVersion: sluice/v1
kind: Gateway
metadata: {name: edge}
spec:
  listeners:
    - {name: http, port: $PORT}
    - {name: https, port: $SECURE, tls: {certificate: api-cert}}
---
apiVersion: sluice/v1
kind: Service
metadata: {name: one}
spec: {endpoints: ["$BACKEND"]}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: all}
spec: {to: one}
`)
	e.Gateway = gateway.Start(t, map[string]string{"edge.yaml": e.text}, gateway.StoreSecrets(map[string][]byte{"api": oneSecret(sign())}), gateway.LogTo(slog.New(slog.NewTextHandler(log, nil))))
	k := startKeepAlive(t, e, clients)
	shown := func(p ca.Pair) func() bool {
		return func() bool { return e.shown("api.example").SerialNumber.Cmp(p.Certificate.SerialNumber) == 0 }
	}
	last := ca.Pair{}
	for range rotations {
		last = sign()
		setSecret(t, e, oneSecret(last))
		gateway.Eventually(t, "new handshakes are shown the new certificate", shown(last))
	}
	setSecret(t, e, []byte("no certificate at all"))
	gateway.Eventually(t, "it is said that the new value is none", func() bool { return strings.Contains(log.String(), "the last good one stays") })
	if !shown(last)() {
		t.Error("the last good certificate is not shown any more")
	}
	if err := e.Vault().Delete(t.Context(), "api"); err != nil {
		t.Fatal(err)
	}
	gateway.Eventually(t, "it is said that the secret is gone", func() bool { return strings.Contains(log.String(), "no such secret") })
	if !shown(last)() {
		t.Error("the last good certificate is not shown any more")
	}
	k.stop()
	if k.failed.Load() != 0 || k.dials.Load() != clients {
		t.Errorf("%d of %d requests failed; %d clients opened %d connections", k.failed.Load(), k.requests.Load(), clients, k.dials.Load())
	}
	if strings.Contains(log.String(), "PRIVATE") || strings.Contains(log.String(), "certificate at all") || strings.Contains(e.text, "BEGIN") {
		t.Errorf("the log shows a value: %s", log)
	}
}

func setSecret(t *testing.T, e *tlsEdge, value []byte) {
	t.Helper()
	if err := e.Vault().Set(t.Context(), "api", value); err != nil {
		t.Fatal(err)
	}
}
