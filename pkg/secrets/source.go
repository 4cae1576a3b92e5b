// Package secrets reads certificates, keys and authorities where they are on this machine or in the store, follows them as they are
// rotated, and keeps the last good form of each. No private key leaves it but as the Envoy resource that holds it.
package secrets

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
)

// maxBytes bounds a file.
const maxBytes = 1 << 20

// Config is what a Source works with.
type Config struct {
	// Getenv looks up variables of the environment.
	Getenv func(string) string
	// Store has the secrets of the store; nil where there is none.
	Store Store
	// Obtained are certificates from authorities; nil where none are obtained.
	Obtained Obtained
	Log      *slog.Logger
	// Every is how often files are looked at although nothing was heard of a change; 30 s when 0.
	Every time.Duration
}

// Store is where secrets are kept that are in no file and no variable.
type Store interface {
	// Get is the value of one. Its errors show nothing of it.
	Get(ctx context.Context, name string) ([]byte, error)
	// Watch tells each time that some may have changed, until ctx ends.
	Watch(ctx context.Context) <-chan struct{}
}

// storeTimeout bounds how long the store is asked for a secret.
const storeTimeout = 5 * time.Second

// Source reads secrets and follows them. It is safe for concurrent use.
type Source struct {
	Config
	machine string
	woken   chan struct{}
	// placeholders are shown before a certificate has been obtained, by name.
	placeholders sync.Map

	mu   sync.Mutex
	kept map[string]*state // by the secret's name: those that are followed
}

// state is what is known of a secret.
type state struct {
	want    model.Secret
	good    *form // nil before it was good for the first time
	problem error // why it is not good now
}

// form is a good form of a secret.
type form struct {
	body     []byte
	first    *x509.Certificate // the certificate, or the authority that ends first; nil of a text
	ends     time.Time
	warnings []string
	read     time.Time
}

// New is a Source that follows nothing yet.
func New(c Config) *Source {
	machine, err := os.Hostname()
	if err != nil {
		machine = "this machine"
	}
	c.Every = cmp.Or(c.Every, 30*time.Second)
	return &Source{Config: c, machine: machine, woken: make(chan struct{}, 1), kept: map[string]*state{}}
}

// Read gives a secret as it is now: the Envoy resource, and what is not as it should be. An error says what keeps it
// from being used; the resource then is the last good one, nil when there is none.
func (s *Source) Read(want model.Secret) (body []byte, warnings []string, err error) {
	last := s.last(want)
	now, err := s.read(want)
	if err == nil && last != nil && expired(now) && !expired(last) {
		err = errors.New("the new one has expired already")
	}
	if err == nil {
		return now.body, now.warnings, nil
	}
	err = fmt.Errorf("%w (on %s)", err, s.machine)
	if last == nil {
		return nil, nil, err
	}
	return last.body, last.warnings, err
}

func (s *Source) last(want model.Secret) *form {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.kept[want.Name]; k != nil && same(k.want, want) {
		return k.good
	}
	return nil
}

// same tells whether two secrets are at the same place.
func same(a, b model.Secret) bool {
	a.From, b.From = "", ""
	return a == b
}

func expired(f *form) bool { return !f.ends.IsZero() && time.Now().After(f.ends) }

func (s *Source) read(want model.Secret) (*form, error) {
	switch {
	case want.IsObtained():
		return s.readObtained(want)
	case want.IsText():
		return s.readText(want)
	case want.IsCA():
		return s.readAuthorities(want)
	}
	certificate, err := s.fetch(want.Certificate)
	if err != nil {
		return nil, err
	}
	key, err := s.fetch(want.Key)
	if err != nil {
		return nil, err
	}
	f, err := s.pairForm(want, certificate, key)
	if err != nil {
		return nil, err
	}
	if note := tooOpen(want.Key); note != "" {
		f.warnings = append(f.warnings, note)
	}
	return f, nil
}

