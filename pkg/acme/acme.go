// Package acme obtains certificates from authorities (RFC 8555) and renews them. Authorities ask at the domain itself, by
// HTTP: what is to be answered there is told to whoever configures the gateway.
package acme

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/sluice-gateway/sluice/pkg/store"
)

// Order is a certificate that is wanted.
type Order struct {
	// Name is the Certificate's.
	Name          string
	Domain, Email string
	// Directory is the authority's, "" for Let's Encrypt's. Roots sign its own certificate, PEM; nil for those that the
	// machine knows.
	Directory string
	Roots     []byte
}

// Challenge is what an authority asks for, and the answer.
type Challenge struct{ Domain, Token, Answer string }

// Config is what a Manager works with.
type Config struct {
	Records Records
	Sealer  Sealer
	Log     *slog.Logger
	// Answer makes the gateways answer these challenges and no others, and returns when they do, or ctx ends. Required.
	Answer func(ctx context.Context, all []Challenge)
}

// Manager obtains what is ordered. It is safe for concurrent use.
type Manager struct {
	cfg     Config
	storage *storage
	cache   *certmagic.Cache
	changed chan struct{}
	busy    net.Listener

	mu         sync.Mutex
	orders     map[string]*ordered
	challenges map[string]Challenge // by storage key
}

// ordered is one order in the making.
type ordered struct {
	Order
	magic  *certmagic.Config
	issuer string // its part of storage keys
	stop   context.CancelFunc
	failed string // why the last try failed
}

// New is a Manager without orders. It holds a port of loopback until Run ends.
func New(c Config) (*Manager, error) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("acme: %w", err)
	}
	m := &Manager{cfg: c, busy: busy, changed: make(chan struct{}, 1), orders: map[string]*ordered{}, challenges: map[string]Challenge{}}
	host, _ := os.Hostname() // only a hint for people
	m.storage = &storage{records: c.Records, sealer: c.Sealer, owner: host + "/" + rand.Text(), locks: map[string]context.CancelFunc{}, stored: m.stored}
	m.cache = certmagic.NewCache(certmagic.CacheOptions{Logger: zap.NewNop(), GetConfigForCert: m.configFor})
	return m, nil
}

// Changed tells that a certificate may be another than before.
func (m *Manager) Changed() <-chan struct{} { return m.changed }

func (m *Manager) tell() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// Want makes the orders exactly these.
func (m *Manager) Want(orders []Order) {
	m.mu.Lock()
	defer m.mu.Unlock()
	wanted := map[string]bool{}
	for _, o := range orders {
		wanted[o.Name] = true
		have := m.orders[o.Name]
		if have != nil && equal(have.Order, o) {
			continue
		}
		if have != nil {
			have.stop()
		}
		m.orders[o.Name] = m.begin(o)
	}
	for name, o := range m.orders {
		if !wanted[name] {
			o.stop()
			m.cache.RemoveManaged([]certmagic.SubjectIssuer{{Subject: o.Domain, IssuerKey: o.issuer}})
			delete(m.orders, name)
		}
	}
}

func equal(a, b Order) bool {
	return a.Domain == b.Domain && a.Email == b.Email && a.Directory == b.Directory && string(a.Roots) == string(b.Roots)
}

// begin obtains in the background, as often as it takes.
func (m *Manager) begin(o Order) *ordered {
	ctx, stop := context.WithCancel(context.Background())
	out := &ordered{Order: o, stop: stop}
	out.magic = certmagic.New(m.cache, certmagic.Config{
		Storage: m.storage, Logger: zap.NewNop(), OCSP: certmagic.OCSPConfig{DisableStapling: true},
		OnEvent: func(_ context.Context, event string, data map[string]any) error {
			m.event(out, event, data)
			return nil
		},
	})
	issuer := certmagic.NewACMEIssuer(out.magic, m.issuer(o))
	out.magic.Issuers, out.issuer = []certmagic.Issuer{issuer}, issuer.IssuerKey()
	go func() {
		if err := out.magic.ManageAsync(ctx, []string{o.Domain}); err != nil {
			m.fail(out, err)
		}
		m.tell()
	}()
	return out
}

// issuer is the authority. The library would answer by itself at a port that is free: this one is not, since the gateways
// answer.
func (m *Manager) issuer(o Order) certmagic.ACMEIssuer {
	out := certmagic.ACMEIssuer{
		CA: o.Directory, Email: o.Email, Agreed: true, DisableTLSALPNChallenge: true, Logger: zap.NewNop(),
		ListenHost: "127.0.0.1", AltHTTPPort: m.busy.Addr().(*net.TCPAddr).Port,
	}
	if out.CA == "" {
		out.CA = certmagic.LetsEncryptProductionCA
	}
	if len(o.Roots) > 0 {
		out.TrustedRoots = x509.NewCertPool()
		out.TrustedRoots.AppendCertsFromPEM(o.Roots)
	}
	return out
}

