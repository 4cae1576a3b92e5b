package secrets

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/pkg/model"
)

// settle is how long no more may have happened in a folder before its files are read: a certificate and its key are two
// files, and rarely written at once.
const settle = 100 * time.Millisecond

// Run follows the secrets that are kept until ctx ends, and calls looked each time it has looked at them, whether they
// became others or not. Folders are watched, not files, since a rotation puts new files or links in the place of old ones.
func (s *Source) Run(ctx context.Context, looked func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch certificates: %w", err)
	}
	defer w.Close()
	var changed <-chan struct{}
	if s.Store != nil {
		changed = s.Store.Watch(ctx)
	}
	poll := time.NewTicker(s.Every)
	defer poll.Stop()
	quiet := time.NewTimer(settle)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.woken:
			s.follow(w)
			quiet.Reset(settle)
		case <-w.Events:
			quiet.Reset(settle)
		case <-changed:
			quiet.Reset(settle)
		case err := <-w.Errors:
			s.Log.Warn("watching certificates", "error", err)
		case <-poll.C:
			quiet.Reset(settle)
		case <-s.changes():
			quiet.Reset(settle)
		case <-quiet.C:
			s.refresh()
			looked()
		}
	}
}

// follow makes the watched folders those of the secrets that are kept.
func (s *Source) follow(w *fsnotify.Watcher) {
	folders := s.folders()
	for _, old := range w.WatchList() {
		if !folders[old] {
			_ = w.Remove(old) // it may be gone
		}
	}
	for folder := range folders {
		if err := w.Add(folder); err != nil {
			s.Log.Warn("a folder of certificates cannot be watched; it is looked at from time to time", "folder", folder, "every", s.Every, "error", err)
		}
	}
}

func (s *Source) folders() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]bool{}
	for _, k := range s.kept {
		for _, file := range []string{k.want.Certificate.File, k.want.Key.File, k.want.CA.File, k.want.CRL.File, k.want.Text.File, k.want.ACME.Roots.File} {
			if file != "" {
				out[filepath.Dir(file)] = true
			}
		}
	}
	return out
}

// refresh reads all that is kept.
func (s *Source) refresh() {
	s.mu.Lock()
	before := maps.Clone(s.kept)
	s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(before)) {
		old := before[name]
		if now := s.refreshed(old); s.replace(old, now) {
			s.report(old, now)
		}
	}
}

// replace is false when the secret is meanwhile another one.
func (s *Source) replace(old, now *state) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept[old.want.Name] != old {
		return false
	}
	s.kept[old.want.Name] = now
	return true
}

// report logs what is new.
func (s *Source) report(old, now *state) {
	log := s.Log.With("certificate", now.want.Name)
	switch {
	case now.problem != nil && (old.problem == nil || old.problem.Error() != now.problem.Error()):
		log.Error("a certificate cannot be used; the last good one stays", "error", now.problem)
	case now.good != nil && (old.good == nil || !bytes.Equal(old.good.body, now.good.body)):
		if now.good.first == nil {
			log.Info("a new secret")
			return
		}
		log.Info("a new certificate", "subject", nameOf(now.good.first), "serial", serialOf(now.good.first), "expires", now.good.ends)
	case now.problem == nil && old.problem != nil:
		log.Info("the certificate can be used again")
	}
}

// Status is how a secret stands.
type Status struct {
	Name string `json:"name"`
	// Places are where it is read.
	Places []string `json:"places"`
	// Subject and Serial are those of the certificate, or of the authority that expires first. Expires is when it ends to
	// be of use: with revocation lists, when the first of them is out of date.
	Subject string    `json:"subject,omitempty"`
	Serial  string    `json:"serial,omitempty"`
	Expires time.Time `json:"expires,omitzero"`
	// Read is when this form came.
	Read     time.Time `json:"read,omitzero"`
	Warnings []string  `json:"warnings,omitempty"`
	// Problem is why what is there now cannot be used; then the last good form is served, if there was one.
	Problem string `json:"problem,omitempty"`
}

// Status tells how all secrets stand that are kept, by name.
func (s *Source) Status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Status
	for _, name := range slices.Sorted(maps.Keys(s.kept)) {
		k := s.kept[name]
		st := Status{Name: name, Places: places(k.want)}
		if k.problem != nil {
			st.Problem = k.problem.Error()
		}
		if f := k.good; f != nil {
			st.Expires, st.Read, st.Warnings = f.ends, f.read, f.warnings
			if f.first != nil {
				st.Subject, st.Serial = nameOf(f.first), serialOf(f.first)
			}
		}
		out = append(out, st)
	}
	return out
}

func places(want model.Secret) []string {
	switch {
	case want.IsObtained():
		return []string{"acme " + want.ACME.Domain}
	case want.IsText():
		return []string{want.Text.String()}
	case !want.IsCA():
		return []string{want.Certificate.String(), want.Key.String()}
	}
	out := []string{want.CA.String()}
	if want.CRL != (model.SecretPlace{}) {
		out = append(out, want.CRL.String())
	}
	return out
}

func joined(places []string) string { return strings.Join(places, ", ") }

var expiry = prometheus.NewDesc("sluice_certificate_expiry_seconds", "How long until a certificate expires; below 0 when it has.", []string{"certificate"}, nil)

var bad = prometheus.NewDesc("sluice_certificate_problem", "1 when what is there now cannot be used, and the last good form is served or none.", []string{"certificate"}, nil)

// Describe implements prometheus.Collector.
func (s *Source) Describe(out chan<- *prometheus.Desc) { out <- expiry; out <- bad }

// Collect implements prometheus.Collector.
func (s *Source) Collect(out chan<- prometheus.Metric) {
	for _, st := range s.Status() {
		if !st.Expires.IsZero() {
			out <- prometheus.MustNewConstMetric(expiry, prometheus.GaugeValue, time.Until(st.Expires).Seconds(), st.Name)
		}
		problem := 0.0
		if st.Problem != "" {
			problem = 1
		}
		out <- prometheus.MustNewConstMetric(bad, prometheus.GaugeValue, problem, st.Name)
	}
}

var _ prometheus.Collector = (*Source)(nil)