func (s *Source) readAuthorities(want model.Secret) (*form, error) {
	text, err := s.fetch(want.CA)
	if err != nil {
		return nil, err
	}
	list, err := ParseAuthorities(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", want.CA, err)
	}
	f := &form{read: time.Now()}
	f.first = slices.MinFunc(list, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
	for _, c := range list {
		if note := validity(c, f.read); note != "" {
			f.warnings = append(f.warnings, note)
		}
	}
	f.ends = f.first.NotAfter
	context := &tlsv3.CertificateValidationContext{TrustedCa: bytesOf(encode(list))}
	if want.CRL != (model.SecretPlace{}) {
		if err := s.addRevocations(f, want.CRL, list, context); err != nil {
			return nil, err
		}
	}
	f.body, err = feature.Marshal(&tlsv3.Secret{Name: want.Name, Type: &tlsv3.Secret_ValidationContext{ValidationContext: context}})
	return f, err
}

func (s *Source) addRevocations(f *form, at model.SecretPlace, authorities []*x509.Certificate, out *tlsv3.CertificateValidationContext) error {
	text, err := s.fetch(at)
	if err != nil {
		return err
	}
	lists, err := ParseRevocations(text, authorities)
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	out.Crl = bytesOf(encodeRevocations(lists))
	for _, l := range lists {
		if note := upToDate(l, f.read); note != "" {
			f.warnings = append(f.warnings, note)
		}
		if !l.NextUpdate.IsZero() && l.NextUpdate.Before(f.ends) {
			f.ends = l.NextUpdate
		}
	}
	return nil
}

func bytesOf(b []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
}

// fetch reads a place. Its errors name the place, never what is there.
func (s *Source) fetch(at model.SecretPlace) ([]byte, error) {
	if at.Env != "" {
		text := s.Getenv(at.Env)
		if text == "" {
			return nil, fmt.Errorf("the variable %s is not set", at.Env)
		}
		return []byte(text), nil
	}
	if at.Secret != "" {
		return s.fromStore(at.Secret)
	}
	f, err := os.Open(at.File)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", at.File)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxBytes:
		return nil, fmt.Errorf("%s is larger than %d MiB", at.File, maxBytes>>20)
	}
	return text, nil
}

func (s *Source) fromStore(name string) ([]byte, error) {
	if s.Store == nil {
		return nil, fmt.Errorf("secret %s: there is no store to have it from", name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	return s.Store.Get(ctx, name)
}

// tooOpen says that others may read a key.
func tooOpen(key model.SecretPlace) string {
	info, err := os.Stat(key.File)
	if key.File == "" || err != nil || info.Mode().Perm()&0o004 == 0 {
		return ""
	}
	return key.File + " is readable by everyone on this machine: chmod o-r"
}

// Keep makes the secrets that are followed those that are served, and reads the new ones.
func (s *Source) Keep(list []model.Secret) {
	s.order(list)
	fresh := map[string]*state{}
	for _, want := range list {
		fresh[want.Name] = s.refreshed(&state{want: want, good: s.last(want)})
	}
	s.mu.Lock()
	s.kept = fresh
	s.mu.Unlock()
	select {
	case s.woken <- struct{}{}: // Run is to watch other folders
	default:
	}
}

// refreshed is a state as it is now.
func (s *Source) refreshed(old *state) *state {
	out := &state{want: old.want, good: old.good}
	now, err := s.read(old.want)
	switch {
	case err != nil:
		out.problem = err
	case old.good != nil && expired(now) && !expired(old.good):
		out.problem = errors.New("the new one has expired already")
	case old.good == nil || !bytes.Equal(now.body, old.good.body):
		out.good = now
	default:
		now.read = old.good.read
		out.good = now
	}
	return out
}

// Resource is the Envoy resource of a secret that is kept, in its last good form; nil when there is none.
func (s *Source) Resource(want model.Secret) []byte {
	if f := s.last(want); f != nil {
		return f.body
	}
	return nil
}
