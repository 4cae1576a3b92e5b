package admin

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/pkg/secrets"
)

func TestCertificateCheck(t *testing.T) {
	end := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	tests := []struct {
		name string
		in   secrets.Status
		want string
	}{
		{"good", secrets.Status{Name: "edge", Serial: "1", Expires: end}, "[+] certificate edge: expires 2030-01-02 03:04:05 UTC\n"},
		{"warned of", secrets.Status{Name: "edge", Serial: "1", Warnings: []string{"a", "b"}}, "[!] certificate edge: a; b\n"},
		{"last good", secrets.Status{Name: "edge", Serial: "1", Expires: end, Problem: "gone"}, "[!] certificate edge: gone: the last good one is served, which expires 2030-01-02 03:04:05 UTC\n"},
		{"never good", secrets.Status{Name: "edge", Problem: "gone"}, "[!] certificate edge: gone: handshakes that need it fail\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, certificateCheck(tt.in)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
