package secrets_test

import (
	"crypto/rand"
	"crypto/x509"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/secrets"
)

// revoke is a list of what an authority has revoked, as DER, that holds for a time.
func revoke(t testing.TB, by issued, holds time.Duration, revoked ...issued) []byte {
	t.Helper()
	form := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(holds)}
	for _, r := range revoked {
		form.RevokedCertificateEntries = append(form.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: r.cert.SerialNumber, RevocationTime: time.Now()})
	}
	if holds < 0 {
		form.ThisUpdate = time.Now().Add(2 * holds)
	}
	der, err := x509.CreateRevocationList(rand.Reader, form, by.cert, by.signer)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestParseRevocations(t *testing.T) {
	root := issue(t, form{name: "root", ca: true}, nil)
	middle := issue(t, form{name: "middle", ca: true}, &root)
	impostor := issue(t, form{name: "root", ca: true}, nil)
	leaf := issue(t, form{name: "leaf"}, &middle)
	ofRoot, ofMiddle := revoke(t, root, time.Hour), revoke(t, middle, time.Hour, leaf)
	list := func(der []byte) []byte { return block("X509 CRL", der) }
	both := []issued{root, middle}
	tests := []struct {
		name        string
		text        []byte
		authorities []issued
		problem     string
	}{
		{"PEM", list(ofRoot), []issued{root}, ""},
		{"DER", ofRoot, []issued{root}, ""},
		{"one of each", join(list(ofMiddle), list(ofRoot)), both, ""},
		{"beside other blocks", join(root.pem, list(ofRoot)), []issued{root}, ""},
		{"one is missing", list(ofMiddle), both, `there is none of "root"`},
		{"the other is missing", list(ofRoot), both, `there is none of "middle"`},
		{"of another", join(list(ofRoot), list(ofMiddle)), []issued{root}, "signed by none"},
		{"of one with the same name", list(revoke(t, impostor, time.Hour)), []issued{root}, "signed by none"},
		{"without the root", list(ofMiddle), []issued{middle}, `does not have the authority above "middle"`},
		{"nothing", nil, []issued{root}, "there is none, neither"},
		{"a certificate", root.pem, []issued{root}, "there is none, neither"},
		{"cut", list(ofRoot[:len(ofRoot)-9]), []issued{root}, "number 1 in the file cannot be read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var authorities []*x509.Certificate
			for _, a := range tt.authorities {
				authorities = append(authorities, a.cert)
			}
			_, err := secrets.ParseRevocations(tt.text, authorities)
			if (tt.problem == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.problem) {
				t.Errorf("got %v, want %q", err, tt.problem)
			}
		})
	}
}

func FuzzParseRevocations(f *testing.F) {
	root := issue(f, form{name: "root", ca: true}, nil)
	f.Add(revoke(f, root, time.Hour))
	f.Add(block("X509 CRL", revoke(f, root, time.Hour)))
	f.Fuzz(func(t *testing.T, text []byte) {
		if lists, err := secrets.ParseRevocations(text, []*x509.Certificate{root.cert}); err == nil && len(lists) == 0 {
			t.Error("no list and no error")
		}
	})
}

func TestSource_RevocationLists(t *testing.T) {
	dir := t.TempDir()
	root := issue(t, form{name: "root", ca: true}, nil)
	write := func(name string, text []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("root.pem", root.pem)
	want := model.Secret{Name: "ca", CA: model.SecretPlace{File: dir + "/root.pem"}, CRL: model.SecretPlace{File: dir + "/root.crl"}}
	src := secrets.New(secrets.Config{Getenv: os.Getenv, Log: slog.New(slog.DiscardHandler)})
	read := func() (crl, warnings, problem string) {
		t.Helper()
		body, list, err := src.Read(want)
		if err != nil {
			problem = err.Error()
		}
		s := &tlsv3.Secret{}
		if err := proto.Unmarshal(body, s); err != nil {
			t.Fatal(err)
		}
		return string(s.GetValidationContext().GetCrl().GetInlineBytes()), strings.Join(list, ";"), problem
	}
	if crl, _, problem := read(); crl != "" || !strings.Contains(problem, "root.crl") {
		t.Errorf("without a list: %q %q", crl, problem)
	}
	write("root.crl", revoke(t, root, 240*time.Hour))
	first, warnings, problem := read()
	if !strings.HasPrefix(first, "-----BEGIN X509 CRL-----") || warnings != "" || problem != "" {
		t.Errorf("%q %q %q", first, warnings, problem)
	}
	src.Keep([]model.Secret{want})
	if s := src.Status()[0]; time.Until(s.Expires) > 240*time.Hour || len(s.Places) != 2 {
		t.Errorf("%+v", s)
	}
	write("root.crl", revoke(t, root, -time.Hour))
	if crl, _, problem := read(); crl != first || !strings.Contains(problem, "expired already") {
		t.Errorf("an outdated list comes after a good one: %q", problem)
	}
	write("root.crl", revoke(t, root, time.Minute))
	if crl, warnings, _ := read(); crl == first || !strings.Contains(warnings, "is out of date from") {
		t.Errorf("a list that is soon out of date: %q", warnings)
	}
	src.Keep(nil)
	write("root.crl", revoke(t, root, -time.Hour))
	if crl, warnings, problem := read(); crl == "" || !strings.Contains(warnings, "is out of date since") || problem != "" {
		t.Errorf("an outdated list alone: %q %q", warnings, problem)
	}
}
