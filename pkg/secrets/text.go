package secrets

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
)

// leastDerivable is of how many bytes a text must be for keys to be derived from it.
const leastDerivable = 16

// readText reads a text of one line, or the key that is derived from it.
func (s *Source) readText(want model.Secret) (*form, error) {
	text, err := s.fetch(want.Text)
	if err != nil {
		return nil, err
	}
	text = bytes.TrimRight(text, "\r\n")
	if len(text) == 0 || bytes.ContainsAny(text, "\r\n\x00") {
		return nil, fmt.Errorf("%s: a secret is one line, and not empty", want.Text)
	}
	f := &form{read: time.Now()}
	if want.Derive != "" {
		if text, err = derive(text, want.Derive); err != nil {
			return nil, fmt.Errorf("%s: %w", want.Text, err)
		}
	}
	if note := tooOpen(want.Text); note != "" {
		f.warnings = append(f.warnings, note)
	}
	f.body, err = feature.Marshal(&tlsv3.Secret{Name: want.Name, Type: &tlsv3.Secret_GenericSecret{
		GenericSecret: &tlsv3.GenericSecret{Secret: bytesOf(text)},
	}})
	return f, err
}

// derive is a key for a purpose, the same one for the same text.
func derive(text []byte, purpose string) ([]byte, error) {
	if len(text) < leastDerivable {
		return nil, errors.New("too short to derive keys from: 16 characters at least")
	}
	key, err := hkdf.Key(sha256.New, text, nil, "sluice "+purpose, sha256.Size)
	if err != nil {
		return nil, err
	}
	return []byte(base64.RawStdEncoding.EncodeToString(key)), nil
}
