package extauthz

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// shown is a certificate as Envoy tells of it.
func shown(t testing.TB, ends time.Time) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(7), DNSNames: []string{"partner.example"}, NotBefore: ends.Add(-time.Hour), NotAfter: ends}
	der, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return strings.NewReplacer("\n", "%0A", " ", "%20", "+", "%2B", "/", "%2F", "=", "%3D").Replace(text)
}

func TestCertificates_Valid(t *testing.T) {
	now := time.Now()
	good := shown(t, now.Add(time.Minute))
	tests := []struct {
		name, text string
		valid      bool
	}{
		{"none", "", false},
		{"good", good, true},
		{"wholly encoded", url.QueryEscape(strings.ReplaceAll(mustUnescape(t, good), " ", "%20")), false},
		{"expired since the handshake", shown(t, now.Add(-time.Second)), false},
		{"cut", good[:len(good)/2], false},
		{"broken encoding", "%zz" + good, false},
		{"no PEM", "partner.example", false},
		{"another block", strings.ReplaceAll(good, "CERTIFICATE", "PUBLIC%20KEY"), false},
		{"too large", good + strings.Repeat("%20", maxCertificateBytes), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCertificates(slog.New(slog.DiscardHandler))
			for range 2 { // read, then remembered
				if got := c.valid(tt.text, now); (got != nil) != tt.valid {
					t.Errorf("got %v", got)
				}
			}
		})
	}
}

func mustUnescape(t *testing.T, s string) string {
	t.Helper()
	out, err := url.PathUnescape(s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCertificates_RememberNoMoreThanTheMost(t *testing.T) {
	c := newCertificates(slog.New(slog.DiscardHandler))
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for i := range mostCertificates {
				c.get(fmt.Sprintf("%d/%d", worker, i))
			}
		})
	}
	all.Wait()
	if len(c.parsed) > mostCertificates {
		t.Errorf("%d are remembered", len(c.parsed))
	}
}

func FuzzParseCertificate(f *testing.F) {
	f.Add(shown(f, time.Now()))
	f.Add("-----BEGIN%20CERTIFICATE-----%0A%0A-----END%20CERTIFICATE-----%0A")
	f.Add("%")
	f.Fuzz(func(t *testing.T, text string) {
		if cert, err := parseCertificate(text); (cert == nil) == (err == nil) {
			t.Errorf("%v and %v", cert, err)
		}
	})
}

func BenchmarkCertificates_Remembered(b *testing.B) {
	c, text, now := newCertificates(slog.New(slog.DiscardHandler)), shown(b, time.Now().Add(time.Hour)), time.Now()
	for b.Loop() {
		c.valid(text, now)
	}
}
