package envoy

import (
	"errors"
	"path/filepath"
)

// TLS is how Envoy and the xDS servers prove themselves to each other. All three files, or none. Envoy reads them
// itself and follows their rotation (each file replaced by a rename) when SecretsFile is given too.
type TLS struct {
	CA, Certificate, Key string
	// ServerName is the name the server's certificate must bear. Empty means the host of its address.
	ServerName string
	// SecretsFile is where the output of Secrets is kept on Envoy's machine.
	SecretsFile string
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
	case given == 0 && (t.ServerName != "" || t.SecretsFile != ""):
		return errors.New("tls: server name and secrets file mean nothing without CA, certificate and key")
	}
	return nil
}

func (t TLS) transportSocket(priorities [][]address) any {
	common := map[string]any{
		// Both ends are ours: nothing older needs to be understood.
		"tls_params":     map[string]any{"tls_minimum_protocol_version": "TLSv1_3"},
		"alpn_protocols": []string{"h2"},
	}
	validation := map[string]any{"match_typed_subject_alt_names": t.names(priorities)}
	if t.SecretsFile == "" {
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

func (t TLS) certificate() map[string]any {
	return map[string]any{"certificate_chain": file(t.Certificate), "private_key": file(t.Key)}
}

func (t TLS) reference(name string) map[string]any {
	return map[string]any{"name": name, "sds_config": map[string]any{
		"resource_api_version": "V3",
		"path_config_source":   map[string]any{"path": t.SecretsFile},
	}}
}

// Secrets is the content of SecretsFile: references to the three files, which Envoy then watches.
func (t TLS) Secrets() ([]byte, error) {
	if err := t.validate(); err != nil {
		return nil, err
	}
	const kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
	ca := map[string]any{"trusted_ca": file(t.CA)}
	text, err := toJSON(map[string]any{"resources": []any{
		map[string]any{"@type": kind, "name": secretCertificate, "tls_certificate": t.certificate()},
		map[string]any{"@type": kind, "name": secretCA, "validation_context": ca},
	}})
	return []byte(text + "\n"), err
}

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
