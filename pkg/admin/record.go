package admin

import (
	"encoding/hex"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/pkg/access"
	"github.com/sluice-gateway/sluice/pkg/auditlog"
)

// record is what the audit log is told of a request. Of the request itself that is what its methods say, if it has them.
type record struct {
	operation string
	needs     access.Role
	request   any
	digest    []byte // of the body; nil for none
}

// What requests and answers may say of themselves. The object of an answer is what was made.
type (
	objecter interface{ auditObject() string }
	claimer  interface{ auditSays() string }
	baser    interface{ auditBase() uint64 }
	reviser  interface{ auditRevisions() (base, made uint64) }
)

func (v record) event(r *http.Request) auditlog.Event {
	e := auditlog.Event{Who: callerOf(r.Context()).Name, From: addressOf(r), Operation: v.operation}
	// The digest of a secret could be tried out.
	if v.digest != nil && v.needs != access.Secrets {
		e.Digest = hex.EncodeToString(v.digest)
	}
	if o, ok := v.request.(objecter); ok {
		e.Object = o.auditObject()
	}
	if c, ok := v.request.(claimer); ok {
		e.Says = c.auditSays()
	}
	if b, ok := v.request.(baser); ok {
		e.Base = b.auditBase()
	}
	return e
}

// recorded does something, and has it in the audit log before and after. What only reads is not recorded.
func (s *Server) recorded(r *http.Request, v record, do func() (any, error)) (any, error) {
	if v.needs == access.Read {
		return do()
	}
	change, err := s.begin(v.event(r))
	if err != nil {
		return nil, err
	}
	answer, err := do()
	if err != nil {
		change.Failed(string(problemOf(err).Code))
		return nil, err
	}
	if o, ok := answer.(objecter); ok {
		change.On(o.auditObject())
	}
	base, made := uint64(0), uint64(0)
	if a, ok := answer.(reviser); ok {
		base, made = a.auditRevisions()
	}
	change.Done(base, made)
	if line, hash := s.Audit.Head(); line > 0 {
		s.Log.Info("audited", "operation", v.operation, "caller", callerOf(r.Context()).Name, "line", line, "hash", hash)
	}
	return answer, nil
}

// begin refuses what the audit log cannot tell of.
func (s *Server) begin(e auditlog.Event) (*auditlog.Change, error) {
	change, err := s.Audit.Begin(e)
	if err != nil {
		return nil, &refusal{http.StatusServiceUnavailable, CodeAudit, "nothing was changed, since the audit log cannot be written: the server's log says why"}
	}
	return change, nil
}

// who is whom a revision names: a caller that has proved itself, else whom the request says.
func who(r *http.Request, says string) string {
	if caller := callerOf(r.Context()); caller.Proven {
		return caller.Name
	}
	return says
}

func (a ApplyRequest) auditSays() string { return a.Who }

func (a ApplyRequest) auditObject() string { return a.Source }

func (a ApplyRequest) auditBase() uint64 { return orZero(a.Base) }

func (a RollbackRequest) auditSays() string { return a.Who }

func (a RollbackRequest) auditObject() string { return fmt.Sprintf("to revision %d", a.To) }

func (a RollbackRequest) auditBase() uint64 { return orZero(a.Base) }

func (a ReleaseRequest) auditObject() string { return a.Service }

func orZero(n *uint64) uint64 {
	if n == nil {
		return 0
	}
	return *n
}

func (a *ApplyResult) auditRevisions() (base, made uint64) {
	if !a.Changed {
		return a.Revision.Number, 0
	}
	return a.Revision.Parent, a.Revision.Number
}

func (a *ImportResult) auditRevisions() (base, made uint64) { return 0, a.Revision.Number }

// handshakeFailed is how net/http begins to tell that TLS let somebody not in, before where that somebody is.
const handshakeFailed = "http: TLS handshake error from "

// errorLog is what net/http writes to: the log, and whom TLS let not in also to the audit log.
func (s *Server) errorLog() *log.Logger {
	plain := slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn)
	return log.New(writer(func(line string) {
		plain.Print(line)
		rest, failed := strings.CutPrefix(line, handshakeFailed)
		from, reason, _ := strings.Cut(rest, ": ")
		if failed && reason != "EOF" { // somebody who only looked whether there is a door
			s.denied.WithLabelValues("tls").Inc()
			s.Audit.Denied(auditlog.Event{From: from, Operation: "connect", Reason: reason})
		}
	}), "", 0)
}

type writer func(line string)

// Write implements io.Writer.
func (w writer) Write(line []byte) (int, error) {
	w(strings.TrimRight(string(line), "\n"))
	return len(line), nil
}

func newDenied() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sluice_admin_denied_total", Help: "Requests that the admin API did not let in, by why.",
	}, []string{"code"})
}

// Collectors are the API's own metrics.
func (s *Server) Collectors() []prometheus.Collector {
	failing := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sluice_audit_log_failing", Help: "1 when the audit log could not be written last, so that changes are refused.",
	}, func() float64 {
		if s.Audit.Err() != nil {
			return 1
		}
		return 0
	})
	return []prometheus.Collector{s.denied, failing}
}