func (m *Manager) configFor(c certmagic.Certificate) (*certmagic.Config, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.orders {
		if slices.Contains(c.Names, o.Domain) {
			return o.magic, nil
		}
	}
	return nil, fmt.Errorf("acme: nobody wants %v any more", c.Names)
}

func (m *Manager) event(o *ordered, event string, data map[string]any) {
	switch event {
	case "cert_obtained":
		m.mu.Lock()
		o.failed = ""
		m.mu.Unlock()
		m.cfg.Log.Info("a certificate was obtained", "certificate", o.Name, "domain", o.Domain, "renewal", data["renewal"])
		m.tell()
	case "cert_failed":
		err, _ := data["error"].(error)
		m.fail(o, err)
	}
}

func (m *Manager) fail(o *ordered, err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	m.mu.Lock()
	o.failed = err.Error()
	m.mu.Unlock()
	m.cfg.Log.Warn("a certificate could not be obtained; it is tried again", "certificate", o.Name, "domain", o.Domain, "error", err)
}

// Get is the certificate of an order with its key, PEM. The error says why there is none yet.
func (m *Manager) Get(ctx context.Context, name string) (certificate, key []byte, err error) {
	m.mu.Lock()
	o := m.orders[name]
	failed := ""
	if o != nil {
		failed = o.failed
	}
	m.mu.Unlock()
	if o == nil {
		return nil, nil, errors.New("it was not ordered yet")
	}
	certificate, err = m.storage.Load(ctx, certmagic.StorageKeys.SiteCert(o.issuer, o.Domain))
	if err == nil {
		key, err = m.storage.Load(ctx, certmagic.StorageKeys.SitePrivateKey(o.issuer, o.Domain))
	}
	switch {
	case err == nil:
		return certificate, key, nil
	case failed != "":
		return nil, nil, errors.New("not obtained: " + failed)
	}
	return nil, nil, errors.New("it is being obtained")
}

// isChallenge tells the keys under which the library keeps what authorities ask for.
func isChallenge(key string) bool { return strings.Contains(key, "/challenge_tokens/") }

// answerPatience is how long authorities are kept waiting for the gateways.
const answerPatience = 15 * time.Second

// stored makes the gateways answer a challenge before the authority is told that it may ask.
func (m *Manager) stored(ctx context.Context, key string, value []byte) {
	if !isChallenge(key) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	m.learn(ctx, map[string][]byte{key: value}, nil, true)
}

// learn takes in challenges that are new, and those that are over. With wait, it returns when the gateways answer them
// also where Run has heard of them first.
func (m *Manager) learn(ctx context.Context, fresh map[string][]byte, gone []string, wait bool) {
	m.mu.Lock()
	before := maps.Clone(m.challenges)
	for key, text := range fresh {
		var c struct {
			Token      string `json:"token"`
			Answer     string `json:"keyAuthorization"`
			Identifier struct {
				Value string `json:"value"`
			} `json:"identifier"`
		}
		if json.Unmarshal(text, &c) == nil && c.Token != "" && c.Answer != "" {
			m.challenges[key] = Challenge{c.Identifier.Value, c.Token, c.Answer}
		}
	}
	for _, key := range gone {
		delete(m.challenges, key)
	}
	same := maps.Equal(before, m.challenges)
	var all []Challenge
	for _, key := range slices.Sorted(maps.Keys(m.challenges)) {
		all = append(all, m.challenges[key])
	}
	m.mu.Unlock()
	if !same || wait {
		m.cfg.Answer(ctx, all)
	}
}

// Run follows what other control planes of the site store, until ctx ends; then nothing is obtained any more.
func (m *Manager) Run(ctx context.Context) error {
	defer m.busy.Close()
	defer m.cache.Stop()
	defer m.Want(nil)
	for batch := range m.cfg.Records.WatchRecords(ctx, store.TableACME) {
		m.follow(ctx, batch)
	}
	<-ctx.Done()
	return nil
}

func (m *Manager) follow(ctx context.Context, batch store.RecordBatch) {
	fresh, gone, other := map[string][]byte{}, []string(nil), false
	if batch.Reset {
		m.mu.Lock()
		gone = slices.Collect(maps.Keys(m.challenges))
		m.mu.Unlock()
	}
	for _, c := range batch.Changes {
		switch {
		case !isChallenge(c.Key):
			other = true
		case c.Deleted:
			gone = append(gone, c.Key)
		default:
			if text, err := m.storage.Load(ctx, c.Key); err == nil {
				fresh[c.Key] = text
				gone = slices.DeleteFunc(gone, func(key string) bool { return key == c.Key })
			}
		}
	}
	m.learn(ctx, fresh, gone, false)
	if other {
		m.tell()
	}
}
