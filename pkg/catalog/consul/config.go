// Package consul reports the services of a Consul catalog: one blocking health query for each service that is wanted,
// behind a shield against what Consul may say when it is ill.
package consul

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/pkg/catalog"
	"github.com/sluice-gateway/sluice/pkg/catalog/shield"
)

// Config says which Consul to ask and how. Start from Default.
type Config struct {
	// Address is host:port, http://host:port, https://host:port or unix:///path.
	Address string
	// Datacenter is asked where a key names none; empty means the agent's own.
	Datacenter string
	// TokenFile holds the ACL token, and is read again when it changes. It wins over TokenEnv.
	TokenFile string
	// TokenEnv names the environment variable that holds the token.
	TokenEnv string
	// CAFile, CertFile and KeyFile are PEM. With a CAFile or a CertFile, an address without scheme means https. The
	// certificate is read again for each new connection, the CA only at the start.
	CAFile, CertFile, KeyFile string
	// ServerName is what Consul's certificate must say, if not the host of Address.
	ServerName string

	// Discover also reports the services whose registration opts in, without being wanted.
	Discover bool
	// Linger is how long such a service is reported without instances before it is gone.
	Linger time.Duration

	// Wait is how long a blocking query waits; Consul allows at most 10 minutes.
	Wait time.Duration
	// FirstWait is how long a key may take to be answered before what was saved is sent instead.
	FirstWait time.Duration
	// Backoff and BackoffMax bound the time between attempts that fail, which is drawn at random.
	Backoff, BackoffMax time.Duration
	// Probe is the time between two looks at whether Consul has a leader.
	Probe time.Duration
	// MaxContact is how far behind its leader a server may be to be believed.
	MaxContact time.Duration
	// MaxBlocking is how many queries may block at once over HTTP/1.1, where each holds a connection; the services
	// beyond are polled, each every PollEvery at most often.
	MaxBlocking int
	PollEvery   time.Duration
	// Resolve is how often host names in registrations are looked up.
	Resolve time.Duration
	// SaveEvery is the time between two saves at least.
	SaveEvery time.Duration

	// Shield holds the limits of what is believed.
	Shield shield.Config
	// Saver keeps the last known services over a restart; nil keeps nothing.
	Saver Saver
	// Log is where reports go.
	Log *slog.Logger
}

// Saver keeps services over a restart.
type Saver interface {
	// Load returns what was saved last, nil if nothing was.
	Load() ([]catalog.Service, error)
	Save([]catalog.Service) error
}

// Default is a Config that fits most sites, for an agent on this host.
func Default() Config {
	return Config{
		Address: "127.0.0.1:8500", TokenEnv: "CONSUL_HTTP_TOKEN", Linger: time.Minute,
		Wait: 5 * time.Minute, FirstWait: 5 * time.Second, Backoff: 100 * time.Millisecond, BackoffMax: 30 * time.Second,
		Probe: time.Second, MaxContact: 10 * time.Second, MaxBlocking: 140, PollEvery: 2 * time.Second,
		Resolve: 30 * time.Second, SaveEvery: time.Second,
		Shield: shield.Default(), Log: slog.New(slog.DiscardHandler),
	}
}

// maxConnections is the most that one control plane takes of an agent's 200 for each client address.
const maxConnections = 150

// spareConnections are those for probe, opt-ins and polls.
const spareConnections = 10

// endpoint is where Consul is: scheme http, https or unix, and what to dial.
type endpoint struct{ scheme, address string }

func (c Config) endpoint() (endpoint, error) {
	scheme, address, has := strings.Cut(c.Address, "://")
	if !has {
		scheme, address = "http", c.Address
		if c.CAFile != "" || c.CertFile != "" {
			scheme = "https"
		}
	}
	switch scheme {
	case "unix":
		return endpoint{scheme, address}, nil
	case "http", "https":
		if _, _, err := net.SplitHostPort(address); err != nil {
			return endpoint{}, fmt.Errorf("consul address %q: write host:port, such as https://127.0.0.1:8501: %w", c.Address, err)
		}
		return endpoint{scheme, address}, nil
	}
	return endpoint{}, fmt.Errorf("consul address %q: unknown scheme %q: use http, https or unix", c.Address, scheme)
}

func (c Config) check() error {
	if (c.CertFile == "") != (c.KeyFile == "") {
		return errors.New("consul: a client certificate needs both its certificate file and its key file")
	}
	if c.MaxBlocking < 1 || c.MaxBlocking > maxConnections-spareConnections {
		return fmt.Errorf("consul: %d blocking queries: allowed are 1 to %d", c.MaxBlocking, maxConnections-spareConnections)
	}
	if c.TokenFile != "" {
		if _, err := os.Stat(c.TokenFile); err != nil {
			return fmt.Errorf("consul: the token file cannot be read: %w", err)
		}
	}
	return nil
}
