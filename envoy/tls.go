package envoy

import (
	"errors"
	"path/filepath"
)

// TLS is how Envoy and the xDS servers prove themselves to each other. All three files, or none. Envoy reads them
// itself and follows their rotation (each file replaced by a rename) when SecretsDir is given too.
type TLS struct {
	CA, Certificate, Key string
	// ServerName is the name the server's certificate must bear. Empty means the host of its address.
	ServerName string
	// SecretsDir is the folder on Envoy's machine that holds the files of Secrets.
	SecretsDir string
}

const (
	secretCertificate = "sluice-node"
	secretCA          = "sluice-ca"
)

func (t TLS) enabled() bool { return t.CA != "" }

func (t TLS) validate() error {
	given := 0
	for _, file := range []string{t.CA, t.Certificate, t.Key} {
		if file == "" {
			continue
		}
		given++
		if !filepath.IsAbs(file) {
			return errors.New("tls: " + file + ": give the absolute path, as it is on Envoy's machine")
		}
	}
	switch {
	case given != 0 && given != 3:
		return errors.New("tls: CA, certificate and key are needed together")
	case t.SecretsDir != "" && !filepath.IsAbs(t.SecretsDir):
		return errors.New("tls: " + t.SecretsDir + ": give the absolute path, as it is on Envoy's machine")
	case given == 0 && (t.ServerName != "" || t.SecretsDir != ""):
		return errors.New("tls: server name and secrets folder mean nothing without CA, certificate and key")
	}
	return nil
}

func (t TLS) transportSocket(priorities [][]address) any {
	common := map[string]any{
		// Both ends are ours: nothing older needs to be understood. Envoy as a client stops at 1.2 by itself.
		"tls_params": map[string]any{
			"tls_minimum_protocol_version": "TLSv1_3",
			"tls_maximum_protocol_version": "TLSv1_3",
		},
		"alpn_protocols": []string{"h2"},
	}
	validation := map[string]any{"match_typed_subject_alt_names": t.names(priorities)}
	if t.SecretsDir == "" {
		validation["trusted_ca"] = file(t.CA)
		common["tls_certificates"] = []any{t.certificate()}
		common["validation_context"] = validation
	} else {
		common["tls_certificate_sds_secret_configs"] = []any{t.reference(secretCertificate)}
		common["combined_validation_context"] = map[string]any{
			"default_validation_context":           validation,
			"validation_context_sds_secret_config": t.reference(secretCA),
		}
	}
	socket := map[string]any{
		"@type":              "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
		"common_tls_context": common,
	}
	if name := t.serverName(priorities); name != "" {
		socket["sni"] = name
	}
	return socket
}

// watched has Envoy read files again when anything is moved into their folder: the file itself, or a link on the way to it.
func watched(secret map[string]any, file string) map[string]any {
	secret["watched_directory"] = map[string]any{"path": filepath.Dir(file)}
	return secret
}

// rotating is a certificate that is read again. Where certificate and key are in folders of their own, Envoy watches each
// file by itself.
func (t TLS) rotating() map[string]any {
	if filepath.Dir(t.Certificate) != filepath.Dir(t.Key) {
		return t.certificate()
	}
	return watched(t.certificate(), t.Certificate)
}

func (t TLS) certificate() map[string]any {
	return map[string]any{"certificate_chain": file(t.Certificate), "private_key": file(t.Key)}
}

func (t TLS) reference(name string) map[string]any {
	return map[string]any{"name": name, "sds_config": map[string]any{
		"resource_api_version": "V3",
		"path_config_source":   map[string]any{"path": t.secretFile(name)},
	}}
}

// Secrets are the files of SecretsDir by their full path. They refer to the three files, which Envoy then watches; it
// takes one secret from a file.
func (t TLS) Secrets() (map[string][]byte, error) {
	if err := t.validate(); err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for name, secret := range map[string]map[string]any{
		secretCertificate: {"tls_certificate": t.rotating()},
		secretCA:          {"validation_context": watched(map[string]any{"trusted_ca": file(t.CA)}, t.CA)},
	} {
		secret["@type"] = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
		secret["name"] = name
		text, err := toJSON(map[string]any{"resources": []any{secret}})
		if err != nil {
			return nil, err
		}
		out[t.secretFile(name)] = []byte(text + "\n")
	}
	return out, nil
}

func (t TLS) secretFile(name string) string { return filepath.Join(t.SecretsDir, name+".yaml") }

// names are the subject alternative names of which the server's certificate must bear one.
func (t TLS) names(priorities [][]address) []any {
	if t.ServerName != "" {
		return []any{alternativeName("DNS", t.ServerName)}
	}
	var out []any
	for _, addresses := range priorities {
		for _, a := range addresses {
			switch {
			case a.path != "":
				out = append(out, alternativeName("DNS", "localhost"))
			case a.hostname():
				out = append(out, alternativeName("DNS", a.host))
			default:
				out = append(out, alternativeName("IP_ADDRESS", a.host))
			}
		}
	}
	return out
}

func (t TLS) serverName(priorities [][]address) string {
	if t.ServerName == "" && priorities[0][0].hostname() {
		return priorities[0][0].host
	}
	return t.ServerName
}

func alternativeName(kind, name string) any {
	return map[string]any{"san_type": kind, "matcher": map[string]any{"exact": name}}
}

func file(path string) any { return map[string]any{"filename": path} }
